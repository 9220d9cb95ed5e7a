"""How short elements of a map have ended, as futures that are made when somebody asks for one.

::

    host thread                                           who collects
      a chunk ends ── values, all at once ──► by place ──► value, values, wait
                   └─ errors, and the like ─► a future ─►    │ asks for a future
                                                 ▲───────────┘

A future takes as long to make, to end and to wait for as a short element to compute, so a thousand
of them are not made to be thrown away. Where an element has a future, that says how it has ended.
"""

from __future__ import annotations

import bisect
import contextlib
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mirai_executor._core import TaskId
from mirai_executor._host import decode_error
from mirai_executor._payload.host import decode_value
from mirai_executor.daemon._elements import FAILED, PICKLED, SKIPPED
from mirai_executor.futures import MiraiFuture

from ._ends import error_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mirai_executor._host import Host, Options

# What somebody waits for: that all elements have ended; or one has failed; or some have ended.
_News = Literal["all", "all or an error", "any"]

_OPEN: Any = object()  # in place of a value that is not there, or only by a future
_NO_TASK = TaskId(0)


class Stopper(Protocol):
    """Knows how to stop what runs elements."""

    def stop(self, futures: LateFutures, place: int, *, running: bool) -> None:
        """Stop an element; with ``running`` also one that a daemon holds."""


class ElementCanceller:
    """Whom the future of an element tells that it is to be stopped.

    Args:
        futures: Held weakly, as it holds those futures; it lives as long as one of its elements is
            under way.
        host: Runs them.
        stopper: Stops them.
    """

    def __init__(self, futures: LateFutures, host: Host, stopper: Stopper) -> None:
        self._futures = weakref.ref(futures)
        self._stopper = stopper
        self.owns_this_thread = host.owns_this_thread
        self.call_soon = host.call_soon

    def cancel(self, element: TaskId, *, running: bool) -> None:
        """Stop an element; with ``running`` also one that a daemon holds."""
        futures = self._futures()
        if futures is not None and (place := futures.place_of(element)) is not None:
            self._stopper.stop(futures, place, running=running)


class LateValue:
    """A value that is unpickled by the first thread that wants it; all get the same.

    Args:
        blob: Its pickle.
    """

    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def get(self) -> Any:
        """Return the value, or raise what unpickling it raises."""
        known = self.__dict__  # whose operations are one step each
        if (blob := known.get("blob")) is not None:
            known.setdefault("value", decode_value(blob))
            known.pop("blob", None)
        return known["value"]


