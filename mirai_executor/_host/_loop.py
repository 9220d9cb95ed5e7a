"""The one thread that owns the dispatcher, the daemons and the open futures of one executor.

::

    submit, cancel, ...  --> inbox --.
    frames of daemons  --------------+--> event --> dispatcher --> commands --> links, futures
    ends of processes  --------------|
    (time passes)  ------------------'

Whatever happens, on whatever thread, becomes an item of the inbox or a readable descriptor; the
host thread takes them one at a time, asks the dispatcher what follows, and does it. So nothing
here needs a lock, and a KeyboardInterrupt, which strikes the main thread only, finds no step
half done: an append to the inbox happens or it does not.
"""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, assert_never

from mirai_executor import _wire
from mirai_executor._core import Dispatcher, FailTask, ResolveTasks, SendTasks
from mirai_executor._core import messages as m
from mirai_executor._local import Relay, Spawner
from mirai_executor._payload import host as _payload
from mirai_executor._waiting import Reactor, Reply

from . import _registry
from ._daemon import LocalDaemon
from ._fleet import Fleet, Post
from ._store import Store
from ._tasks import OpenFuture, OpenTask, OpenTasks, results_of, set_exception

if TYPE_CHECKING:
    from ._broadcasts import Broadcasts
    from ._elsewhere import Elsewhere
    from ._log_relay import LogRelay
    from ._questions import HostView, Ready
    from ._settings import ListenConfig, Settings, Setup
    from ._start_up import DaemonListener

_BATCH = 256  # items of the inbox between two looks at the links
_NO_OUTCOMES: Mapping[m.TaskId, _wire.WireOutcome] = {}

F = TypeVar("F", bound=OpenFuture)
Item = m.Event | OpenTask | Callable[[], None]


