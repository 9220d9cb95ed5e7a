"""Lets descriptors travel, and what else is taken apart as multiprocessing's picklers do it.

::

    ForkingPickler's reducer of a socket, a Connection, a type of the user's
      │ asks for DupFd(fd)
    Lender.lend ── (address, key) in the payload ──► Descriptor.detach, at the other side
      the resource sharer's thread  ◄── connects ───┘   gets a descriptor of its own

A number of a descriptor means nothing elsewhere: it never travels as such.
"""

import multiprocessing.resource_sharer
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import AuthenticationError, context, reduction
from typing import Any

from mirai_executor._nameless import is_none_free
from mirai_executor._private import check
from mirai_executor.errors import PayloadError

check("_payload.common.descriptors")
_ResourceSharer: Any = multiprocessing.resource_sharer._ResourceSharer  # type: ignore[attr-defined]  # noqa: SLF001 - see above

Reducer = Callable[[Any], Any]
Lend = Callable[[int], Any]  # returns what stands for a descriptor in a payload
_PAUSE = 0.1  # seconds, where this process may open no more files
_Place = tuple[Any, int]  # the sharer's address, and its key


def registered_reducer(kind: type) -> Reducer | None:
    """Return how ``ForkingPickler`` takes instances apart, if it was told so."""
    found: Reducer | None = reduction.ForkingPickler._extra_reducers.get(kind)  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    # Its own for methods and partials are worse than none: a partial would lose its attributes.
    is_for_old_pythons = kind.__module__ in ("builtins", "functools") and is_standard(found)
    return None if is_for_old_pythons else found


def is_standard(reducer: Reducer | None) -> bool:
    """Tell whether multiprocessing has registered this itself: then it does so everywhere."""
    return str(getattr(reducer, "__module__", "")).partition(".")[0] == "multiprocessing"


class _Sharer(_ResourceSharer):  # type: ignore[misc]  # untyped
    """That of multiprocessing, but nothing is said if a process ends while it fetches one.

    Its thread, its listener, and what it does in forked children are all that is needed here.
    """

    def _serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        goes_on = True
        while goes_on:
            try:
                goes_on = self._serve_one()
            except (EOFError, AuthenticationError):
                pass
            except OSError as error:
                if is_none_free(error):
                    time.sleep(_PAUSE)  # else it would fail again at once, and again

    def _serve_one(self) -> bool:
        """Answer the next one that connects; False if that one says that this is all."""
        with self._listener.accept() as connection:
            if (request := connection.recv()) is None:
                return False
            key, pid = request
            send, close = self._cache.pop(key, (None, None))
            if send is not None:  # else the other side says that it got nothing
                try:
                    send(connection, pid)
                finally:
                    close()
            return True


_sharer = _Sharer()


class Descriptor:
    """Stands for a descriptor of another process."""

    def __init__(self, place: _Place | None, pid: int) -> None:
        self._place = place
        self._pid = pid

    def __reduce__(self) -> Any:
        return Descriptor, (self._place, self._pid)

    def detach(self) -> int:
        """Return a descriptor of this process for the same file.

        Raises:
            PayloadError: It cannot be fetched.
        """
        try:
            with _sharer.get_connection(self._place) as connection:
                return reduction.recv_handle(connection)
        except (OSError, EOFError, RuntimeError, AuthenticationError) as error:
            raise PayloadError(
                "a file descriptor (of a socket, a pipe or the like) cannot be fetched from the "
                f"process that sent it (pid {self._pid}): it travels only between a host and "
                "daemons that it has started on its own machine, while both run, and once"
            ) from error


class Lender:
    """Lends descriptors of this process, for one payload.

    Args:
        lasting: Each may be fetched more than once, until :meth:`end`.
    """

    def __init__(self, *, lasting: bool = False) -> None:
        self._lasting = lasting
        self._keys: list[int] = []

    def lend(self, descriptor: int) -> Descriptor:
        """Return what stands for a descriptor in a payload. The user may close his own."""
        own = os.dup(descriptor)
        place: _Place

        def send(connection: Any, pid: int) -> None:
            reduction.send_handle(connection, own, pid)

        def close() -> None:
            if self._lasting and place[1] in self._keys:  # it was fetched: there will be others
                _sharer._cache[place[1]] = send, close  # noqa: SLF001 - see above
            else:
                os.close(own)

        place = _sharer.register(send, close)
        self._keys.append(place[1])
        return Descriptor(place, os.getpid())

    def end(self) -> None:
        """Close what has not been fetched, or may be fetched again."""
        keys, self._keys = self._keys, []
        for key in keys:
            _, close = _sharer._cache.pop(key, (None, None))  # noqa: SLF001 - see above
            if close is not None:
                close()


def lend_nothing(_: int) -> Descriptor:
    """Do as ``Lender.lend``, for a payload that nobody will read."""
    return Descriptor(None, os.getpid())


class _Popen:
    """Answers where a reducer asks the process that is being started for a descriptor."""

    def __init__(self, lend: Lend) -> None:
        self.DupFd = lend

    def duplicate_for_child(self, descriptor: int) -> int:
        return descriptor


@contextmanager
def lending(lend: Lend) -> Iterator[None]:
    """Have ``reduction.DupFd`` lend descriptors in this way, on this thread."""
    before = context.get_spawning_popen()
    popen: Any = _Popen(lend)
    context.set_spawning_popen(popen)
    try:
        yield
    finally:
        context.set_spawning_popen(before)


def register_here(kind: type, reducer: Reducer) -> None:
    """Take instances apart as the other side does, unless this process knows how."""
    if kind not in reduction.ForkingPickler._extra_reducers:  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        reduction.ForkingPickler.register(kind, reducer)
