"""Keeps named sets of daemons, so that code which asks for work need not say where it runs.

::

    daemons(4)               daemons(1, compute="gpu")         who runs the code says what there is
         │                              │
         ▼                              ▼
    "default": MiraiExecutor(4)    "gpu": MiraiExecutor(1)     profiles
         ▲                              ▲
         │                              │
    mirai(fit, data)         with profile("gpu"):              who writes the code says what to do
                                 mirai(train, data)

``_profiles`` is all of that; ``_futures`` asks futures what they have become.
"""

from ._futures import (
    collect,
    is_error_value,
    is_mirai_error,
    is_mirai_interrupt,
    race,
    stop_mirai,
    unresolved,
)
from ._profiles import (
    Daemons,
    DaemonsNotSetError,
    daemons,
    daemons_set,
    everywhere,
    executor_for,
    info,
    launch_local,
    launch_remote,
    mirai,
    profile,
    require_daemons,
    status,
)

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
    "profile",
    "race",
    "require_daemons",
    "status",
    "stop_mirai",
    "unresolved",
]
