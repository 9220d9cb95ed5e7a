"""Wrong arguments of public calls: each is named at the call, with what to pass instead."""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import pytest

import mirai_executor
from mirai_executor import MiraiExecutor, MiraiFuture
from mirai_executor._core import TaskId
from mirai_executor.executor import ExecutorView

API: Any = mirai_executor  # untyped: type checkers find most of these


@pytest.fixture
def executor() -> Iterator[Any]:
    with MiraiExecutor(1) as executor:  # nothing below starts its daemon
        yield executor
        assert executor.status().rows == ()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_workers": "2"}, TypeError, "max_workers must be an integer or None, not '2'"),
        ({"max_workers": [2]}, TypeError, r"max_workers must be an integer or None, not \[2\]"),
        ({"max_workers": 2.5}, TypeError, "max_workers must be an integer or None, not 2.5"),
        ({"max_workers": "tcp://a:1"}, TypeError, "did you mean url="),
        ({"max_tasks_per_child": 1.5}, TypeError, "max_tasks_per_child must be an integer"),
        ({"initargs": 5}, TypeError, "initargs must be a tuple of arguments, not 5"),
        ({"initargs": "abc"}, TypeError, "initargs must be a tuple of arguments, not 'abc'"),
        ({"initargs": {"x": 1}}, TypeError, "initargs must be a tuple of arguments, not {'x': 1}"),
        ({"initializer": "import x"}, TypeError, "a callable, not 'import x'; .*everywhere"),
        ({"cleanup": "no"}, TypeError, "cleanup must be True or False, not 'no'"),
        ({"cleanup": 2}, TypeError, "cleanup must be True or False, not 2"),
        ({"dispatcher": None}, TypeError, "dispatcher must be True or False, not None"),
        (
            {"output": "file"},
            ValueError,
            'output must be True, False, "inherit", "relay" or "tagged"',
        ),
        ({"output": 1}, TypeError, "output must be True, False"),
        (
            {"output": "relay", "url": "tcp://127.0.0.1:0"},
            ValueError,
            "with a url or remote, output",
        ),
        ({"idle_time": "5"}, TypeError, "idle_time must be positive, or None"),
        ({"idle_time": -5}, ValueError, "idle_time must be positive, or None"),
        ({"start_timeout": math.nan}, ValueError, "start_timeout must be positive .*not nan"),
        ({"start_timeout": None}, TypeError, "start_timeout must be positive"),
        ({"cancel_grace": -1}, ValueError, "cancel_grace must be zero or positive"),
        ({"heartbeat": 0}, ValueError, "heartbeat must be positive"),
        ({"mode": "threads"}, ValueError, 'mode must be "daemons" or "inline", not \'threads\''),
        ({"mode": "inline", "url": "tcp://127.0.0.1:0"}, ValueError, "leave out url and remote"),
        ({"ordering": "random"}, ValueError, "\"strict\", not 'random'"),
        ({"main": "spawn"}, ValueError, 'main must be "auto", "import" or "value", not'),
        ({"remote": "node7"}, TypeError, r"ssh_config\(\).*not be 'node7'"),
        ({"url": "tcp://x"}, ValueError, "'tcp://x' has no port"),
        ({"url": "x"}, ValueError, "'x' has no scheme"),
        ({"url": 5}, TypeError, "url must be a string .*not 5"),
        ({"url": [5]}, TypeError, "url must be a string .*not 5"),
        ({"python": 5}, TypeError, "python must be the path of an interpreter, not 5"),
        ({"name": 5}, TypeError, "name must be a string or None, not 5"),
        ({"name": "a\nroot 1 init"}, ValueError, r"no line breaks, .*: 'a\\nroot 1 init'"),
        ({"name": "\x1b[2J"}, ValueError, r"no line breaks, .*'\\x1b\[2J'"),
        ({"name": "\u202efdp.exe"}, ValueError, "no line breaks, "),
        ({"name": "\ud800"}, ValueError, "no line breaks, "),
    ],
)
def test_a_wrong_option_of_an_executor_is_named(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        API.MiraiExecutor(**options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tmeout": 1}, TypeError, "'tmeout'; valid options: timeout, run_timeout, retries, "),
        ({"timeout": "5"}, TypeError, "timeout must be positive, or None .*not '5'"),
        ({"timeout": -1}, ValueError, "timeout must be positive, or None .*not -1"),
        ({"timeout": math.nan}, ValueError, "timeout must be positive, or None .*not nan"),
        ({"timeout": Decimal(5)}, TypeError, r"timeout must be positive, .*not Decimal\('5'\)"),
        ({"run_timeout": 0}, ValueError, "run_timeout must be positive, or None .*not 0"),
        ({"timeout": True}, TypeError, "timeout must be positive, or None .*not True"),
        ({"retries": None}, TypeError, "retries must be an integer, not None"),
        ({"retries": -1}, ValueError, "retries must be >= 0, not -1"),
        ({"cancel_running": "no"}, TypeError, "cancel_running must be True or False, not 'no'"),
        ({"post_mortem": 0.5}, TypeError, "post_mortem must be True or False, not 0.5"),
        ({"post_mortem": "no"}, TypeError, "post_mortem must be True or False, not 'no'"),
        ({"cancel_on_interrupt": [3]}, TypeError, "cancel_on_interrupt must be True or False"),
    ],
)
def test_a_wrong_option_of_a_task_is_named(
    options: dict[str, object], error: type[Exception], message: str, executor: Any
) -> None:
    with pytest.raises(error, match=message):
        executor.with_options(**options)


