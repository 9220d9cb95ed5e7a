"""Gathers what daemons that are forked from their host have from it, for both ends to know.

::

    at the fork      names of __main__, semaphores, the initializer with its arguments
    the daemon       keeps all of it: these are its own objects now
    the host         knows by reference what the daemon has (``host/inherit.py``)
"""

import sys
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.synchronize import SemLock
from typing import Any

from mirai_executor._payload.common.importable import MAIN
from mirai_executor._payload.common.inherited import is_nameless
from mirai_executor._private import check

check("_payload.common.inheritance")


class Inheritance:
    """What this process has at this moment that a fork of it will have as well.

    Args:
        initializer: What each daemon calls before its first task.
        initargs: Its arguments.

    Attributes:
        names: Those of ``__main__``, with their values.
        semaphores: By a number, those that can reach other processes in no other way.
    """

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.initializer = initializer
        self.initargs = initargs
        self.names: dict[str, object] = dict(vars(sys.modules[MAIN]))
        self.semaphores = {id(each): each for each in nameless_semaphores()}


def nameless_semaphores() -> list[SemLock]:
    """Return the locks and the like of this process that only its forks can share."""
    # Each one is here for its own sake: after a fork, it forgets how often it was acquired.
    known = list(util._afterfork_registry.values())  # type: ignore[attr-defined]  # noqa: SLF001 - see _private.py
    return [each for each in known if isinstance(each, SemLock) and is_nameless(each)]
