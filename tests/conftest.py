"""A landmark: pytest puts the directory of a conftest on the path, so that tests say ``from corpus import ...``."""