def test_type_checkers_know_each_option_of_a_task_and_its_type() -> None:
    # mypy fails if one of these comments has nothing to ignore.
    with MiraiExecutor(1) as executor:
        with pytest.raises(TypeError):
            executor.with_options(tmeout=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            executor.with_options(timeout="5")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            executor.with_options(retries=None)  # type: ignore[arg-type]
        view = executor.with_options(timeout=1, run_timeout=None, retries=2, cancel_running=False)
        assert_type(view, ExecutorView)
        assert_type(view.with_options(retries=0), ExecutorView)


def test_numbers_of_any_type_and_endless_times_are_taken(executor: Any) -> None:
    numpy = pytest.importorskip("numpy")
    executor.with_options(timeout=numpy.float32(1), retries=numpy.int64(1), run_timeout=math.inf)
    MiraiExecutor(numpy.int64(2), idle_time=math.inf, cancel_grace=0).shutdown()


CALLS: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda e: e.submit(5), TypeError, r"write submit\(f, x\), not submit\(f\(x\)\); got 5"),
    (lambda e: e.submit("1 + 1"), TypeError, r"goes to submit_source\(\); got '1 \+ 1'"),
    (lambda e: e.submit_source(abs), TypeError, "Python code as a string"),
    (lambda e: e.map(5, [1]), TypeError, r"map\(\) takes a function"),
    (lambda e: e.map("abs(x)", [1]), TypeError, r"map\(\) takes a function .*got 'abs\(x\)'"),
    (lambda e: e.map(abs, 5), TypeError, r"write map\(f, \[x\]\), not map\(f, x\); 5 is not"),
    (lambda e: e.map(abs, [1], chunksize=0), ValueError, "chunksize must be >= 1, not 0"),
    (lambda e: e.map(abs, [1], chunksize="2"), TypeError, "chunksize must be an integer"),
    (lambda e: e.map(abs, [1], timeout="2"), TypeError, "timeout must be a number .*not '2'"),
    (lambda e: e.everywhere(None), TypeError, "or code as a string.*got None"),
    (lambda e: e.wait_ready("2"), TypeError, "timeout must be zero or positive"),
    (lambda e: e.wait_ready(count=-1), ValueError, "count must be >= 0, not -1"),
    (lambda e: e.launch_local("2"), TypeError, "n must be an integer, not '2'"),
    (lambda e: e.launch_local(idle_time=1), TypeError, "takes no options, not 'idle_time'"),
    (lambda e: e.launch_remote(1), RuntimeError, r"url=host_url\(tls=True\)"),
    (lambda e: e.launch_remote(1, "node7"), TypeError, "not be 'node7'"),
    (lambda e: e.adapt(0, 2), RuntimeError, "needs an executor with a url"),
    (lambda _: API.mirai(5), TypeError, r"not mirai\(f\(x\)\); got 5"),
    (lambda _: API.everywhere(None), TypeError, r"not everywhere\(f\(x\)\); got None"),
    (lambda _: API.daemons("x"), TypeError, "n must be an integer, .*not 'x'"),
    (lambda _: API.daemons("tcp://a:1"), TypeError, "did you mean url="),
    (lambda _: API.daemons(-1), ValueError, "n must be >= 0, not -1"),
    (lambda _: API.daemons(1, dispacher=False), TypeError, "'dispacher'"),
    (lambda _: API.race([5]), TypeError, "iterable of futures, not of 5"),
    (lambda _: API.race(5), TypeError, "iterable of futures, not 5"),
    (lambda _: API.host_url(port="x"), ValueError, "a port must be a number .*not 'x'"),
    (lambda _: API.local_url(port=5), ValueError, "port needs tcp=True"),
    (lambda _: API.ssh_config(1), TypeError, "a string or a list of strings, not 1"),
    (lambda _: API.ssh_config([1]), TypeError, r"a string or a list of strings, not \[1\]"),
    (lambda _: API.ssh_config("node", timeout=-1), ValueError, "timeout must be >= 1"),
    (lambda _: API.ssh_config("node", prologue=5), TypeError, "lines of shell.*not 5"),
    (lambda _: API.cluster_config(1), TypeError, "a string or a list of strings, not 1"),
    (lambda _: API.cluster_config(largest_array=0), ValueError, "largest_array must be >= 1"),
    (lambda _: API.cluster_config("x"), ValueError, "cannot determine the scheduler from 'x'"),
    (lambda _: API.remote_config("x", 5), ValueError, "args must be a list of strings"),
    (lambda _: API.http_config(1), TypeError, "url must be a string"),
    (lambda _: API.http_config("ftp://x"), ValueError, "invalid address 'ftp://x'"),
    (lambda _: API.http_config("https://x", headers="a: b"), TypeError, "headers must be a dict"),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS)
