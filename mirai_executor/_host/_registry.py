"""Knows every host of this process, for its end and for its forks."""

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Collection
from typing import Protocol

from mirai_executor import _place
from mirai_executor._private import optional
from mirai_executor._waiting import Deadline


class Registered(Protocol):
    """What the end of the process, and a fork of it, need of a host."""

    def shutdown(self, *, cancel_queued: bool, cancel_running: bool) -> None: ...
    def stop_listening(self) -> None: ...
    def abandon(self) -> None: ...
    def cancel_abandoned(self) -> None: ...
    def kill(self) -> None: ...
    def join(self, timeout: float | None = None) -> bool: ...
    def forget(self) -> None: ...
    def owns_this_thread(self) -> bool: ...


_ABORT = 1.0  # seconds for daemons to let go of what they run after a Ctrl-C

_hosts: "weakref.WeakSet[Registered]" = weakref.WeakSet()
_is_exiting = False
_ends_in = 0  # the process whose multiprocessing has been told

# Held while a daemon and its descriptors come into being, and while they are closed. A child that
# is forked at such a moment would not know which of them to let go: a daemon would outlive its
# host. And held while a host thread imports what it needs: the child could never import that.
# Reentrant, because a release by a thread that does not hold it does nothing only then.
no_fork = threading.RLock()


def add(host: Registered) -> None:
    """Note a host that is about to start."""
    _hosts.add(host)


def owns_this_thread() -> bool:
    """Tell whether the asker is on the thread of any host, which must not wait for a host."""
    return any(host.owns_this_thread() for host in list(_hosts))


def abort(hosts: Collection[Registered]) -> None:
    """Stop queued and running work, and return soon."""
    try:
        for host in hosts:
            host.shutdown(cancel_queued=True, cancel_running=True)
        deadline = Deadline(_ABORT)
        if not all(host.join(deadline.left) for host in hosts):
            kill(hosts)
    except KeyboardInterrupt:
        kill(hosts)
        raise


def kill(hosts: Collection[Registered]) -> None:
    """End all daemons at once, and wait until they are gone."""
    for host in hosts:
        host.kill()
    for host in hosts:
        host.join()


def is_exiting() -> bool:
    """Tell whether the interpreter is shutting down."""
    return _is_exiting


def _at_exit() -> None:
    """Let accepted tasks finish, as the standard library does; runs before threads are joined."""
    global _is_exiting  # there is one end of a process
    _is_exiting = True
    hosts = list(_hosts)
    try:
        if _was_interrupted():  # and does not want to wait for what is queued
            abort(hosts)
        for host in hosts:
            host.cancel_abandoned()
            host.shutdown(cancel_queued=False, cancel_running=False)
            host.stop_listening()  # what no daemon will ever take must not hold up the end
        for host in hosts:
            host.join()
    except KeyboardInterrupt:
        kill(hosts)


def end_before_children() -> None:
    """See to it that hosts end before multiprocessing waits for the children of this process.

    One that multiprocessing has started waits for them before it joins threads.
    """
    global _ends_in
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _ends_in != os.getpid():
        _ends_in = os.getpid()
        util.Finalize(None, _at_exit, exitpriority=100)


def _was_interrupted() -> bool:
    """Tell whether it was a Ctrl-C that ends the process."""
    if hasattr(sys, "ps1"):
        return False  # at a prompt, a Ctrl-C of an hour ago has ended nothing
    last = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return isinstance(last, KeyboardInterrupt)


def _abandon() -> None:
    """On a daemon whose task is interrupted: the end of this process waits for nothing of it."""
    for host in list(_hosts):
        host.abandon()


def _after_fork() -> None:
    """In a forked child: these hosts and their daemons belong to the parent."""
    for host in list(_hosts):
        host.forget()
    _hosts.clear()
    no_fork.release()


# The public atexit module is too late: by then the interpreter has waited for its threads.
# concurrent.futures uses the same hook.
_register = optional(
    "threading",
    "_register_atexit",
    atexit.register,
    "a program whose last threads wait for tasks should shut its executors down itself.",
)
_register(_at_exit)
_place.on_interrupt.append(_abandon)
os.register_at_fork(
    before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=_after_fork
)
