"""Runs the elements of a chunk, one after the other, each as if it were a task of its own.

A chunk is one task to the host and to the dispatcher: that is what makes it cheap. Yet an element
raises its own error, has its own result, is stopped alone, and is cleaned up behind. The shared
page says which one has begun last.

What a chunk returns says of each element that has begun how it has ended. Numbers and texts, and
tuples of a few, which nothing can change any more, are pickled once, with the chunk; all else is
pickled before the next element begins, as what a task returns would be.
"""

import time
from collections.abc import Callable, Sequence

from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.fast_pickle import ATOMS, BRIEF, is_short
from mirai_executor._typing import TYPE_CHECKING, Any

from . import _child

if TYPE_CHECKING:
    from ._serve import TaskRunner

_LIMIT = (
    20_000_000  # nanoseconds after which the rest goes back: it takes much longer than expected
)
_BRIEF = 100_000  # nanoseconds: as in _serve

_FEW = 8  # items of a tuple; more take long to look at

# How an element has ended, and what stands for it in the outcomes of its chunk.
PLAIN = 0  # its value
PICKLED = 1  # its value, pickled
FAILED = 2  # its error, pickled
SKIPPED = 3  # nothing: it had been stopped before it began

_Outcome = tuple[int, Any]


def run_elements(
    fn: Callable[[Any], object], values: Sequence[Any], ids: Sequence[int]
) -> tuple[bytes, list[Any], int]:
    """Call a function for each element, as far as they take no longer than is expected of them.

    Args:
        fn: The function.
        values: The elements.
        ids: Theirs.

    Returns:
        How each has ended, by a byte, or nothing if all have plain values; their outcomes; and the
        nanoseconds that all of these took. Those that are not there have not begun, and will not.
    """
    daemon: TaskRunner = _child.serving
    interrupts, page = daemon.interrupts, daemon.page
    chunk = interrupts.chunk = interrupts.task
    statuses, outcomes = bytearray(), []
    start = before = time.perf_counter_ns()
    try:
        for id_, value in zip(ids, values, strict=True):
            page.begun[0] = before
            status, outcome = _run(daemon, id_, fn, value)
            statuses.append(status)
            outcomes.append(outcome)
            now = time.perf_counter_ns()
            can_go_on = daemon.clean_up(by_flag=now - before < _BRIEF)
            before = now
            if not can_go_on or now - start > _LIMIT:
                break
    finally:
        interrupts.chunk = 0
        interrupts.enter(chunk)
    return (bytes(statuses) if any(statuses) else b""), outcomes, before - start


def _run(daemon: "TaskRunner", id_: int, fn: Callable[[Any], object], value: Any) -> _Outcome:
    try:
        try:
            if not daemon.interrupts.enter(id_):
                return SKIPPED, None
            daemon.page.element[0] = id_
            result: Any = fn(value)
            if type(result) in BRIEF or is_short(result) or _is_tuple_of_few(result):
                status = PLAIN
            else:
                status, result = PICKLED, _pickled(daemon, result)
        finally:
            daemon.interrupts.leave()
    except BaseException as error:  # the host raises it where it was asked for
        return FAILED, daemon.encode_raised(error)
    daemon.end_if_child()
    return status, result


def _is_tuple_of_few(result: Any) -> bool:
    return type(result) is tuple and len(result) <= _FEW and ATOMS.issuperset(map(type, result))


def _pickled(daemon: "TaskRunner", result: Any) -> bytes:
    """Pickle a result, or what a coroutine returns that is one."""
    coroutine: Any = None
    blob: Any = b""
    try:
        # This way takes half as long, if nothing is left beside.
        blob, large = _payload.encode_value(
            result, out_of_band=True, apart=True, serial=rebuild.serial, awaited=False
        )
        if large:
            blob, _ = _payload.encode_value(result, serial=rebuild.serial)
    except _payload.Unawaited as found:
        coroutine = found.coroutine
    if coroutine is not None:  # behind that exception, which is no context of its own
        blob, _ = daemon.awaiting().value_of(coroutine)
    return bytes(blob)
