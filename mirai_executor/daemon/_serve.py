"""Serves one host: receives calls, runs them one after the other, and answers.

::

    Hello -> (Init) -> initializer -> Ready -> [ task -> outcome -> clean up ]... -> (Leave)

One thread does it all, the main one, so that signals reach the code that they are meant for.
Every step that runs user code (unpickling, the call itself, pickling) stands inside the window of
:class:`Interrupts`; the rest of the daemon never feels a signal.
"""

import collections
import os
import signal
import sys
import time
from collections.abc import Sequence

from mirai_executor import _nameless, _place, _wire
from mirai_executor._arena import DaemonMemory
from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import rebuild
from mirai_executor._payload.daemon import Namespace, Preparation
from mirai_executor._shared import STOP_SIGNAL, Page, Tickets
from mirai_executor._transport import Link, LinkClosedError
from mirai_executor._typing import TYPE_CHECKING, Any
from mirai_executor._version import __version__
from mirai_executor._wire import Bytes, Name, OutcomeStatus
from mirai_executor.errors import PayloadError

from . import _child
from ._child import Child, process_name
from ._interrupts import Interrupts, as_outcome

if TYPE_CHECKING:
    from ._awaiting import Awaiting
    from ._cleanup import Snapshot
    from ._dirty_flag import DirtyFlag
    from ._messenger import DaemonMessenger
    from ._piece_sender import PieceSender
    from ._streaming import Streaming

    Outcome = tuple[OutcomeStatus, Bytes, tuple[_wire.Buffer, ...]]

_INITIALIZER = 1 << 63  # its id; those of tasks and broadcasts are one sequence
_Table = Sequence[tuple[str, bytes]]  # the name and digest of each entry
_HOLD = 500_000  # nanoseconds that tasks may have taken whose results wait for others
_BRIEF = 100_000  # nanoseconds: after a longer task, cleanup adds less than a tenth in any case


