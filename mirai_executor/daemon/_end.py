"""Ends a process that was forked with the user's modules, without taking them all apart."""

import atexit
import contextlib
import os
import threading

from mirai_executor import _nameless
from mirai_executor._private import check
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

check("daemon._end")


def end(code: int) -> "NoReturn":
    """End as an interpreter does that has run its program, up to what it does ``atexit``.

    What comes after that would copy most of the memory that this process shares with others.
    """
    try:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing's own children do
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # noqa: SLF001 - as above
        _nameless.flush_streams()
    finally:
        os._exit(code)
