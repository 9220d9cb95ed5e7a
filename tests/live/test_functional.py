"""Live: mirai's own face. Profiles are set and reset, and mirai() never runs where nobody said."""

import asyncio
import concurrent.futures
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

import elsewhere
from live.hosts import run
from live.mischief import SOON, Bell, ring
from mirai_executor import (
    DaemonLostError,
    DaemonsNotSetError,
    LaunchError,
    MiraiFuture,
    TaskTimeoutError,
    collect,
    daemons,
    daemons_set,
    everywhere,
    executor_for,
    info,
    is_error_value,
    is_mirai_error,
    is_mirai_interrupt,
    launch_local,
    mirai,
    mirai_with,
    on_daemon,
    profile,
    race,
    require_daemons,
    status,
    stop_mirai,
    unresolved,
)

FOREVER = 1000.0


@pytest.fixture(autouse=True)
def no_profile_is_left_set() -> Iterator[None]:
    yield
    for name in ("default", "gpu", "other"):
        daemons(0, compute=name)


def ring_and_hang(path: Path) -> None:
    ring(path)
    time.sleep(FOREVER)


def tell_pid_and_wait(bell: Path, gate: Path) -> None:
    ring(bell, os.getpid())
    gate.read_text()  # a FIFO: until somebody writes


def ring_and_resist(path: Path) -> None:
    ring(path)
    while True:
        try:
            time.sleep(FOREVER)
        except BaseException:
            continue


def pids(compute: str | None = None) -> set[int]:
    return {row.pid for row in status(compute).rows}


# mirai()


def test_without_daemons_each_mirai_has_a_process_of_its_own() -> None:
    one, other = mirai(os.getpid), mirai(os.getpid)
    assert len({one.result(SOON), other.result(SOON), os.getpid()}) == 3


def test_limits_hold_with_and_without_daemons() -> None:
    late = mirai_with(timeout=0.5)(time.sleep, FOREVER)
    assert isinstance(late.exception(SOON), TaskTimeoutError)
    assert late.code == 5
    patient = mirai_with(timeout=SOON, retries=1)
    assert patient("1 + x", x=1).result(SOON) == 2
    with daemons(1, compute="gpu"):
        assert patient(os.getpid).result(SOON) in pids()


