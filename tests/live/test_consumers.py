"""What libraries and scripts demand of an executor, each demand as they make it.

What two rooms' tests prove already is not repeated here: dropped references and the end of the
interpreter are in ``test_lifecycle`` and ``test_exit``, exact error texts in ``tests/contract``.
"""

import asyncio
import concurrent.futures
import contextlib
import linecache
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import elsewhere
from mirai_executor import MiraiExecutor

SECONDS = 30


@pytest.fixture
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(2) as executor:
        yield executor


def run_script(tmp_path: Path, text: str, *, name: str = "script.py") -> str:
    """Run a program as a user would, and return what it printed; it must print no noise."""
    script = tmp_path / name
    script.write_text(textwrap.dedent(text))
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# State of __main__


def test_tasks_of_a_script_see_what_its_initializer_has_set(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        from mirai_executor import MiraiExecutor

        DATA = None

        def load(n):
            global DATA
            DATA = list(range(n))

        def look(i):
            return DATA[i]

        with MiraiExecutor(2, initializer=load, initargs=(10,)) as executor:
            print(list(executor.map(look, range(10))))
        """,
    )
    assert printed == f"{list(range(10))}\n"


def test_a_name_of_main_that_was_never_sent_can_be_looked_up_as_text(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        import operator
        from mirai_executor import MiraiExecutor

        def job():
            return "done"

        if __name__ == "__main__":
            with MiraiExecutor(1) as executor:
                function = executor.submit(eval, "__import__('__main__').job").result()
                print(function(), executor.submit(eval, "__import__('__main__').job()").result())
        """,
    )
    assert printed == "done done\n"


@pytest.mark.parametrize(
    ("guard", "options", "prints"),
    [
        ("if True", "", "runs in the host\nNone\n"),
        ("if __name__ == '__main__'", "main='value'", "runs in the host\nNone\n"),
        ("if not on_daemon()", "main='import'", "runs in the host\nruns in a daemon\nNone\n"),
    ],
)
def test_whoever_looks_whether_main_has_a_name_starts_no_program(
    tmp_path: Path, guard: str, options: str, prints: str
) -> None:
    printed = run_script(
        tmp_path,
        f"""
        from mirai_executor import MiraiExecutor, on_daemon

        print("runs in", "a daemon" if on_daemon() else "the host", flush=True)

        {guard}:
            with MiraiExecutor(1, {options}) as executor:
                text = "getattr(__import__('__main__'), 'nothing', None)"
                print(executor.submit(eval, text).result())
        """,
    )
    assert printed == prints


def test_a_name_that_needs_a_guard_to_be_found_says_so(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        from mirai_executor import MiraiExecutor

        def job():
            return "done"

        with MiraiExecutor(1) as executor:
            error = executor.submit(eval, "__import__('__main__').job").exception()
            print(type(error).__name__, "__name__ ==" in str(error))
        """,
    )
    assert printed == "AttributeError True\n"


def test_no_main_guard_is_needed(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        from mirai_executor import MiraiExecutor

        def twice(x):
            return 2 * x

        with MiraiExecutor(2) as executor:
            print(executor.submit(twice, 21).result(), executor.submit(lambda: twice(1)).result())
        """,
    )
    assert printed == "42 2\n"


