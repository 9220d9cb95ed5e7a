"""One daemon for one host, from the handshake to the end of either.

Everything runs on one thread that waits for five things: frames of the host, frames of the daemon,
what it prints, its death, and time.
"""

import os
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from enum import Enum, auto

from mirai_executor import _wire
from mirai_executor._core import TaskId
from mirai_executor._local import (
    LAST_FRAMES,
    DeathWatch,
    Stops,
    memory_hint,
)
from mirai_executor._transport import FarLink, Link, LinkClosedError
from mirai_executor._waiting import Deadline

from ._options import ExitCode, KeeperOptions, seat_here
from ._slack import Slack
from ._started import Started

_LET_GO = 0.5  # seconds for the daemon to end of SIGTERM
_PARTING_TIME = 2.0  # seconds for the last frames to reach the host
_LEAVE = 10.0  # seconds for a daemon to end that was told to; as long as the host gives local ones
_MISSED = 12  # beats until the host is taken for lost: it may be busy in code that holds its lock
_SHORT = 1 << 16  # bytes of outcomes that may go before others
_FIRST_BEAT = 5.0  # seconds, until the host has said how often

Data = bytes | bytearray | memoryview


class End(Enum):
    """How a session has ended."""

    LEFT = auto()  # the host let the daemon go
    CRASHED = auto()  # the daemon died, or was killed
    SPOILT = auto()  # the daemon could not clean up behind a task, and made room for another
    CUT_OFF = auto()  # the host is gone, or about to be
    OVERDUE = auto()  # the daemon was not ready in the time that the host gives it
    WRONG_MODE = auto()  # the host works with a dispatcher, or without, and was to do otherwise