class TaskRunner:
    """The runner of tasks, at its end of a local link."""

    def __init__(
        self, link: Link, page: Page, tickets: Tickets, memory: DaemonMemory, child: Child
    ) -> None:
        self.link = link
        self.tickets = tickets
        self.memory = memory
        self._child = child
        self._pid = os.getpid()
        self._in_hand: list[_wire.WireOutcome] = []  # results not sent yet
        self._table: _Table = ()  # of the last task that came
        self.interrupts = self._interrupts = Interrupts(page, self._send_results)
        self.page = page
        self._begun = page.begun
        self.namespace: Namespace
        self.snapshot: Snapshot | None = None
        self._beside: tuple[PieceSender, ...] = ()  # what tasks say beside their outcomes
        self._messenger: DaemonMessenger | None = None
        self._awaiting: Awaiting | None = None  # until a task returns a coroutine
        self.unread: collections.deque[_wire.Frame] = collections.deque()  # came during a task
        _place.messenger = self._messenger_of_task
        self._cleanup_failed = False
        self._leaving = False

    def serve(self) -> None:
        """Serve the host until it says that this daemon may leave."""
        _child.serving = self
        try:
            self._serve()
        except LinkClosedError:
            pass  # there is nobody to serve
        finally:
            # A thread that a task has left can keep this process alive: the host must not take it
            # for a daemon that still listens.
            self.link.close()
            self.memory.close()
            if (spans := sys.modules.get("mirai_executor._payload.common.traced")) is not None:
                spans.disconnected()

    def _serve(self) -> None:
        self._interrupts.install()
        self._send(_wire.Hello(os.getpid(), sys.version_info[:3], __version__))
        # No frame is kept while the next one is awaited: it holds all the bytes of its calls.
        while self.take_in(self.unread.popleft() if self.unread else self._next_frame()):
            pass

    def take_in(self, frame: _wire.Frame) -> bool:
        """Do what a frame asks for; False if it was the last one."""
        match frame:
            case _wire.Init():
                self._initialize(_payload.decode_plain(frame.payload))
            case _wire.Tasks():
                if frame.released or not frame.tasks:
                    self.memory.release(frame.released)
                if self.is_spoilt():
                    # The host cannot have sent this after an outcome of ours that it lacks.
                    # Their tickets say that none of these began: they run elsewhere.
                    return False
                return self._run_all(frame.tasks)
            case _wire.Broadcast():
                self._run_broadcast(frame)
            case _wire.Leave():
                return False
            case _wire.Credit():  # for a stream that has ended
                pass
            case _:
                raise _wire.WireError(f"unexpected {type(frame).__name__} frame from the host")
        return True

    # Frames

    def _next_frame(self) -> _wire.Frame:
        return _wire.decode(self._receive())

    def _receive(self) -> bytes | bytearray | memoryview:
        """Wait for the next frame."""
        while (patience := self.memory.patience) is not None and not self.link.wait(patience):
            self._trim()
        return self.link.receive() or b""

    def _trim(self) -> None:
        """Let go of what is not used, when no work has come for a while."""
        if (released := self.memory.trim()) is not None:
            self._send(_wire.Outcomes((), released))

    def _send(self, frame: _wire.Frame) -> None:
        for sender in self._beside:
            sender.flush()  # what a task has logged comes before its outcome
        self.link.send(*_wire.pieces(frame))

    # The life of a daemon

    def _initialize(self, setup: Any) -> None:
        preparation, calls, cleanup, logging = setup
        flag = _new_flag() if cleanup else None
        self.namespace = Namespace(preparation)
        self._child.introduce(preparation)
        if (preparation.variables or preparation.gpus) and not self._set_environment(preparation):
            return
        if logging is not None:
            self._relay_logs(logging, preparation, now=cleanup)
        for call in calls:
            table = self._receive_names([Name(*entry) for entry in call.names])
            status, payload, _ = self._attempt(_INITIALIZER, table, call.blob, persist=True)
            if status is not OutcomeStatus.VALUE:
                self._send(_wire.InitFailed(payload))
                return
        if flag is not None:
            self._take_snapshot(flag)
        self._send(_wire.Ready())

    def _take_snapshot(self, flag: "DirtyFlag") -> None:
        from ._cleanup import Snapshot  # most daemons do not clean up

        self._interrupts.install()  # the initializer may have taken them
        ours = frozenset({signal.SIGINT, STOP_SIGNAL})
        self.snapshot = Snapshot(self.namespace.module, flag, untouched=ours)
        self.namespace.on_sys_path = self.snapshot.keep_path
        self.snapshot.watch_imports()

    def _set_environment(self, preparation: Preparation) -> bool:
        from ._environment import set_environment  # not for all

        try:
            set_environment(preparation)
        except ValueError as error:
            self._send(_wire.InitFailed(self._encode_error(error)))
            return False
        return True

    def _relay_logs(
        self, logging: _payload.LogLevels, preparation: Preparation, *, now: bool
    ) -> None:
        from ._log_sender import LogSender  # few hosts have configured logging

        name = process_name(preparation)
        logs = LogSender(self.link, self._interrupts, name)
        self._beside = (*self._beside, logs)
        logs.begin(logging)
        if now or logging.captures_warnings:
            # The snapshot must have it; and a warning may come before anybody imports it.
            import logging as _  # noqa: F401

    def _messenger_of_task(self) -> "DaemonMessenger | None":
        """Return what carries messages of the task that runs; None if none does."""
        if os.getpid() != self._pid or not 0 < self._interrupts.task < _INITIALIZER:
            return None
        if self._messenger is None:
            from ._messenger import DaemonMessenger  # few tasks report anything

            self._messenger = DaemonMessenger(
                *(self.link, self._interrupts),
                *(self._new_stream, lambda values: self.awaiting().iterate(values)),
            )
            self._beside = (*self._beside, self._messenger)
        return self._messenger

    def _new_stream(self, ahead: int) -> "Streaming":
        from ._streaming import Streaming  # as above

        return Streaming(
            *(self.link, self._interrupts, self.memory),
            *(self._send_behind, self.unread, ahead),
        )

    def _send_behind(self, frame: _wire.Frame) -> None:
        self._send_results()
        self._send(frame)

    def _run_all(self, tasks: Sequence[_wire.WireTask]) -> bool:
        """Run the tasks of a frame, as far as the host does not have them back.

        Returns:
            False if this daemon is spoilt and leaves some to others.
        """
        last = tasks[-1] if tasks else None
        held_since = 0
        by_flag = False
        for task in tasks:
            id_, names, call, lent = task
            if names is not None:
                self._table = self._receive_names(names)
            if not self.tickets.take():
                self.memory.skip(lent)
                continue
            self._begun[0] = begun = time.perf_counter_ns()
            status, payload, buffers = self._attempt(id_, self._table, call, lent, persist=False)
            ended = time.perf_counter_ns() if status is not OutcomeStatus.SKIPPED else begun
            leaving = self.is_spoilt()
            fields = (id_, status, leaving, payload, ended - begun, buffers)
            # The task behind it may well take as long: what takes long, waits for nothing.
            held_since = held_since if self._in_hand else begun
            if payload is not None:  # else it is sent already, with those that have run beside it
                # At a third of the cost of WireOutcome(...).
                self._in_hand.append(tuple.__new__(_wire.WireOutcome, fields))
            del fields, payload, buffers
            if task is last or leaving or ended - held_since > _HOLD:
                self._send_results()
            by_flag = task is not last and ended - begun < _BRIEF
            self._restore(by_flag=by_flag)
            if task is not last and (leaving or self._cleanup_failed):
                return False  # its results are sent
        self._send_results()  # before the first task of the next frame
        if by_flag:  # those behind the last one have been taken back
            self._restore()
        self._interrupts.install()
        return True

    def _send_results(self) -> None:
        if self._in_hand:
            outcomes, self._in_hand = self._in_hand, []
            released = self.memory.take_released()
            self._send(_wire.Outcomes(tuple(outcomes), released))

    def send_outcome(self, id_: int, outcome: "Outcome", nanoseconds: int) -> None:
        """Send how one of several tasks has ended that run at once."""
        status, payload, buffers = outcome
        leaving = self.is_spoilt()
        sent = _wire.WireOutcome(id_, status, leaving, payload, nanoseconds, buffers)
        self._in_hand.append(sent)
        self._send_results()

    def table_of(self, task: _wire.WireTask) -> _Table:
        """Return the table of a task that has come, with its bytes taken in."""
        if task.names is not None:
            self._table = self._receive_names(task.names)
        return self._table

    def _receive_names(self, names: Sequence[Name]) -> _Table:
        """Keep the bytes of names that calls may look up; return what those calls go by."""
        for name in names:
            self.namespace.receive(name.name, name.digest, name.blob)
        return [(name.name, name.digest) for name in names]

    def _run_broadcast(self, frame: _wire.Broadcast) -> None:
        table = self._receive_names(frame.names)
        self._begun[0] = time.perf_counter_ns()
        status, payload, _ = self._attempt(frame.broadcast, table, frame.payload, persist=True)
        self._send(_wire.BroadcastOutcome(frame.broadcast, status, payload))
        self._restore(retake=True)

    def _restore(self, *, by_flag: bool = False, retake: bool = False) -> None:
        """Clean up after user code; a daemon that cannot is spoilt, and asks to leave."""
        if not self.clean_up(by_flag=by_flag, retake=retake) and not self._leaving:
            self._leaving = True
            self._send_results()
            self._send(_wire.Leaving())

    def clean_up(self, *, by_flag: bool = False, retake: bool = False) -> bool:
        """Clean up after user code; False if this daemon is spoilt."""
        try:
            if self.snapshot is None:
                self._interrupts.ensure_installed()
            elif retake:
                self.snapshot.retake()
            else:  # our handlers included
                self.snapshot.restore(self.namespace.host_names, by_flag=by_flag)
        except BaseException:  # whatever it was: it must not reach the next task
            import traceback  # hardly ever

            traceback.print_exc()
            self._cleanup_failed = True
        return not self.is_spoilt()

    def is_spoilt(self) -> bool:
        return self._cleanup_failed or self._interrupts.hit_import

    # User code

    def _attempt(
        self,
        id_: int,
        table: _Table,
        payload: Bytes,
        lent: Sequence[_wire.Buffer] = (),
        *,
        persist: bool,
    ) -> "Outcome":
        """Run a call; whatever it does, return an outcome that can be sent, or has been."""
        try:
            buffers = self.memory.views(lent) if lent else ()
            try:
                if not self._interrupts.enter(id_):
                    return OutcomeStatus.SKIPPED, b"", ()
                coroutine: Any = None
                value: Any = None
                try:
                    # In one: what the user's objects do when they die, belongs into the window.
                    value = _payload.encode_value(
                        self.namespace.decode(payload, table, buffers=buffers, persist=persist)(),
                        out_of_band=not persist,
                        apart=not persist and self.memory.is_shared,
                        serial=rebuild.serial,
                        awaited=False,
                    )
                except _payload.Unawaited as found:
                    coroutine = found.coroutine
                if coroutine is not None:  # behind that exception, which is no context of its own
                    value = self.awaiting().value_of(coroutine, id_, out_of_band=not persist)
            finally:
                self._interrupts.leave()
                _nameless.flush_streams()
            blob, large = value
            if large or os.getpid() != self._pid:
                self.end_if_child()
                return OutcomeStatus.VALUE, blob, self.memory.lend(large)
        except BaseException as error:  # the host raises it where it was asked for
            return OutcomeStatus.ERROR, self.encode_raised(error), ()
        return OutcomeStatus.VALUE, blob, ()

    def awaiting(self) -> "Awaiting":
        """Return what runs coroutines."""
        if self._awaiting is None:
            from ._awaiting import Awaiting  # with asyncio

            self._awaiting = Awaiting(self)
        return self._awaiting

    def encode_raised(self, error: BaseException) -> bytes:
        """Return what a call has ended in, as an error that can be sent."""
        # Python's own import, in C, may make a TypeError of an interrupt.
        struck = isinstance(error, PayloadError) and self._interrupts.has_struck
        is_interrupt = struck or isinstance(error, KeyboardInterrupt)
        return self._encode_error(as_outcome(error) if is_interrupt else error)

    def _encode_error(self, error: BaseException) -> bytes:
        self.end_if_child(error)
        try:
            return _payload.encode_error(error)
        except KeyboardInterrupt as interrupt:  # raised by the code of the error itself
            return _payload.encode_error(as_outcome(interrupt))

    def end_if_child(self, error: BaseException | None = None) -> None:
        """End a child that a task has forked, and that leaves the task: it answers for nobody."""
        if os.getpid() != self._pid:
            _child.end_fork(error)


def _new_flag() -> "DirtyFlag":
    from . import _cleanup, _dirty_flag  # noqa: F401 - both in time, before any code of the user

    return _dirty_flag.new_flag()
