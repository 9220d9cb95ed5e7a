"""Does what the first process of a container has to do, beside what it is there for.

::

    process 1: passes signals on, collects orphans ──► its child: the keeper ──► the daemon

The kernel gives process 1 whatever has lost its parent, and what it does not collect stays in the
table of processes for good. Signals without a handler do not end it.
"""

import os
import signal
from types import FrameType

_PASSED_ON = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


def leave_first_place(first: int = 1) -> None:
    """Go on in a child if this is process 1; that ends with the child, and in the same way.

    Args:
        first: The number of such a process.
    """
    if os.getpid() != first:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # until somebody can pass them on
    child = os.fork()
    if child:
        os._exit(_collect_until_end_of(child))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def _collect_until_end_of(child: int) -> int:
    """Collect whatever ends; return the exit status of the child, as a shell has it."""

    def pass_on(signum: int, _: FrameType | None) -> None:
        os.kill(child, signum)  # not collected yet, so the number is its own

    for signum in _PASSED_ON:
        signal.signal(signum, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
