"""Ctrl-C, wherever it strikes: it ends what it should end, and breaks nothing."""

import collections
import contextlib
import functools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from live.hosts import PATIENCE, script
from live.mischief import SOON, running, wait_for_ever
from live.strikes import Strike, strikes
from live.terminals import SHELL, Terminal
from mirai_executor import MiraiExecutor, MiraiInterrupt
from mirai_executor._core import TaskId
from mirai_executor._host import Host, Limits, _host_thread
from mirai_executor._host._tasks import OpenTask
from mirai_executor.futures import MiraiFuture

# The promise is 2 s. Ending an interpreter takes its time, too, where others use the processors.
PROMPT = 4.0

# At every opcode


def answers(executor: MiraiExecutor, where: str) -> None:
    assert executor.submit(abs, -1).result(PATIENCE) == 1, where


@pytest.fixture
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(1, cancel_grace=1.0) as executor:
        answers(executor, "before the first strike")
        yield executor


CALLS: dict[str, Callable[[MiraiExecutor], object]] = {
    "submit": lambda executor: executor.submit(abs, -2),
    "submit and result": lambda executor: executor.submit(abs, -2).result(PATIENCE),
    "a view's submit": lambda executor: executor.with_options(timeout=60).submit(abs, -2),
    "map": lambda executor: list(executor.map(abs, (-1, -2))),
    "everywhere": lambda executor: executor.everywhere(abs, -2),
    "status": lambda executor: executor.status(),
    "wait_ready": lambda executor: executor.wait_ready(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_interrupt_at_any_opcode_leaves_the_executor_working(
    executor: MiraiExecutor, call: Callable[[MiraiExecutor], object]
) -> None:
    count = 0
    for strike in strikes(lambda: call(executor)):
        answers(executor, strike.where)
        count += 1
    assert count > 50


ALL = pytest.param(1, id="every opcode", marks=[pytest.mark.chaos, pytest.mark.timeout(900)])
BOUND, LARGE = 1000, 1 << 18  # bytes
BOUNDED: dict[str, Callable[[MiraiExecutor], object]] = {
    "submit": lambda executor: executor.submit(abs, -2),
    "try_submit": lambda executor: executor.try_submit(abs, -2),
    "submit_source": lambda executor: executor.submit_source("1"),
    "room": lambda executor: step_into(executor.room()),
}


def step_into(coroutine: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(StopIteration):
        coroutine.send(None)


# At every opcode of the gate, see its own test.
@pytest.mark.parametrize("step", [pytest.param(11, id="some opcodes"), ALL])
@pytest.mark.parametrize("call", BOUNDED.values(), ids=BOUNDED)
def test_an_interrupt_at_any_opcode_of_who_asks_for_room_takes_none_for_good(
    call: Callable[[MiraiExecutor], object], step: int
) -> None:
    count = 0
    with (
        MiraiExecutor(1, memory=BOUND) as executor,
        ThreadPoolExecutor(1) as another,
    ):
        answers(executor, "before the first strike")
        for strike in strikes(lambda: call(executor), random.randrange(step) + 1, step):
            # It needs all the room, and waits for it.
            future = another.submit(executor.submit, len, b"x" * 2 * BOUND).result(PATIENCE)
            assert future.result(PATIENCE) == 2 * BOUND, strike.where
            answers(executor, strike.where)
            count += 1
    assert count > 0


# Copied into an arena: a new one, then the same again; and with a bound, beside others that wait.
@pytest.mark.parametrize("step", [pytest.param(7, id="some opcodes"), ALL])
@pytest.mark.parametrize("memory", [None, 10 * LARGE], ids=["no bound", "a bound"])
@pytest.mark.parametrize("warm", [False, True], ids=["new", "warm"])
def test_an_interrupt_at_any_opcode_of_who_submits_much_keeps_no_shared_memory(
    warm: bool, memory: int | None, step: int
) -> None:
    numpy = pytest.importorskip("numpy", reason="it is what has large buffers")
    data = numpy.zeros(LARGE, numpy.uint8)
    count = 0
    with MiraiExecutor(1, memory=memory) as executor:
        store = executor._host._store
        if not store.is_shared:
            pytest.skip("no shared memory here")
        for _ in range(20):  # until its records have learnt to be made
            assert executor.submit(len, data).result(PATIENCE) == LARGE
        for strike in strikes(
            lambda: executor.submit(len, data), random.randrange(step) + 1, step
        ):
            where, strike.error = strike.where, None  # it holds all frames
            answers(executor, where)  # so all that had been queued has ended
            executor.wait_ready()  # and the host thread has come to what was put in later
            pool = store._pool()
            assert (pool.held, store._lost, store.copied) == ((), {}, {}), where
            assert len(pool._arenas) == len(pool._free), where
            if not warm:
                pool.trim()
            count += 1
    assert count > 50 // step


def test_an_interrupt_at_any_opcode_of_who_shares_something_leaves_no_memory_behind() -> None:
    numpy = pytest.importorskip("numpy", reason="it is what has large buffers")
    data = numpy.zeros(LARGE, numpy.uint8)
    with MiraiExecutor(1) as executor:
        for _ in range(20):  # as above
            executor.share(data)
        pool = executor._host._store._pool()
        for strike in strikes(lambda: executor.share(data), random.randrange(5) + 1, 5):
            where, strike.error = strike.where, None  # it holds all frames
            pool.sweep()
            assert (pool._constants, pool._mappings) == ({}, {}), where
    # That no descriptor is left, the fixture looks at.


@pytest.mark.parametrize("queued", [False, True], ids=["running", "queued"])
def test_a_cancel_that_is_interrupted_at_any_opcode_tells_all_or_nobody(
    executor: MiraiExecutor, queued: bool
) -> None:
    for n in range(1, 10_000):
        busy: Future[Any] = executor.submit(wait_for_ever)
        future: Future[Any] = executor.submit(abs, -3) if queued else busy
        told: list[Future[Any]] = []
        future.add_done_callback(told.append)
        strike = Strike(n, future.cancel)
        busy.cancel()  # else "nobody" would take for ever
        future.cancel()
        assert wait([busy, future], PATIENCE).not_done == set(), strike.where
        answers(executor, strike.where)
        assert told == [future], strike.where
        if not strike.where:
            return
        assert strike.was_heard(), (strike.where, strike.error)


class Nobody:
    def cancel(self, task: TaskId, *, running: bool) -> None:
        pass

    def owns_this_thread(self) -> bool:
        return False


# All that wait do so until there is nothing to wait for, or it is known that they would.
LOOKS: dict[str, Callable[[MiraiFuture[int]], object]] = {
    "result": lambda future: future.result(1e-6),
    "exception": lambda future: future.exception(1e-6),
    "wait": lambda future: wait([future], 1e-6),
    "as_completed": lambda future: list(as_completed([future], 1e-6)),
    # Twice: since 3.13, no opcode of the first call is traced.
    "add_done_callback": lambda future: collections.deque(
        map(future.add_done_callback, (id, id)), 0
    ),
    "cancelled": lambda future: (future.cancelled(), future.running(), future.done()),
    "repr": repr,
    "result of the base class": lambda future: Future.result(future, 1e-6),
}


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_an_interrupt_at_any_opcode_of_who_looks_at_a_future_holds_up_no_other_thread(
    look: Callable[[MiraiFuture[int]], object], has_ended: bool
) -> None:
    def end() -> None:
        assert future.start()
        future.set_outcome(int, "7", failed=False)

    n, misses = 0, 0
    while misses < 5:  # one is not the end, see strikes()
        n += 1
        future: MiraiFuture[int] = MiraiFuture(TaskId(n), Nobody())
        told: list[Future[int]] = []
        future.add_done_callback(told.append)
        if has_ended:
            end()
        strike = Strike(n, functools.partial(look, future))
        if not has_ended:
            host = threading.Thread(target=end, daemon=True)
            host.start()
            host.join(PATIENCE)
            assert not host.is_alive(), strike.where
        assert told == [future], strike.where
        assert wait([future], PATIENCE).done == {future}, strike.where
        assert list(as_completed([future], PATIENCE)) == [future], strike.where
        assert future.result(PATIENCE) == 7, strike.where
        misses = 0 if strike.where else misses + 1
        assert not strike.where or strike.was_heard(), (strike.where, strike.error)
    assert n > 10


def ends(executor: MiraiExecutor) -> bool:
    """Shut down on a thread, so that the test goes on if it hangs."""
    thread = threading.Thread(target=executor.shutdown, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive()


# Each of these rounds starts a daemon: all of them are for the chaos run.
SOME = pytest.param(31, id="some opcodes")


@pytest.mark.parametrize("step", [SOME, ALL])
def test_an_interrupt_at_any_opcode_of_the_first_submit_leaves_it_working(step: int) -> None:
    first = random.randrange(step) + 1
    while True:
        executor = MiraiExecutor(1)
        strike = Strike(first, functools.partial(executor.submit, abs, -2))
        answers(executor, strike.where)
        assert ends(executor), strike.where
        if not strike.where:
            return
        first += step


@pytest.mark.parametrize("how", ["shutdown", "__exit__", "kill_workers"])
@pytest.mark.parametrize("step", [SOME, ALL])
def test_a_shutdown_that_is_interrupted_at_any_opcode_can_be_repeated(step: int, how: str) -> None:
    first = random.randrange(step) + 1
    calls: dict[str, Callable[[MiraiExecutor], object]] = {
        "shutdown": lambda executor: executor.shutdown(),
        "__exit__": lambda executor: executor.__exit__(None, None, None),
        "kill_workers": lambda executor: executor.kill_workers(),
    }
    while True:
        executor = MiraiExecutor(1)
        answers(executor, "before")
        strike = Strike(first, functools.partial(calls[how], executor))
        assert ends(executor), strike.where
        if not strike.where:
            return
        first += step


class Crossroads(collections.deque[Any]):
    """The inbox of a host, in which others go first when a task has been put in."""

    others: Callable[[], object]

    def append(self, item: Any) -> None:
        super().append(item)
        if isinstance(item, OpenTask):
            self.others()


@pytest.mark.parametrize(
    "call",
    [
        lambda host: host.shutdown(cancel_queued=True),
        lambda host: host.kill(),
        lambda host: host.cancel(TaskId(1), running=True),
    ],
    ids=["shutdown", "kill", "cancel"],
)
def test_an_interrupt_at_any_opcode_of_who_comes_too_late_loses_no_task_of_another_thread(
    call: Callable[[Host], object],
) -> None:
    with MiraiExecutor(1) as executor:
        answers(executor, "before the end")
    host = executor._host
    host._inbox = inbox = Crossroads()
    strike: Strike | None = None
    n, misses = 0, 0

    def other_thread() -> None:
        """Do what it does at the moment when the host has ended and a task has come."""
        nonlocal strike
        strike = Strike(n, functools.partial(call, host))

    inbox.others = other_thread
    # A copy: 3.13 does not trace the opcodes of code that is being run already.
    put = FunctionType(Host._put.__code__.replace(), vars(_host_thread))
    while misses < 5:  # one is not the end, see strikes()
        n += 1
        Strike(sys.maxsize, functools.partial(call, host))  # 3.13 traces from the next call on
        future: MiraiFuture[int] = MiraiFuture(TaskId(n), Nobody())
        put(host, OpenTask(TaskId(n), future, Limits(), None, b"", ()))
        assert strike is not None
        assert future.done(), strike.where
        assert isinstance(future.exception(), RuntimeError), strike.where
        misses = 0 if strike.where else misses + 1
        assert not strike.where or strike.was_heard(), (strike.where, strike.error)
        assert not inbox, strike.where
    assert n > 50


# At any moment, by a real signal


# What is raised where a signal is handled in a finalizer, Python swallows.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("rounds", [300, pytest.param(10_000, marks=pytest.mark.chaos)])
def test_real_signals_at_random_moments_leave_the_executor_working(
    executor: MiraiExecutor, rounds: int
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # What this imports is there then: an interrupt between the call that locks an import and the
    # block that unlocks it would leave Python's own lock locked.
    use(executor)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for n in range(rounds):
            struck_at_random(executor)
            answers(executor, f"round {n}")
    finally:
        signal.signal(signal.SIGALRM, before)


def use(executor: MiraiExecutor) -> None:
    futures = [executor.submit(abs, -n) for n in range(4)]
    futures[1].cancel()
    futures[0].result(PATIENCE)
    wait(futures, PATIENCE)
    list(as_completed(futures, PATIENCE))
    futures[3].add_done_callback(id)
    executor.status()


def struck_at_random(executor: MiraiExecutor) -> None:
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-3))
            use(executor)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return


# The stop button of a notebook


def test_an_interrupt_of_result_leaves_the_task_and_the_executor_as_they_are(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    future = executor.submit(gate.read_text)

    def press_stop() -> None:
        # Its task runs once the FIFO has a reader.
        with gate.open("w") as held:
            os.kill(os.getpid(), signal.SIGINT)
            interrupted.wait(PATIENCE)
            held.write("done")

    interrupted = threading.Event()
    button = threading.Thread(target=press_stop)

    def wait_for_it() -> None:
        button.start()  # in here: the signal may come before this returns
        future.result(PATIENCE)

    with pytest.raises(KeyboardInterrupt):
        wait_for_it()
    assert future.running()
    interrupted.set()
    button.join(PATIENCE)
    assert future.result(PATIENCE) == "done"
    answers(executor, "after the stop")


# Leaving the with block


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(7)"])
@pytest.mark.parametrize("task", ["wait_for_ever", "swallow_interrupts", "hold_the_gil"])
def test_an_interrupt_that_leaves_the_with_block_cancels_all_and_is_prompt(
    error: str, task: str
) -> None:
    code = f"""
    try:
        with MiraiExecutor(2, cancel_grace=60) as executor:
            futures = [executor.submit(say_and, {task}) for _ in range(50)]
            sys.stdin.readline()
            begun = time.monotonic()
            raise {error}
    finally:
        say("left", time.monotonic() - begun)
        say(all(future.cancelled() for future in futures))
    """
    with script(code) as host:
        assert [host.line(), host.line()] == ["runs", "runs"]
        host.go_on()
        word, seconds = host.line().split()
        assert (word, float(seconds) < PROMPT) == ("left", True), seconds
        assert host.line() == "True"
        ended = host.end()
        assert ended.code == (7 if error == "SystemExit(7)" else -signal.SIGINT)
        assert ended.tracebacks == (0 if error == "SystemExit(7)" else 1)
        assert host.leaves_nothing()


@pytest.mark.parametrize(
    "how",
    [
        "with MiraiExecutor(2, cancel_grace=60) as executor: "
        "futures = [executor.submit(say_and, {task}) for _ in range(50)]",
        "executor = MiraiExecutor(2, cancel_grace=60); list(executor.map(say_and, [{task}] * 50))",
        "executor = MiraiExecutor(2, cancel_grace=60); "
        "futures = [executor.submit(say_and, {task}) for _ in range(50)]",
    ],
    ids=["in __exit__", "in a map without with", "at the exit of the interpreter"],
)
@pytest.mark.parametrize("task", ["wait_for_ever", "hold_the_gil"])
def test_one_sigint_ends_a_host_that_waits_for_its_tasks(how: str, task: str) -> None:
    with script(how.format(task=task)) as host:
        assert [host.line(), host.line()] == ["runs", "runs"]
        host.kill(signal.SIGINT)
        ended = host.end()
        assert ended.seconds < PROMPT
        assert ended.tracebacks <= 1
        assert host.leaves_nothing()


def test_who_waits_for_the_end_looks_for_signals_now_and_then(
    executor: MiraiExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []

    class End:
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if len(waits) == 3:
                raise KeyboardInterrupt
            return False

    with monkeypatch.context() as patch:
        patch.setattr(executor._host, "_ended", End())
        with pytest.raises(KeyboardInterrupt):
            executor._host.join()
    assert len(waits) == 3
    assert None not in waits


# A terminal


@pytest.mark.parametrize("task", ["wait_for_ever", "swallow_interrupts", "hold_the_gil"])
def test_a_ctrl_c_at_a_terminal_brings_the_prompt_back_with_one_traceback(task: str) -> None:
    code = f"""
    with MiraiExecutor(2, cancel_grace=60) as executor:
        futures = [executor.submit(say_and, {task}) for _ in range(8)]
        wait(futures)
    """
    with Terminal() as terminal, script(code, **terminal.options) as host:
        assert [host.line(), host.line()] == ["runs", "runs"]
        begin = time.monotonic()
        terminal.press_ctrl_c()
        ended = host.end()
        assert time.monotonic() - begin < PROMPT
        assert (ended.code, ended.out) == (-signal.SIGINT, "")
        assert ended.tracebacks == 1, ended.err
        assert ended.err.endswith("\nKeyboardInterrupt\n")
        assert host.leaves_nothing()


def test_a_second_ctrl_c_kills_what_has_not_let_go() -> None:
    code = """
    def refuse():
        while True:
            try:
                say("runs")
                threading.Event().wait()
            except BaseException:
                say("refused")

    with MiraiExecutor(1, cancel_grace=60) as executor:
        executor.submit(refuse).result()
    """
    with Terminal() as terminal, script(code, **terminal.options) as host:
        assert host.line() == "runs"
        terminal.press_ctrl_c()
        assert host.line() == "refused"  # the first one has got through
        terminal.press_ctrl_c()
        begin = time.monotonic()
        ended = host.end()
        assert time.monotonic() - begin < PROMPT
        assert ended.code == -signal.SIGINT
        assert host.leaves_nothing()


class Turncoat:
    """Interrupts its own unpickling, and hides it, as Python's import in C may do."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return interrupt_and_hide_it, ()


def interrupt_and_hide_it() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise TypeError("expected a message argument") from None


def test_an_interrupt_that_unpickling_hides_is_an_interrupt_all_the_same() -> None:
    with running(1) as executor:
        with pytest.raises(MiraiInterrupt):
            executor.submit(id, Turncoat()).result(SOON)
        assert executor.submit(abs, -3).result(SOON) == 3


@pytest.mark.local_link("daemons elsewhere have no terminal")
def test_a_ctrl_z_stops_the_host_alone_and_daemons_finish_what_they_have(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = f"""
    {SHELL}
    def task(gate):
        say("runs")
        with open(gate) as file:
            file.read(1)
        say("went on")
        return 5

    with MiraiExecutor(1) as executor:
        future = executor.submit(task, {str(gate)!r})
        say(future.result())
        say(executor.submit(abs, -1).result())
    """
    with Terminal() as terminal, script(code, **terminal.options) as host:
        assert {host.line(), host.line()} == {"started", "runs"}
        terminal.press_ctrl_z()
        assert host.line() == "stopped"
        gate.write_bytes(b"x")  # it waits until the task reads
        assert host.line() == "went on"
        host.kill(signal.SIGUSR1)
        assert [host.line(), host.line()] == ["5", "1"]
        ended = host.end()
        assert (ended.code, ended.err) == (0, "")
