"""A dispatcher in a world of daemons and links that fail, all of it decided by one seed.

::

    client --events--> Dispatcher --commands--> shell --frames, late or lost--> daemon processes
                           ^                                                          |
                           '------- results, deaths noticed late, links that drop ----'

Time is a number and moves from one happening to the next, so that an hour with a thousand daemons
takes a second. What happened is kept as a history; :mod:`core.history` says whether it may be so.
"""

import functools
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastId,
    CancelRequested,
    Command,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsRequested,
    DismissDaemon,
    Dispatcher,
    Event,
    EverywhereRequested,
    FailBroadcast,
    FailTask,
    ForgetBroadcast,
    InterruptBroadcast,
    InterruptTask,
    KillDaemon,
    KillRequested,
    LaunchDaemon,
    LeaveRequested,
    Policy,
    RecallTasks,
    ReportShortage,
    ReportWait,
    ResolveTasks,
    ResultsArrived,
    RoundTripMeasured,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
    TaskId,
    TasksReturned,
)

from .history import History
from .shorthand import submitted


@dataclass(frozen=True)
class Faults:
    """How often things go wrong; each is a probability, unless it says otherwise."""

    dies_at_start: float = 0.0
    hangs_at_start: float = 0.0
    mean_life: float = math.inf  # seconds until a process is killed by somebody else
    loses_last_words: float = 0.5  # a result that was on its way when the process died
    is_remote: float = 0.0  # then its link may drop while the process lives
    ignores_interrupts: float = 0.0
    ignores_dismissal: float = 0.0
    is_spoilt_by_interrupts: float = 0.0
    asks_to_leave: float = 0.0
    slowness: float = 1.0  # of the network; 1 means some milliseconds
    last: float = 100.0  # seconds, then the weather clears: what could go on for ever, must end


@dataclass(frozen=True)
class Work:
    """One call, and what its caller does about it."""

    task: TaskId
    submitted_at: float
    duration: float
    timeout: float | None = None
    run_timeout: float | None = None
    retries: int = 0
    cancelled_at: float | None = None
    kind: int | None = None
    concurrency: int = 1


class Process:
    """A daemon process with its link. It knows nothing of the dispatcher."""

    def __init__(self, world: "Simulation", id_: DaemonId) -> None:
        self.world = world
        self.id = id_
        self.is_alive = True
        self.is_connected = True
        self.is_remote = world.chance(world.faults.is_remote)
        self.tickets: deque[TaskId] = deque()  # of what it has not begun; both sides take them
        self.waiting: deque[Work] = deque()  # what has come
        self.in_hand: dict[TaskId, float | None] = {}
        self.running: dict[TaskId, Work] = {}
        self.is_spoilt = False
        self.stopped: set[TaskId] = set()
        self.last_arrival_here = 0.0
        self.last_arrival_there = 0.0

    def start(self) -> None:
        """Come to life, perhaps, and greet the host."""
        faults, world = self.world.faults, self.world
        if world.chance(faults.dies_at_start):
            self.die()
        elif not world.chance(faults.hangs_at_start):
            self.send(DaemonReady(self.id))
            if self.is_remote:
                self.send(RoundTripMeasured(self.id, world.random.uniform(0, 0.3)))
            if faults.mean_life < math.inf:
                world.after(world.random.expovariate(1 / faults.mean_life), self.be_struck)
            if world.chance(faults.asks_to_leave):
                world.after(
                    world.random.uniform(0, 20), lambda: self.send(LeaveRequested(self.id))
                )

    def be_struck(self) -> None:
        """Be killed by somebody else; for a remote one, more often only its link drops."""
        if self.is_remote and self.world.chance(0.7):
            self.drop_link()
        else:
            self.die()

    # What it gets

    def take_frame(self, frame: list[Work]) -> None:
        """Run the tasks of a frame, one after the other, or beside those that they may join."""
        self.waiting.extend(frame)
        if self.may_begin():
            self.go_on()

    def may_begin(self) -> bool:
        """Tell whether the next task may run now."""
        return not self.running or (bool(self.waiting) and self.waiting[0].concurrency > 1)

    def go_on(self) -> None:
        """Begin the next task whose ticket is there, unless it was told before not to."""
        while self.waiting and not self.is_spoilt and self.may_begin():
            work = self.waiting.popleft()
            if not self.tickets or self.tickets[0] != work.task:
                continue  # the host has it back
            self.tickets.popleft()
            if work.task not in self.stopped:
                self.running[work.task] = work
                self.world.history.begun(self.world.now, work.task, self.id)
                self.world.after(work.duration, functools.partial(self.finish, work))
                return
            self.in_hand[work.task] = None  # it was overtaken
        self.send_results()
        if self.waiting and not self.running:
            self.die()  # it is spoilt: what it has not begun runs elsewhere

    def send_results(self, *, leaving: bool = False) -> None:
        """Send what is in hand."""
        if self.in_hand:
            results, self.in_hand = self.in_hand, {}
            self.send(ResultsArrived(self.id, results, leaving))

    def take_broadcast(self, broadcast: BroadcastId) -> None:
        """Run a share of everywhere."""
        self.world.history.broadcast_begun(broadcast, self.id)
        seconds = self.world.random.expovariate(2)
        self.world.after(seconds, lambda: self.send(BroadcastAnswered(self.id, broadcast)))

    def take_interrupt(self, task: TaskId) -> None:
        """Stop a task if that is the one that runs; remember it if it has not come yet."""
        if self.world.chance(self.world.faults.ignores_interrupts):
            return
        self.stopped.add(task)
        if task in self.running:
            leaving = self.world.chance(self.world.faults.is_spoilt_by_interrupts)
            work = self.world.works[task]
            self.world.after(self.world.delay(), lambda: self.finish(work, leaving=leaving))

    def take_dismissal(self) -> None:
        """End of one's own accord, if obedient."""
        if not self.world.chance(self.world.faults.ignores_dismissal):
            self.die()

    # What it does

    def finish(self, work: Work, *, leaving: bool = False) -> None:
        """Answer, if the task has not been answered before, now or with those behind it."""
        if self.is_alive and work.task in self.running:
            del self.running[work.task]
            self.is_spoilt |= leaving
            self.in_hand[work.task] = work.duration
            if leaving or work.concurrency > 1 or self.world.chance(0.3):
                self.send_results(leaving=leaving)
            self.go_on()

    def send(self, event: Event) -> None:
        """Put a frame on the way to the host: frames keep their order."""
        if not (self.is_alive and self.is_connected):
            return
        world = self.world
        self.last_arrival_there = max(self.last_arrival_there, world.now + world.delay())
        world.at(self.last_arrival_there, lambda: self.arrive_at_host(event))

    def arrive_at_host(self, event: Event) -> None:
        """Be read by the host, unless the frame went down with its process."""
        lost = not self.is_alive and self.world.chance(self.world.faults.loses_last_words)
        if self.is_connected and not lost:
            self.world.hear(self, event)

    def die(self) -> None:
        """End, however it comes. The host notices after the last frame that made it."""
        if self.is_alive:
            self.is_alive = False
            when = max(self.last_arrival_there, self.world.now) + self.world.delay()
            self.world.at(when, lambda: self.world.lose(self))

    def drop_link(self) -> None:
        """Be cut off from the host, and go on until one notices."""
        if self.is_alive and self.is_connected:
            self.is_connected = False
            self.world.after(self.world.random.uniform(0, 3), lambda: self.world.lose(self))
            self.world.after(self.world.random.uniform(0, 3), self.fence)

    def fence(self) -> None:
        """Notice that the host is gone, and end."""
        self.is_alive = False


