"""Sends the elements of a map, short ones in chunks; each of them ends as a task of its own would.

::

    elements ── 3 of them, as probes ──► how long does one take?
       │                                   │ nobody knows in time     it is short
       │                                   ▼                          ▼
       └───────────────────────────► a task for each         a task for each chunk of them
                                           ▲                          │ what a chunk has left
                                           └──────────────────────────┘

A chunk is a task whose result is how each of its elements has ended. What has not been begun, as
its daemon was lost or its arguments could not be pickled, is sent again, each element by itself,
and in smaller chunks if the chunk was cut off, since it took too long. So errors are those of
elements, and nothing runs twice.
"""

from __future__ import annotations

import copy
import weakref
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any

from mirai_executor._core import Paces, TaskId, chunk_size
from mirai_executor._host import (
    Host,
    kind_of,
    resolve_elements,
    set_exception,
    stop_element,
    takes_chunks,
)
from mirai_executor._options import is_traced, one_at_a_time
from mirai_executor.daemon._elements import run_elements
from mirai_executor.errors import DaemonLostError, LaunchError
from mirai_executor.futures import MiraiFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirai_executor._host import Options
    from mirai_executor._submitting import Submitter

_PROBES = 3  # of which the fastest one counts: others may have had to import something
_FEW = 32  # elements; for fewer it is not worth the wait
_PATIENCE = 10e-3  # seconds for the probes: elements that take longer gain little by chunks

# By executor: how long elements have taken, by their function.
_known: weakref.WeakKeyDictionary[Host, Paces] = weakref.WeakKeyDictionary()


def sender_for(
    face: Submitter, fn: Callable[..., Any], call: Callable[[Any], Any]
) -> TaskSender | ChunkSender:
    """Return what sends elements, in chunks where that changes nothing but the time it takes.

    Args:
        face: The executor, or a view of one.
        fn: The function that was given.
        call: Calls it with an element.
    """
    host, options = face._host, face._options  # noqa: SLF001 - it is one of ours
    if options.limits.concurrency > 1:
        options = one_at_a_time(fn, options)
    # What brings more than its call, or reports, is a task.
    has_more = options.context or options.post_mortem or options.on_report is not None
    has_streams = face._root()._streams is not None  # noqa: SLF001 - as above
    if has_more or has_streams or is_traced() or not takes_chunks(host, options.limits):
        return TaskSender(face, call)
    return ChunkSender(host, options, call, kind_of(fn, ()))


class TaskSender:
    """Sends each element as a task of its own."""

    def __init__(self, face: Submitter, call: Callable[[Any], Any]) -> None:
        self._face = face
        self._call = face._host.take(call)  # noqa: SLF001 - as above

    def send(self, values: Sequence[Any]) -> list[MiraiFuture[Any]]:
        """Submit a call with each element; return their futures."""
        return [self._face.submit(self._call, value) for value in values]

    def cancel_all(self) -> None:
        """Do nothing: their futures are cancelled."""


class Chunk:
    """Elements that one task runs.

    Args:
        values: The elements.
        futures: Theirs.
        task: That of the task.
    """

    def __init__(
        self, values: Sequence[Any], futures: list[MiraiFuture[Any]], task: MiraiFuture[Any]
    ) -> None:
        self.values = values
        self.futures = futures
        self.task = task
        self.is_timed = False  # it is known how long one has taken
        self.is_split = False  # the task was cancelled for the sake of one of them

    def begun_at(self, element: int | None) -> int:
        """Return how many had begun when a daemon was lost that had begun this one last."""
        if element is None:  # nobody knows: perhaps all
            return len(self.futures)
        return sum(future.id <= element for future in self.futures)