class Loop:
    """Runs on the host thread, from the first task to the end of a shutdown.

    Args:
        policy: How the dispatcher treats its daemons.
        new_fleet: Makes what knows all daemons.
        log: Takes what tasks log; None leaves that to daemons.
        inbox: Where other threads put items; then they wake the ``reactor``, if it is asleep.
        store: Keeps the large buffers of tasks.
        listen_config: Where daemons may come in by themselves; None if they may not.
        clock: Tells the time, in seconds.

    Attributes:
        reactor: Waits for all that concerns it.
        is_broken: Whether no daemon can be started.
        launch_error: Returns a fresh error that says why.
        story: Returns the last events and commands of the dispatcher.
    """

    def __init__(
        self,
        policy: m.Policy,
        new_fleet: Callable[[Reactor, DaemonListener, Post], Fleet],
        log: LogRelay | None,
        inbox: deque[Item],
        store: Store,
        listen_config: ListenConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_broken = False
        self._has_ended = False
        self._now = clock
        self.reactor = Reactor(inbox, self._take_in, keeps_gil=True, clock=clock)
        self._inbox = inbox
        self._log = log
        self._dispatcher = Dispatcher(policy)
        # Futures to resolve, which runs callbacks of the user: after every send is out.
        self._ended: deque[Callable[[], None]] = deque()
        self._fleet = new_fleet(self.reactor, self, self._post)
        self.launch_error = self._fleet.loss_reports.launch_error
        self.story = self._dispatcher.story
        self._awaiting: list[Ready] = []  # those who wait until so many daemons are ready
        self._tasks = OpenTasks(self._fleet, store, inbox.append, self._ended.append)
        self._broadcasts: Broadcasts | None = None  # until somebody calls everywhere()
        self._elsewhere: Elsewhere | None = None
        if listen_config is not None:
            from ._elsewhere import Elsewhere  # with TLS, which local daemons have no use for

            known = (listen_config, self.reactor, self._fleet, self._dispatcher)
            self._elsewhere = Elsewhere(*known, self.handle, self._post, policy.start_timeout)

    # For other threads

    @property
    def elsewhere(self) -> Elsewhere:
        """What it does about daemons that come by themselves; only where the host listens."""
        assert self._elsewhere is not None
        return self._elsewhere

    @property
    def ready_count(self) -> int:
        """How many daemons are connected; from any thread."""
        return self._dispatcher.ready_count

    @property
    def is_idle(self) -> bool:
        """Whether no task is on its way; from any thread."""
        return not self._tasks.open

    def _post(self, callback: Callable[[], None]) -> None:
        # Where this thread has failed, the daemons that it is about are gone.
        self.reactor.put(lambda: None if self._has_ended else callback())

    # The thread

    def run(self) -> None:
        """Turn until a shutdown has come to its end."""
        failure: BaseException | None = None
        try:
            while not self._dispatcher.is_finished or self._inbox or self._ended:
                self._turn()
        except BaseException as error:
            failure = error
            raise
        finally:
            self._end(failure)

    def _turn(self) -> None:
        # Last: a thread that is woken here needs the GIL, which is free once this one sleeps.
        if self._ended or self._awaiting:
            self._resolve_ended()
            if self._inbox:  # what callbacks have submitted is sent before this thread sleeps
                self._take_in()
            if self._dispatcher.is_finished and not self._inbox:
                return  # there is nothing left to wait for
        deadline = -math.inf if self._ended else self._dispatcher.next_deadline()
        is_burst = len(self._tasks.open) > 1
        if self.reactor.turn(math.inf if deadline is None else deadline, is_burst=is_burst):
            self._expire()
        if self._elsewhere is not None:
            self._elsewhere.close_if_wanted()

    def _expire(self) -> None:
        """Have the dispatcher do what has to be done because time has passed."""
        commands = self._dispatcher.expire(self._now())
        if self._elsewhere is not None:
            self._elsewhere.note_in_vain(commands)
        self._carry_out(commands)

    def _take_in(self) -> None:
        """Take a batch of items in, with submissions that follow each other as one."""
        submitted: list[m.Event] = []
        for _ in range(min(len(self._inbox), _BATCH)):
            item = self._inbox.popleft()
            if isinstance(item, OpenTask):
                submitted.append(self._tasks.add(item))
                continue
            # What comes next may be a shutdown: tasks before it that can start, have started.
            self.handle(*submitted)
            submitted = []
            if callable(item):
                item()
                self._resolve_ended()
            else:
                self.handle(item)
        self.handle(*submitted)

    def handle(self, *events: m.Event) -> None:
        """Have the dispatcher decide about what has happened at once, and do it."""
        if events:
            self._carry_out(self._dispatcher.handle_all(events, self._now()))

    def adopt_daemon(self) -> m.DaemonId:
        """Expect a daemon that has come by itself."""
        return self._dispatcher.adopt_daemon(self._now())

    def on_results(self, daemon: m.DaemonId, outcomes: Sequence[_wire.WireOutcome]) -> None:
        """Take in how tasks have ended at a daemon."""
        event, by_task = results_of(daemon, outcomes)
        self._carry_out(self._dispatcher.handle_all((event,), self._now()), by_task)

    def on_broadcast_answered(
        self, event: m.BroadcastAnswered, outcome: _wire.WireOutcome
    ) -> None:
        """Take in what ``everywhere`` led to at a daemon."""
        self._its_broadcasts().resolve(event, outcome)
        self.handle(event)

    def _carry_out(
        self,
        commands: Iterable[m.Command],
        outcomes: Mapping[m.TaskId, _wire.WireOutcome] = _NO_OUTCOMES,
    ) -> None:
        """Do what the dispatcher asks for.

        Args:
            commands: In this order.
            outcomes: How the tasks have ended that are to be resolved.
        """
        self.is_broken = self._dispatcher.is_broken  # before anybody hears why
        for command in commands:
            match command:  # the most frequent ones first
                case SendTasks():
                    self._tasks.send(command)
                case ResolveTasks():
                    self._tasks.resolve(command, outcomes)
                case FailTask():
                    self._tasks.fail(command)
                case m.ReportShortage() | m.ReportWait():
                    self._report(command)
                case (
                    m.SendBroadcast()
                    | m.FailBroadcast()
                    | m.InterruptBroadcast()
                    | m.ForgetBroadcast()
                ):
                    self._its_broadcasts().carry_out(command)
                case _:
                    self._carry_out_at_daemon(command)
        if self._elsewhere is not None:
            self._elsewhere.look_soon()

    def _report(self, command: m.ReportShortage | m.ReportWait) -> None:
        if isinstance(command, m.ReportShortage):
            self._fleet.loss_reports.report_shortage(self.ready_count)
            return
        told = self._fleet.loss_reports if self._elsewhere is None else self._elsewhere
        told.report_wait(command)

    def _carry_out_at_daemon(
        self,
        command: m.RecallTasks | m.InterruptTask | m.LaunchDaemon | m.KillDaemon | m.DismissDaemon,
    ) -> None:
        match command:
            case m.RecallTasks(daemon):
                self._fleet.recall(daemon)
            case m.InterruptTask(daemon, task):
                self._fleet.interrupt(daemon, task)
            case m.LaunchDaemon(daemon):
                self._fleet.launch(daemon)
            case m.KillDaemon(daemon, overdue):
                self._fleet.kill(daemon, overdue=overdue)
            case m.DismissDaemon(daemon):
                self._dismiss(daemon)
            case _:
                assert_never(command)

    def _resolve_ended(self) -> None:
        if self._ended and self._log is not None:
            self._log.drain()
        while self._ended:
            self._ended.popleft()()
        if self._awaiting:
            from ._questions import answer_ready  # which is there

            answer_ready(self._awaiting, self._dispatcher, self.launch_error)

    # Broadcasts

    def broadcast(
        self,
        id_: m.BroadcastId,
        call: _payload.Call,
        sets: frozenset[str] | None,
        limits: m.Limits,
        new_future: Callable[[m.DaemonId], F],
    ) -> list[F]:
        """Run a call once on every daemon, now and later; return a future for each of now."""
        event = m.EverywhereRequested(id_, sets, limits.timeout, limits.run_timeout)
        commands = self._dispatcher.handle(event, self._now())
        futures = self._its_broadcasts().add(id_, call, limits, new_future)
        self._carry_out(commands)
        return futures

    def _its_broadcasts(self) -> Broadcasts:
        if self._broadcasts is None:
            with _registry.no_fork:
                from ._broadcasts import Broadcasts  # few ever call everywhere()

            puts = (self._inbox.append, self._ended.append)
            self._broadcasts = Broadcasts(self._dispatcher, self._fleet, *puts)
        return self._broadcasts

    # Questions

    def when_ready(self, count: int, answer: Reply[None]) -> None:
        """Start so many daemons, and answer once they are ready, or none can be."""
        # In one step: a daemon whose end is noticed in between would have counted as ready for
        # the request, and be missing ever after.
        with _registry.no_fork:
            from . import _questions  # noqa: F401 - short programs do not ask
        self._awaiting.append((count, answer))
        self.handle(m.DaemonsRequested(count))

    def view(self) -> HostView:
        """Return a frozen picture."""
        from ._questions import AfarView, picture  # as above

        afar = AfarView() if self._elsewhere is None else self._elsewhere.view()
        reports, rows = self._fleet.loss_reports, self._fleet.rows()
        return picture(self._dispatcher, rows, afar, reports.shortage, tuple(reports.departures))

    def local_daemons(self) -> tuple[LocalDaemon, ...]:
        """Return the daemons of this machine that live, and have been heard of."""
        return self._fleet.local_daemons()

    # Ends

    def cancel_those(self, chosen: Callable[[OpenTask], bool], spares: bool = False) -> None:
        """Stop tasks; with ``spares``, none that runs and is not to be stopped then."""
        for task in list(filter(chosen, self._tasks.open.values())):
            running = not spares or getattr(task.future, "_cancel_running", True)
            self.handle(m.CancelRequested(task.task, running=running))

    def _dismiss(self, daemon: m.DaemonId) -> None:
        closing, why = self._dispatcher.is_closing, self._dispatcher.why_leaves(daemon)
        self._fleet.dismiss(daemon, why=why.value if why else "", closing=closing)
        if closing and self._elsewhere is not None:
            self._post(self._elsewhere.close_now)  # soon, as this may be a listener's callback

    def terminate(self, signum: int) -> None:
        """End every daemon by a signal, and those that live on by SIGKILL a little later."""
        self._fleet.use_signal(signum)
        self.handle(m.KillRequested())
        self._fleet.use_signal(signal.SIGKILL)

    def _end(self, failure: BaseException | None) -> None:
        """Leave nothing behind, and nobody waiting."""
        self._has_ended = True
        if self._elsewhere is not None:
            self._elsewhere.close()
        self._fleet.close()
        if self._log is not None:
            self._log.close()
        shares = [] if self._broadcasts is None else self._broadcasts.take_all()
        for future in (*self._tasks.take_all(), *shares):
            set_exception(future, _end_error(failure))
        while self._awaiting:
            self._awaiting.pop()[1].set_exception(_end_error(failure))
        if self._elsewhere is not None:
            self._elsewhere.cancel_rest()
        self.reactor.close()
        while self._ended:  # where this thread has failed: these tasks count as open no more
            self._ended.popleft()()
        # Nothing refers to itself any more: an error that was decoded here holds the frames of
        # this thread, and goes with the last reference to it, not with the next garbage.
        self._elsewhere = None

    def forget(self) -> None:
        """In a forked child: keep no daemon from noticing the end of its host."""
        self._fleet.forget()


def new_loop(
    settings: Settings, spawner: Spawner, setup: Setup, inbox: deque[Item], store: Store
) -> Loop:
    """Return a loop whose daemons are processes."""
    policy, terms = settings.policy, (settings.heartbeat, not settings.policy.direct)

    def new_fleet(reactor: Reactor, listener: DaemonListener, post: Post) -> Fleet:
        relay = Relay(spawner.write_stderr)  # whose thread would go on if there were no reactor
        return Fleet(spawner, relay, setup, store, terms, reactor, listener, post)

    return Loop(policy, new_fleet, setup.log, inbox, store, settings.listen_config)


def _end_error(failure: BaseException | None) -> Exception:
    why = "was shut down" if failure is None else "has failed by an internal error"
    error = RuntimeError(f"the executor {why} before this was done")
    error.__cause__ = failure
    return error