@pytest.mark.parametrize(
    ("options", "error"), [({"timeout": -1}, ValueError), ({"patience": 1}, TypeError)]
)
def test_limits_that_are_none_are_refused_at_once(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        mirai_with(**options)
    with pytest.raises(TypeError, match="takes a function and its arguments"):
        mirai_with(timeout=1)(5)  # type: ignore[call-overload]  # to see what it says


@pytest.mark.local_link("is about daemons that are started here")
def test_many_tasks_without_daemons_wait_for_a_place() -> None:
    ended = run(
        """
        import resource
        from mirai_executor import collect, mirai
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        pids = collect([mirai(os.getpid) for _ in range(50)])
        say(len(set(pids)), os.getpid() in pids)
        for thread in threading.enumerate():
            if thread.name.startswith("mirai-host"):
                thread.join()  # it ends with the last of its tasks
        say(mirai(abs, -1).result())
        """
    )
    assert (ended.out, ended.err) == ("50 False\n1\n", "")


def test_a_process_of_its_own_ends_with_the_task(bell: Bell, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    future = mirai(tell_pid_and_wait, bell.path, gate)
    process = psutil.Process(int(bell.wait()))
    ring(gate)
    assert future.result(SOON) is None
    psutil.wait_procs([process], timeout=SOON)
    assert not process.is_running()


def test_mirai_goes_to_the_daemons_that_are_set() -> None:
    daemons(1)
    assert {mirai(os.getpid).result(SOON)} == pids()


def test_every_keyword_of_mirai_belongs_to_the_function() -> None:
    daemons(1)

    def echo(**words: Any) -> dict[str, Any]:
        return words

    words = {"compute": "gpu", "timeout": 0, "fn": 1, "source": 2, "args": 3, "self": 4}
    assert mirai(echo, **words).result(SOON) == words


def test_code_sees_its_variables_and_gives_the_value_of_its_last_line() -> None:
    daemons(1)
    assert mirai("z = x + y\nz * 2", x=1, y=2).result(SOON) == 6
    assert mirai("z = 1").result(SOON) is None
    with pytest.raises(NameError):
        mirai("z").result(SOON)


@pytest.mark.parametrize("n", [0, 1])
def test_a_call_that_cannot_be_one_is_refused_at_once(n: int) -> None:
    daemons(n)
    untyped: Any = mirai
    with pytest.raises(TypeError, match="fn_or_source"):
        untyped()
    with pytest.raises(TypeError, match=r"not mirai\(f\(x\)\); got"):
        untyped(1 + 1)
    with pytest.raises(TypeError, match="keyword arguments only"):
        untyped("x", 1)
    with pytest.raises(SyntaxError):
        mirai("x +")
    assert mirai(pow, 2, 3).result(SOON) == 8


class Unwritten:
    def __reduce__(self) -> Any:
        raise SyntaxError("of the user's own")


@pytest.mark.parametrize("n", [0, 1])
def test_what_pickling_a_variable_raises_is_the_futures_error(n: int) -> None:
    daemons(n)
    assert type(mirai("x", x=Unwritten()).exception(SOON)) is SyntaxError
    assert mirai("1").result(SOON) == 1


def test_what_cannot_be_pickled_is_the_futures_error_without_daemons_too() -> None:
    for future in (mirai(id, threading.Lock()), mirai("x", x=threading.Lock())):
        assert "lock" in str(future.exception(SOON))
        assert is_mirai_error(future)


def test_cancelling_a_mirai_of_its_own_stops_its_process(bell: Bell) -> None:
    future = mirai(ring_and_hang, bell.path)
    bell.wait()
    assert future.cancel()
    assert future.code == 20


def test_a_dropped_mirai_runs_to_its_end(bell: Bell) -> None:
    mirai(ring, bell.path, "done")
    assert bell.wait() == "done"


def test_a_future_has_a_rising_id_and_shows_how_it_stands() -> None:
    with daemons(1):
        done, failed, running = mirai(abs, -1), mirai(divmod, 1, 0), mirai(time.sleep, 3600)
        assert done.id < failed.id < running.id
        futures: list[MiraiFuture[Any]] = [done, failed]
        wait(futures, SOON)
        assert repr(done) == f"<MiraiFuture id={done.id} finished, returned int>"
        assert repr(failed) == f"<MiraiFuture id={failed.id} finished, raised ZeroDivisionError>"
        running.cancel()
        assert repr(running) == f"<MiraiFuture id={running.id} cancelled>"


def test_mirai_works_on_a_daemon() -> None:
    daemons(1)

    def outer() -> tuple[bool, bool, int]:
        from mirai_executor import daemons, daemons_set, mirai, on_daemon

        above = mirai(lambda: [process.pid for process in psutil.Process().parents()]).result()
        with daemons(1):
            return on_daemon(), os.getpid() in above, mirai(pow, 2, 3).result() + daemons_set()

    assert mirai(outer).result(SOON) == (True, True, 9)
    assert not on_daemon()


# daemons()


def test_daemons_are_connected_when_daemons_returns() -> None:
    assert daemons(2)
    assert status().connections == 2
    url = executor_for().url if elsewhere.is_chosen() else None
    assert status().url == status().daemons == url
    assert info().connections == info().cumulative == 2


def test_zero_resets_and_does_so_twice() -> None:
    daemons(1)
    assert not daemons(0)
    assert not daemons(0)
    assert not daemons_set()


def test_a_reset_cancels_what_is_queued_and_stops_what_runs(bell: Bell) -> None:
    daemons(1)
    futures = [mirai(ring_and_hang, bell.path) for _ in range(100)]
    bell.wait()
    began = time.monotonic()
    daemons(0)
    assert time.monotonic() - began < 5
    assert {future.code for future in futures} == {20}


def test_a_reset_kills_what_does_not_let_go(bell: Bell) -> None:
    daemons(1)
    processes = [psutil.Process(pid) for pid in pids()]
    future = mirai(ring_and_resist, bell.path)
    bell.wait()
    daemons(0)
    assert future.cancelled()
    psutil.wait_procs(processes, timeout=SOON)
    assert not any(process.is_running() for process in processes)


def test_results_that_are_here_survive_the_reset() -> None:
    daemons(1)
    future = mirai(pow, 2, 3)
    wait([future], SOON)
    daemons(0)
    assert future.result() == 8


def test_daemons_follow_on_tasks_of_this_process_and_the_other_way_round() -> None:
    here = os.getpid()
    daemons(sync=True)
    assert mirai(lambda: (os.getpid(), on_daemon())).result() == (here, True)
    daemons(1)
    assert not on_daemon()
    assert launch_local(1) == 1
    pid, was_on_daemon = mirai(lambda: (os.getpid(), on_daemon())).result(SOON)
    assert (pid != here, was_on_daemon) == (True, True)
    daemons(sync=True)
    assert mirai(os.getpid).result() == here


def test_setting_a_profile_again_resets_it_first(bell: Bell) -> None:
    daemons(1)
    before = pids()
    future = mirai(ring_and_hang, bell.path)
    bell.wait()
    daemons(2)
    assert future.cancelled()
    assert pids().isdisjoint(before)
    assert status().connections == 2


@pytest.mark.parametrize(
    ("n", "options", "error"),
    [
        (-1, {}, ValueError),
        ("6", {}, TypeError),
        (None, {}, TypeError),
        (1.5, {}, TypeError),
        (1, {"dispatch": False}, TypeError),
        (1, {"idle_time": -1}, ValueError),
        (1, {"initializer": 5}, TypeError),
        (1, {"compute": 5}, TypeError),
    ],
)
def test_a_wrong_argument_changes_nothing(
    n: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    daemons(1)
    before = pids()
    with pytest.raises(error):
        daemons(n, **options)
    assert pids() == before


def test_a_start_that_fails_leaves_the_profile_unset() -> None:
    daemons(1)
    with pytest.raises(LaunchError, match="ZeroDivisionError"):
        daemons(2, initializer=divmod, initargs=(1, 0))
    assert not daemons_set()


def test_an_interrupt_while_daemons_start_leaves_no_daemon(bell: Bell) -> None:
    def interrupt() -> None:
        bell.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        daemons(1, initializer=ring_and_hang, initargs=(bell.path,))
    thread.join()
    assert not daemons_set()


def test_options_reach_the_executor(tmp_path: Path) -> None:
    daemons(1, initializer=os.chdir, initargs=(tmp_path,), name="mine")
    assert mirai(Path.cwd).result(SOON) == tmp_path
    assert "mine" in repr(executor_for())


def test_without_dispatcher_tasks_are_dealt_round_robin() -> None:
    daemons(2, dispatcher=False)
    counts = Counter(collect([mirai(os.getpid) for _ in range(6)]))
    assert sorted(counts.values()) == [3, 3]


def test_threads_may_set_one_profile_at_the_same_time() -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(daemons, [1] * 4))
    assert status().connections == 1
    assert mirai(pow, 2, 3).result(SOON) == 8


def test_launch_local_adds_daemons() -> None:
    daemons(1)
    assert launch_local(1) == 1
    executor_for().wait_ready(SOON)
    assert len(pids()) == 2


# with daemons()


def test_the_block_of_daemons_ends_them() -> None:
    with daemons(2) as executor:
        assert executor is executor_for()
        assert len(set(collect([mirai(os.getpid)]))) == 1
    assert not daemons_set()


def test_the_block_of_daemons_ends_them_after_an_error_too(bell: Bell) -> None:
    def body() -> None:
        with daemons(1, compute="gpu"):
            futures.append(mirai(ring_and_hang, bell.path))
            bell.wait()
            raise ArithmeticError

    futures: list[MiraiFuture[None]] = []
    with pytest.raises(ArithmeticError):
        body()
    assert futures[0].cancelled()
    assert not daemons_set("gpu")


def test_the_block_of_daemons_is_the_current_profile_for_its_time() -> None:
    daemons(1)
    outside = pids()
    with daemons(1, compute="gpu"):
        assert {mirai(os.getpid).result(SOON)} == pids("gpu") == pids()
    assert {mirai(os.getpid).result(SOON)} == outside


def test_a_package_can_use_the_daemons_that_are_set_and_else_its_own() -> None:
    def work() -> int:
        with nullcontext() if daemons_set() else daemons(1):
            return mirai(os.getpid).result(SOON)

    work()
    assert not daemons_set()
    daemons(1)
    assert {work()} == pids()


def test_a_block_cannot_be_entered_where_the_daemons_are_gone() -> None:
    handle = daemons(1)
    daemons(0)
    with pytest.raises(DaemonsNotSetError), handle:
        pytest.fail("entered")


# Profiles


def test_profiles_are_independent() -> None:
    daemons(1)
    daemons(2, compute="gpu")
    assert pids().isdisjoint(pids("gpu"))
    daemons(0)
    assert (status().connections, status("gpu").connections) == (0, 2)


def test_blocks_of_profiles_nest_and_are_left_again() -> None:
    daemons(1, compute="gpu")
    daemons(1, compute="other")
    with profile("gpu"):
        with profile("other") as executor:
            assert executor is executor_for() is executor_for("other")
        assert executor_for() is executor_for("gpu")
    assert not daemons_set()


def test_a_profile_can_decorate_a_function() -> None:
    daemons(1, compute="gpu")

    @profile("gpu")
    def where() -> int:
        return mirai(os.getpid).result(SOON)

    assert [{where()}, {where()}] == [pids("gpu"), pids("gpu")]


def test_a_profile_can_decorate_asynchronous_functions_and_generators() -> None:
    daemons(1)
    daemons(1, compute="gpu")

    @profile("gpu")
    async def wait_for_pid() -> int:
        return await asyncio.wrap_future(mirai(os.getpid))

    @profile("gpu")
    def yield_pid() -> Iterator[int]:
        yield mirai(os.getpid).result(SOON)

    assert {asyncio.run(wait_for_pid())} == pids("gpu")
    generator = yield_pid()
    assert {next(generator)} == pids("gpu")
    assert executor_for() is executor_for("default")
    assert list(generator) == []


def test_a_coroutine_that_never_ends_is_closed_without_a_word() -> None:
    daemons(1, compute="gpu")

    @profile("gpu")
    async def pause() -> None:
        await asyncio.sleep(0)

    coroutine = pause()
    contextvars.copy_context().run(coroutine.send, None)
    coroutine.close()
    assert not daemons_set()


def test_blocks_of_one_profile_nest_also_if_they_are_one_object() -> None:
    daemons(1, compute="gpu")
    block = profile("gpu")
    with block:
        with block:
            assert executor_for() is executor_for("gpu")
        assert executor_for() is executor_for("gpu")
    assert not daemons_set()


def test_coroutines_and_threads_have_a_current_profile_each() -> None:
    daemons(1, compute="gpu")
    daemons(1, compute="other")

    async def enter(name: str, here: asyncio.Barrier) -> bool:
        with profile(name):
            await here.wait()
            return executor_for() is executor_for(name)

    async def both() -> list[bool]:
        here = asyncio.Barrier(2)
        return list(await asyncio.gather(enter("gpu", here), enter("other", here)))

    assert asyncio.run(both()) == [True, True]
    with profile("gpu"), concurrent.futures.ThreadPoolExecutor(1) as threads:
        assert threads.submit(daemons_set).result() is False


def test_an_unknown_profile_is_an_error_that_says_what_there_is() -> None:
    daemons(1, compute="gpu")
    daemons(1)
    message = (
        r"'gpus' \(profiles with daemons: 'default', 'gpu'\); call daemons\(4, compute='gpus'\)"
    )
    for ask in (status, info, executor_for, require_daemons):
        with pytest.raises(DaemonsNotSetError, match=message):
            ask("gpus")
    with pytest.raises(LookupError, match=message):
        launch_local(1, compute="gpus")
    with pytest.raises(DaemonsNotSetError, match=message), profile("gpus"):
        pytest.fail("entered")
    assert not daemons_set("gpus")
    assert daemons_set("gpu")


@pytest.mark.parametrize("name", [5, b"gpu"])
def test_the_name_of_a_profile_is_a_string(name: Any) -> None:
    for ask in (status, executor_for, daemons_set, require_daemons, profile):
        with pytest.raises(TypeError, match="name of a profile"):
            ask(name)


def test_a_profile_that_was_reset_inside_its_block_is_no_silent_process_of_its_own() -> None:
    with daemons(1, compute="gpu"):
        daemons(0)
        with pytest.raises(DaemonsNotSetError, match="'gpu'"):
            mirai(os.getpid)


def test_where_nothing_is_set_status_is_all_zeros_and_the_rest_an_error() -> None:
    assert (status().connections, status().rows) == (0, ())
    assert info().completed == 0
    for ask in (require_daemons, executor_for, launch_local):
        with pytest.raises(DaemonsNotSetError, match=r"with daemons: none\); call daemons\(4\)"):
            ask()
    with pytest.raises(DaemonsNotSetError):
        everywhere("x = 1")


def test_the_executor_of_a_profile_serves_libraries_and_ends_with_it() -> None:
    daemons(1, compute="gpu")
    executor = executor_for("gpu")
    assert list(executor.map(pow, [1, 2], [2, 2])) == [1, 4]
    future = executor.with_options(timeout=0.1).submit(time.sleep, FOREVER)
    assert isinstance(future.exception(SOON), TaskTimeoutError)
    daemons(0, compute="gpu")
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 3)


# everywhere()


def test_everywhere_sets_names_for_all_later_tasks() -> None:
    daemons(2)
    futures = everywhere("import math\nfactor = value", value=3)
    assert len(futures) == 2
    collect(futures)
    assert collect([mirai("math.floor(factor * 2.5)") for _ in range(4)]) == [7] * 4


def test_everywhere_refuses_what_mirai_refuses() -> None:
    daemons(1)
    untyped: Any = everywhere
    with pytest.raises(TypeError, match="takes a function"):
        untyped(None)
    with pytest.raises(TypeError, match="keyword arguments only"):
        untyped("x", 1)


# Futures


class Pair(NamedTuple):
    left: Any
    right: Any


def finished(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def failed(error: BaseException) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def cancelled() -> "Future[Any]":
    future: Future[Any] = Future()
    future.cancel()
    return future


def test_collect_keeps_the_structure() -> None:
    one, two = finished(1), finished(2)
    assert collect(one) == 1
    assert collect([one, (two, 3)]) == [1, (2, 3)]
    assert collect({"a": one, "b": {"c": [two]}}) == {"a": 1, "b": {"c": [2]}}
    assert collect(Pair(one, "plain")) == Pair(1, "plain")
    assert collect(future for future in (one, two)) == [1, 2]
    assert collect({"a": one, "b": two}.values()) == [1, 2]
    assert collect({one}) == collect(deque([one])) == collect({one: 5}.keys()) == [1]
    assert collect("plain") == "plain"
    assert collect([]) == []


def test_collect_raises_the_first_error_in_order() -> None:
    with pytest.raises(ArithmeticError):
        collect([finished(1), failed(ArithmeticError()), failed(KeyError())])
    with pytest.raises(CancelledError):
        collect({"a": cancelled()})


def test_unresolved_tells_whether_any_future_is_open() -> None:
    open_ = Future[int]()
    assert unresolved(open_)
    assert unresolved([finished(1), {"deep": (open_,)}])
    assert unresolved({open_})
    assert not unresolved(iter([open_]))  # it might wait for its next item
    assert not unresolved([finished(1), cancelled(), 5])
    assert not unresolved("plain")


def test_race_gives_the_first_in_the_list_of_those_that_have_ended(bell: Bell) -> None:
    assert race([Future(), finished(1), finished(2)]) == 1
    assert race([Future(), cancelled()]) == 1
    with pytest.raises(ValueError, match="at least one"):
        race([])
    with daemons(2):
        runners: list[Future[Any]] = [mirai(ring_and_hang, bell.path), mirai(pow, 2, 3)]
        assert race(iter(runners)) == 1


def test_stop_mirai_starts_at_the_end_so_that_nothing_moves_up(bell: Bell) -> None:
    daemons(1)
    done = mirai(pow, 2, 3)
    wait([done], SOON)
    futures: list[Future[None]] = [mirai(ring_and_hang, bell.path) for _ in range(3)]
    order: list[int] = []
    for future in futures:
        future.add_done_callback(lambda future: order.append(futures.index(future)))
    bell.wait()
    assert stop_mirai([done, *futures, "plain"]) == [False, True, True, True, False]
    assert stop_mirai(futures[0]) is True
    assert stop_mirai({"done": done}.values()) == [False]
    assert stop_mirai(None) is False
    assert mirai(pow, 2, 3).result(SOON) == 8  # after all callbacks, on the same thread
    assert order == [2, 1, 0]
    assert status().completed == 5


def test_errors_are_told_apart() -> None:
    daemons(1)

    def fail() -> None:
        raise KeyError("of the task")

    def exit_at_once() -> None:
        os._exit(3)

    futures: dict[str, Future[Any]] = {
        "value": mirai(pow, 2, 3),
        "error as a value": mirai(ValueError),
        "error": mirai(fail),
        "unpicklable": mirai(id, threading.Lock()),
        "interrupt": mirai("raise KeyboardInterrupt"),
        "timeout": executor_for().with_options(run_timeout=0.1).submit(time.sleep, FOREVER),
        "lost": mirai(exit_at_once),
        "cancelled": cancelled(),
        "open": Future[int](),
    }
    wait([future for name, future in futures.items() if name not in ("open", "cancelled")], SOON)
    told = {
        name: (is_error_value(future), is_mirai_error(future), is_mirai_interrupt(future))
        for name, future in futures.items()
    }
    assert told == {
        "value": (False, False, False),
        "error as a value": (False, False, False),
        "error": (True, True, False),
        "unpicklable": (True, True, False),
        "interrupt": (True, False, True),
        "timeout": (True, False, False),
        "lost": (True, False, False),
        "cancelled": (True, False, False),
        "open": (False, False, False),
    }


@pytest.mark.parametrize("kind", [DaemonLostError, TaskTimeoutError, LaunchError, CancelledError])
def test_an_error_that_the_task_itself_has_raised_is_the_tasks_whatever_its_class(
    kind: type[Exception],
) -> None:
    def fail() -> None:
        raise kind("of an executor of its own")

    daemons(1)
    for future in (mirai(fail), *everywhere(fail)):
        assert type(future.exception(SOON)) is kind
        assert not future.cancelled()
        assert future.code is None
        assert is_mirai_error(future)


def test_the_loss_of_a_daemon_of_a_daemon_is_an_error_of_the_task() -> None:
    def outer() -> None:
        mirai(os._exit, 3).result()

    daemons(1)
    future = mirai(outer)
    error = future.exception(SOON)
    assert isinstance(error, DaemonLostError)
    assert (error.exitcode, error.code) == (3, 19)
    assert future.code is None
    assert is_mirai_error(future)


def test_an_error_that_was_caught_is_told_apart_like_its_future() -> None:
    assert is_mirai_error(KeyError())
    assert not is_mirai_error(DaemonLostError())
    assert is_error_value(CancelledError())
    assert not is_error_value(5)
    assert not is_mirai_interrupt(None)


# The end


FORKS = ("-W", "ignore:This process:DeprecationWarning")  # has threads, and forks all the same


def run_script(body: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", *FORKS, "-c", textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def test_a_program_ends_quietly_with_profiles_set_and_its_tasks_done(tmp_path: Path) -> None:
    run = run_script(
        f"""
        from pathlib import Path
        from mirai_executor import daemons, mirai
        daemons(1)
        daemons(1, compute="gpu")
        for i in range(10):
            mirai(Path({str(tmp_path)!r}, str(i)).touch)
        """
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert len(list(tmp_path.iterdir())) == 10


def test_a_program_ends_quietly_with_a_mirai_of_its_own_under_way(tmp_path: Path) -> None:
    run = run_script(
        f"""
        from pathlib import Path
        from mirai_executor import mirai
        mirai(Path({str(tmp_path)!r}, "done").touch)
        """
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert (tmp_path / "done").exists()


def test_a_block_that_is_left_by_an_exit_ends_its_daemons_quietly() -> None:
    run = run_script(
        """
        import sys, time
        from mirai_executor import daemons, mirai
        with daemons(1):
            mirai(time.sleep, 1000)
            sys.exit(3)
        """
    )
    assert (run.returncode, run.stdout, run.stderr) == (3, "", "")


def test_a_fork_of_the_host_is_told_that_the_daemons_are_not_its_own() -> None:
    run = run_script(
        """
        import os
        from mirai_executor import ForkedExecutorError, daemons, mirai
        daemons(1)
        child = os.fork()
        if child == 0:
            try:
                mirai(pow, 2, 3)
            except ForkedExecutorError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert mirai(pow, 2, 3).result() == 8
        """
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_importing_the_package_imports_next_to_nothing() -> None:
    run = run_script(
        """
        import sys
        before = set(sys.modules)
        import mirai_executor
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        assert new <= {"mirai_executor", "typing", "collections", "contextlib", "functools",
                       "operator", "re", "enum", "types", "copyreg", "abc", "warnings",
                       "_typing", "_operator", "_functools", "_collections", "itertools",
                       "keyword", "reprlib", "_sre", "_types"}, new
        assert set(mirai_executor.__all__) <= set(dir(mirai_executor))
        for name in mirai_executor.__all__:
            getattr(mirai_executor, name)
        """
    )
    assert (run.returncode, run.stderr) == (0, "")
