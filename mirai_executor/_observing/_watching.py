"""Moves a bar by what tasks say of themselves while they run, and by their ends.

::

    host threads                                  the thread that waits, and alone moves the bar
      a task says something ──► the last of each ──► ten times a second at most: what is done
      a task has ended ───────► awake                of those that run, and their last words
"""

from __future__ import annotations

import queue
import time
import weakref
from concurrent import futures as standard
from functools import partial
from typing import TYPE_CHECKING, Any

from mirai_executor._messages import Progress
from mirai_executor._texts import printable
from mirai_executor._waiting import Deadline

from ._reports import look_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mirai_executor._progress import Bar

_PAUSE = 0.1  # seconds between two moves of a bar by what tasks say
_LONGEST = 60  # characters of what a task says


class Watch:
    """Waits for futures, and meanwhile shows what their tasks say. For one thread at a time.

    Args:
        bar: Shows it.
        counts_tasks: Whether it counts tasks. Otherwise, nobody knows which part of a task is one
            of what it counts: it shows only what tasks say in words.
        clock: Tells the seconds.

    Attributes:
        done: How many have been counted.
    """

    def __init__(
        self,
        bar: Bar,
        *,
        counts_tasks: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = 0
        self._bar = bar
        self._counts_tasks = counts_tasks
        self._clock = clock
        self._running: dict[int, tuple[float, str]] = {}  # what is shown of each, the last last
        self._next = clock()  # when the bar may move again
        self._is_due = False  # to be shown again: it may not have shown all that was counted
        # Host threads put in, this one takes out. They never wait for it, nor for a terminal.
        self._said: dict[int, Progress | str] = {}
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_woken = False  # nothing is gained by a second time
        self._hosts: dict[Any, None] = {}  # a dictionary as a set

    def follow(self, future: Any) -> None:
        """Hear what the task of a future says, if it is one of ours that has not ended."""
        if hasattr(future, "on_report") and not future.done():
            host = future._canceller  # noqa: SLF001 - it is one of ours
            self._hosts[host] = None
            look_on(future, host, partial(self._hear, id(future)))

    def wake(self, _: object = None) -> None:
        """Have the thread that waits look again; from any thread."""
        if not self._is_woken:
            self._is_woken = True
            self._wakes.put(None)

    def _hear(self, future: int, said: object) -> None:
        if isinstance(said, Progress):
            self._said[future] = said
        elif isinstance(said, str):
            last = self._said.get(future)  # which may not have been shown yet
            self._said[future] = last._replace(text=said) if isinstance(last, Progress) else said
        else:
            return
        self.wake()

    def wait(self, is_there: Callable[[], bool], deadline: Deadline | None) -> bool:
        """Wait for something that wakes this watch, and show what is said meanwhile.

        Returns:
            Whether it is there now. False where time has run out, or where this thread is the one
            that would have to bring it, and who waits is to be told so.
        """
        while not is_there():
            now = self._clock()
            has_news = bool(self._said) or self._is_due
            if has_news and now >= self._next:
                self._next = now + _PAUSE
                self._show()
                continue
            ends = [self._next] if has_news else []
            if deadline is not None:
                if not (left := deadline.left):
                    return False
                ends.append(now + left)
            if any(host.owns_this_thread() for host in self._hosts):
                return False
            try:
                self._wakes.get(timeout=min(ends) - now if ends else None)
            except queue.Empty:
                continue
            self._is_woken = False
        return True

    def forget(self, future: object) -> None:
        """Show no longer what the task of a future has said: it is going to be counted."""
        self._said.pop(id(future), None)
        if self._running.pop(id(future), None) is not None:
            self._is_due = True

    def count(self) -> None:
        """Show that one more is done."""
        self.done += 1
        self._move()

    def _show(self) -> None:
        for future in list(self._said):  # others may add some
            said = self._said.pop(future)
            before, _ = self._running.pop(future, (0.0, ""))
            part, text = _seen(said, before)
            self._running[future] = (part if self._counts_tasks else 0.0), text
        self._is_due = False
        self._move()

    def _move(self) -> None:
        seen = self._running.values()
        text = next((text for _, text in reversed(seen) if text), "")
        self._bar.show(self.done, sum(part for part, _ in seen), text)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def _seen(said: Progress | str, before: float) -> tuple[float, str]:
    """Return what part of a task is done, and what is said of it.

    Args:
        said: By the task.
        before: What part was done before.
    """
    if isinstance(said, str):
        return before, printable(said, _LONGEST)
    done, total, text = said[0], said[1], printable(said[2], _LONGEST)
    try:
        if total is None:
            return before, text or f"{done:g}"
        part = done / total if total > 0 else 0.0
    except OverflowError:  # an integer of hundreds of digits
        return before, text
    return (min(max(part, 0.0), 1.0) if part == part else 0.0), text


def ended_in_view(fs: set[Any], timeout: float | None, bar: Bar) -> Iterator[Any]:
    """Yield futures as they end, as the standard library does, while a bar shows how far they are.

    Raises:
        TimeoutError: So many seconds have passed.
        KeyboardInterrupt: It was interrupted; the futures that are to be, are cancelled.
    """
    watch, many = Watch(bar), len(fs)
    interruptible = [weakref.ref(f) for f in fs if getattr(f, "_cancels_on_interrupt", False)]
    has_ended: list[None] = []  # by host threads
    deadline = None if timeout is None else Deadline(timeout)

    def note(_: object) -> None:
        has_ended.append(None)
        watch.wake()

    try:
        for future in fs:
            watch.follow(future)
            future.add_done_callback(note)
        ended = standard.as_completed(fs)
        fs = set()  # what has been yielded is not held here
        while (left := many - watch.done) > 0:
            is_there = watch.wait(lambda: len(has_ended) > watch.done, deadline)
            if not is_there and deadline is not None and not deadline.left:
                raise TimeoutError(f"{left} (of {many}) futures unfinished")
            future = next(ended)
            watch.forget(future)
            watch.count()
            yield future
    except KeyboardInterrupt:
        for reference in interruptible:
            if (future := reference()) is not None:
                future.cancel()
        raise
    finally:
        watch.close()
