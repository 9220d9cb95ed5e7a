"""Carries what tasks report to the host: rather lost than late, and not too often."""

from __future__ import annotations

import time

from mirai_executor import _wire
from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import rebuild
from mirai_executor._typing import TYPE_CHECKING

from ._piece_sender import Piece, PieceSender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from mirai_executor._transport import Link

    from ._interrupts import Interrupts
    from ._streaming import Streaming

_PAUSE = 0.05  # seconds between two times that a task says how far it has come
_MOST = 1000  # reports in a second
_LARGEST = 1 << 20  # bytes of a report


class DaemonMessenger(PieceSender):
    """What ``progress`` and ``report`` speak through on a daemon.

    Args:
        link: Leads to the host.
        interrupts: Knows which task runs.
        new_stream: Returns what sends the values that the task yields.
        iterate: Returns an iterator over what an asynchronous generator yields.
    """

    def __init__(
        self,
        link: Link,
        interrupts: Interrupts,
        new_stream: Callable[[int], Streaming],
        iterate: Callable[[Any], Iterator[Any]],
    ) -> None:
        super().__init__(link, interrupts)
        self.new_stream = new_stream
        self.iterate = iterate
        self._progress: dict[int, Any] = {}  # of each task, what waits for the pause to pass
        self._paused_until: dict[int, float] = {}
        self._allowed, self._since = float(_MOST), time.monotonic()

    def _frame(self, piece: Piece) -> _wire.Frame:
        task, is_progress = piece.head
        flags = (piece.first, piece.more, bool(is_progress))
        return _wire.Report(task, piece.number, *flags, piece.data)

    def report(self, obj: Any, *, is_progress: bool) -> None:
        """Send what the task says, unless that is too much; from any thread."""
        task, now = self.task, time.monotonic()
        if is_progress:
            self._progress[task] = obj
            if now >= self._paused_until.get(task, 0.0):
                self._paused_until[task] = now + _PAUSE
                self._send_progress(task)
            return
        self._allowed = min(_MOST, self._allowed + _MOST * (now - self._since))
        self._since = now
        said = bytes(_payload.encode_value(obj, serial=rebuild.serial).blob)
        if len(said) > _LARGEST:
            raise ValueError(
                f"a report takes at most {_LARGEST} bytes when it is pickled, and this one "
                f"{len(said)}: return what is large, or have a stream yield it"
            )
        if self._allowed >= 1:
            self._allowed -= 1
            self._send_progress(task)  # what it has said before is heard before
            self.put(said, (task, 0))

    def flush(self) -> None:
        """Send all there is; for the main thread, before another frame."""
        if self._progress:
            for task in list(self._progress):  # threads may add some
                self._send_progress(task)
        self._paused_until.clear()
        super().flush()

    def _send_progress(self, task: int) -> None:
        said = self._progress.pop(task, None)
        if said is not None:
            self.put(bytes(_payload.encode_value(said).blob), (task, 1))
