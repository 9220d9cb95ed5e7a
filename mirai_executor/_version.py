"""The version of this package; hosts and daemons compare it when they meet."""

__version__ = "0.1.0"
