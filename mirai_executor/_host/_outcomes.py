"""Puts the outcomes of tasks into their futures."""

import _thread
import collections
import functools
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from typing import Any, Protocol, TypeAlias, TypeVar

from mirai_executor import _wire
from mirai_executor._payload import host as _payload
from mirai_executor._waiting import Reply

__all__ = [
    "Ended",
    "OpenFuture",
    "decode_apart",
    "decode_error",
    "resolve",
    "resolve_all",
    "set_exception",
]

T = TypeVar("T")

# To look an enum's member up takes as long as a call.
_SKIPPED, _ERROR = _wire.Status.SKIPPED, _wire.Status.ERROR
_NO_NUMBER = _payload.NO_NUMBER


class OpenFuture(Protocol):
    """What the host needs of a task's future."""

    def start(self) -> bool: ...
    def set_outcome(self, decode: Callable[[T], Any], payload: T, *, failed: bool) -> None: ...
    def set_value(self, value: Any) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...
    def end_cancelled(self) -> None: ...


Ended: TypeAlias = collections.deque[tuple[OpenFuture, _wire.WireOutcome | None]]


def resolve_all(ended: Ended) -> None:
    """End futures; None for one that was cancelled before it could start."""
    while ended:  # and not longer: what nobody else holds is to go at once
        future, outcome = ended.popleft()
        if outcome is None:
            future.end_cancelled()
        else:
            resolve(future, outcome)


def resolve(future: OpenFuture, outcome: _wire.WireOutcome) -> None:
    """End a future as its task has ended; who wants its value, decodes it."""
    views: Any  # in place of where they lie, by now
    status, payload, views = outcome.status, outcome.payload, outcome.buffers
    if status is _SKIPPED:
        future.end_cancelled()
        return
    failed = status is _ERROR
    value = _NO_NUMBER if failed or views else _payload.decode_number(payload)
    decode: Callable[..., Any] = decode_error if failed else _payload.decode_value
    if views:
        decode = functools.partial(decode, buffers=views)
    try:
        if value is _NO_NUMBER:
            future.set_outcome(decode, payload, failed=failed)
        else:
            future.set_value(value)
    except InvalidStateError:  # cancelled in the meantime
        future.end_cancelled()


def decode_error(payload: _wire.Bytes) -> BaseException:
    """Return the error that a task has ended in, or the one that decoding it ends in."""
    try:
        return _payload.decode_error(payload)
    except BaseException as error:  # the user's own code may raise any
        return error


def decode_apart(payload: _wire.Bytes) -> BaseException:
    """Return the same, decoded on a thread of its own, which is waited for.

    The traceback of an error holds the frames in which it was decoded, and these the thread: who
    keeps the error would keep the host thread from being seen as gone.
    """
    answer: Reply[BaseException] = Reply()
    try:
        _thread.start_new_thread(lambda: answer.set_result(decode_error(payload)), ())
    except RuntimeError:  # the system grants none
        return decode_error(payload)
    return answer.get()


def set_exception(future: OpenFuture, error: BaseException) -> None:
    """End a future in an error, unless it has been cancelled in the meantime."""
    try:
        future.set_exception(error)
    except InvalidStateError:
        future.end_cancelled()