class Session:
    """A host and a daemon, and what is between them.

    Args:
        link: The connection to the host.
        options: How the daemon lives.
        end_at: When it takes no more tasks.
        started: The daemon, and what there is here for it; the session closes all of that.

    Attributes:
        begun: How many tasks the daemon has been given, and may have begun.
    """

    def __init__(
        self, link: FarLink, options: KeeperOptions, end_at: float, started: Started
    ) -> None:
        self._link, self._slack = link, Slack(link, self._say)
        link.may_compress = True  # if the host says so
        self._options = options
        self._started = started
        self._reactor, self._daemon, self._output = started[:3]
        self._watch(self._link, self._on_host)
        self._watch(self._daemon.link, self._on_daemon)
        self._deaths: DeathWatch[None] = DeathWatch(self._reactor, lambda _: self._report_end())
        self._deaths.add(None, self._daemon)  # the only one
        self._end: End | None = None
        self._is_leaving = self._host_closes = False  # let go by the host; as its executor ends
        self._wants_to_leave = self._host_is_gone = False
        self._open: set[int] = set()  # tasks that the daemon has, and has not answered
        # Those that were to stop before they had come, and how many had been sent then.
        self._stopped_early: dict[int, int] = {}
        self.begun = self._received = 0  # the latter: tasks that have ever come
        # It has said that it has to leave; the host has killed it, or has given it up.
        self._is_spoilt = self._was_killed = self._is_overdue = False
        # As the host has for its own daemons.
        self._stops: Stops[int] = Stops(self._reactor, self._resend_stop)
        self._beat = _FIRST_BEAT
        self._next_beat = self._reactor.call_in(_FIRST_BEAT, self._on_beat)
        self._silent_since = self._reactor.now()
        self._reactor.call_at(end_at, self._ask_to_leave)  # never, perhaps
        self._is_closed = False  # nothing of the daemon is left

    @property
    def came_to_nothing(self) -> bool:
        """Whether the daemon has ended by itself before it had begun a task."""
        return not (self.begun or self._was_killed)

    def run(self, goes_on: Callable[["Session", End], bool]) -> End:
        """Pass on what comes, until it is over; leaves nothing behind.

        Whether it ``goes_on`` with another daemon after an end is what the host is told.
        """
        self._goes_on = goes_on
        try:
            wishes, seat = self._options, seat_here(os.environ)
            most, idle_time = wishes.max_tasks_per_child, wishes.idle_time
            limits = (wishes.cleanup, most, idle_time, wishes.request, seat)
            self._say(_wire.Joined(self._daemon.pid, socket.gethostname(), *limits))
            # The last frame of the handshake may have brought more with it.
            self._on_host()
            self._reactor.run()
        except (SystemExit, KeyboardInterrupt):
            self._terminate()
            raise
        finally:
            self._close()
        assert self._end is not None  # noqa: S101 - for the type checker: that has stopped it
        return self._end

    # Links

    def _watch(self, link: Link, callback: Callable[[], None]) -> None:
        self._reactor.register(link.fileno(), selectors.EVENT_READ, callback)

    def _send(self, link: Link, data: Data, send: Callable[[Data], None] | None = None) -> None:
        """Send a frame; if the other side is gone, its own way of ending says so."""
        try:
            (send or link.send)(data)
        except LinkClosedError:
            return
        link.follow(self._reactor)

    def _say(self, frame: _wire.Frame, send: Callable[[Data], None] | None = None) -> None:
        if not self._host_is_gone:
            self._send(self._link, _wire.encode(frame), send)

    def _say_first(self, frame: _wire.Frame) -> None:
        self._say(frame, self._link.send_first)

    # The host

    def _on_host(self) -> None:
        if self._host_is_gone:
            return
        try:
            if self._link.has_more_to_send:
                self._link.flush()
                self._link.follow(self._reactor)
            while (data := self._link.receive()) is not None:
                self._on_host_frame(data)
        except (LinkClosedError, _wire.WireError):
            self._lose_host()

    def _on_host_frame(self, data: Data) -> None:
        if _wire.is_tasks(data):
            self._pass_tasks(data)
        elif not _wire.is_for_keeper(data):
            if _wire.is_leave(data):
                self._is_leaving = self._daemon.dismissed = True
                self._host_closes = _wire.decode(data) == _wire.Leave(closing=True)
            self._send(self._daemon.link, data)
        else:
            self._obey(_wire.decode(data))

    def _pass_tasks(self, data: Data) -> None:
        frame = _wire.decode(data)
        assert isinstance(frame, _wire.Tasks)  # noqa: S101 - for the type checker
        self._received += len(frame.tasks)
        early = self._stopped_early
        all_ids = [TaskId(task.task) for task in frame.tasks]
        self._daemon.issue(all_ids, without=early)
        ids = [task for task in all_ids if task not in early]
        self.begun += len(ids)
        self._open.update(ids)
        self._send(self._daemon.link, data)
        if early:
            for task in frame.tasks:
                early.pop(task.task, None)
            # What has not come by now had been answered before.
            self._stopped_early = {t: sent for t, sent in early.items() if sent > self._received}

    def _obey(self, frame: _wire.Frame) -> None:
        match frame:
            case _wire.Attend(seconds, dispatcher):
                self._beat = seconds
                self._reactor.move(self._next_beat, self._reactor.now() + seconds)
                if self._options.dispatcher not in (None, dispatcher):
                    self._finish(End.WRONG_MODE)
            case _wire.Beat():
                self._say_first(frame)
            case _wire.Stop(task, sent):
                self._stop(task, sent)
            case _wire.Recall():
                returned = self._daemon.take_back()
                self._open.difference_update(returned)
                self.begun -= len(returned)
                self._daemon.resend_stop()
                self._say(_wire.Returned(returned))
            case _wire.Kill(signum, overdue):
                self._was_killed, self._is_overdue = True, overdue
                self._daemon.kill(signum)
            case _:
                raise _wire.WireError(f"unexpected {type(frame).__name__} frame from the host")

    def _stop(self, task: int, sent: int) -> None:
        """Stop a task, or a broadcast, of which none was sent; the answer of any other is ours."""
        if task in self._open or not sent:
            self._daemon.interrupt(TaskId(task))
            self._stops.add(task)
            return
        if not (has_ended := sent <= self._received):
            self._stopped_early[task] = sent
        self._say_first(self._slack.answer(task, ended=has_ended, leaving=self._is_spoilt))

    def _lose_host(self) -> None:
        """Do what was asked for in case that the host is gone."""
        if self._host_is_gone:
            return
        self._host_is_gone = True
        self._link.leave(self._reactor)
        if self._is_leaving:
            return  # it may be first to close
        if self._options.autoexit == "finish" and self._open:
            self._open.difference_update(self._daemon.take_back())
        if self._options.autoexit != "finish" or not self._open:
            self._finish(End.CUT_OFF)

    # The daemon

    def _on_daemon(self) -> None:
        if self._daemon.link_is_closed:
            return
        try:
            if self._daemon.link.has_more_to_send:
                self._daemon.link.flush()
                self._daemon.link.follow(self._reactor)
            while (data := self._daemon.link.receive()) is not None:
                self._on_daemon_frame(data)
        except (LinkClosedError, _wire.WireError):
            self._daemon.link.leave(self._reactor)
            self._daemon.link_is_closed = True
            self._deaths.note_link_closed(None, _LEAVE if self._is_leaving else LAST_FRAMES)

    def _on_daemon_frame(self, data: Data) -> None:
        self._daemon.has_greeted = True
        if (kept := self._slack.keep(data)) is None:
            return
        self._output.pass_on()  # what tasks print appears before they end
        ended = _wire.ended_tasks(data)
        self._open.difference_update(ended)
        is_awaited = bool(self._stops.asked) and self._note_stopped(data, ended)
        self._is_spoilt = self._is_spoilt or _wire.is_leaving(data)
        if not self._host_is_gone:
            # The host has the daemon do something else once it knows that the task has stopped.
            send = self._link.send_first if is_awaited else self._link.send
            self._send(self._link, kept, send)
            self._slack.note(ended)
        elif not self._open:
            self._finish(End.CUT_OFF)

    def _note_stopped(self, data: Data, ended: Sequence[int]) -> bool:
        """Note what has stopped as it was to; return whether to tell the host of that first."""
        stopped = self._stops.asked.keys() & set(ended)
        if not ended and isinstance(frame := _wire.decode(data), _wire.BroadcastOutcome):
            self._stops.discard(frame.broadcast)
        for task in stopped:
            self._stops.discard(task)
        return bool(stopped) and len(data) < _SHORT

    def drain(self, why: str, grace: float) -> None:
        """Begin no other task, and end once the one that runs has ended; from a signal handler.

        Args:
            why: What the host is told.
            grace: Seconds until it is stopped; at their end, :meth:`run` raises SystemExit.
        """

        def begin() -> None:
            self._ask_to_leave(why)
            self._reactor.call_in(grace, _give_up)

        self._reactor.put(begin)

    def _ask_to_leave(self, why: str = "its time is over") -> None:
        if not self._wants_to_leave:
            self._wants_to_leave = True
            self._say(_wire.Parting(why))
            self._say(_wire.Leaving())

    def _report_end(self) -> None:
        """Tell the host how the daemon has ended."""
        unbegun = self._daemon.take_back()
        self.begun -= len(unbegun)
        self._daemon.reap()
        code = self._daemon.exitcode
        assert code is not None  # noqa: S101 - for the type checker: it is a child of this process
        stderr = self._daemon.close() + memory_hint(self._daemon.has_run_out_of_memory)
        self._is_closed = True
        self._output.pass_on()
        # Those that were answered early count as received: the host waits for them no more.
        received = self._received + len(self._stopped_early)
        end = self._kind_of_end(code)
        self._say(_wire.Ended(code, received, unbegun, stderr, self._goes_on(self, end)))
        self._finish(end)

    def _kind_of_end(self, code: int) -> End:
        if self._is_overdue:
            return End.OVERDUE
        if self._wants_to_leave:
            return End.LEFT
        if self._is_leaving and code == 0:
            left = End.SPOILT if self._is_spoilt else End.LEFT
            return End.CUT_OFF if self._host_closes else left
        return End.CUT_OFF if self._host_is_gone else End.CRASHED

    def _finish(self, end: End) -> None:
        if self._end is None:
            self._end = end
            self._reactor.stop()

    # Time

    def _resend_stop(self, _: int) -> bool:
        self._daemon.resend_stop()
        return True

    def _on_beat(self) -> None:
        now = self._reactor.now()
        self._next_beat = self._reactor.call_in(self._beat, self._on_beat)
        if self._link.heard:
            self._link.heard = False
            self._silent_since = now
        if self._host_is_gone:
            return
        if now - self._silent_since > _MISSED * self._beat:
            self._lose_host()
        elif not self._link.has_more_to_send:  # what is on its way will do
            self._say_first(_wire.Beat())

    # Ends

    def _terminate(self) -> None:
        """End the daemon since this process is to end, and tell the host what that has cost."""
        if not self._is_closed:
            self._wants_to_leave = True  # no other follows
            self._daemon.kill(signal.SIGTERM)
            Deadline(_LET_GO).wait_for(self._daemon.end_fd, selectors.EVENT_READ)
            self._report_end()

    def _close(self) -> None:
        """End the daemon if it lives, let the last frames go out, and leave nothing behind."""
        if not self._is_closed:
            self._daemon.reap()
            self.begun -= len(self._daemon.take_back())
            self._daemon.close()
        self._started.close()
        deadline = Deadline(_PARTING_TIME)
        while not self._host_is_gone and self._link.has_more_to_send:
            if not deadline.wait_for(self._link.fileno(), selectors.EVENT_WRITE):
                break
            try:
                self._link.flush()
            except LinkClosedError:
                break
        self._reactor.close()


def _give_up() -> None:
    raise SystemExit(ExitCode.TERMINATED)
