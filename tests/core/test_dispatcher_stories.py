"""The dispatcher, one story at a time: events in, commands out, whole lists compared."""

import math
from collections.abc import Callable, Iterator

import pytest

from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastCancelRequested,
    BroadcastId,
    CancelRequested,
    Command,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsAdded,
    DaemonsRequested,
    DaemonState,
    DaemonView,
    DismissDaemon,
    Dispatcher,
    DispatcherView,
    Event,
    EverywhereRequested,
    FailBroadcast,
    FailTask,
    Failure,
    ForgetBroadcast,
    InitializerFailed,
    InterruptBroadcast,
    InterruptTask,
    KillDaemon,
    KillRequested,
    LaunchDaemon,
    LaunchFailed,
    LaunchRefused,
    LeaveRequested,
    ListeningEnded,
    Policy,
    ReportShortage,
    RestartRequested,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
    TaskId,
    TaskSubmitted,
)

from .shorthand import resolve, result_arrived, submitted

A, B, C, D, E = (DaemonId(n) for n in range(1, 6))
T1, T2, T3, T4, T5 = (TaskId(n) for n in range(1, 6))
SETUP, MORE = BroadcastId(1), BroadcastId(2)


class CheckedDispatcher(Dispatcher):
    """A dispatcher that looks itself over after every step."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        self.check_invariants()
        return commands

    def expire(self, now: float) -> list[Command]:
        commands = super().expire(now)
        self.check_invariants()
        return commands


Dispatch = Callable[..., Dispatcher]


@pytest.fixture
def dispatch() -> Iterator[Dispatch]:
    """Make dispatchers, of two daemons unless told; they are checked once more at the end."""
    made: list[Dispatcher] = []

    def make(max_daemons: int = 2, **options: object) -> Dispatcher:
        made.append(CheckedDispatcher(Policy(max_daemons, **options)))  # type: ignore[arg-type]
        return made[-1]  # options are those of Policy, each test names its own

    yield make
    for dispatcher in made:
        dispatcher.check_invariants()


@pytest.fixture
def dispatcher(dispatch: Dispatch) -> Dispatcher:
    """Two daemons at most, none of them started."""
    return dispatch()


@pytest.fixture
def single(dispatch: Dispatch) -> Dispatcher:
    """One daemon at most, and it is ready."""
    dispatcher = dispatch(1)
    start(dispatcher)
    return dispatcher


def start(dispatcher: Dispatcher, count: int = 1, now: float = 0) -> None:
    """Have ``count`` daemons and let them become ready."""
    for command in dispatcher.handle(DaemonsRequested(count), now):
        assert isinstance(command, LaunchDaemon)
        dispatcher.handle(DaemonReady(command.daemon), now)
    assert dispatcher.ready_count == count


def submit(dispatcher: Dispatcher, *tasks: TaskId, now: float = 0) -> list[Command]:
    """Submit plain tasks and return what that led to."""
    return [c for task in tasks for c in dispatcher.handle(TaskSubmitted(task), now)]


# Launching


def test_nothing_is_launched_before_there_is_work(dispatcher: Dispatcher) -> None:
    assert dispatcher.view().daemons == {}
    assert dispatcher.next_deadline() is None


def test_the_first_task_starts_one_daemon_and_runs_there(dispatcher: Dispatcher) -> None:
    assert dispatcher.handle(TaskSubmitted(T1), 0) == [LaunchDaemon(A)]
    assert dispatcher.handle(DaemonReady(A), 1) == [SendTasks(A, (T1,))]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_no_more_daemons_are_launched_than_tasks_wait(dispatch: Dispatch) -> None:
    dispatcher = dispatch(10)
    assert submit(dispatcher, T1, T2) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(A), 1) == [SendTasks(A, (T1,))]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1), SendTasks(A, (T2,))]
    assert dispatcher.handle(TaskSubmitted(T3), 3) == [], "daemon B is already on its way"
    assert dispatcher.handle(TaskSubmitted(T4), 3) == [LaunchDaemon(C)]


def test_no_more_daemons_are_launched_than_allowed(dispatcher: Dispatcher) -> None:
    assert submit(dispatcher, T1, T2, T3) == [LaunchDaemon(A), LaunchDaemon(B)]


def test_an_idle_daemon_takes_a_task_instead_of_a_new_one(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    assert submit(dispatcher, T1) == [SendTasks(A, (T1,))]


def test_a_dispatcher_told_not_to_launch_waits_for_daemons_that_join(dispatch: Dispatch) -> None:
    dispatcher = dispatch(launches=False)
    assert submit(dispatcher, T1) == []
    assert dispatcher.handle(DaemonsRequested(2), 0) == []
    daemon = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonReady(daemon), 1) == [SendTasks(daemon, (T1,))]


def test_a_daemon_that_joins_by_itself_is_not_launched_once_more(dispatcher: Dispatcher) -> None:
    assert dispatcher.adopt_daemon(0) == A
    assert submit(dispatcher, T1) == [], "the adopted one is on its way"
    assert dispatcher.handle(DaemonReady(A), 1) == [SendTasks(A, (T1,))]


def test_requested_daemons_start_without_work(dispatch: Dispatch) -> None:
    dispatcher = dispatch(3)
    assert dispatcher.handle(DaemonsRequested(2), 0) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(DaemonsRequested(2), 0) == []
    assert dispatcher.handle(DaemonsRequested(9), 0) == [LaunchDaemon(C)]
    assert dispatcher.ready_count == 0
    dispatcher.handle(DaemonReady(B), 1)
    assert dispatcher.ready_count == 1


def test_a_requested_daemon_that_dies_before_all_are_ready_is_replaced(
    dispatcher: Dispatcher,
) -> None:
    dispatcher.handle(DaemonsRequested(2), 0)
    dispatcher.handle(DaemonReady(A), 1)
    assert dispatcher.handle(DaemonLost(B), 1) == [LaunchDaemon(C)]
    dispatcher.handle(DaemonReady(C), 2)
    assert dispatcher.handle(DaemonLost(A), 3) == [], "the request has been met"


def test_a_requested_daemon_that_left_when_idle_is_not_replaced(dispatch: Dispatch) -> None:
    # Else daemons that start minutes apart on a cluster would be started and dismissed for ever.
    dispatcher = dispatch(idle_timeout=5.0)
    dispatcher.handle(DaemonsRequested(2), 0)
    dispatcher.handle(DaemonReady(A), 0)
    assert dispatcher.expire(5) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 6) == []
    assert dispatcher.handle(DaemonReady(B), 7) == []
    assert dispatcher.handle(DaemonLost(B), 8) == [], "the request has been met"


def test_added_daemons_raise_the_limit_and_start_at_once(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3, T4)
    assert dispatcher.handle(DaemonsAdded(1), 1) == [LaunchDaemon(C)]
    assert dispatcher.handle(DaemonReady(C), 2) == [SendTasks(C, (T3,))]
    assert dispatcher.handle(DaemonLost(C, started=(T3,)), 3) == [
        FailTask(T3, Failure.DAEMON_LOST, C),
        LaunchDaemon(DaemonId(4)),
    ], "the limit stays raised"


def test_added_daemons_come_on_top_of_those_on_their_way(dispatch: Dispatch) -> None:
    dispatcher = dispatch(4)
    submit(dispatcher, T1)
    assert dispatcher.handle(DaemonsAdded(2), 1) == [LaunchDaemon(B), LaunchDaemon(C)]


def test_no_daemons_are_added_after_a_shutdown(dispatcher: Dispatcher) -> None:
    dispatcher.handle(ShutdownRequested(), 0)
    assert dispatcher.handle(DaemonsAdded(2), 1) == []
    assert dispatcher.is_finished


# First in, first out


def test_tasks_run_in_the_order_of_submission(single: Dispatcher) -> None:
    assert submit(single, T1, T2, T3) == [SendTasks(A, (T1,))]
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendTasks(A, (T2,))]
    assert single.handle(result_arrived(A, T2), 2) == [resolve(T2), SendTasks(A, (T3,))]


def test_the_daemon_that_worked_last_works_next(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(result_arrived(B, T1), 1)
    dispatcher.handle(result_arrived(A, T2), 2)
    assert submit(dispatcher, T3) == [SendTasks(A, (T3,))]


def test_a_daemon_has_one_task_at_a_time(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    assert submit(dispatcher, T1, T2, T3) == [SendTasks(B, (T1,)), SendTasks(A, (T2,))]


# Cancelling


def test_a_queued_task_is_cancelled_without_telling_a_daemon(single: Dispatcher) -> None:
    submit(single, T1, T2, T3)
    assert single.handle(CancelRequested(T2), 1) == [FailTask(T2, Failure.CANCELLED)]
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), SendTasks(A, (T3,))]


def test_a_daemon_gets_no_task_until_it_lets_go_of_a_cancelled_one(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(CancelRequested(T1), 1) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.CANCELLED, A),
    ]
    assert submit(single, T3) == []
    assert single.handle(result_arrived(A, T1), 2) == [SendTasks(A, (T2,))]


def test_a_daemon_that_does_not_let_go_in_time_is_killed_and_replaced(dispatch: Dispatch) -> None:
    single = dispatch(1, cancel_grace=2.0)
    start(single)
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 1)
    assert single.next_deadline() == 3
    assert single.expire(2.9) == []
    assert single.expire(3) == [KillDaemon(A)]
    assert single.next_deadline() is None
    assert single.handle(DaemonLost(A, started=(T1,)), 4) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 5) == [SendTasks(B, (T2,))]


def test_a_daemon_that_let_go_is_not_killed(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 0)
    single.handle(result_arrived(A, T1), 1)
    assert single.next_deadline() is None
    assert single.expire(100) == []


def test_a_running_task_is_left_alone_where_the_standard_library_would(
    single: Dispatcher,
) -> None:
    submit(single, T1, T2)
    assert single.handle(CancelRequested(T1, running=False), 1) == []
    assert single.handle(CancelRequested(T2, running=False), 1) == [
        FailTask(T2, Failure.CANCELLED)
    ]
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_cancelling_twice_is_cancelling_once(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(CancelRequested(T1), 1)
    assert single.handle(CancelRequested(T1), 1) == []
    assert single.handle(CancelRequested(T1, running=False), 1) == []


def test_a_killed_daemon_is_not_interrupted_as_well(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(KillRequested(), 1)
    assert single.handle(CancelRequested(T1), 2) == [FailTask(T1, Failure.CANCELLED, A)]
    assert single.next_deadline() is None
    assert single.handle(DaemonLost(A, started=(T1,)), 3) == []


# Timeouts


def test_a_timeout_counts_from_submission(dispatcher: Dispatcher) -> None:
    dispatcher.handle(submitted(T1, timeout=5.0), 100)
    dispatcher.handle(DaemonReady(A), 104)
    assert dispatcher.next_deadline() == 105
    assert dispatcher.expire(104.9) == []
    assert dispatcher.expire(105) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.TIMED_OUT, A),
    ]


def test_a_timeout_also_ends_a_task_that_waits(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(submitted(T2, timeout=5.0), 0)
    assert single.expire(5) == [FailTask(T2, Failure.TIMED_OUT)]
    assert single.handle(result_arrived(A, T1), 6) == [resolve(T1)]


def test_a_run_timeout_counts_from_the_start(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(submitted(T2, run_timeout=5.0), 0)
    assert single.next_deadline() is None, "it waits"
    single.handle(result_arrived(A, T1), 100)
    assert single.next_deadline() == 105
    assert single.expire(105) == [
        InterruptTask(A, T2),
        FailTask(T2, Failure.RUN_TIMED_OUT, A),
    ]


def test_a_run_timeout_counts_anew_for_another_attempt(single: Dispatcher) -> None:
    single.handle(submitted(T1, run_timeout=5.0, retries=1), 0)
    single.handle(DaemonLost(A, started=(T1,)), 4)
    assert single.handle(DaemonReady(B), 4.5) == [SendTasks(B, (T1,))]
    assert single.expire(9) == []
    assert single.expire(9.5) == [InterruptTask(B, T1), FailTask(T1, Failure.RUN_TIMED_OUT, B)]


def test_a_stopped_daemon_gets_its_grace_after_a_timeout(dispatch: Dispatch) -> None:
    single = dispatch(1, cancel_grace=2.0)
    start(single)
    single.handle(submitted(T1, timeout=5.0), 0)
    single.expire(5)
    assert single.next_deadline() == 7
    assert single.expire(7) == [KillDaemon(A)]


def test_a_task_that_is_done_has_no_deadline(single: Dispatcher) -> None:
    single.handle(submitted(T1, timeout=5.0, run_timeout=3.0), 0)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1)]
    assert single.next_deadline() is None
    assert single.expire(10) == []


def test_an_infinite_timeout_is_no_deadline(single: Dispatcher) -> None:
    single.handle(submitted(T1, timeout=math.inf, run_timeout=math.inf), 0)
    assert single.next_deadline() is None


def test_several_deadlines_are_met_in_their_order(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(submitted(T2, timeout=9.0), 0)
    single.handle(submitted(T3, timeout=3.0), 0)
    single.handle(submitted(T4, timeout=9.0), 0)
    assert single.next_deadline() == 3
    assert single.expire(10) == [
        FailTask(T3, Failure.TIMED_OUT),
        FailTask(T2, Failure.TIMED_OUT),
        FailTask(T4, Failure.TIMED_OUT),
    ]


def test_deadlines_of_finished_tasks_do_not_pile_up() -> None:
    single = Dispatcher(Policy(1))
    start(single)
    for n in range(20_000):
        single.handle(submitted(TaskId(n), timeout=3600.0), 0)
        single.handle(result_arrived(A, TaskId(n)), 0)
    assert len(single._alarms._heap) < 2_000
    assert single.next_deadline() is None


def test_deadlines_ring_in_order_though_many_were_void() -> None:
    single = Dispatcher(Policy(1))
    start(single)
    submit(single, TaskId(-1))
    for n in range(3000):  # every third one stays, of ever shorter timeouts
        single.handle(submitted(TaskId(n), timeout=10_000.0 - n), 0)
        if n % 3:
            single.handle(CancelRequested(TaskId(n)), 0)
    rung = [single.next_deadline()]
    while single.expire(rung[-1] or 0):
        rung.append(single.next_deadline())
    assert rung == [*(10_000.0 - n for n in reversed(range(0, 3000, 3))), None]


# Lost daemons


def test_a_lost_daemon_costs_the_task_that_it_ran_and_no_other(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [
        FailTask(T1, Failure.DAEMON_LOST, A),
        LaunchDaemon(B),
    ]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]


def test_a_task_that_was_not_begun_goes_back_to_the_front(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T1,))]


def test_tasks_that_go_back_keep_the_order_of_submission(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3)  # T1 on B, T2 on A
    dispatcher.handle(DaemonLost(B), 1)
    dispatcher.handle(DaemonLost(A), 2)
    assert dispatcher.handle(DaemonReady(C), 3) == [SendTasks(C, (T1,))]
    assert dispatcher.handle(result_arrived(C, T1), 4) == [resolve(T1), SendTasks(C, (T2,))]
    assert dispatcher.handle(result_arrived(C, T2), 5) == [resolve(T2), SendTasks(C, (T3,))]


def test_a_task_goes_back_behind_an_earlier_one_that_did(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, launches=False)
    for _ in range(2):
        dispatcher.handle(DaemonReady(dispatcher.adopt_daemon(0)), 0)
    submit(dispatcher, T1, T2, T3)  # T1 on B, T2 on A
    dispatcher.handle(DaemonLost(B), 1)
    dispatcher.handle(DaemonLost(A), 1)
    assert dispatcher.handle(DaemonReady(dispatcher.adopt_daemon(0)), 2) == [SendTasks(C, (T1,))]


def test_a_task_runs_again_as_often_as_it_may(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=1), 0)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T1,))]
    assert single.handle(DaemonLost(B, started=(T1,)), 3) == [FailTask(T1, Failure.DAEMON_LOST, B)]


def test_going_back_unbegun_costs_no_retry(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=1), 0)
    single.handle(DaemonLost(A), 1)
    single.handle(DaemonReady(B), 2)
    single.handle(DaemonLost(B, started=(T1,)), 3)
    assert single.handle(DaemonReady(C), 4) == [SendTasks(C, (T1,))]


def test_a_task_that_was_stopped_is_not_retried(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=5, timeout=1.0), 0)
    single.expire(1)
    assert single.handle(DaemonLost(A, started=(T1,)), 2) == []


def test_a_cancelled_task_does_not_fail_again_with_its_daemon(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(CancelRequested(T1), 1)
    assert single.handle(DaemonLost(A, started=(T1,)), 2) == []


def test_a_daemon_lost_without_work_left_is_not_replaced(single: Dispatcher) -> None:
    assert single.handle(DaemonLost(A), 1) == []
    assert submit(single, T1) == [LaunchDaemon(B)]


# Restart intensity


def test_daemons_that_keep_dying_at_the_start_break_the_executor(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, failed_starts=3)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 2) == [LaunchDaemon(C)]
    assert not dispatcher.is_broken
    assert dispatcher.handle(DaemonLost(C), 3) == [
        FailTask(T1, Failure.BROKEN),
        FailTask(T2, Failure.BROKEN),
    ]
    assert dispatcher.is_broken


def test_a_broken_executor_fails_tasks_at_once_and_launches_nothing(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, failed_starts=1)
    submit(dispatcher, T1)
    dispatcher.handle(DaemonLost(A), 1)
    assert dispatcher.handle(TaskSubmitted(T2), 2) == [FailTask(T2, Failure.BROKEN)]
    assert dispatcher.handle(DaemonsRequested(1), 2) == []
    assert dispatcher.handle(EverywhereRequested(SETUP), 2) == []


def test_a_broken_executor_lets_running_tasks_end(dispatch: Dispatch) -> None:
    dispatcher = dispatch(failed_starts=1)
    start(dispatcher)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(DaemonLost(B), 1) == [FailTask(T2, Failure.BROKEN)]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_a_task_that_comes_back_to_a_broken_executor_fails(dispatch: Dispatch) -> None:
    dispatcher = dispatch(failed_starts=1)
    start(dispatcher)
    dispatcher.handle(submitted(T1, retries=3), 0)
    submit(dispatcher, T2)
    dispatcher.handle(DaemonLost(B), 1)
    assert dispatcher.handle(DaemonLost(A, started=(T1,)), 2) == [FailTask(T1, Failure.BROKEN)]


def test_daemons_that_die_before_they_begin_their_task_break_the_executor(
    dispatch: Dispatch,
) -> None:
    single = dispatch(1, failed_starts=2)
    start(single)
    submit(single, T1)
    assert single.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    single.handle(DaemonReady(B), 1)
    assert single.handle(DaemonLost(B), 2) == [FailTask(T1, Failure.BROKEN)]


def test_deaths_that_cost_a_task_never_break_the_executor(dispatch: Dispatch) -> None:
    single = dispatch(1, failed_starts=2)
    for n in range(1, 20):
        task, daemon = TaskId(n), DaemonId(n)
        assert submit(single, task) == [LaunchDaemon(daemon)]
        single.handle(DaemonReady(daemon), 0)
        assert single.handle(DaemonLost(daemon, started=(task,)), 0) == [
            FailTask(task, Failure.DAEMON_LOST, daemon)
        ]


def test_those_that_run_go_on_where_there_is_no_room_for_another(dispatch: Dispatch) -> None:
    dispatcher = dispatch(4, failed_starts=1)
    start(dispatcher)
    assert submit(dispatcher, T1, T2, T3) == [
        SendTasks(A, (T1,)),
        LaunchDaemon(B),
        LaunchDaemon(C),
    ]
    assert dispatcher.handle(LaunchRefused(B), 0) == [ReportShortage()]
    assert dispatcher.handle(LaunchRefused(C), 0) == []  # refused together: known already
    assert dispatcher.view().is_short
    done = dispatcher.handle(result_arrived(A, T1), 0.5)
    assert done == [resolve(T1), SendTasks(A, (T2,))]
    # One is tried, after 1 s, then after 2 more, and that is not told again.
    assert dispatcher.next_deadline() == 1
    assert dispatcher.expire(1) == [LaunchDaemon(D)]
    assert dispatcher.handle(LaunchRefused(D), 1) == []
    assert dispatcher.next_deadline() == 3
    assert dispatcher.expire(3) == [LaunchDaemon(E)]
    assert submit(dispatcher, T4, now=3) == []  # until it is known what comes of that
    # There is room again: as many as are missing are started.
    assert dispatcher.handle(DaemonReady(E), 4) == [SendTasks(E, (T3,)), LaunchDaemon(DaemonId(6))]
    assert not dispatcher.view().is_short


def test_a_lack_of_room_is_told_once_a_daemon_is_there_that_goes_on(dispatch: Dispatch) -> None:
    dispatcher = dispatch()
    assert dispatcher.handle(DaemonsRequested(2), 0) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(LaunchRefused(B), 0) == []
    assert not dispatcher.falls_short_of(2)  # that may have been a moment
    assert dispatcher.handle(DaemonReady(A), 0.5) == [ReportShortage()]
    assert dispatcher.expire(1) == [LaunchDaemon(C)]
    assert dispatcher.handle(LaunchRefused(C), 1) == []
    assert dispatcher.falls_short_of(2)


def test_a_lack_of_room_fails_what_waits_if_there_is_no_daemon_at_all(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, failed_starts=3)
    assert submit(dispatcher, T1, T2) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(LaunchRefused(A), 0) == []
    assert dispatcher.handle(LaunchRefused(B), 0) == [LaunchDaemon(C)]  # there is none to wait for
    assert dispatcher.handle(LaunchRefused(C), 0) == [LaunchDaemon(D)]
    broken = [FailTask(T1, Failure.BROKEN), FailTask(T2, Failure.BROKEN)]
    assert dispatcher.handle(LaunchRefused(D), 0) == broken


def test_failed_starts_count_only_when_close_together(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, failed_starts=2, failure_window=60.0)
    submit(dispatcher, T1)
    assert dispatcher.handle(DaemonLost(A), 0) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 61) == [LaunchDaemon(C)]
    assert dispatcher.handle(DaemonLost(C), 121) == [FailTask(T1, Failure.BROKEN)]


def test_a_result_shows_that_daemons_can_start(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, failed_starts=2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(DaemonReady(A), 0)
    assert dispatcher.handle(DaemonLost(B), 1) == [LaunchDaemon(C)]
    dispatcher.handle(result_arrived(A, T1), 2)
    assert submit(dispatcher, T3, T4) == []
    assert dispatcher.handle(DaemonLost(C), 3) == [LaunchDaemon(DaemonId(4))]


def test_a_daemon_that_has_done_tasks_may_die_idle_without_counting(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, failed_starts=2)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(result_arrived(A, T2), 1)
    dispatcher.handle(result_arrived(B, T1), 1)
    dispatcher.handle(DaemonLost(A), 2)
    dispatcher.handle(DaemonLost(B), 2)
    assert submit(dispatcher, T3) == [LaunchDaemon(C)]


def test_daemons_that_came_by_themselves_may_go_without_breaking_the_executor(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(launches=False, failed_starts=2)
    for _ in range(5):
        daemon = dispatcher.adopt_daemon(0)
        dispatcher.handle(DaemonReady(daemon), 0)
        dispatcher.handle(DaemonLost(daemon), 0)
    assert not dispatcher.is_broken


def test_a_daemon_that_is_not_ready_in_time_is_killed_and_replaced(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, start_timeout=60.0)
    submit(dispatcher, T1)
    assert dispatcher.next_deadline() == 60
    assert dispatcher.expire(60) == [KillDaemon(A, overdue=True)]
    assert dispatcher.handle(DaemonReady(A), 60) == [], "too late"
    assert dispatcher.handle(DaemonLost(A), 61) == [LaunchDaemon(B)]


def test_a_daemon_that_was_not_ready_in_time_counts_as_a_failed_start(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, start_timeout=5.0, failed_starts=2)
    submit(dispatcher, T1)
    dispatcher.expire(5)
    assert dispatcher.handle(DaemonLost(A), 6) == [LaunchDaemon(B)]
    assert dispatcher.expire(11) == [KillDaemon(B, overdue=True)]
    assert dispatcher.handle(DaemonLost(B), 12) == [FailTask(T1, Failure.BROKEN)]


def test_a_ready_daemon_has_no_start_deadline(single: Dispatcher) -> None:
    assert single.next_deadline() is None


def test_a_daemon_that_was_killed_for_its_task_is_no_failed_start(dispatch: Dispatch) -> None:
    single = dispatch(1, failed_starts=1, cancel_grace=1.0)
    start(single)
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 0)
    single.expire(1)
    assert single.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]


def test_a_failed_initializer_fails_what_waits_but_not_what_runs(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    submit(dispatcher, T1)
    assert submit(dispatcher, T2, T3) == [LaunchDaemon(B)]
    assert dispatcher.handle(InitializerFailed(B), 1) == [
        FailTask(T2, Failure.BROKEN),
        FailTask(T3, Failure.BROKEN),
    ]
    assert dispatcher.is_broken
    assert dispatcher.handle(DaemonLost(B), 2) == []
    assert dispatcher.handle(result_arrived(A, T1), 3) == [resolve(T1)]
    assert dispatcher.handle(TaskSubmitted(T4), 4) == [FailTask(T4, Failure.BROKEN)]


# Daemons that come by themselves


def test_a_failed_launch_fails_what_waits_while_no_daemon_is_there(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    assert submit(open_to_all, T1) == []
    assert open_to_all.handle(LaunchFailed(), 1) == [FailTask(T1, Failure.BROKEN)]
    assert open_to_all.handle(TaskSubmitted(T2), 2) == [FailTask(T2, Failure.BROKEN)]


def test_a_failed_launch_changes_nothing_for_daemons_that_are_there(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(daemon), 0)
    submit(open_to_all, T1, T2)
    assert open_to_all.handle(LaunchFailed(), 1) == []
    assert not open_to_all.is_broken


def test_a_daemon_that_comes_all_the_same_mends_a_failed_launch(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    open_to_all.handle(LaunchFailed(), 1)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(daemon), 2)
    assert submit(open_to_all, T1) == [SendTasks(daemon, (T1,))]


def test_a_daemon_that_has_come_and_is_not_ready_in_time_is_killed(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False, start_timeout=60.0)
    submit(open_to_all, T1)
    daemon = open_to_all.adopt_daemon(5)
    assert open_to_all.next_deadline() == 65
    assert open_to_all.expire(65) == [KillDaemon(daemon, overdue=True)]
    assert open_to_all.handle(DaemonReady(daemon), 65) == [], "too late"
    assert open_to_all.handle(DaemonLost(daemon), 66) == [], "others may come"
    other = open_to_all.adopt_daemon(67)
    assert open_to_all.handle(DaemonReady(other), 68) == [SendTasks(other, (T1,))]


def test_nothing_waits_for_daemons_that_come_and_are_never_ready(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False, start_timeout=5.0, failed_starts=2)
    submit(open_to_all, T1)
    for at, commands in [(0, []), (6, [FailTask(T1, Failure.BROKEN)])]:
        daemon = open_to_all.adopt_daemon(at)
        open_to_all.expire(at + 5)
        assert open_to_all.handle(DaemonLost(daemon), at + 5) == commands
    assert open_to_all.is_broken


def test_while_a_daemon_is_there_tasks_wait_for_it_whoever_is_never_ready(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(1, launches=False, start_timeout=5.0, failed_starts=2)
    there = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(there), 0)
    submit(open_to_all, T1, T2)
    for at in (0, 6):
        daemon = open_to_all.adopt_daemon(at)
        open_to_all.expire(at + 5)
        assert open_to_all.handle(DaemonLost(daemon), at + 5) == []
    assert open_to_all.handle(result_arrived(there, T1), 12) == [
        resolve(T1),
        SendTasks(there, (T2,)),
    ]


def test_an_initializer_that_fails_on_one_machine_costs_that_daemon(dispatch: Dispatch) -> None:
    open_to_all = dispatch(2, launches=False)
    good, bad = open_to_all.adopt_daemon(0), open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(good), 1)
    submit(open_to_all, T1, T2)
    assert open_to_all.handle(InitializerFailed(bad), 2) == []
    assert open_to_all.view().daemons[bad].state is DaemonState.LEAVING
    assert open_to_all.handle(DaemonLost(bad), 3) == []
    assert open_to_all.handle(result_arrived(good, T1), 4) == [
        resolve(T1),
        SendTasks(good, (T2,)),
    ]
    assert not open_to_all.is_broken


def test_tasks_fail_once_the_initializer_has_failed_on_all_machines(dispatch: Dispatch) -> None:
    open_to_all = dispatch(0, launches=False)
    open_to_all.handle(DaemonsAdded(3), 0)
    submit(open_to_all, T1)
    first, second = open_to_all.adopt_daemon(1), open_to_all.adopt_daemon(1)
    assert open_to_all.handle(InitializerFailed(first), 2) == [], "the second starts"
    assert open_to_all.handle(InitializerFailed(second), 3) == [], "a third is on its way"
    third = open_to_all.adopt_daemon(4)
    assert open_to_all.handle(InitializerFailed(third), 5) == [FailTask(T1, Failure.BROKEN)]
    assert open_to_all.is_broken


def test_whoever_is_on_the_way_when_an_initializer_fails_has_the_time_of_a_start(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0, leave_grace=10.0)
    open_to_all.handle(DaemonsAdded(3), 0)
    submit(open_to_all, T1)
    for at in (1, 50):
        bad = open_to_all.adopt_daemon(at)
        assert open_to_all.handle(InitializerFailed(bad), at) == []
        open_to_all.handle(DaemonLost(bad), at + 1)
    assert open_to_all.expire(61) == [], "the second has come in time"
    assert open_to_all.next_deadline() == 110
    assert open_to_all.expire(110) == [FailTask(T1, Failure.BROKEN)]
    late = open_to_all.adopt_daemon(120)
    open_to_all.handle(DaemonReady(late), 121)
    assert submit(open_to_all, T2, now=122) == [SendTasks(late, (T2,))]


def test_a_shutdown_does_not_wait_for_ever_for_daemons_that_nobody_starts(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0)
    submit(open_to_all, T1, T2)
    assert open_to_all.handle(ShutdownRequested(), 10) == []
    assert open_to_all.next_deadline() == 70
    daemon = open_to_all.adopt_daemon(69)
    assert open_to_all.expire(70) == [], "one has come in time"
    assert open_to_all.handle(DaemonReady(daemon), 71) == [SendTasks(daemon, (T1,))]
    assert open_to_all.handle(DaemonLost(daemon, (T1,)), 80) == [
        FailTask(T1, Failure.DAEMON_LOST, daemon)
    ]
    assert open_to_all.next_deadline() == 140
    assert open_to_all.expire(140) == [FailTask(T2, Failure.BROKEN)]
    assert open_to_all.is_finished


def test_a_shutdown_does_not_wait_at_all_for_daemons_once_nothing_is_left_to_do(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0)
    submit(open_to_all, T1, T2)
    open_to_all.handle(ShutdownRequested(), 10)
    open_to_all.handle(CancelRequested(T1), 11)
    assert open_to_all.next_deadline() == 70
    open_to_all.handle(CancelRequested(T2), 12)
    assert open_to_all.next_deadline() is None
    assert open_to_all.is_finished


@pytest.mark.parametrize(("hurried", "deadline"), [(False, None), (True, 70)])
def test_a_shutdown_waits_for_daemons_that_were_asked_for_unless_it_is_hurried(
    dispatch: Dispatch, hurried: bool, deadline: float | None
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0)
    open_to_all.handle(DaemonsAdded(1), 0)
    submit(open_to_all, T1)
    assert open_to_all.handle(ShutdownRequested(hurried=hurried), 10) == []
    assert open_to_all.next_deadline() == deadline
    daemon = open_to_all.adopt_daemon(20)
    assert open_to_all.handle(DaemonReady(daemon), 21) == [SendTasks(daemon, (T1,))]


def test_once_no_daemon_can_come_any_more_nothing_waits_for_one(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    submit(open_to_all, T1)
    assert open_to_all.handle(ListeningEnded(), 1) == [FailTask(T1, Failure.BROKEN)]


def test_who_is_there_when_listening_ends_does_what_waits(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(daemon), 0)
    submit(open_to_all, T1, T2, T3)
    assert open_to_all.handle(ListeningEnded(), 1) == []
    assert open_to_all.handle(result_arrived(daemon, T1), 2) == [
        resolve(T1),
        SendTasks(daemon, (T2,)),
    ]
    assert open_to_all.handle(DaemonLost(daemon, (T2,)), 3) == [
        FailTask(T2, Failure.DAEMON_LOST, daemon),
        FailTask(T3, Failure.BROKEN),
    ]


@pytest.mark.parametrize("wrong", [{"max_daemons": -1}, {"max_daemons": 1, "failed_starts": 0}])
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Policy(**wrong)  # type: ignore[arg-type]  # they are all ints


# Leaving


def test_a_daemon_leaves_after_its_last_task_and_is_replaced_if_there_is_work(
    dispatch: Dispatch,
) -> None:
    single = dispatch(1, max_tasks=2)
    start(single)
    submit(single, T1, T2, T3)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendTasks(A, (T2,))]
    assert single.handle(result_arrived(A, T2), 2) == [resolve(T2), DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 4) == [SendTasks(B, (T3,))]
    assert single.handle(result_arrived(B, T3), 5) == [resolve(T3)]


@pytest.mark.parametrize(("of_all", "its_own"), [(None, 2), (2, 3), (3, 2)])
def test_a_daemon_may_bring_a_limit_of_its_own_and_the_lower_one_counts(
    dispatch: Dispatch, of_all: int | None, its_own: int
) -> None:
    open_to_all = dispatch(1, launches=False, max_tasks=of_all)
    daemon = open_to_all.adopt_daemon(0)
    submit(open_to_all, T1, T2, T3)
    ready = DaemonReady(daemon, max_tasks=its_own)
    assert open_to_all.handle(ready, 1) == [SendTasks(daemon, (T1,))]
    assert open_to_all.handle(result_arrived(daemon, T1), 2) == [
        resolve(T1),
        SendTasks(daemon, (T2,)),
    ]
    assert open_to_all.handle(result_arrived(daemon, T2), 3) == [
        resolve(T2),
        DismissDaemon(daemon),
    ]


def test_what_was_cancelled_before_it_began_does_not_count(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1, T2)
    assert single.handle(result_arrived(A, T1, seconds=None), 1) == [
        resolve(T1),
        SendTasks(A, (T2,)),
    ]
    assert single.handle(result_arrived(A, T2), 2) == [resolve(T2), DismissDaemon(A)]


def test_a_daemon_that_leaves_is_not_replaced_without_work(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 2) == []
    assert single.view().daemons == {}


def test_a_leaving_daemon_gets_no_task(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, max_tasks=1)
    start(dispatcher)
    submit(dispatcher, T1)
    dispatcher.handle(result_arrived(A, T1), 1)
    assert submit(dispatcher, T2) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]


def test_a_leaving_daemon_takes_up_its_place_until_it_is_gone(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    single.handle(result_arrived(A, T1), 1)
    assert submit(single, T2) == []
    assert single.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]


def test_a_dismissed_daemon_that_stays_is_killed(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1, leave_grace=10.0)
    start(single)
    submit(single, T1, T2)
    single.handle(result_arrived(A, T1), 1)
    assert single.next_deadline() == 11
    assert single.expire(11) == [KillDaemon(A)]
    assert single.handle(DaemonLost(A), 12) == [LaunchDaemon(B)]


def test_leaving_is_never_a_failed_start(dispatch: Dispatch) -> None:
    single = dispatch(1, failed_starts=1)
    start(single)
    assert single.handle(LeaveRequested(A), 0) == [DismissDaemon(A)]
    single.handle(DaemonLost(A), 1)
    assert not single.is_broken


def test_an_idle_daemon_leaves_after_a_while(dispatch: Dispatch) -> None:
    single = dispatch(1, idle_timeout=5.0)
    start(single)
    assert single.next_deadline() == 5
    assert single.expire(4.9) == []
    assert single.expire(5) == [DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 6) == []


def test_a_daemon_that_worked_meanwhile_is_not_idle(dispatch: Dispatch) -> None:
    single = dispatch(1, idle_timeout=5.0)
    start(single)
    submit(single, T1, now=3)
    assert single.expire(6) == [], "it runs"
    single.handle(result_arrived(A, T1), 7)
    assert single.expire(11.9) == []
    assert single.expire(12) == [DismissDaemon(A)]


def test_a_daemon_is_not_idle_before_it_is_ready_and_has_done_what_all_do(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(1, launches=False, idle_timeout=9.0)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(EverywhereRequested(SETUP), 1)
    assert open_to_all.expire(20) == [], "it starts"
    ready = DaemonReady(daemon, idle_timeout=5.0)
    assert open_to_all.handle(ready, 20) == [SendBroadcast(daemon, SETUP)]
    assert open_to_all.expire(40) == [], "it works"
    open_to_all.handle(BroadcastAnswered(daemon, SETUP), 41)
    assert open_to_all.next_deadline() == 46
    assert open_to_all.expire(46) == [DismissDaemon(daemon)]


def test_idle_timeouts_spare_the_daemon_that_worked_last(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, idle_timeout=5.0)
    start(dispatcher, 2)
    submit(dispatcher, T1, now=3)
    dispatcher.handle(result_arrived(B, T1), 4)
    assert dispatcher.expire(5) == [DismissDaemon(A)]
    assert dispatcher.expire(9) == [DismissDaemon(B)]


def test_a_daemon_that_asks_to_leave_goes_at_once_if_idle(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    assert dispatcher.handle(LeaveRequested(B), 0) == [DismissDaemon(B)]
    assert dispatcher.handle(LeaveRequested(B), 0) == []
    assert submit(dispatcher, T1) == [SendTasks(A, (T1,))]


def test_a_daemon_that_asks_to_leave_finishes_its_task_first(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(LeaveRequested(A), 1) == []
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]


def test_a_daemon_that_asks_to_leave_before_it_is_ready_gets_no_task(
    dispatcher: Dispatcher,
) -> None:
    submit(dispatcher, T1)
    assert dispatcher.handle(LeaveRequested(A), 0) == []
    assert dispatcher.handle(DaemonReady(A), 1) == [DismissDaemon(A), LaunchDaemon(B)]


def test_a_restart_replaces_each_daemon_once_it_is_free(dispatch: Dispatch) -> None:
    dispatcher = dispatch(3)
    start(dispatcher, 2)
    submit(dispatcher, T1)
    assert dispatcher.handle(RestartRequested(), 1) == [DismissDaemon(A)], "B is busy"
    assert submit(dispatcher, T2, now=1) == [LaunchDaemon(C)]
    assert dispatcher.handle(DaemonReady(C), 2) == [SendTasks(C, (T2,))]
    assert dispatcher.handle(result_arrived(B, T1), 3) == [resolve(T1), DismissDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 4) == []


def test_a_daemon_that_was_on_its_way_before_a_restart_gets_no_task(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(1)
    assert submit(dispatcher, T1) == [LaunchDaemon(A)]
    assert dispatcher.handle(RestartRequested(), 1) == []
    assert dispatcher.handle(DaemonReady(A), 2) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]


def test_new_daemons_make_the_calls_that_all_have_made(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(BroadcastAnswered(A, SETUP), 1)
    assert single.handle(RestartRequested(), 2) == [DismissDaemon(A)]
    single.handle(DaemonLost(A), 3)
    assert submit(single, T1, now=4) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 5) == [SendBroadcast(B, SETUP)]


def test_a_restart_does_not_hold_up_a_shutdown(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(ShutdownRequested(), 1)
    assert single.handle(RestartRequested(), 2) == []
    assert single.handle(result_arrived(A, T1), 3) == [resolve(T1), DismissDaemon(A)]


def test_a_spoilt_daemon_is_replaced_not_reused(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(result_arrived(A, T1, leaving=True), 1) == [
        resolve(T1),
        DismissDaemon(A),
    ]
    assert single.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]


def test_a_daemon_spoilt_by_a_cancel_is_replaced_not_reused(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 1)
    assert single.handle(result_arrived(A, T1, leaving=True), 2) == [DismissDaemon(A)]


# Everywhere


def test_everywhere_runs_once_on_each_daemon(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == [
        SendBroadcast(A, SETUP),
        SendBroadcast(B, SETUP),
    ]
    assert dispatcher.targets_of(SETUP) == (A, B)
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 1) == []
    assert dispatcher.targets_of(SETUP) == (B,)
    assert dispatcher.handle(BroadcastAnswered(B, SETUP), 1) == []
    assert dispatcher.targets_of(SETUP) == ()


def test_everywhere_starts_the_daemons_that_are_missing(dispatcher: Dispatcher) -> None:
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.targets_of(SETUP) == (A, B)
    assert dispatcher.handle(DaemonReady(A), 1) == [SendBroadcast(A, SETUP)]


def test_everywhere_without_any_daemon_has_no_targets(dispatch: Dispatch) -> None:
    dispatcher = dispatch(launches=False)
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == []
    assert dispatcher.targets_of(SETUP) == ()


def test_everywhere_goes_before_later_tasks_on_that_daemon(single: Dispatcher) -> None:
    submit(single, T1)
    assert single.handle(EverywhereRequested(SETUP), 0) == []
    submit(single, T2)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendBroadcast(A, SETUP)]
    assert single.handle(BroadcastAnswered(A, SETUP), 2) == [SendTasks(A, (T2,))]


def test_everywhere_goes_before_tasks_that_already_waited(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(EverywhereRequested(SETUP), 0)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendBroadcast(A, SETUP)]


def test_a_daemon_that_joins_later_gets_all_of_them_in_order(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, launches=False)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(EverywhereRequested(MORE), 0)
    submit(dispatcher, T1)
    daemon = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonReady(daemon), 1) == [SendBroadcast(daemon, SETUP)]
    assert dispatcher.handle(BroadcastAnswered(daemon, SETUP), 2) == [SendBroadcast(daemon, MORE)]
    assert dispatcher.handle(BroadcastAnswered(daemon, MORE), 3) == [SendTasks(daemon, (T1,))]


def test_a_replacement_gets_it_too(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(BroadcastAnswered(A, SETUP), 0)
    submit(single, T1, T2)
    single.handle(DaemonLost(A, started=(T1,)), 1)
    assert single.handle(DaemonReady(B), 2) == [SendBroadcast(B, SETUP)]
    assert single.handle(BroadcastAnswered(B, SETUP), 3) == [SendTasks(B, (T2,))]


X, Y, XY = frozenset("x"), frozenset("y"), frozenset("xy")
FIRST, SECOND, THIRD = BroadcastId(11), BroadcastId(12), BroadcastId(13)


@pytest.mark.parametrize(
    ("sets", "caught_up_with"),
    [
        ((X, X, X), [THIRD]),
        ((X, Y, XY), [THIRD]),
        ((X, Y, X), [SECOND, THIRD]),
        ((XY, X, Y), [FIRST, SECOND, THIRD]),
        ((X, None, X), [FIRST, SECOND, THIRD]),  # what is between may have read it
        ((None, X, X), [FIRST, THIRD]),
        ((None, None, None), [FIRST, SECOND, THIRD]),
    ],
)
def test_a_daemon_that_joins_gets_no_value_that_a_later_one_replaces(
    dispatch: Dispatch,
    sets: tuple[frozenset[str] | None, ...],
    caught_up_with: list[BroadcastId],
) -> None:
    dispatcher = dispatch(launches=False)
    commands: list[Command] = []
    for id_, names in zip((FIRST, SECOND, THIRD), sets, strict=True):
        commands += dispatcher.handle(EverywhereRequested(id_, names), 0)
    forgotten = {FIRST, SECOND, THIRD} - set(caught_up_with)
    assert sorted(c.broadcast for c in commands if isinstance(c, ForgetBroadcast)) == sorted(
        forgotten
    )
    assert len(commands) == len(forgotten)
    daemon = dispatcher.adopt_daemon(0)
    dispatcher.handle(DaemonReady(daemon), 1)
    for id_ in caught_up_with:
        assert dispatcher.targets_of(id_) == (daemon,)
        dispatcher.handle(BroadcastAnswered(daemon, id_), 2)


@pytest.mark.parametrize("end", [BroadcastAnswered(A, FIRST), DaemonLost(A)])
def test_a_value_that_is_replaced_is_kept_until_every_daemon_that_was_to_get_it_has_it(
    single: Dispatcher, end: Event
) -> None:
    assert single.handle(EverywhereRequested(FIRST, X), 0) == [SendBroadcast(A, FIRST)]
    assert single.handle(EverywhereRequested(SECOND, X), 0) == []
    assert ForgetBroadcast(FIRST) in single.handle(end, 1)


def test_a_share_that_is_cancelled_before_it_begins_never_runs(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(EverywhereRequested(MORE), 0)
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == [
        FailBroadcast(A, SETUP, Failure.CANCELLED),
        ForgetBroadcast(SETUP),
    ]
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == []
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), SendBroadcast(A, MORE)]


def test_a_share_that_runs_is_interrupted_and_its_daemon_gets_nothing_until_it_answers(
    single: Dispatcher,
) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    submit(single, T1)
    assert single.handle(BroadcastCancelRequested(A, SETUP, running=False), 1) == []
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == [
        InterruptBroadcast(A, SETUP),
        FailBroadcast(A, SETUP, Failure.CANCELLED),
    ]
    assert single.is_stopping(A, SETUP)
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == [
        FailBroadcast(A, SETUP, Failure.CANCELLED)
    ]
    assert single.handle(BroadcastAnswered(A, SETUP), 2) == [
        ForgetBroadcast(SETUP),
        SendTasks(A, (T1,)),
    ]
    assert single.expire(100) == []


def test_a_daemon_that_does_not_stop_its_share_is_killed_and_the_next_one_need_not_begin(
    single: Dispatcher,
) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    submit(single, T1)
    single.handle(BroadcastCancelRequested(A, SETUP), 1)
    assert single.next_deadline() == 1 + Policy(max_daemons=1).cancel_grace
    assert single.expire(60) == [KillDaemon(A)]
    assert single.handle(DaemonLost(A), 61) == [
        FailBroadcast(A, SETUP),
        ForgetBroadcast(SETUP),
        LaunchDaemon(B),
    ]
    assert single.handle(DaemonReady(B), 62) == [SendTasks(B, (T1,))]


def test_a_daemon_that_joins_runs_what_was_stopped_on_some_and_done_on_others(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher, 2)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(BroadcastCancelRequested(A, SETUP), 1)
    dispatcher.handle(BroadcastAnswered(A, SETUP), 2)
    dispatcher.handle(BroadcastAnswered(B, SETUP), 3)
    dispatcher.handle(DaemonLost(B), 4)
    dispatcher.handle(DaemonsRequested(2), 5)
    assert dispatcher.handle(DaemonReady(C), 6) == [SendBroadcast(C, SETUP)]


def test_a_share_has_to_be_done_in_time(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP, timeout=5), 0)
    assert single.expire(5) == [
        FailBroadcast(A, SETUP, Failure.TIMED_OUT),
        ForgetBroadcast(SETUP),
    ]
    single.handle(EverywhereRequested(MORE, timeout=5), 5)
    single.handle(result_arrived(A, T1), 6)
    single.handle(BroadcastAnswered(A, MORE), 7)
    assert single.next_deadline() is None


def test_each_daemon_has_its_time_to_run_a_share_also_one_that_joins(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP, run_timeout=5), 0)
    assert single.handle(result_arrived(A, T1), 7) == [resolve(T1), SendBroadcast(A, SETUP)]
    single.handle(BroadcastAnswered(A, SETUP), 8)
    single.handle(DaemonLost(A), 9)
    single.handle(DaemonsRequested(1), 10)
    assert single.handle(DaemonReady(B), 11) == [SendBroadcast(B, SETUP)]
    assert single.expire(16) == [
        InterruptBroadcast(B, SETUP),
        FailBroadcast(B, SETUP, Failure.RUN_TIMED_OUT),
    ]


def test_everywhere_never_stalls_daemons_that_have_done_their_part(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1)  # a long one, on B
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == [SendBroadcast(A, SETUP)]
    assert submit(dispatcher, T2, T3) == []
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 1) == [SendTasks(A, (T2,))]
    assert dispatcher.handle(result_arrived(A, T2), 2) == [resolve(T2), SendTasks(A, (T3,))]
    assert dispatcher.targets_of(SETUP) == (B,)


def test_a_daemon_lost_midway_fails_only_its_share(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    assert dispatcher.handle(DaemonLost(A), 1) == [FailBroadcast(A, SETUP)]
    assert dispatcher.targets_of(SETUP) == (B,)
    assert dispatcher.handle(BroadcastAnswered(B, SETUP), 2) == []


def test_a_daemon_lost_before_its_turn_fails_every_share_that_it_owed(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(EverywhereRequested(MORE), 0)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [
        FailBroadcast(A, SETUP),
        FailBroadcast(A, MORE),
        FailTask(T1, Failure.DAEMON_LOST, A),
    ]


def test_a_daemon_does_its_part_before_it_leaves(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP), 0)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendBroadcast(A, SETUP)]
    assert single.handle(BroadcastAnswered(A, SETUP), 2) == [DismissDaemon(A)]


def test_a_leaving_daemon_is_no_target(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    single.handle(result_arrived(A, T1), 1)
    assert single.handle(EverywhereRequested(SETUP), 2) == []
    assert single.targets_of(SETUP) == ()
    assert single.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]


def test_a_second_answer_to_a_broadcast_counts_for_nothing(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(EverywhereRequested(MORE), 0)
    assert single.handle(BroadcastAnswered(A, SETUP), 1) == [SendBroadcast(A, MORE)]
    assert single.handle(BroadcastAnswered(A, SETUP), 1) == []
    assert single.targets_of(MORE) == (A,)


# Shutdown


def test_shutdown_lets_accepted_tasks_finish_and_then_dismisses_the_daemons(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(ShutdownRequested(), 0) == []
    assert dispatcher.handle(result_arrived(A, T2), 1) == [resolve(T2), SendTasks(A, (T3,))]
    assert dispatcher.handle(result_arrived(A, T3), 2) == [resolve(T3)]
    assert dispatcher.handle(result_arrived(B, T1), 3) == [
        resolve(T1),
        DismissDaemon(A),
        DismissDaemon(B),
    ]
    dispatcher.handle(DaemonLost(A), 4)
    assert not dispatcher.is_finished
    dispatcher.handle(DaemonLost(B), 4)
    assert dispatcher.is_finished


def test_shutdown_of_an_executor_without_daemons_is_finished_at_once(
    dispatcher: Dispatcher,
) -> None:
    assert not dispatcher.is_finished
    assert dispatcher.handle(ShutdownRequested(), 0) == []
    assert dispatcher.is_finished


def test_shutdown_starts_the_daemons_that_accepted_tasks_need(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(ShutdownRequested(), 0)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [
        FailTask(T1, Failure.DAEMON_LOST, A),
        LaunchDaemon(B),
    ]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]
    assert single.handle(result_arrived(B, T2), 3) == [resolve(T2), DismissDaemon(B)]


def test_shutdown_kills_daemons_that_nobody_needs_to_be_ready(dispatcher: Dispatcher) -> None:
    dispatcher.handle(DaemonsRequested(2), 0)
    dispatcher.handle(DaemonReady(A), 1)
    assert dispatcher.handle(ShutdownRequested(), 2) == [DismissDaemon(A), KillDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 3) == []


def test_shutdown_can_cancel_what_waits(single: Dispatcher) -> None:
    submit(single, T1, T2, T3)
    assert single.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailTask(T2, Failure.CANCELLED),
        FailTask(T3, Failure.CANCELLED),
    ]
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), DismissDaemon(A)]


def test_shutdown_spares_the_tasks_for_which_daemons_are_on_their_way(
    dispatcher: Dispatcher,
) -> None:
    # As the standard library does with those that it has passed on to its workers.
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailTask(T3, Failure.CANCELLED)
    ]
    assert dispatcher.handle(DaemonReady(A), 2) == [SendTasks(A, (T1,))]
    assert dispatcher.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]
    assert dispatcher.handle(result_arrived(A, T1), 3) == [resolve(T1)]
    assert dispatcher.handle(result_arrived(B, T2), 3) == [
        resolve(T2),
        DismissDaemon(A),
        DismissDaemon(B),
    ]


def test_a_spared_task_is_cancelled_when_its_daemon_does_not_come(dispatcher: Dispatcher) -> None:
    submit(dispatcher, T1, T2)
    dispatcher.handle(ShutdownRequested(cancel_queued=True), 1)
    assert dispatcher.handle(DaemonLost(A), 2) == [FailTask(T2, Failure.CANCELLED)]
    assert dispatcher.handle(DaemonLost(B), 3) == [FailTask(T1, Failure.CANCELLED)]
    assert dispatcher.is_finished


def test_a_spared_task_does_not_overtake_everywhere(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    submit(dispatcher, T1)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == []
    assert dispatcher.handle(DaemonReady(A), 2) == [SendBroadcast(A, SETUP)]
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 3) == [SendTasks(A, (T1,))]


def test_shutdown_spares_nothing_if_it_cancels_what_runs(dispatcher: Dispatcher) -> None:
    submit(dispatcher, T1)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True, cancel_running=True), 1) == [
        FailTask(T1, Failure.CANCELLED),
        KillDaemon(A),
    ]


def test_a_kill_spares_nothing(dispatcher: Dispatcher) -> None:
    submit(dispatcher, T1)
    assert dispatcher.handle(KillRequested(), 1) == [
        FailTask(T1, Failure.CANCELLED),
        KillDaemon(A),
    ]


def test_shutdown_can_cancel_what_runs(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(ShutdownRequested(cancel_queued=True, cancel_running=True), 1) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.CANCELLED, A),
        FailTask(T2, Failure.CANCELLED),
    ]
    assert single.handle(result_arrived(A, T1), 2) == [DismissDaemon(A)]


def test_shutdown_can_be_asked_for_again_with_more_haste(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(ShutdownRequested(), 1)
    assert single.handle(ShutdownRequested(cancel_queued=True), 2) == [
        FailTask(T2, Failure.CANCELLED)
    ]
    assert single.handle(ShutdownRequested(cancel_running=True), 3) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.CANCELLED, A),
    ]


def test_a_daemon_that_ignores_its_dismissal_is_killed(dispatch: Dispatch) -> None:
    single = dispatch(1, leave_grace=10.0)
    start(single)
    assert single.handle(ShutdownRequested(), 0) == [DismissDaemon(A)]
    assert single.expire(10) == [KillDaemon(A)]


def test_shutdown_waits_for_everywhere_on_daemons_that_were_to_run_it(
    dispatcher: Dispatcher,
) -> None:
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(DaemonReady(A), 0)
    assert dispatcher.handle(ShutdownRequested(), 1) == []
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 2) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonReady(B), 3) == [SendBroadcast(B, SETUP)]
    assert dispatcher.handle(BroadcastAnswered(B, SETUP), 4) == [DismissDaemon(B)]


def test_shutdown_does_not_wait_for_a_daemon_that_would_only_catch_up(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(BroadcastAnswered(A, SETUP), 0)
    dispatcher.handle(DaemonLost(B), 0)  # leaves C starting, for the request
    assert dispatcher.handle(ShutdownRequested(), 1) == [DismissDaemon(A), KillDaemon(C)]
    assert dispatcher.handle(DaemonLost(C), 2) == [FailBroadcast(C, SETUP)]


def test_shutdown_with_cancelling_does_not_wait_for_everywhere(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailBroadcast(B, SETUP),
        KillDaemon(B),
    ]
    assert dispatcher.handle(ShutdownRequested(cancel_running=True), 2) == [KillDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 3) == [FailBroadcast(A, SETUP)]


def test_after_a_shutdown_with_cancelling_nothing_begins_any_more(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    dispatcher.handle(submitted(T1, retries=1), 0)  # on B
    dispatcher.handle(TaskSubmitted(T2), 0)  # on A
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailBroadcast(A, SETUP),
        FailBroadcast(B, SETUP),
    ]
    assert dispatcher.handle(TaskSubmitted(T3), 2) == [FailTask(T3, Failure.CANCELLED)]
    assert dispatcher.handle(EverywhereRequested(MORE), 2) == []
    assert dispatcher.handle(DaemonLost(A), 3) == [FailTask(T2, Failure.CANCELLED, A)]
    assert dispatcher.handle(DaemonLost(B, started=(T1,)), 3) == [
        FailTask(T1, Failure.DAEMON_LOST, B)
    ]
    assert dispatcher.is_finished


def test_nothing_is_launched_after_a_shutdown_but_for_tasks(dispatcher: Dispatcher) -> None:
    dispatcher.handle(ShutdownRequested(), 0)
    assert dispatcher.handle(DaemonsRequested(2), 1) == []
    assert dispatcher.handle(EverywhereRequested(SETUP), 1) == []
    assert dispatcher.is_finished


def test_a_daemon_that_is_still_joining_at_the_end_is_killed(dispatch: Dispatch) -> None:
    dispatcher = dispatch(launches=False)
    daemon = dispatcher.adopt_daemon(0)
    dispatcher.handle(DaemonReady(daemon), 0)
    dispatcher.handle(ShutdownRequested(), 0)
    late = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonLost(daemon), 1) == [KillDaemon(late)]


# Killing


def test_a_kill_ends_every_daemon_and_all_that_waits(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(KillRequested(), 1) == [
        FailTask(T2, Failure.CANCELLED),
        FailTask(T3, Failure.CANCELLED),
        KillDaemon(A),
        KillDaemon(B),
    ]
    assert dispatcher.handle(DaemonLost(A, started=(T1,)), 2) == [
        FailTask(T1, Failure.DAEMON_LOST, A)
    ]
    assert dispatcher.handle(DaemonLost(B), 2) == []
    assert dispatcher.is_finished


def test_a_result_that_beat_the_kill_still_counts(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(KillRequested(), 1)
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1)]
    assert single.handle(DaemonLost(A), 3) == []


def test_a_task_that_a_kill_met_before_it_began_is_cancelled(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(KillRequested(), 1)
    assert single.handle(DaemonLost(A), 2) == [FailTask(T1, Failure.CANCELLED, A)]


def test_nothing_is_retried_after_a_kill(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=9), 0)
    single.handle(KillRequested(), 1)
    assert single.handle(DaemonLost(A, started=(T1,)), 2) == [FailTask(T1, Failure.DAEMON_LOST, A)]


def test_a_task_submitted_after_a_kill_does_not_wait_for_ever(single: Dispatcher) -> None:
    single.handle(KillRequested(), 0)
    assert submit(single, T1) == [FailTask(T1, Failure.CANCELLED)]


def test_a_daemon_that_joins_after_a_kill_is_dismissed(single: Dispatcher) -> None:
    single.handle(KillRequested(), 0)
    late = single.adopt_daemon(0)
    assert single.handle(DaemonReady(late), 1) == [DismissDaemon(late)]
    assert single.ready_count == 0


def test_a_second_kill_kills_nobody_twice(single: Dispatcher) -> None:
    assert single.handle(KillRequested(), 0) == [KillDaemon(A)]
    assert single.handle(KillRequested(), 0) == []


# Direct mode


def test_direct_tasks_are_dealt_round_robin_when_submitted(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    assert submit(dispatcher, T1, T2, T3, T4) == [SendTasks(A, (T1,)), SendTasks(B, (T2,))]
    assert dispatcher.handle(result_arrived(B, T2), 1) == [resolve(T2), SendTasks(B, (T4,))]
    assert dispatcher.handle(result_arrived(B, T4), 2) == [resolve(T4)]
    assert dispatcher.handle(result_arrived(A, T1), 3) == [resolve(T1), SendTasks(A, (T3,))]


def test_a_direct_task_waits_behind_a_long_one_beside_an_idle_daemon(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(result_arrived(B, T2), 1)
    assert submit(dispatcher, T3) == []
    assert dispatcher.handle(result_arrived(A, T1), 9) == [resolve(T1), SendTasks(A, (T3,))]


def test_direct_mode_starts_all_its_daemons_with_the_first_task(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    assert submit(dispatcher, T1, T2) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 1) == [SendTasks(B, (T2,))]
    assert dispatcher.handle(DaemonReady(A), 2) == [SendTasks(A, (T1,))]


def test_direct_tasks_are_dealt_anew_when_their_daemon_is_lost(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3, T4)
    dispatcher.handle(result_arrived(B, T2), 1)
    dispatcher.handle(result_arrived(B, T4), 1)
    assert dispatcher.handle(DaemonLost(A, started=(T1,)), 2) == [
        FailTask(T1, Failure.DAEMON_LOST, A),
        LaunchDaemon(C),
        SendTasks(B, (T3,)),
    ]


def test_direct_tasks_are_dealt_anew_when_their_daemon_leaves(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, direct=True, max_tasks=1)
    start(dispatcher)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(result_arrived(A, T1), 1) == [resolve(T1), DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 3) == [SendTasks(B, (T2,))]


def test_direct_tasks_do_not_wait_for_a_busy_daemon_that_asked_to_leave(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3)
    dispatcher.handle(result_arrived(B, T2), 1)
    assert dispatcher.handle(LeaveRequested(A), 2) == [SendTasks(B, (T3,))]
    assert submit(dispatcher, T4) == [], "B it is again"
    assert dispatcher.handle(result_arrived(B, T3), 3) == [resolve(T3), SendTasks(B, (T4,))]


def test_direct_tasks_without_any_daemon_wait_for_the_first(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True, launches=False)
    assert submit(dispatcher, T1, T2) == []
    daemon = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonReady(daemon), 1) == [SendTasks(daemon, (T1,))]
    assert dispatcher.handle(result_arrived(daemon, T1), 2) == [
        resolve(T1),
        SendTasks(daemon, (T2,)),
    ]


def test_a_direct_task_that_waits_can_be_cancelled(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, direct=True)
    start(dispatcher)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(CancelRequested(T2), 1) == [FailTask(T2, Failure.CANCELLED)]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_direct_tasks_keep_their_order_when_their_daemon_dies_before_it_is_ready(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(1, direct=True)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 2) == [SendTasks(B, (T1,))]


def test_a_broken_executor_fails_direct_tasks_too(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, direct=True, failed_starts=1)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(DaemonLost(A), 1) == [
        FailTask(T1, Failure.BROKEN),
        FailTask(T2, Failure.BROKEN),
    ]


# Late, twice, unknown


def test_an_answer_to_a_task_that_the_daemon_does_not_hold_is_ignored(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1)  # on B
    assert dispatcher.handle(result_arrived(A, T1), 1) == []
    assert dispatcher.handle(result_arrived(B, T2), 1) == []
    assert dispatcher.handle(result_arrived(B, T1), 1) == [resolve(T1)]
    assert dispatcher.handle(result_arrived(B, T1), 1) == []


def test_an_answer_from_a_lost_daemon_is_ignored(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=1), 0)
    single.handle(DaemonLost(A, started=(T1,)), 1)
    single.handle(DaemonReady(B), 2)
    assert single.handle(result_arrived(A, T1), 3) == []
    assert single.handle(result_arrived(B, T1), 4) == [resolve(T1)]


@pytest.mark.parametrize(
    "event",
    [
        CancelRequested(T5),
        result_arrived(C, T1),
        BroadcastAnswered(A, SETUP),
        BroadcastAnswered(C, SETUP),
        DaemonReady(A),
        DaemonReady(C),
        LeaveRequested(C),
        DaemonLost(C, started=(T1,)),
        DaemonsRequested(0),
    ],
    ids=repr,
)
def test_an_event_about_nobody_changes_nothing(single: Dispatcher, event: Event) -> None:
    submit(single, T1)
    before = single.view()
    assert single.handle(event, 1) == []
    assert single.view() == before


def test_an_event_about_a_lost_daemon_changes_nothing(single: Dispatcher) -> None:
    single.handle(DaemonLost(A), 0)
    for event in (DaemonReady(A), DaemonLost(A), LeaveRequested(A), BroadcastAnswered(A, SETUP)):
        assert single.handle(event, 1) == []
    assert single.view().daemons == {}


# What one can see


def test_every_task_is_counted_exactly_once(single: Dispatcher) -> None:
    submit(single, T1, T2, T3)
    assert single.view() == DispatcherView(
        awaiting=2,
        executing=1,
        completed=0,
        cumulative=1,
        daemons={A: DaemonView(DaemonState.READY, busy=True, tasks_done=0)},
    )
    single.handle(CancelRequested(T1), 1)
    single.handle(CancelRequested(T2), 1)
    view = single.view()
    assert (view.awaiting, view.executing, view.completed) == (1, 0, 2)
    assert view.daemons[A].busy, "it has yet to let go"
    single.handle(result_arrived(A, T1), 2)
    single.handle(result_arrived(A, T3), 3)
    view = single.view()
    assert (view.awaiting, view.executing, view.completed) == (0, 0, 3)
    assert view.daemons == {A: DaemonView(DaemonState.READY, busy=False, tasks_done=2)}


def test_a_daemon_is_busy_with_everywhere_as_with_a_task(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    assert single.view().daemons[A].busy


def test_daemons_are_counted_when_they_have_connected(dispatcher: Dispatcher) -> None:
    dispatcher.handle(DaemonsRequested(2), 0)
    assert dispatcher.view().cumulative == 0
    dispatcher.handle(DaemonReady(A), 1)
    dispatcher.handle(DaemonLost(A), 2)
    dispatcher.handle(DaemonReady(C), 3)
    assert dispatcher.view().cumulative == 2
    assert [d.state for d in dispatcher.view().daemons.values()] == [
        DaemonState.STARTING,
        DaemonState.READY,
    ]
