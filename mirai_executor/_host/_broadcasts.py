"""Keeps the calls of ``everywhere``, and a future for each daemon that is to make one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar, assert_never

from mirai_executor import _wire
from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastId,
    DaemonId,
    Dispatcher,
    Event,
    FailBroadcast,
    Failure,
    ForgetBroadcast,
    InterruptBroadcast,
    SendBroadcast,
    TaskId,
)
from mirai_executor.errors import TaskTimeoutError

from ._tasks import OpenFuture, decode_error, resolve, set_exception

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirai_executor._core import Limits
    from mirai_executor._payload import host as _payload

    from ._fleet import Fleet

_LOG = logging.getLogger("mirai_executor")

F = TypeVar("F", bound=OpenFuture)


class Broadcasts:
    """Those of one host. For the host thread only.

    Args:
        dispatcher: Tells which daemons are to make a call.
        fleet: Sends them.
        put: Has an event handled later.
        end_later: Has something called once every send is out: it runs callbacks of the user.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        fleet: Fleet,
        put: Callable[[Event], None],
        end_later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._put = put
        self._end_later = end_later
        self._calls: dict[BroadcastId, tuple[_payload.Call, Limits]] = {}
        self._futures: dict[tuple[DaemonId, BroadcastId], OpenFuture] = {}

    def add(
        self,
        id_: BroadcastId,
        call: _payload.Call,
        limits: Limits,
        new_future: Callable[[DaemonId], F],
    ) -> list[F]:
        """Keep a call that the dispatcher knows of; return a future for each daemon of now."""
        self._calls[id_] = call, limits
        futures = []
        for daemon in self._dispatcher.targets_of(id_):
            future = new_future(daemon)
            self._futures[daemon, id_] = future
            futures.append(future)
        return futures

    def take_all(self) -> list[OpenFuture]:
        """Forget all shares; return their futures."""
        futures = list(self._futures.values())
        self._futures.clear()
        return futures

    def carry_out(
        self, command: SendBroadcast | FailBroadcast | InterruptBroadcast | ForgetBroadcast
    ) -> None:
        """Do what the dispatcher asks for."""
        match command:
            case SendBroadcast():
                self._send(command)
            case FailBroadcast():
                self._fail(command)
            case InterruptBroadcast(daemon, broadcast):
                # Their numbers are one sequence: to a daemon, it is a task like others.
                self._fleet.interrupt(daemon, TaskId(broadcast))
            case ForgetBroadcast(broadcast):
                del self._calls[broadcast]
            case _:
                assert_never(command)

    def _send(self, command: SendBroadcast) -> None:
        future = self._futures.get((command.daemon, command.broadcast))
        if future is not None and not future.start():  # cancelled a moment ago
            self._put(BroadcastAnswered(command.daemon, command.broadcast))
            return
        call, _ = self._calls[command.broadcast]
        self._fleet.send_broadcast(command.daemon, command.broadcast, call)

    def resolve(self, event: BroadcastAnswered, outcome: _wire.WireOutcome) -> None:
        """Take in what a call led to at a daemon."""
        future = self._futures.pop((event.daemon, event.broadcast), None)
        if future is not None:
            self._end_later(lambda: resolve(future, outcome))
        elif outcome.status is not _wire.OutcomeStatus.VALUE and not self._dispatcher.is_stopping(
            event.daemon, event.broadcast
        ):
            error = decode_error(outcome.payload)
            _LOG.warning("everywhere() failed on a daemon that joined later", exc_info=error)

    def _fail(self, command: FailBroadcast) -> None:
        future = self._futures.pop((command.daemon, command.broadcast), None)
        if command.failure in (Failure.TIMED_OUT, Failure.RUN_TIMED_OUT):
            self._time_out(command, future)
            return
        if future is None:
            return
        if command.failure is Failure.CANCELLED:
            self._end_later(future.end_cancelled)
            return
        if not self._fleet.loss_reports.is_lost(command.daemon):  # it was dropped by a shutdown
            self._end_later(future.end_cancelled)
            return
        error = self._fleet.loss_reports.lost_error(
            command.daemon, "before it had finished everywhere()"
        )
        self._end_later(lambda: set_exception(future, error))

    def _time_out(self, command: FailBroadcast, future: OpenFuture | None) -> None:
        _, limits = self._calls[command.broadcast]
        why = f"not finished {limits.timeout} s after it was called"
        if command.failure is Failure.RUN_TIMED_OUT:
            why = f"it ran for more than {limits.run_timeout} s"
        error = TaskTimeoutError(f"everywhere() timed out on a daemon: {why}")
        if future is not None:
            self._end_later(lambda: set_exception(future, error))
        else:
            _LOG.warning("%s, which had joined later", error)
