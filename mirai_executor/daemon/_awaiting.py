"""Awaits the coroutines that tasks return: one at a time, or several where they may be joined."""

from __future__ import annotations

import sys

from mirai_executor._event_loop import EventLoop
from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.fast_pickle import Value
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ._serve import TaskRunner

_COMPANY = "mirai_executor._payload.common.company"  # imported with the first of these calls
_SENT: Any = Value(None, ())  # type: ignore[arg-type]  # in place of the bytes


class Awaiting:
    """The event loop of a daemon, and what runs in it.

    Args:
        daemon: The daemon.
    """

    def __init__(self, daemon: TaskRunner) -> None:
        self._daemon = daemon
        self._loop = EventLoop()
        self.iterate = self._loop.iterate
        daemon.interrupts.stop_coroutine = self._loop.stop

    def value_of(self, coroutine: Any, task: int = 0, *, out_of_band: bool = False) -> Value:
        """Run a coroutine inside the window, and return the bytes of what it returns.

        Args:
            coroutine: The coroutine.
            task: The task that has returned it; 0 if others may not run beside it in any case.
            out_of_band: Whether large buffers may travel beside the bytes.

        Returns:
            None in place of the bytes if they are sent already.
        """
        company: Any = sys.modules.get(_COMPANY)
        apart = out_of_band and self._daemon.memory.is_shared
        try:
            if company is not None and company.may_be_joined(task):
                self._run_at_once(task, coroutine)
                return _SENT  # type: ignore[no-any-return]  # as there
            # In one: what the user's objects do when they die, belongs into the window.
            return _payload.encode_value(
                self._loop.run(coroutine),
                out_of_band=out_of_band,
                apart=apart,
                serial=rebuild.serial,
            )
        finally:
            if self._daemon.snapshot is not None:  # nothing of one task is left to the next one
                self._loop.close()

    def _run_at_once(self, task: int, coroutine: Any) -> None:
        from ._coroutines import Coroutines  # where that is asked for

        try:
            Coroutines(self._daemon, self._loop.opened()).run(task, coroutine)
        finally:
            self._loop.end_rest()
