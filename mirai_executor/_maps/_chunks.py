"""Sends the elements of a map, short ones in chunks; each of them ends as a task of its own would.

::

    elements ── a few, as probes ──────► how long does one take?
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
from concurrent.futures import as_completed
from functools import partial
from itertools import islice
from sys import modules
from typing import TYPE_CHECKING, Any

from mirai_executor._around._options import is_traced, one_at_a_time
from mirai_executor._core import Paces, chunk_size
from mirai_executor._host import (
    Host,
    have_begun,
    kind_of,
    set_exception,
    stop_element,
    takes_chunks,
)
from mirai_executor.daemon._elements import run_elements
from mirai_executor.errors import DaemonLostError, LaunchError
from mirai_executor.futures import RUNNING, MiraiFuture

from ._ends import Futures, in_its_place
from ._late_futures import LateFutures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from mirai_executor._core import TaskId
    from mirai_executor._host import Options
    from mirai_executor._submitting import Submitter

_PROBES = 3  # of which the fastest one counts: others may have had to import something
_FEW = 32  # elements; for fewer it is not worth the wait
_PATIENCE = 10e-3  # seconds for the probes: elements that take longer gain little by chunks
# Likewise, if none has begun by then: all daemons are about to import what they call, so nothing
# is lost. Coroutines are not held up for that.
_PATIENCE_FOR_IMPORTS = 0.2

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
    host, options = face._host, face._options
    if options.limits.concurrency > 1:
        options = one_at_a_time(fn, options)
    # What brings more than its call, or reports, is a task.
    has_more = options.context or options.post_mortem or options.on_report is not None
    has_streams = face._root()._streams is not None
    if has_more or has_streams or is_traced() or not takes_chunks(host, options.limits):
        return TaskSender(face, call)
    return ChunkSender(host, options, call, kind_of(fn, ()))


class TaskSender:
    """Sends each element as a task of its own."""

    def __init__(self, face: Submitter, call: Callable[[Any], Any]) -> None:
        self._face = face
        self._call = face._host.take(call)

    def send(self, values: Sequence[Any]) -> Futures[Any]:
        """Submit a call with each element; return their futures."""
        return Futures(map(self._submit, values))

    def _submit(self, value: Any) -> Future[Any]:
        try:
            return self._face.submit(self._call, value)
        except TypeError as error:
            return in_its_place(self._face, error)

    def cancel_all(self) -> None:
        """Do nothing: their futures are cancelled."""


class Chunk:
    """Elements that one task runs.

    Args:
        futures: Those of the whole map, or of what was sent of it at once.
        places: Of these elements.
        task: The future of the task.
    """

    _is_to_be_split = False

    def __init__(self, futures: LateFutures, places: Sequence[int], task: ChunkFuture) -> None:
        self.futures = futures
        self.places = places
        self.task = task

    def split(self) -> bool:
        """Cancel the task for the sake of one element; False if it has begun."""
        if self.task.done():  # perhaps cancelled with all of them: then no other is sent again
            return self.task.cancelled()
        self._is_to_be_split = True  # first: the host may have ended it before this thread goes on
        return self.task.cancel_queued()

    @property
    def is_split(self) -> bool:
        """Whether the task was cancelled so, and the other elements are to be sent again.

        If it had begun, it was cancelled with all its elements, some of which may have run.
        """
        had_begun = self.task._begun == RUNNING
        return self._is_to_be_split and self.task.cancelled() and not had_begun

    def begun_at(self, task: int | None, element: int | None) -> int:
        """Return how many had begun when a daemon was lost that had begun these two last."""
        if task != self.task.id or element is None:
            return len(self.places)  # it was over, or nobody knows
        ids: list[int] = [self.futures.ids[place] for place in self.places]
        return ids.index(element) + 1 if element in ids else 0

    def take_out(self) -> None:
        """Note that its elements are no longer in it."""
        chunks = self.futures.chunks
        for place in self.places:
            if chunks[place] is self:
                chunks[place] = None


class ChunkFuture(MiraiFuture[Any]):
    """The future of a chunk, which knows its elements as long as it is under way."""

    chunk: Chunk | None = None

    def future_of(self, element: TaskId) -> MiraiFuture[Any] | None:
        """Return the future of an element of it, if that is one; for the host."""
        if (chunk := self.chunk) is None:
            return None
        place = chunk.futures.place_of(element)
        is_here = place is not None and chunk.futures.chunks[place] is chunk
        return chunk.futures[place] if is_here else None


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
        # A partial is pickled with care, which imports much the first time: not for what is found
        # by its name.
        by_name = self._call is call
        self._run = run_elements if by_name else host.take(partial(run_elements, call))
        self._given = (call,) if by_name else ()
        self._kind = kind
        self._chunks: dict[Chunk, None] = {}  # that have not ended
        self._paces = _known.setdefault(host, Paces())

    # What a map asks for

    def send(self, values: Sequence[Any]) -> LateFutures:
        """Submit a call with each element; return their futures."""
        futures = LateFutures(values, self._host, self._options, self)
        futures.begin(None)  # so that it has not ended before all are sent
        try:
            self._send_all(futures)
        finally:
            futures.end(None)
        return futures

    def _send_all(self, futures: LateFutures) -> None:
        count, start = len(futures), 0
        is_new = self._kind is not None and self._paces.expected(self._kind) is None
        if is_new and count >= _FEW:
            start = self._probe(futures)
        while start < count:
            # Each time: what is known may come from those that were sent first.
            seconds = self._paces.expected(self._kind)
            size = chunk_size(seconds, count, self._host.connections, count - start)
            if size == 1:
                self._send_task(futures, start)
            else:
                self._send_chunk(range(start, start + size), futures)
            start += size

    def cancel_all(self) -> None:
        """Cancel all chunks, as their elements are going to be."""
        for chunk in list(self._chunks):
            chunk.task.cancel()

    # What the future of an element asks for

    def stop(self, futures: LateFutures, place: int, *, running: bool) -> None:
        """Stop an element; with ``running`` also one that a daemon holds."""
        if running:
            futures.stopped.add(place)  # first: who is about to send it again, looks there behind
        element, chunk = futures.ids[place], futures.chunks[place]
        if chunk is None:  # it is a task, or has ended
            self._host.cancel(element, running=running)
            return
        if chunk.split():
            return  # at its end, the others are sent again
        future = futures[place]
        if not running:
            future.start()  # so it is not cancelled: it may run
            return
        stop_element(self._host, chunk.task.id, element)
        self._host.call_soon(future.end_cancelled)

    # Sending

    def _probe(self, futures: LateFutures) -> int:
        """Find out how long an element takes; return how many have been sent for it."""
        if not self._host.connections or self._host.owns_this_thread():
            return 0  # there may be nothing to hear of it for long
        # One for each daemon, so that none has to wait.
        places = range(max(_PROBES, min(self._host.connections, len(futures) // _PROBES)))
        for place in places:
            self._send_chunk(places[place : place + 1], futures)
        probes = futures[: len(places)]
        are_known = _some_end(probes, _PATIENCE) or _in_event_loop()
        if not are_known and not have_begun(self._host, futures.ids[: len(places)]):
            _some_end(probes, _PATIENCE_FOR_IMPORTS)
        return len(places)

    def _send_task(self, futures: LateFutures, place: int) -> None:
        future = futures.begin_task(place)
        args = (futures.elements[place],)
        try:
            self._host.submit(future.id, future, self._call, args, {})
        except TypeError:
            if not future.done():  # the element is a future: then it has ended so
                raise
        if place in futures.stopped:  # before there was a task to be stopped
            self._host.cancel(future.id, running=True)

    def _send_chunk(self, places: Sequence[int], futures: LateFutures) -> Chunk:
        task = ChunkFuture(self._host.next_id(), self._host)
        task.chunk = chunk = Chunk(futures, places, task)
        self._chunks[chunk] = None
        futures.begin(chunk)
        for place in places:
            futures.chunks[place] = chunk
        # Before it is sent: what cannot be pickled ends it at once.
        task.add_done_callback(partial(self._end, chunk))
        values = [futures.elements[place] for place in places]
        args = (*self._given, values, [futures.ids[place] for place in places])
        try:
            self._host.submit(task.id, task, self._run, args, {})
        except BaseException:
            chunk.take_out()
            self._chunks.pop(chunk, None)
            futures.end(chunk)
            raise
        for place in futures.stopped.intersection(places):  # before they were in this chunk
            self.stop(futures, place, running=True)
        return chunk

    # How chunks end

    def _end(self, chunk: Chunk, _: object) -> None:
        """End the elements of a chunk as they have ended; send those again that did not begin."""
        self._chunks.pop(chunk, None)
        chunk.take_out()
        task = chunk.task
        task.chunk = None  # no cycle through it to the elements
        if chunk.is_split:
            self._send_each(chunk, 0)
        elif task.cancelled():
            for place in chunk.places:
                chunk.futures.end_by(place, MiraiFuture.end_cancelled)
        elif (error := task.exception()) is not None:
            self._end_in(chunk, error)
        else:
            statuses, outcomes, nanoseconds = task.result()
            if outcomes:
                self._paces.note(self._kind, nanoseconds * 1e-9 / len(outcomes))
            chunk.futures.put_all(chunk.places, statuses, outcomes)
            self._send_rest(chunk, len(outcomes))
        chunk.futures.end(chunk)

    def _send_rest(self, chunk: Chunk, begun: int) -> None:
        """Send what a chunk that took too long has left in two halves, which may share daemons."""
        left = self._left(chunk, begun)
        half = -(-len(left) // 2)
        for part in filter(None, (left[:half], left[half:])):
            if len(part) > 1:
                self._send_part(part, chunk.futures)
            else:
                self._send_again(chunk.futures, *part)

    def _send_part(self, part: list[int], futures: LateFutures) -> None:
        try:
            self._send_chunk(part, futures)
        except Exception as error:  # the executor has ended
            for place in part:
                futures.end_by(place, partial(MiraiFuture.set_exception, exception=error))

    def _end_in(self, chunk: Chunk, error: BaseException) -> None:
        """End elements in the error of their task, as far as it is theirs."""
        begun = 0
        if not chunk.task._has_raised:
            if isinstance(error, DaemonLostError):
                begun = chunk.begun_at(error._task, error._element)
            elif isinstance(error, LaunchError):
                begun = len(chunk.places)
        for place in chunk.places[:begun]:
            own = copy.copy(error)  # each gets a note of its own
            chunk.futures.end_by(place, partial(MiraiFuture.set_exception, exception=own))
        self._send_each(chunk, begun)

    def _send_each(self, chunk: Chunk, begun: int) -> None:
        """Send elements as tasks of their own that were not begun, unless they are cancelled."""
        for place in self._left(chunk, begun):
            self._send_again(chunk.futures, place)

    def _left(self, chunk: Chunk, begun: int) -> list[int]:
        """Return the elements that were not begun; end those of them that are cancelled."""
        left = []
        for place in chunk.places[begun:]:
            if chunk.futures.is_cancelled(place):
                chunk.futures.end_by(place, MiraiFuture.end_cancelled)
            else:
                left.append(place)
        return left

    def _send_again(self, futures: LateFutures, place: int) -> None:
        try:
            self._send_task(futures, place)
        except Exception as error:  # the executor has ended
            set_exception(futures[place], error)


def _in_event_loop() -> bool:
    """Tell whether a coroutine has called, so that others wait for this thread."""
    if (asyncio := modules.get("asyncio")) is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _some_end(probes: list[MiraiFuture[Any]], seconds: float) -> bool:
    """Wait until as many probes have ended as are looked at, at most so many seconds."""
    try:
        return len(list(islice(as_completed(probes, seconds), _PROBES))) == _PROBES
    except TimeoutError:
        return False
