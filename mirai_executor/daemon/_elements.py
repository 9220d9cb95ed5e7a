"""Runs the elements of a chunk, one after the other, each as if it were a task of its own.

A chunk is one task to the host and to the dispatcher: that is what makes it cheap. Yet an element
raises its own error, has its own result (pickled before the next one begins), is stopped alone,
and is cleaned up behind. The shared page says which one has begun last.
"""

import time
from collections.abc import Callable, Sequence

from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import rebuild
from mirai_executor._typing import TYPE_CHECKING, Any
from mirai_executor._wire import Status

from . import _child

if TYPE_CHECKING:
    from ._serve import Daemon

_LIMIT = (
    20_000_000  # nanoseconds after which the rest goes back: it takes much longer than expected
)
_BRIEF = 100_000  # nanoseconds: as in _serve

_Outcome = tuple[int, bytes]  # its status, and its payload
_VALUE, _ERROR, _SKIPPED = int(Status.VALUE), int(Status.ERROR), int(Status.SKIPPED)


def run_elements(
    fn: Callable[[Any], object], values: Sequence[Any], ids: Sequence[int]
) -> tuple[list[_Outcome], int]:
    """Call a function for each element, as far as they take no longer than is expected of them.

    Args:
        fn: The function.
        values: The elements.
        ids: Theirs.

    Returns:
        How each has ended, and the nanoseconds that all of these took. Those that are not there
        have not begun, and will not.
    """
    daemon: Daemon = _child.serving
    interrupts = daemon.interrupts
    chunk = interrupts.chunk = interrupts.task
    outcomes: list[_Outcome] = []
    start = before = time.perf_counter_ns()
    try:
        for id_, value in zip(ids, values, strict=True):
            daemon.page.begun[0] = before
            outcomes.append(_run(daemon, id_, fn, value))
            now = time.perf_counter_ns()
            can_go_on = daemon.clean_up(by_flag=now - before < _BRIEF)
            before = now
            if not can_go_on or now - start > _LIMIT:
                break
    finally:
        interrupts.chunk = 0
        interrupts.enter(chunk)
    return outcomes, before - start


def _run(daemon: "Daemon", id_: int, fn: Callable[[Any], object], value: Any) -> _Outcome:
    try:
        try:
            if not daemon.interrupts.enter(id_):
                return _SKIPPED, b""
            daemon.page.element[0] = id_
            coroutine: Any = None
            blob: Any = b""
            try:
                blob, _ = _payload.encode_value(fn(value), serial=rebuild.serial, awaited=False)
            except _payload.Unawaited as found:
                coroutine = found.coroutine
            if coroutine is not None:
                blob, _ = daemon.awaiting().value_of(coroutine)
        finally:
            daemon.interrupts.leave()
    except BaseException as error:  # the host raises it where it was asked for
        return _ERROR, daemon.encode_raised(error)
    daemon.end_if_child()
    return _VALUE, bytes(blob)
