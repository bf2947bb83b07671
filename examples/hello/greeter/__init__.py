from greeter.pages import hello

__all__ = ["hello"]
