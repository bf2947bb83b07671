"""Before and around fork: listeners, children, signals."""
