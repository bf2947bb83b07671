"""gkore: Kore's Python platform on gevent."""

__version__ = "0.1.0"
