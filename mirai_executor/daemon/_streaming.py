"""Sends the values that a task yields, no more of them ahead than the host has granted.

::

    run_stream ── put ──► Items ──► the host, which keeps them until they are taken
               ◄─ wait_for_credit ◄─ Credit ── as they are
"""

from __future__ import annotations

from mirai_executor import _wire
from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import rebuild
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Any

    from mirai_executor._arena import DaemonMemory
    from mirai_executor._transport import Link

    from ._interrupts import Interrupts

_LONG = 3600.0  # seconds that a poll waits in one go


class Streaming:
    """What one task yields.

    Args:
        link: Leads to the host.
        interrupts: Knows which task that is.
        memory: Takes large buffers.
        send: Sends a frame, behind results that are still in hand.
        unread: Where frames are put that come meanwhile, and are for later.
        ahead: How many values may be sent before the first one has been taken.
    """

    def __init__(
        self,
        link: Link,
        interrupts: Interrupts,
        memory: DaemonMemory,
        send: Callable[[_wire.Frame], None],
        unread: deque[_wire.Frame],
        ahead: int,
    ) -> None:
        self._link = link
        self._interrupts = interrupts
        self._memory = memory
        self._send = send
        self._unread = unread
        self._task = interrupts.task
        self._credit = ahead

    def wait_for_credit(self) -> None:
        """Wait until one value more may be sent."""
        while not self._credit:
            if self._link.wait(_LONG):  # a task that is to stop, is interrupted here
                self._undisturbed(self._take_frame)
        self._credit -= 1

    def put(self, value: Any) -> None:
        """Send a value."""
        blob, large = _payload.encode_value(
            value, out_of_band=True, apart=self._memory.is_shared, serial=rebuild.serial
        )

        def send() -> None:
            buffers = self._memory.lend(large) if large else ()
            item = _wire.WireOutcome(
                self._task, _wire.OutcomeStatus.VALUE, leaving=False, payload=blob, buffers=buffers
            )
            self._send(_wire.Items((item,), self._memory.take_released()))

        self._undisturbed(send)

    def _take_frame(self) -> None:
        frame = _wire.decode(self._link.receive() or b"")
        if not isinstance(frame, _wire.Credit):
            self._unread.append(frame)
        elif frame.task == self._task:
            self._credit += frame.count

    def _undisturbed(self, step: Callable[[], None]) -> None:
        """Take a step that no interrupt cuts in two; one that came meanwhile strikes then."""
        self._interrupts.leave()
        step()
        if not self._interrupts.enter(self._task):
            self._interrupts.leave()
            raise KeyboardInterrupt
