"""What happened in a simulated run, and whether the promises were kept."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastId,
    Command,
    DaemonId,
    Event,
    FailBroadcast,
    FailTask,
    Failure,
    Policy,
    ResolveTasks,
    ResultsArrived,
    RoundTripMeasured,
    SendBroadcast,
    SendTasks,
    TaskId,
)


@dataclass
class TaskStory:
    """One task, from its submission to its end."""

    submitted_at: float
    timeout: float | None
    run_timeout: float | None
    retries: int
    concurrency: int
    cancelled_at: float | None = None
    sent: list[tuple[float, DaemonId]] = field(default_factory=list)
    is_back: bool = False  # in the queue, after the loss of its daemon
    begun: list[DaemonId] = field(default_factory=list)
    answered_by: list[DaemonId] = field(default_factory=list)
    ends: list[tuple[float, Failure | None, DaemonId | None]] = field(default_factory=list)

    def check(self) -> None:
        """Raise AssertionError unless it is as promised."""
        assert len(self.ends) == 1, f"{len(self.ends)} ends"
        assert len(self.begun) <= 1 + self.retries, "it ran too often"
        ended_at, failure, daemon = self.ends[0]
        if self.timeout is not None:
            assert ended_at <= self.submitted_at + self.timeout, "late"
        if self.cancelled_at is not None and self.cancelled_at >= self.submitted_at:
            assert ended_at <= self.cancelled_at, "it outlived its cancellation"
        if self.run_timeout is not None and self.sent and not self.is_back:
            assert ended_at <= self.sent[-1][0] + self.run_timeout, "it ran too long"
        assert all(sent_at <= ended_at for sent_at, _ in self.sent), "sent after its end"
        self._check_end(ended_at, failure, daemon)

    def _check_end(
        self, ended_at: float, failure: Failure | None, daemon: DaemonId | None
    ) -> None:
        match failure:
            case None:
                assert self.answered_by, "resolved by nobody"
                assert self.answered_by[0] == self.sent[-1][1], "resolved by another daemon"
            case Failure.TIMED_OUT:
                assert self.timeout is not None
                assert ended_at == self.submitted_at + self.timeout, "not at its deadline"
            case Failure.RUN_TIMED_OUT:
                assert self.run_timeout is not None
                assert ended_at == self.sent[-1][0] + self.run_timeout, "not at its deadline"
            case Failure.DAEMON_LOST:
                assert daemon == self.sent[-1][1], "failed by another daemon's death"
            case Failure.CANCELLED | Failure.BROKEN:
                pass


class History:
    """Everything that happened in one run."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.tasks: dict[TaskId, TaskStory] = {}  # in the order of submission
        self.is_cancelling = False
        self.is_cancelling_running = False
        self.daemons: set[DaemonId] = set()
        self.losses: dict[DaemonId, tuple[TaskId, ...]] = {}
        self.first_sends: list[TaskId] = []
        self._far: set[DaemonId] = set()
        self._holds: dict[DaemonId, list[TaskId]] = {}
        self._frames: defaultdict[DaemonId, list[tuple[TaskId, ...]]] = defaultdict(list)
        self._broadcasts: list[BroadcastId] = []
        self._shares: defaultdict[DaemonId, list[BroadcastId]] = defaultdict(list)  # sent to it
        self._runs: Counter[tuple[BroadcastId, DaemonId]] = Counter()
        self._open_shares: set[tuple[BroadcastId, DaemonId]] = set()

    # What the world tells

    def submitted(
        self,
        now: float,
        task: TaskId,
        timeout: float | None,
        run_timeout: float | None,
        retries: int,
        concurrency: int,
    ) -> None:
        """Note a task."""
        self.tasks[task] = TaskStory(now, timeout, run_timeout, retries, concurrency)

    def cancelled(self, now: float, task: TaskId) -> None:
        """Note that the caller wants a task to end."""
        if task in self.tasks:
            self.tasks[task].cancelled_at = now

    def everywhere(self, broadcast: BroadcastId) -> None:
        """Note a call of everywhere."""
        self._broadcasts.append(broadcast)

    def targets(self, broadcast: BroadcastId, daemons: Iterable[DaemonId]) -> None:
        """Note whose answers the caller awaits."""
        self._open_shares |= {(broadcast, daemon) for daemon in daemons}

    def joined(self, daemon: DaemonId) -> None:
        """Note a daemon."""
        assert daemon not in self.daemons, "one id for two daemons"
        self.daemons.add(daemon)
        self._holds[daemon] = []

    def begun(self, now: float, task: TaskId, daemon: DaemonId) -> None:
        """Note that the user's function was called."""
        self.tasks[task].begun.append(daemon)

    def broadcast_begun(self, broadcast: BroadcastId, daemon: DaemonId) -> None:
        """Note that a daemon runs its share of everywhere."""
        self._runs[broadcast, daemon] += 1

    def heard(self, now: float, event: Event) -> None:
        """Note a frame that reached the host."""
        match event:
            case ResultsArrived(daemon, results):
                for task in results:
                    assert task in self._holds[daemon]
                    self._holds[daemon].remove(task)
                    self.tasks[task].answered_by.append(daemon)
            case RoundTripMeasured(daemon):
                self._far.add(daemon)
            case BroadcastAnswered(daemon, broadcast):
                self._open_shares.discard((broadcast, daemon))
            case _:
                pass

    def held_by(self, daemon: DaemonId) -> tuple[TaskId, ...]:
        """Return what a daemon was sent and has not answered."""
        return tuple(self._holds[daemon])

    def returned(self, daemon: DaemonId, tasks: tuple[TaskId, ...]) -> None:
        """Note what the host has back."""
        for task in tasks:
            assert daemon not in self.tasks[task].begun, "begun, and taken back"
            self._holds[daemon].remove(task)
            self.tasks[task].is_back = True

    def lost(self, now: float, daemon: DaemonId, started: tuple[TaskId, ...]) -> None:
        """Note the loss of a daemon."""
        self.losses[daemon] = started
        for task in self.held_by(daemon):
            self.tasks[task].is_back = True
        self._holds[daemon] = []

    # What the dispatcher wants

    def commanded(self, now: float, command: Command) -> None:
        """Note a command."""
        match command:
            case SendTasks(daemon, tasks):
                is_far = daemon in self._far
                policy = self.policy
                assert len(tasks) <= (policy.far_frame_size if is_far else policy.frame_size)
                self._frames[daemon] = [
                    f for f in self._frames[daemon] if self._is_held(daemon, f)
                ]
                self._frames[daemon].append(tasks)
                is_alone = self.tasks[tasks[0]].concurrency == 1
                assert not is_alone or len(self._frames[daemon]) <= 2, "a third frame"
                for task in tasks:
                    self._sent(now, daemon, task)
            case SendBroadcast(daemon, broadcast):
                assert not self._holds[daemon], "everywhere beside a task"
                self._shares[daemon].append(broadcast)
            case FailBroadcast(daemon, broadcast):
                self._open_shares.discard((broadcast, daemon))
            case ResolveTasks(tasks):
                for task in tasks:
                    self.tasks[task].ends.append((now, None, None))
            case FailTask(task, failure, daemon_or_none):
                self.tasks[task].ends.append((now, failure, daemon_or_none))
            case _:
                pass

    def _is_held(self, daemon: DaemonId, frame: tuple[TaskId, ...]) -> bool:
        return any(task in self._holds[daemon] for task in frame)

    def _sent(self, now: float, daemon: DaemonId, task: TaskId) -> None:
        story = self.tasks[task]
        company = [*self._holds[daemon], task]
        at_once = {self.tasks[other].concurrency for other in company}
        assert len(at_once) == 1, "beside those that it must not join"
        if story.concurrency > 1:
            assert len(company) <= story.concurrency, "too many at once"
        elif len(company) > 1:
            assert self.policy.frame_time > 0, "two tasks on one daemon"
            limits = [self.tasks[other].run_timeout for other in company]
            assert limits == [None] * len(company), "a time to run that counts from sending"
        assert not story.ends, "sent after its end"
        assert self._shares[daemon] == self._broadcasts, "it overtook everywhere"
        self._holds[daemon].append(task)
        if not story.sent:
            self.first_sends.append(task)
        story.is_back = False
        story.sent.append((now, daemon))

    # The promises

    def ends(self) -> Counter[Failure | None]:
        """Count how tasks ended; None stands for a result."""
        return Counter(failure for story in self.tasks.values() for _, failure, _ in story.ends)

    def check(self, *, is_calm: bool = False) -> None:
        """Raise AssertionError unless every promise was kept; if ``is_calm``, nothing was lost."""
        for task, story in self.tasks.items():
            try:
                story.check()
            except AssertionError as error:
                error.add_note(f"task {task}: {story}")
                raise
        self._check_losses()
        assert not self._open_shares, "somebody waits for everywhere for ever"
        assert all(runs == 1 for runs in self._runs.values()), "everywhere ran twice on a daemon"
        if not self.policy.direct:
            order = list(self.tasks)
            places = {task: place for place, task in enumerate(order)}
            sent = [places[task] for task in self.first_sends]
            assert sent == sorted(sent), "not first in, first out: somebody starved"
        if is_calm:
            assert self.ends().keys() <= {None}, "a task failed though nothing went wrong"

    def _check_losses(self) -> None:
        """A lost daemon costs tasks that it had begun: one, where none share a frame."""
        costs: Counter[DaemonId] = Counter()
        for task, story in self.tasks.items():
            _, failure, daemon = story.ends[0]
            if failure is Failure.DAEMON_LOST:
                assert daemon is not None
                assert task in self.losses[daemon], "it had not begun"
                costs[daemon] += story.concurrency == 1
            if failure is Failure.CANCELLED and story.cancelled_at is None:
                assert self.is_cancelling or self.is_cancelling_running
        if self.policy.frame_time == 0:
            assert all(cost <= 1 for cost in costs.values()), "a loss cost more than its task"
