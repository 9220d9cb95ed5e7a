"""Looks now and then whether there are enough daemons for the work, and has others asked for."""

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._core import Load, Scaler

__all__ = ["Elastic"]

_PAUSE = 1.0  # seconds between two looks, at least


class Elastic:
    """What ``adapt()`` has set going, if it was called. For the host thread only.

    Args:
        load: Tells what there is to do, and who is there.
        dismiss: Lets go of so many daemons that are idle.
    """

    def __init__(self, load: "Callable[[], Load]", dismiss: Callable[[int], None]) -> None:
        self._load = load
        self._dismiss = dismiss
        self._scaler: Scaler | None = None
        self._launch: Callable[[int], None] = lambda _: None
        self._look_at: float | None = None
        self._looked_at = -math.inf

    def begin(self, scaler: "Scaler", launch: Callable[[int], None]) -> None:
        """From now on, look.

        Args:
            scaler: Decides how many are needed.
            launch: Asks for so many, on another thread.
        """
        self._scaler, self._launch = scaler, launch
        self._look_at = time.monotonic()

    def look_soon(self) -> None:
        """Take note that something has changed."""
        if self._scaler is not None:
            soon = max(time.monotonic(), self._looked_at + _PAUSE)
            self._look_at = soon if self._look_at is None else min(self._look_at, soon)

    def deadlines(self) -> Iterable[float]:
        """Return when :meth:`expire` has something to do."""
        return () if self._look_at is None else (self._look_at,)

    def expire(self, now: float) -> None:
        """Look, if it is time."""
        if self._scaler is None or self._look_at is None or self._look_at > now:
            return
        self._looked_at, load = now, self._load()
        change = self._scaler.decide(load, now)
        if change.dismiss:
            self._dismiss(change.dismiss)
        if change.launch:
            self._launch(change.launch)
        look = self._scaler.next_look(load, now)
        self._look_at = None if look is None else max(look, now + _PAUSE)
