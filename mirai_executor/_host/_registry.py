"""Knows every host of this process, for its end and for its forks."""

import os
import sys
import threading
import weakref
from typing import Protocol


class Registered(Protocol):
    """What the end of the process, and a fork of it, need of a host."""

    def shutdown(self, *, cancel_queued: bool, cancel_running: bool) -> None: ...
    def kill(self) -> None: ...
    def join(self, timeout: float | None = None) -> bool: ...
    def forget(self) -> None: ...


_hosts: "weakref.WeakSet[Registered]" = weakref.WeakSet()
is_exiting = False
forked_after_start = False  # this process was forked from one in which a host had started


def add(host: Registered) -> None:
    """Note a host that is about to start."""
    _hosts.add(host)


def _at_exit() -> None:
    """Let accepted tasks finish, as the standard library does; runs before threads are joined."""
    global is_exiting  # there is one end of a process
    is_exiting = True
    # Who has pressed Ctrl-C does not want to wait for what is queued.
    last = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    drop = isinstance(last, KeyboardInterrupt)
    hosts = list(_hosts)
    try:
        for host in hosts:
            host.shutdown(cancel_queued=drop, cancel_running=drop)
        for host in hosts:
            host.join()
    except KeyboardInterrupt:
        for host in hosts:
            host.kill()
        for host in hosts:
            host.join()


def _after_fork() -> None:
    """In a forked child: these hosts and their daemons belong to the parent."""
    global forked_after_start  # as above
    hosts = list(_hosts)
    forked_after_start = forked_after_start or bool(hosts)
    for host in hosts:
        host.forget()
    _hosts.clear()


# The public atexit module is too late: by then the interpreter has waited for its threads.
# concurrent.futures uses the same hook.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]  # noqa: SLF001
os.register_at_fork(after_in_child=_after_fork)
