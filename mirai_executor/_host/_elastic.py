"""Looks now and then whether there are enough daemons for the work, and has others asked for."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._core import Load, Scaler

__all__ = ["Elastic"]

_PAUSE = 1.0  # seconds between two looks, at least


class Elastic:
    """What ``adapt()`` has set going. For the host thread only.

    Args:
        load: Tells what there is to do, and who is there.
        dismiss: Lets go of so many daemons that are idle.

    Attributes:
        look_at: When :meth:`expire` has something to do; infinite for never.
    """

    def __init__(self, load: "Callable[[], Load]", dismiss: Callable[[int], None]) -> None:
        self._load = load
        self._dismiss = dismiss
        self._scaler: Scaler | None = None
        self._launch: Callable[[int], None] = lambda _: None
        self.look_at = math.inf
        self._looked_at = -math.inf

    def begin(self, scaler: "Scaler", launch: Callable[[int], None]) -> None:
        """From now on, look.

        Args:
            scaler: Decides how many are needed.
            launch: Asks for so many, on another thread.
        """
        self._scaler, self._launch = scaler, launch
        self.look_at = time.monotonic()

    def look_soon(self) -> None:
        """Take note that something has changed."""
        if self._scaler is not None:
            self.look_at = min(self.look_at, max(time.monotonic(), self._looked_at + _PAUSE))

    def expire(self, now: float) -> None:
        """Look, if it is time."""
        if self._scaler is None or self.look_at > now:
            return
        self._looked_at, load = now, self._load()
        change = self._scaler.decide(load, now)
        if change.dismiss:
            self._dismiss(change.dismiss)
        if change.launch:
            self._launch(change.launch)
        look = self._scaler.next_look(load, now)
        self.look_at = math.inf if look is None else max(look, now + _PAUSE)
