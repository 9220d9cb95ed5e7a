"""A host whose queue has room for so many bytes: whoever submits waits until a call fits into it.

::

    submit ─► pickled ─► the gate: is there room? ─► copied, queued ─► sent to a daemon: room again
                                      └── no: the thread waits
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from mirai_executor.errors import TaskTimeoutError

from . import _registry
from ._host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirai_executor._core import TaskId

    from ._gate import Gate


class BoundedHost(Host):
    """A host with a gate before its queue. Every method is safe from any thread."""

    @property
    def _gate(self) -> Gate:
        assert self.gate is not None  # as its settings say
        return self.gate

    def _accept(self, fields: tuple[Any, ...]) -> None:
        """Queue a task once there is room; on a host thread, which makes room, at once."""
        task: TaskId = fields[0]
        try:
            if self._admit(task, fields):
                super()._accept(fields)
        except BaseException:
            self.give_up_room(task)  # even if it is queued, as an interrupt may strike any time
            raise

    def _admit(self, task: TaskId, fields: tuple[Any, ...]) -> bool:
        _, future, limits, _, blob, *_ = fields
        size = self._store.copied.get(task) or len(blob)
        try:
            if self._gate.enter(task, size, limits.timeout, _may_wait):
                return True
            if self._gate.is_closed:
                raise self._end_error()  # noqa: TRY301 - as if it had never come so far
        except Exception:  # what is interrupted lets go by itself
            self._store.let_go(task)
            raise
        self.give_up_room(task)
        self._store.let_go(task)
        text = f"task {task} timed out: no room in the queue {limits.timeout} s after submission"
        future.set_exception(TaskTimeoutError(text))
        return False

    def call_when_room(self, task: TaskId, call: Callable[[], object]) -> None:
        """Call something on any thread once there is room, as :meth:`Gate.when_room` does."""
        self._gate.when_room(task, call)

    def give_up_room(self, task: TaskId) -> None:
        """Forget a call that waits for room, or has found some and will not be queued."""
        self._gate.give_up(task)
        self._admit_soon()

    def _close_gate(self) -> None:
        self._gate.close()
        self._admit_soon()

    def _admit_soon(self) -> None:
        if self._has_started:
            self.call_soon(self._gate.admit)

    def shutdown(
        self, *, cancel_queued: bool, cancel_running: bool = False, hurried: bool = False
    ) -> None:
        """Take no more tasks, not even those that wait for room. Returns at once."""
        self._close_gate()
        super().shutdown(
            cancel_queued=cancel_queued, cancel_running=cancel_running, hurried=hurried
        )

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """End all daemons, and let nobody wait. Returns at once."""
        self._close_gate()
        super().kill(signum)

    def forget(self) -> None:
        """In a forked child: this host belongs to the parent."""
        self._gate.forget()
        super().forget()

    def _drain(self) -> None:
        self._gate.close()
        self._gate.admit()
        super()._drain()


def _may_wait() -> bool:
    return not _registry.owns_this_thread()
