"""Looks now and then whether there are enough daemons for the work, and has others asked for."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._core import Load, Scaler
    from mirai_executor._waiting import Reactor, Timer

_PAUSE = 1.0  # seconds between two looks, at least


class Autoscaler:
    """What ``adapt()`` has set going, or a launcher for ``remote=``. For the host thread only.

    Args:
        load: Tells what there is to do, and who is there.
        dismiss: Lets go of so many daemons that are idle.
        cancel: Cancels so many that were asked for, if that can be done.
        give_up: Is called when no request has led to anything for a long time.
        reactor: Tells when it is time.
    """

    def __init__(
        self,
        load: "Callable[[], Load]",
        dismiss: Callable[[int], None],
        cancel: Callable[[int], None],
        give_up: Callable[[], None],
        reactor: "Reactor",
    ) -> None:
        self._load = load
        self._dismiss, self._cancel, self._give_up = dismiss, cancel, give_up
        self.scaler: Scaler | None = None
        self._launch: Callable[[int], None] = lambda _: None
        self._reactor = reactor
        self._next_look: Timer | None = None
        self._looked_at = -math.inf

    def begin(self, scaler: "Scaler", launch: Callable[[int], None]) -> None:
        """From now on, look.

        Args:
            scaler: Decides how many are needed.
            launch: Asks for so many, on another thread.
        """
        self.scaler, self._launch = scaler, launch
        self._look_by(self._reactor.now())

    def look_soon(self) -> None:
        """Take note that something has changed."""
        if self.scaler is not None:
            self._look_by(max(self._reactor.now(), self._looked_at + _PAUSE))

    def _look_by(self, when: float) -> None:
        if self._next_look is None or self._next_look.is_over:
            self._next_look = self._reactor.call_at(when, self._look)
        elif when < self._next_look.when:
            self._reactor.move(self._next_look, when)

    def _look(self) -> None:
        if (scaler := self.scaler) is None:
            return
        now = self._reactor.now()
        self._looked_at, load, failures = now, self._load(), scaler.failures
        change = scaler.decide(load, now)
        if scaler.failures > failures and scaler.is_refused:
            self._give_up()
        if change.cancel:
            self._cancel(change.cancel)
        if change.dismiss:
            self._dismiss(change.dismiss)
        if change.launch:
            self._launch(change.launch)
        look = scaler.next_look(load, now)
        if look is not None:
            self._look_by(max(look, now + _PAUSE))