class LateFutures(Sequence["Future[Any]"]):
    """The futures of elements, each of which is made when somebody asks for it. For any thread.

    Args:
        elements: The elements.
        host: Runs them.
        options: Theirs.
        stopper: Stops them.

    Attributes:
        elements: The elements.
        ids: Theirs; they rise.
        chunks: By place, the chunk that an element is in; None if it is a task, or has ended.
        stopped: Places of those that are to end as cancelled, whether they run or not.
        cancels_on_interrupt: Whether they are cancelled when who waits is interrupted.
    """

    # There is no lock, as in a future: a value is in its place before those who have left word are
    # told, and who asks for a future looks for the value once that is where others find it.

    def __init__(
        self, elements: Sequence[Any], host: Host, options: Options, stopper: Stopper
    ) -> None:
        self.elements = elements
        self.ids = [host.next_id() for _ in elements]
        self.chunks: list[Any] = [None] * len(elements)
        self.stopped: set[int] = set()
        self.cancels_on_interrupt = options.cancel_on_interrupt
        self._cancels_running = options.cancel_running
        self._canceller = ElementCanceller(self, host, stopper)
        self._found = [_OPEN] * len(elements)  # values, perhaps late ones
        self._made: dict[int, MiraiFuture[Any]] = {}
        self._under_way: dict[object, None] = {}  # chunks, and places of those that are tasks
        self._has_failed = False  # one of them
        self._log: list[Sequence[int]] = []  # the places of those that have ended, in that order
        self._waits: dict[MiraiFuture[None], _News] = {}

    # Futures

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        if (future := self._made.get(place)) is None:
            future = MiraiFuture(
                self.ids[place],
                self._canceller,
                cancel_running=self._cancels_running,
                cancel_on_interrupt=self.cancels_on_interrupt,
            )
            future = self._made.setdefault(place, future)
        self._settle(place, future)
        return future

    def _settle(self, place: int, future: MiraiFuture[Any]) -> None:
        """End a future by the value that is there, if one is."""
        found = self._found[place]
        if type(found) is LateValue:
            future._end_with((LateValue.get, found, False))
        elif found is not _OPEN:
            future._end_with((None, found, False))

    def place_of(self, element: TaskId) -> int | None:
        """Return the place of an element; None if it is none of these."""
        place = bisect.bisect_left(self.ids, element)
        is_here = place < len(self.ids) and self.ids[place] == element
        return place if is_here else None

    def is_cancelled(self, place: int) -> bool:
        """Tell whether an element was cancelled, or is about to be."""
        future = self._made.get(place)
        return place in self.stopped or (future is not None and future.cancelled())

    # Ends, for whoever sends elements

    def begin(self, part: object) -> None:
        """Note that a chunk is under way, or the element in a place, or others that will be."""
        self._under_way[part] = None

    def end(self, part: object) -> None:
        """Note that all elements of it have ended, or are under way otherwise."""
        self._under_way.pop(part, None)
        if self._waits:
            self._tell(any_news=True)

    def begin_task(self, place: int) -> MiraiFuture[Any]:
        """Note that an element becomes a task of its own; return its future."""
        future: MiraiFuture[Any] = self[place]
        self.begin(place)
        future.add_done_callback(lambda future: self._end_task(place, future))
        return future

    def _end_task(self, place: int, future: Future[Any]) -> None:
        self._note_end(place, future)
        self.end(place)

    def put_all(self, places: Sequence[int], how: bytes, outcomes: list[Any]) -> None:
        """End elements as they have ended in a chunk: see ``run_elements``."""
        if PICKLED in how:
            pairs = zip(how, outcomes, strict=True)
            outcomes = [LateValue(it) if each == PICKLED else it for each, it in pairs]
        if FAILED not in how and SKIPPED not in how:
            self._put(places, outcomes)
            return
        good = [at for at, each in enumerate(how) if each not in (FAILED, SKIPPED)]
        self._put([places[at] for at in good], [outcomes[at] for at in good])
        for place, each, outcome in zip(places, how, outcomes, strict=False):
            if each == FAILED:
                self.end_by(place, partial(_fail, outcome))
            elif each == SKIPPED:
                self.end_by(place, MiraiFuture.end_cancelled)

    def _put(self, places: Sequence[int], values: list[Any]) -> None:
        """Put values in their places, which may be more."""
        if type(places) is range:
            self._found[places.start : places.start + len(values)] = values
        else:
            for place, value in zip(places, values, strict=False):
                self._found[place] = value
        self._log.append(places[: len(values)])
        if self._made:
            for place in places[: len(values)]:
                if (future := self._made.get(place)) is not None:
                    self._settle(place, future)
                    future._tell_all()

    def end_by(self, place: int, end: Callable[[MiraiFuture[Any]], None]) -> None:
        """End an element otherwise than by a value: by what is done to its future."""
        future: MiraiFuture[Any] = self[place]
        with contextlib.suppress(InvalidStateError):
            end(future)
        future.end_cancelled()  # if it was cancelled in the meantime
        self._note_end(place, future)

    def _note_end(self, place: int, future: Any) -> None:
        """Note that an element has ended, and if it has failed; without decoding anything."""
        self._log.append((place,))
        if not future.cancelled() and future._end[2]:
            self._has_failed = True

    def _tell(self, *, any_news: bool) -> None:
        """Tell those who wait, as far as they are content."""
        for future, news in self._waits.copy().items():  # at once: others wait, too
            has_failed = news == "all or an error" and self._has_failed
            if not self._under_way or has_failed or (any_news and news == "any"):
                self._waits.pop(future, None)
                with contextlib.suppress(InvalidStateError):  # another thread has
                    future.set_value(None)

    # For who collects

    def _future_of(self, news: _News) -> MiraiFuture[None]:
        """Return the future of some news, from now on."""
        future: MiraiFuture[None] = MiraiFuture(_NO_TASK, self._canceller)
        self._waits[future] = news
        self._tell(any_news=False)
        return future

    def wait(self, *, stop: bool) -> bool:
        """Wait until all have ended, or with ``stop`` one has failed; return whether all have."""
        self._future_of("all or an error" if stop else "all").result()
        return not self._under_way

    async def waited(self) -> None:
        """Wait in a coroutine of asyncio until all have ended, or one has failed."""
        await self._future_of("all or an error")

    def ended(self) -> Iterator[int]:
        """Yield the places of elements as they end."""
        seen = 0
        while True:
            # First, so that nothing ends unseen in between.
            news, are_all = self._future_of("any"), not self._under_way
            while seen < len(self._log):
                seen += 1
                yield from self._log[seen - 1]
            if are_all:
                return
            news.result()

    def is_done(self, place: int) -> bool:
        """Tell whether an element has ended, or was cancelled."""
        future = self._made.get(place)
        return self._found[place] is not _OPEN if future is None else future.done()

    def has_value(self, place: int) -> bool:
        """Tell whether a value is there without any future, so that nobody need wait for it."""
        return place not in self._made and self._found[place] is not _OPEN

    def error_of(self, place: int) -> BaseException | None:
        """Return the error of an element that has ended."""
        return error_of(self[place]) if self._known(place) is _OPEN else None

    def value(self, place: int) -> Any:
        """Wait for an element; return its value, or raise its error."""
        value = self._known(place)
        return self[place].result() if value is _OPEN else value

    def values(self) -> list[Any] | None:
        """Return the values of all, if they are there without any future."""
        if self._under_way:
            return None
        values = list(map(self._known, range(len(self))))
        return None if any(value is _OPEN for value in values) else values

    def _known(self, place: int) -> Any:
        """Return the value of an element if it is there without a future."""
        found = _OPEN if place in self._made else self._found[place]
        if type(found) is not LateValue:
            return found
        try:
            return found.get()
        except KeyboardInterrupt:  # perhaps not of unpickling
            raise
        except BaseException:  # of the user's own code: the future says so
            return _OPEN

    def cancel(self) -> int:
        """Cancel all that have not ended; return how many are cancelled."""
        # From last to first: to stop one that runs is not to start another one.
        places = reversed(range(len(self)))
        return sum([not self.has_value(place) and self[place].cancel() for place in places])


def _fail(error: bytes, future: MiraiFuture[Any]) -> None:
    future.set_outcome(decode_error, error, failed=True)
