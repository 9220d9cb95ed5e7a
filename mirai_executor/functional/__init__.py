"""Named sets of daemons, so that code that submits work need not decide where it runs.

::

    daemons(4)               daemons(1, compute="gpu")         who runs a program sets up daemons
         │                              │
         ▼                              ▼
    "default": MiraiExecutor(4)    "gpu": MiraiExecutor(1)     profiles
         ▲                              ▲
         │                              │
    mirai(fit, data)         with profile("gpu"):              its code submits tasks
                                 mirai(train, data)

``_profiles`` has the profiles, ``_tasks`` runs tasks on their daemons, ``_daemons`` asks for more
daemons and tells what they do, and ``_futures`` answers questions about futures.
"""

from mirai_executor.errors import DaemonsNotSetError

from ._daemons import info, launch_local, launch_remote, next_stream, status
from ._futures import (
    collect,
    is_error_value,
    is_mirai_error,
    is_mirai_interrupt,
    race,
    stop_mirai,
    unresolved,
)
from ._profiles import Daemons, daemons, daemons_set, executor_for, profile, require_daemons
from ._tasks import everywhere, mirai, mirai_map, mirai_with, try_mirai

__all__ = [
    "Daemons",
    "DaemonsNotSetError",
    "collect",
    "daemons",
    "daemons_set",
    "everywhere",
    "executor_for",
    "info",
    "is_error_value",
    "is_mirai_error",
    "is_mirai_interrupt",
    "launch_local",
    "launch_remote",
    "mirai",
    "mirai_map",
    "mirai_with",
    "next_stream",
    "profile",
    "race",
    "require_daemons",
    "status",
    "stop_mirai",
    "try_mirai",
    "unresolved",
]