class ChunkSender:
    """Sends short elements in chunks. All methods are safe from any thread.

    Args:
        host: Runs the tasks.
        options: Of each; they have no limits.
        call: Calls the function with an element.
        kind: The same number for elements that are expected to take equally long.
    """

    def __init__(
        self, host: Host, options: Options, call: Callable[[Any], Any], kind: int | None
    ) -> None:
        self._host = host
        self._options = options
        self._call = host.take(call)
        self._run = host.take(partial(run_elements, call))
        self._kind = kind
        self._chunks: dict[TaskId, Chunk] = {}  # by the elements that have not ended
        self._paces = _known.setdefault(host, Paces())
        self.owns_this_thread, self.call_soon = host.owns_this_thread, host.call_soon

    # What a map asks for

    def send(self, values: Sequence[Any]) -> list[MiraiFuture[Any]]:
        """Submit a call with each element; return their futures."""
        futures = [self._new_future() for _ in values]
        seconds, probes = self._paces.expected(self._kind), 0
        if seconds is None and len(values) >= _FEW:
            seconds, probes = self._probe(values, futures)
        size = chunk_size(seconds, len(values) - probes, self._host.connections)
        for start in range(probes, len(values), size):
            end = min(start + size, len(values))
            if size == 1:
                self._send_task(values[start], futures[start])
            else:
                self._send_chunk(values[start:end], futures[start:end])
        return futures

    def cancel_all(self) -> None:
        """Cancel all chunks, as their elements are going to be."""
        for chunk in list(self._chunks.values()):
            chunk.task.cancel()

    # What the future of an element asks for

    def cancel(self, element: TaskId, *, running: bool) -> None:
        """Stop an element; with ``running`` also one that a daemon holds."""
        chunk = self._chunks.get(element)
        if chunk is None:  # it is a task, or has ended
            self._host.cancel(element, running=running)
            return
        chunk.is_split = True
        if chunk.task.cancel_queued():
            return  # at its end, the others are sent again
        future = next(future for future in chunk.futures if future.id == element)
        if not running:
            future.start()  # so it is not cancelled: it may run
            return
        stop_element(self._host, chunk.task.id, element)
        self._host.call_soon(future.end_cancelled)

    # Sending

    def _probe(
        self, values: Sequence[Any], futures: list[MiraiFuture[Any]]
    ) -> tuple[float | None, int]:
        """Find out how long an element takes; return that, and how many have been sent for it."""
        if not self._host.connections or self._host.owns_this_thread():
            return None, 0  # there may be nothing to hear of it for long
        probes = range(_PROBES)
        chunks = [self._send_chunk(values[n : n + 1], futures[n : n + 1]) for n in probes]
        wait(futures[:_PROBES], _PATIENCE)
        are_known = all(chunk.is_timed for chunk in chunks)
        return (self._paces.expected(self._kind) if are_known else None), _PROBES

    def _send_task(self, value: Any, future: MiraiFuture[Any]) -> None:
        self._host.submit(future.id, future, self._call, (value,), {})

    def _send_chunk(self, values: Sequence[Any], futures: list[MiraiFuture[Any]]) -> Chunk:
        task: MiraiFuture[Any] = MiraiFuture(self._host.next_id(), self._host)
        chunk = Chunk(values, futures, task)
        self._chunks.update((future.id, chunk) for future in futures)
        task.element = self._future_of
        # Before it is sent: what cannot be pickled ends it at once.
        task.add_done_callback(partial(self._end, chunk))
        args = (list(values), [future.id for future in futures])
        self._host.submit(task.id, task, self._run, args, {})
        return chunk

    def _new_future(self) -> MiraiFuture[Any]:
        return MiraiFuture(
            self._host.next_id(),
            self,
            cancel_running=self._options.cancel_running,
            cancel_on_interrupt=self._options.cancel_on_interrupt,
        )

    def _future_of(self, element: TaskId) -> MiraiFuture[Any] | None:
        """Return the future of an element, for what that says while it runs."""
        chunk = self._chunks.get(element)
        futures = () if chunk is None else chunk.futures
        return next((future for future in futures if future.id == element), None)

    # How chunks end

    def _end(self, chunk: Chunk, _: object) -> None:
        """End the elements of a chunk as they have ended; send those again that did not begin."""
        for future in chunk.futures:
            self._chunks.pop(future.id, None)
        task = chunk.task
        if task.cancelled():
            self._end_from(chunk, 0 if chunk.is_split else len(chunk.futures))
        elif (error := task.exception()) is not None:
            self._end_in(chunk, error)
        else:
            outcomes, nanoseconds = task.result()
            if outcomes:
                self._paces.note(self._kind, nanoseconds * 1e-9 / len(outcomes))
                chunk.is_timed = True
            resolve_elements(chunk.futures, outcomes)
            self._send_rest(chunk, len(outcomes))

    def _send_rest(self, chunk: Chunk, begun: int) -> None:
        """Send what a chunk that took too long has left in two halves, which may share daemons."""
        left = [at for at in range(begun, len(chunk.futures)) if not chunk.futures[at].cancelled()]
        half = -(-len(left) // 2)
        for part in filter(None, (left[:half], left[half:])):
            values, futures = [chunk.values[at] for at in part], [chunk.futures[at] for at in part]
            if len(part) > 1:
                self._send_chunk(values, futures)
            else:
                self._send_again(*values, *futures)
        for future in chunk.futures[begun:]:
            if future.cancelled():
                future.end_cancelled()

    def _end_in(self, chunk: Chunk, error: BaseException) -> None:
        """End elements in the error of their task, as far as it is theirs."""
        begun = 0
        if not chunk.task._has_raised:  # noqa: SLF001 - else it is about what was sent
            if isinstance(error, DaemonLostError):
                begun = chunk.begun_at(error._element)  # noqa: SLF001 - as above
            elif isinstance(error, LaunchError):
                begun = len(chunk.futures)
        for future in chunk.futures[:begun]:
            set_exception(future, copy.copy(error))  # each gets a note of its own
        self._end_from(chunk, begun)

    def _end_from(self, chunk: Chunk, begun: int) -> None:
        """Send elements as tasks of their own that were not begun, unless they are cancelled."""
        for place, future in enumerate(chunk.futures):
            if future.cancelled():
                future.end_cancelled()
            elif place >= begun:
                self._send_again(chunk.values[place], future)
            elif chunk.task.cancelled():
                future.end_cancelled()

    def _send_again(self, value: Any, future: MiraiFuture[Any]) -> None:
        try:
            self._send_task(value, future)
        except Exception as error:  # the executor has ended
            set_exception(future, error)