@pytest.mark.parametrize("way", ["-c", "stdin"])
def test_a_program_without_a_file_works(way: str) -> None:
    program = """
from mirai_executor import MiraiExecutor
with MiraiExecutor(1) as executor:
    print(executor.submit(lambda: 7).result())
"""
    command = [sys.executable, "-c", program] if way == "-c" else [sys.executable, "-"]
    done = subprocess.run(
        command,
        input=program if way == "stdin" else None,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_an_instance_of_a_class_of_main_comes_back_as_that_class(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        import enum
        from dataclasses import dataclass
        from mirai_executor import MiraiExecutor

        @dataclass
        class Point:
            x: int
            made = 0

        class Colour(enum.Enum):
            RED = 1

        def make(x):
            Point.made += 1
            return Point(x), Colour.RED

        with MiraiExecutor(1) as executor:
            point, colour = executor.submit(make, 3).result()
            print(isinstance(point, Point), point == Point(3), colour is Colour.RED, Point.made)
        """,
    )
    assert printed == "True True True 0\n"


# Types and attributes


def test_it_is_a_process_pool_to_those_that_ask(executor: MiraiExecutor) -> None:
    assert isinstance(executor, ProcessPoolExecutor)
    assert isinstance(executor, concurrent.futures.Executor)


def test_its_size_can_be_read_also_where_a_pool_has_it(executor: MiraiExecutor) -> None:
    assert executor._max_workers == executor.size == executor._processes == 2
    assert isinstance(executor._processes, int)


def test_futures_take_attributes_and_serve_as_keys(executor: MiraiExecutor) -> None:
    future: Any = executor.submit(abs, -1)
    future.start_time = 3.0
    assert {future: "x"}[future] == "x"
    assert future.start_time == 3.0
    assert isinstance(future, Future)


# The executor in a task


def test_an_executor_that_travels_with_a_task_is_inert(executor: MiraiExecutor) -> None:
    class Fit:
        def __init__(self) -> None:
            self.map = executor.map
            self.pool = executor
            self.view = executor.with_options(timeout=5)

        def run(self) -> str:
            return "ran"

    assert executor.submit(Fit().run).result(SECONDS) == "ran"


def test_an_inert_executor_says_what_to_do() -> None:
    inert = pickle.loads(pickle.dumps(MiraiExecutor(1)))
    with pytest.raises(RuntimeError, match="create an executor in the process"):
        inert.submit(abs, 1)
    with pytest.raises(RuntimeError, match="create an executor in the process"):
        inert.map(abs, [1])
    with pytest.raises(AttributeError, match=r"no 'with_options' here.*create an executor in the"):
        inert.with_options(timeout=5)
    with pytest.raises(AttributeError, match="create an executor in the process"):
        pickle.loads(cloudpickle.dumps(MiraiExecutor(1).submit))(abs, 1)
    inert.shutdown()


def test_a_task_may_have_an_executor_of_its_own(executor: MiraiExecutor) -> None:
    def nested() -> list[int]:
        with MiraiExecutor(2) as inner:
            return list(inner.map(abs, [-1, -2, -3]))

    assert executor.submit(nested).result(SECONDS) == [1, 2, 3]


def test_a_task_may_use_multiprocessing(executor: MiraiExecutor) -> None:
    def nested() -> list[int]:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert executor.submit(nested).result(SECONDS) == [1, 2, 3]


# Submitting


def test_every_keyword_belongs_to_the_function(executor: MiraiExecutor) -> None:
    def collect(**words: int) -> dict[str, int]:
        return words

    words = dict.fromkeys(("self", "fn", "task", "timeout", "kwargs", "retries", "limits"), 1)
    submit: Any = executor.submit
    assert submit(collect, **words).result(SECONDS) == words
    view: Any = executor.with_options(timeout=SECONDS)
    assert view.submit(collect, **words).result(SECONDS) == words


def test_map_goes_through_a_submit_that_was_replaced_on_the_instance() -> None:
    with MiraiExecutor(2) as executor:
        seen: list[Any] = []
        original = executor.submit

        def counting(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            future = original(fn, *args, **kwargs)
            seen.append(future)
            return future

        executor.submit = counting  # type: ignore[method-assign]  # as tqdm does
        assert list(executor.map(abs, range(-4, 0))) == [4, 3, 2, 1]
        assert len(seen) == 4
        del executor.submit


class Counted:
    """A function that counts how often it is pickled."""

    def __init__(self) -> None:
        self.pickled, self.state = 0, [1]

    def __getstate__(self) -> object:
        self.pickled += 1
        return {"state": self.state}

    def __call__(self, x: int) -> list[int]:
        return [*self.state, x]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_pickles_its_function_once_and_as_it_was(
    executor: MiraiExecutor, chunksize: int
) -> None:
    function = Counted()
    results = executor.map(function, range(9), chunksize=chunksize, buffersize=2)
    function.state.append(2)
    assert list(results) == [[1, x] for x in range(9)]
    assert function.pickled == 1


def first_even(numbers: list[int]) -> int:
    return next(n for n in numbers if n % 2 == 0)


@pytest.mark.parametrize("options", [{}, {"chunksize": 2}, {"buffersize": 1}], ids=str)
@pytest.mark.parametrize("limits", [{}, {"retries": 1}], ids=str)
def test_a_stop_iteration_of_a_task_does_not_end_a_map_in_silence(
    executor: MiraiExecutor, options: dict[str, int], limits: dict[str, Any]
) -> None:
    some = executor.with_options(**limits) if limits else executor
    results = some.map(first_even, [[2], [4], [1], [6]], **options)
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(RuntimeError, match=r"^generator raised StopIteration$") as raised:
        next(results)
    assert type(raised.value.__cause__) is StopIteration
    assert list(results) == ([6] if sys.version_info >= (3, 16) else [])


def test_more_closures_than_a_daemon_keeps_all_do_their_own(executor: MiraiExecutor) -> None:
    functions = [lambda x, m=m: (m, x) for m in range(300)]
    futures = [executor.submit(fn, 1) for fn in functions * 3]
    assert [future.result(SECONDS) for future in futures] == [(m, 1) for m in range(300)] * 3


def test_tasks_can_be_submitted_from_callbacks(executor: MiraiExecutor) -> None:
    left = iter(range(20))
    results: list[int] = []
    all_done = threading.Event()

    def next_one(future: Future[int]) -> None:
        results.append(future.result())
        number = next(left, None)
        if number is None:
            all_done.set()
        else:
            executor.submit(abs, -number).add_done_callback(next_one)

    executor.submit(abs, 100).add_done_callback(next_one)
    assert all_done.wait(SECONDS)
    assert results == [100, *range(20)]


def test_tasks_can_be_submitted_from_many_threads(executor: MiraiExecutor) -> None:
    sums: list[int] = []

    def work() -> None:
        sums.append(sum(f.result(SECONDS) for f in [executor.submit(abs, -i) for i in range(50)]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(range(50))] * 8


def test_what_cannot_be_pickled_ends_in_the_future(executor: MiraiExecutor) -> None:
    failed = executor.submit(len, threading.Lock())  # type: ignore[call-overload]  # on purpose
    with pytest.raises(pickle.PicklingError, match="lock") as caught:
        failed.result(SECONDS)
    assert isinstance(caught.value.__cause__, TypeError)  # which ProcessPoolExecutor raises
    assert executor.submit(abs, -1).result(SECONDS) == 1


def test_exit_at_pickling_ends_in_the_future(executor: MiraiExecutor) -> None:
    class Leaver:
        def __reduce__(self) -> Any:
            sys.exit(3)

    with pytest.raises(SystemExit):
        executor.submit(repr, Leaver()).result(SECONDS)
    assert executor.submit(abs, -1).result(SECONDS) == 1


def test_a_callback_that_exits_does_not_stop_the_executor(executor: MiraiExecutor) -> None:
    called = threading.Event()

    def leave(_: object) -> None:
        called.set()
        sys.exit(1)

    future = executor.submit(abs, -1)
    future.add_done_callback(leave)
    assert called.wait(SECONDS)
    assert executor.submit(abs, -2).result(SECONDS) == 2


# What daemons share with their host


@pytest.mark.local_link("the key of multiprocessing stays on this machine")
def test_managers_can_be_reached_from_tasks(executor: MiraiExecutor) -> None:
    manager = SyncManager(ctx=multiprocessing.get_context("spawn"))
    manager.start()
    try:
        shared = manager.list([1])
        executor.submit(shared.append, 2).result(SECONDS)
        assert list(shared) == [1, 2]
    finally:
        manager.shutdown()


def test_daemons_have_the_path_arguments_and_folder_of_their_host(executor: MiraiExecutor) -> None:
    def look() -> tuple[list[str], list[str], str]:
        return sys.path, sys.argv, str(Path.cwd())

    path, *rest = executor.submit(look).result(SECONDS)
    assert rest == [sys.argv, str(Path.cwd())]
    if not elsewhere.is_chosen():  # there, the libraries of the daemon's interpreter come first
        assert path == sys.path


def test_daemons_follow_a_change_of_the_path(
    executor: MiraiExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.wait_ready(SECONDS)
    (tmp_path / "made_just_now.py").write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from made_just_now import answer  # type: ignore[import-not-found]  # it is being made here

    futures = [executor.submit(answer) for _ in range(8)]
    assert [future.result(SECONDS) for future in futures] == [42] * 8
    path = executor.submit(lambda: sys.path).result(SECONDS)
    assert path == sys.path or (elsewhere.is_chosen() and str(tmp_path) in path)
    del sys.modules["made_just_now"]


@pytest.mark.parametrize("name", ["of_nowhere", "package_of_nowhere.inner.module"])
def test_a_module_that_only_sys_modules_knows_works(executor: MiraiExecutor, name: str) -> None:
    """As pytest's importlib mode makes them: not even the package can be imported."""
    made = [name.rsplit(".", cut)[0] for cut in range(name.count("."), -1, -1)]
    for part in made:
        sys.modules[part] = types.ModuleType(part)
    module = sys.modules[name]
    exec("SHIFT = 5\ndef shift(x):\n    return x + SHIFT\n", module.__dict__)
    try:
        assert executor.submit(module.shift, 1).result(SECONDS) == 6
    finally:
        for part in made:
            del sys.modules[part]


# Libraries


def test_asyncio_runs_and_cancels_tasks(executor: MiraiExecutor) -> None:
    async def program() -> int:
        loop = asyncio.get_running_loop()
        value = await loop.run_in_executor(executor, abs, -5)
        wrapped = asyncio.wrap_future(executor.submit(abs, -6))
        return value + await wrapped

    assert asyncio.run(program()) == 11


def test_the_recipes_of_the_standard_library_work(executor: MiraiExecutor) -> None:
    futures: dict[Future[Any], int] = {executor.submit(pow, 2, n): n for n in range(8)}
    assert {futures[f]: f.result() for f in concurrent.futures.as_completed(futures)} == {
        n: 2**n for n in range(8)
    }
    done, _ = wait([executor.submit(abs, -1)], timeout=SECONDS, return_when=FIRST_COMPLETED)
    assert [future.result() for future in done] == [1]


@pytest.fixture(scope="module")
def lock_of_tqdm() -> None:
    """Make what tqdm makes once for the life of a process; from 3.14 on, its file has a name."""
    pytest.importorskip("tqdm").tqdm.get_lock()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of each fork, since 3.12
@pytest.mark.usefixtures("lock_of_tqdm")
def test_tqdm_maps_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    concurrent_tqdm = pytest.importorskip("tqdm.contrib.concurrent")
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)  # a thread of its own
    # Its lock is of the default context: before Python 3.14 of fork, for which daemons are forked.
    can_share = multiprocessing.get_start_method() != "fork" or not elsewhere.is_chosen()
    warned = pytest.warns(RuntimeWarning, match="lock")
    with contextlib.nullcontext() if can_share else warned:
        results = concurrent_tqdm._executor_map(
            MiraiExecutor, abs, range(-5, 0), max_workers=2, disable=True, lock_name="mp_lock"
        )
    assert results == [5, 4, 3, 2, 1]


@pytest.mark.local_link("locks of multiprocessing belong to one machine")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.usefixtures("lock_of_tqdm")
def test_daemons_draw_bars_of_tqdm_under_the_lock_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
    lock = tqdm.get_lock().mp_lock
    with MiraiExecutor(2, initializer=tqdm.set_lock, initargs=(lock,)) as executor:
        lock.acquire()
        try:
            locked = executor.submit(_can_have_the_lock_of_tqdm).result(SECONDS)
        finally:
            lock.release()
        assert not locked
        assert executor.submit(_can_have_the_lock_of_tqdm).result(SECONDS)


def _can_have_the_lock_of_tqdm() -> bool:
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

    lock = tqdm.get_lock()
    if has_it := bool(lock.acquire(block=False)):
        lock.release()
    return has_it


def test_joblib_style_batches_run_from_a_callback_thread(executor: MiraiExecutor) -> None:
    """The next batch is submitted, with a lock of the library held, where the last one ended."""
    lock = threading.RLock()
    batches = iter([[i, i + 1] for i in range(0, 20, 2)])
    out: list[list[int]] = []
    finished = threading.Event()

    def dispatch(done: "Future[list[int]] | None" = None) -> None:
        with lock:
            if done is not None:
                out.append(done.result())
            batch = next(batches, None)
            if batch is None:
                finished.set()
                return
            future = executor.submit(lambda items: [i * i for i in items], batch)
            future.add_done_callback(dispatch)

    dispatch()
    assert finished.wait(SECONDS)
    assert [n for batch in out for n in batch] == [i * i for i in range(20)]


def test_environment_variables_reach_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAI_TEST_VARIABLE", "set")
    with MiraiExecutor(1) as executor:
        assert executor.submit(os.getenv, "MIRAI_TEST_VARIABLE").result(SECONDS) == "set"


@pytest.mark.parametrize("way", ["submit", "with_options", "asyncio"])
def test_a_warning_of_a_large_capture_names_the_line_that_submits(
    executor: MiraiExecutor, way: str
) -> None:
    large = bytearray(2 << 20)

    def size() -> int:
        return len(large)

    async def wait_for_it() -> None:
        await asyncio.get_running_loop().run_in_executor(executor, size)  # here

    def submit() -> None:
        if way == "submit":
            executor.submit(size)  # here
        elif way == "with_options":
            executor.with_options(retries=1).submit(size)  # here
        else:
            asyncio.run(wait_for_it())

    submit()
    with pytest.warns(RuntimeWarning, match="is pickled again for each task") as caught:
        submit()
    (warning,) = caught
    assert linecache.getline(warning.filename, warning.lineno).endswith("  # here\n")