def test_a_wrong_argument_of_a_call_is_named(
    call: Callable[[Any], object], error: type[Exception], message: str, executor: Any
) -> None:
    with pytest.raises(error, match=message):
        call(executor)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"idle_tme": 3}, TypeError, "unknown option 'idle_tme'; valid options: output, "),
        ({"idle_time": "x"}, TypeError, "idle_time must be (zero or )?positive"),
        ({"wall_time": -1}, ValueError, "wall_time must be zero or positive"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1, not 0"),
        ({"autoexit": "later"}, ValueError, "\"never\", not 'later'"),
    ],
)
def test_a_wrong_option_of_a_daemon_that_connects_is_named(
    options: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with MiraiExecutor(url=f"ipc://{tmp_path}/socket") as executor:
        open_: Any = executor
        with pytest.raises(error, match=message):
            open_.launch_local(1, **options)
        with pytest.raises(error, match=message):
            open_.adapt(0, 1, **options)
        with pytest.raises(ValueError, match="minimum"):
            open_.adapt(2, 1)


OF_FUTURES: list[tuple[Callable[[Any], object], str]] = [
    (lambda future: future.result("5"), "timeout must be a number of seconds or None, not '5'"),
    (lambda future: future.exception([5]), r"timeout must be a number .*not \[5\]"),
    (lambda future: future.add_done_callback(None), r"not add_done_callback\(f\(x\)\); got None"),
]


@pytest.mark.parametrize(("call", "message"), OF_FUTURES)
def test_a_wrong_argument_of_a_future_is_named(
    call: Callable[[Any], object], message: str
) -> None:
    host: Any = None  # nobody is asked
    with pytest.raises(TypeError, match=message):
        call(MiraiFuture(TaskId(1), host))