class Simulation:
    """The host around a dispatcher: its client, its shell, its clock and the network."""

    def __init__(self, seed: int, policy: Policy, faults: Faults) -> None:
        self.random = random.Random(seed)
        self.policy = policy
        self.faults = faults
        self.dispatcher = Dispatcher(policy)
        self.history = History(policy)
        self.now = 0.0
        self.steps = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.is_shut_down = False
        self.at(faults.last, self._clear_up)
        self.processes: dict[DaemonId, Process] = {}
        self.works: dict[TaskId, Work] = {}

    # Time and chance

    def chance(self, probability: float) -> bool:
        """Throw the dice."""
        return self.random.random() < probability

    def delay(self) -> float:
        """Return how long something small takes: mostly little, now and then a lot."""
        seconds = self.random.expovariate(200 / self.faults.slowness)
        return seconds * 100 if self.chance(0.02) else seconds

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have something happen at a moment."""
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something happen in a while."""
        self.at(self.now + seconds, action)

    def _clear_up(self) -> None:
        self.faults = Faults()

    def run(self, *, max_steps: int = 200_000, check_every: int = 25) -> History:
        """Let everything happen until a shutdown has come to its end."""
        while not self.dispatcher.is_finished:
            self.steps += 1
            assert self.steps < max_steps, "no end in sight"
            if self.steps % check_every == 0:
                self.dispatcher.check_invariants()
            self._step()
        self.dispatcher.check_invariants()
        return self.history

    def _step(self) -> None:
        deadline = self.dispatcher.next_deadline()
        if deadline is not None and (not self._agenda or deadline <= self._agenda[0][0]):
            self.now = max(self.now, deadline)
            commands = self.dispatcher.expire(self.now)
            assert commands, "woken for nothing"
            self._carry_out(commands)
            return
        assert self._agenda, "stuck: nothing will ever happen"
        self.now, _, action = heapq.heappop(self._agenda)
        action()

    # The client

    def submit(self, work: Work) -> None:
        """Plan a task, and its cancellation if there is to be one."""
        self.works[work.task] = work
        self.at(work.submitted_at, lambda: self._submit(work))
        if work.cancelled_at is not None:
            self.at(work.cancelled_at, lambda: self._cancel(work))

    def _submit(self, work: Work) -> None:
        if self.is_shut_down:
            return
        limits = (work.timeout, work.run_timeout, work.retries)
        self.history.submitted(self.now, work.task, *limits, work.concurrency)
        self._tell(submitted(work.task, *limits, work.kind, work.concurrency))

    def _cancel(self, work: Work) -> None:
        self.history.cancelled(self.now, work.task)
        self._tell(CancelRequested(work.task))

    def everywhere(self, broadcast: BroadcastId) -> None:
        """Run something on every daemon."""
        if self.is_shut_down:
            return
        self.history.everywhere(broadcast)
        self._tell(EverywhereRequested(broadcast))
        self.history.targets(broadcast, self.dispatcher.targets_of(broadcast))

    def request_daemons(self, count: int) -> None:
        """Have daemons without work for them."""
        self._tell(DaemonsRequested(count))

    def shut_down(self, *, cancel_queued: bool = False, cancel_running: bool = False) -> None:
        """Take no more tasks."""
        self.is_shut_down = True
        self.history.is_cancelling |= cancel_queued
        self.history.is_cancelling_running |= cancel_running
        self._tell(ShutdownRequested(cancel_queued, cancel_running))

    def kill(self) -> None:
        """End everything at once."""
        self.is_shut_down = self.history.is_cancelling = True
        self._tell(KillRequested())

    def let_daemons_join(self, every: float, most: int) -> None:
        """Have daemons come by themselves as long as there are fewer than ``most``."""
        if len(self.processes) < most:
            self._add(self.dispatcher.adopt_daemon(self.now))
        if not self.dispatcher.is_finished:
            self.after(every, lambda: self.let_daemons_join(every, most))

    # The shell

    def hear(self, process: Process, event: Event) -> None:
        """Take in what a daemon has sent."""
        if process.id not in self.processes:
            self._tell(event)  # late, and to be ignored
            return
        self.history.heard(self.now, event)
        self._tell(event)

    def lose(self, process: Process) -> None:
        """Notice that a daemon is gone. For one cut off, nobody knows what it had begun."""
        if self.processes.pop(process.id, None) is None:
            return
        held = self.history.held_by(process.id)
        knows = process.is_connected
        started = tuple(t for t in held if not knows or t not in process.tickets)
        self.history.lost(self.now, process.id, started)
        self._tell(DaemonLost(process.id, started))

    def _tell(self, event: Event) -> None:
        self._carry_out(self.dispatcher.handle(event, self.now))

    def _add(self, id_: DaemonId) -> None:
        process = self.processes[id_] = Process(self, id_)
        self.history.joined(id_)
        self.after(self.delay() * 20, lambda: self._start(process))

    def _start(self, process: Process) -> None:
        if process.is_alive:
            process.start()

    def _carry_out(self, commands: Iterable[Command]) -> None:
        for command in commands:
            self.history.commanded(self.now, command)
            match command:
                case LaunchDaemon(id_):
                    self._add(id_)
                case ResolveTasks() | FailTask() | FailBroadcast():
                    pass  # the history has it
                case ForgetBroadcast() | InterruptBroadcast():
                    raise AssertionError("nobody has cancelled it")
                case ReportShortage():
                    raise AssertionError("there is room for any number")
                case ReportWait():
                    raise AssertionError("they are started here, and nobody waits in vain")
                case _:
                    self._post(self.processes[command.daemon], command)

    def _post(
        self,
        process: Process,
        command: SendTasks
        | RecallTasks
        | SendBroadcast
        | InterruptTask
        | DismissDaemon
        | KillDaemon,
    ) -> None:
        """Put a command on its way to a daemon."""
        match command:
            case SendTasks(tasks=tasks):
                frame = [self.works[task] for task in tasks]
                process.tickets.extend(tasks)
                self._send(process, lambda: process.take_frame(frame))
            case RecallTasks():
                tasks = tuple(process.tickets)
                process.tickets.clear()
                self.after(self.delay(), lambda: self._tell_returned(process, tasks))
                self.after(self.delay(), lambda: self._reach_for_results(process))
            case SendBroadcast(broadcast=broadcast):
                self._send(process, lambda: process.take_broadcast(broadcast))
            case DismissDaemon():
                self._send(process, process.take_dismissal)
            case InterruptTask(task=task):  # a signal knows no order: it overtakes or comes late
                self.after(self.delay(), lambda: self._reach(process, task))
            case KillDaemon():
                self.after(self.delay(), lambda: self._end(process))

    def _send(self, process: Process, take: Callable[[], None]) -> None:
        def arrive() -> None:
            if process.is_alive and process.is_connected:
                take()

        process.last_arrival_here = max(process.last_arrival_here, self.now + self.delay())
        self.at(process.last_arrival_here, arrive)

    def _reach(self, process: Process, task: TaskId) -> None:
        if process.is_alive and process.is_connected:
            process.take_interrupt(task)

    def _tell_returned(self, process: Process, tasks: tuple[TaskId, ...]) -> None:
        if process.id in self.processes:
            self.history.returned(process.id, tasks)
        self._tell(TasksReturned(process.id, tasks))

    def _reach_for_results(self, process: Process) -> None:
        if process.is_alive and process.running is not None:
            process.send_results()

    def _end(self, process: Process) -> None:
        # A host cannot kill a remote process that it does not reach, but it can stop counting on
        # it: its keeper does the rest.
        process.die()
        if not process.is_connected:
            self.lose(process)
