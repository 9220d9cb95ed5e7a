"""Makes of a fork of the host the process that its daemons are forked from.

::

    the host, in submit() ──┬── goes on
                            └── the template ──┬── a daemon
                                               └── another daemon

What is the host's in a fork is let go of: streams, handlers of signals, what was to be done at its
end. What is the program's stays: modules, globals, locks.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import signal
import sys
import threading
from multiprocessing import process, util

from mirai_executor import _nameless, _shared, _transport  # noqa: F401 - a fork may import nothing
from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import source as _source  # noqa: F401 - as above
from mirai_executor._private import check

from . import _child, _cleanup, _imports, _serve, _terminal, serve  # noqa: F401 - as above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

check("daemon._template")

_util: Any = util
_process: Any = process


def become_template(control: int, lifeline: int, inheritance: Any) -> NoReturn:
    """In a fork of the host: fork daemons for it, and serve it in each of them.

    Args:
        control: The socket at which the host asks.
        lifeline: The descriptor that closes with the host.
        inheritance: What daemons have by the fork.
    """
    code = 1
    try:
        os.setpgid(0, 0)
        _let_go_of_handlers()
        _let_go_of_streams()
        _payload.inherit(inheritance)
        serve(lambda: _become_daemon(control, lifeline))
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        _end(code)


def _become_daemon(control: int, lifeline: int) -> list[int]:
    fds = _child.branch_off_from_host(control, lifeline)
    # As multiprocessing's own children do. What is registered there may be one for each process,
    # as the connection of a proxy to its manager: not earlier, then.
    atexit._clear()  # noqa: SLF001 - as they do; so with the rest
    atexit.register(_util._exit_function)  # noqa: SLF001
    _process._process_counter = itertools.count(1)  # noqa: SLF001
    _process._children = set()  # noqa: SLF001
    _util._finalizer_registry.clear()  # noqa: SLF001
    _util._run_after_forkers()  # noqa: SLF001
    return fds


def _let_go_of_handlers() -> None:
    """Have the handlers of a fresh interpreter: those of the host are about the host."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The streams of the host: what they hold back is the host's to write, and their end would do it.
_of_the_host: list[Any] = []


def _let_go_of_streams() -> None:
    """Have standard streams as a fresh interpreter has them."""
    _of_the_host.extend((sys.stdin, sys.stdout, sys.stderr))
    _of_the_host.extend((sys.__stdin__, sys.__stdout__, sys.__stderr__))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    stdin: Any = open(0, closefd=False)  # noqa: SIM115 - for good
    stdout: Any = open(1, "w", closefd=False, errors="replace")  # noqa: SIM115 - as above
    sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]  # as in _child
    sys.stdout = sys.__stdout__ = stdout  # type: ignore[misc]  # as in _child


def _end(code: int) -> NoReturn:
    """End as an interpreter does that has run its program."""
    try:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as above
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # noqa: SLF001 - as above
        _nameless.flush_streams()
    finally:
        os._exit(code)
