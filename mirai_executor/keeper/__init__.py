"""Keeps a daemon for a host on another machine: dials it, proves itself, and passes frames on.

::

    host ◄── one connection ──► keeper ◄── a local link ──► daemon (runs the tasks)

The keeper runs no user code and unpickles nothing, so it always has time: for signs of life, for
stopping a task that holds the interpreter's lock, and for ending it all when the host is gone.
"""

from ._first import leave_first_place
from ._keep import keep
from ._options import ExitCode, KeeperOptions

__all__ = ["ExitCode", "KeeperOptions", "keep", "leave_first_place"]
