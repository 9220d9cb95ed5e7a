"""Turns "a daemon, please" into started processes or jobs. A launcher is data."""

from ._local import LocalLauncher

__all__ = ["LocalLauncher"]
