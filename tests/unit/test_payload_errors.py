"""What a task raised comes back as itself, or as near to it as can be."""

import asyncio
import functools
import inspect
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from concurrent.futures.process import _RemoteTraceback
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mirai_executor._core import TaskId
from mirai_executor._payload.daemon import encode_error, encode_value
from mirai_executor._payload.host import decode_error, decode_value
from mirai_executor.errors import DaemonLostError, PayloadError, RemoteError
from mirai_executor.futures import MiraiFuture
from unit.test_payload_driver import run_host


def raised(fn: Callable[[], Any]) -> BaseException:
    try:
        fn()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def travel(fn: Callable[[], Any]) -> BaseException:
    """Return what the host gets for an exception that a task raised."""
    return decode_error(encode_error(raised(fn)))


class KeywordOnlyError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class RequiresError(OSError):
    def __init__(self, path: str, reason: str) -> None:
        super().__init__(5, reason, path)
        self.reason = reason


class LockedError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.text = text


class HostileError(Exception):
    def __reduce__(self) -> NoReturn:
        raise SystemExit(7)


class UnloadableError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class LyingError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return str, ("not an exception",)


class ReducedError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__("made")
        self.a, self.b = a, b

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.a, self.b)


class TextlessError(Exception):
    def __str__(self) -> NoReturn:
        raise ValueError("no text")

    __repr__ = __str__


def test_class_arguments_and_attributes_come_back() -> None:
    def task() -> None:
        error = ValueError("text", 3)
        error.extra = [1]  # type: ignore[attr-defined]
        raise error

    error = travel(task)
    assert (type(error), error.args, error.__dict__) == (ValueError, ("text", 3), {"extra": [1]})


def test_a_keyword_only_exception_is_rebuilt_without_its_init() -> None:
    def task() -> None:
        raise KeywordOnlyError(code=3)

    error = travel(task)
    assert isinstance(error, KeywordOnlyError)
    assert (error.code, str(error)) == (3, "code 3")


BUILTINS = [
    lambda: (_ for _ in ()).throw(SystemExit(3)),
    lambda: Path("/nowhere/at/all").read_text(),
    lambda: b"\xff".decode(),
    lambda: compile("a b", "f.py", "exec"),
    lambda: dict[str, int]()["key"],
    lambda: __import__("nowhere_at_all"),
    lambda: nothing,  # type: ignore[name-defined]  # noqa: F821 - that is the case
    lambda: (1).nothing,  # type: ignore[attr-defined]
    lambda: next(iter(())),
    lambda: (_ for _ in ()).throw(RequiresError("p", "because")),
    lambda: (_ for _ in ()).throw(subprocess.CalledProcessError(2, ["ls"], "out", "err")),
    lambda: (_ for _ in ()).throw(ReducedError(1, 2)),
    lambda: (_ for _ in ()).throw(DaemonLostError("lost", pid=4, stderr="last words")),
    lambda: (_ for _ in ()).throw(ExceptionGroup("two", [KeyError(1), KeywordOnlyError(code=1)])),
]


class TwoBasesError(ValueError, OSError):
    def __init__(self, text: str, code: int = 7) -> None:
        super().__init__(text)
        self.code = code


class PlainBasesError(LookupError, ImportError):
    pass


class LateBaseError(TwoBasesError, RuntimeError):
    def __init__(self, *, text: str) -> None:
        super().__init__(text)


class StopGroupError(LookupError, StopIteration):
    def __init__(self, value: object) -> None:
        super().__init__("stop")
        self.value = value


class ManyError(ValueError, ExceptionGroup[Exception]):
    def __init__(self, *_: object) -> None:
        self.code = 7


@pytest.mark.parametrize(
    "error",
    [
        TwoBasesError("text"),
        PlainBasesError("text"),
        LateBaseError(text="text"),
        StopGroupError([1]),
        ManyError("text", [KeyError("k")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_with_several_builtin_bases_comes_back(error: Exception) -> None:
    def shown(error: Any) -> tuple[Any, ...]:
        found = [getattr(error, name, None) for name in ("code", "name", "value", "exceptions")]
        return type(error), str(error), repr(error.args), repr(found)

    assert shown(travel(lambda: fail(error))) == shown(error)
    assert shown(decode_value(encode_value(error).blob)) == shown(error)


def fail(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize("task", BUILTINS)
def test_errors_keep_their_text_and_special_attributes(task: Callable[[], Any]) -> None:
    before = raised(task)
    after = travel(task)
    assert type(after) is type(before)
    assert str(after) == str(before)
    assert repr(after.args) == repr(before.args)
    names = ("code", "errno", "strerror", "filename", "start", "end", "lineno", "text", "name")
    for name in (*names, "value", "returncode", "cmd", "output", "a", "b", "pid", "stderr"):
        assert getattr(after, name, None) == getattr(before, name, None), name


def test_cause_context_notes_and_their_tracebacks_come_back() -> None:
    def fails() -> None:
        raise KeyError("inner")

    def task() -> None:
        try:
            try:
                fails()
            except KeyError as error:
                raise TypeError("middle") from error
        except TypeError:
            outer = ValueError("outer")
            outer.add_note("a note")
            raise outer  # noqa: B904 - it is to have a context

    error = travel(task)
    assert error.__notes__ == ["a note"]
    middle = error.__context__
    assert isinstance(middle, TypeError)
    assert isinstance(middle.__cause__, KeyError)
    assert [frame.name for frame in traceback.extract_tb(middle.__cause__.__traceback__)] == [
        "task",
        "fails",
    ]


def test_suppressed_contexts_stay_suppressed() -> None:
    def task(suppress: bool) -> None:
        error = ValueError("text")
        error.__context__ = KeyError("context")
        error.__suppress_context__ = suppress
        raise error

    for suppress in (True, False):
        error = travel(functools.partial(task, suppress))
        assert error.__suppress_context__ is suppress
        assert isinstance(error.__cause__, _RemoteTraceback)


def test_a_cause_of_the_users_own_stays() -> None:
    def task() -> None:
        raise ValueError("text") from KeyError("why")

    cause = travel(task).__cause__
    assert isinstance(cause, KeyError)
    assert cause.args == ("why",)


def test_groups_keep_their_members_with_tracebacks() -> None:
    def member() -> None:
        raise KeywordOnlyError(code=5)

    def task() -> None:
        first = raised(member)
        assert isinstance(first, Exception)
        raise ExceptionGroup("group", [first, ExceptionGroup("in", [OSError(2, "x")])])

    error = travel(task)
    assert isinstance(error, ExceptionGroup)
    first, second = error.exceptions
    assert isinstance(first, KeywordOnlyError)
    assert [f.name for f in traceback.extract_tb(first.__traceback__)][-1] == "member"
    assert isinstance(second, ExceptionGroup)
    assert isinstance(second.exceptions[0], FileNotFoundError)


def fails_late(divisor: int) -> float:
    dividend = 1

    return dividend / divisor


def test_frames_begin_where_their_functions_do_for_those_who_show_the_source() -> None:
    trace = travel(lambda: fails_late(0)).__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    lines, first = inspect.getsourcelines(trace.tb_frame)
    assert (lines, first) == inspect.getsourcelines(fails_late)
    assert trace.tb_lineno == first + 3
    # Who looks for the instruction must find one: executing, and so IPython, search for ever.
    assert trace.tb_lasti >= 0
    # Nothing is underlined: the columns are not those of what has failed.
    (summary,) = traceback.extract_tb(trace)
    assert (summary.lineno, summary.colno, summary.end_colno) == (first + 3, None, None)


def test_an_error_that_nobody_catches_is_printed_with_the_lines_that_ran() -> None:
    script = """
import sys
def fails(divisor):
    dividend = 1

    return dividend / divisor
with Daemon() as d:
    sys.stderr = sys.stdout
    try:
        d.call(fails, 0)
    except ZeroDivisionError as error:
        error.__cause__ = None
        sys.__excepthook__(type(error), error, error.__traceback__)
"""
    *_, place, code, error = filter(str.strip, run_host(script).splitlines())
    assert place.endswith("line 7, in fails")
    assert (code, error) == (
        "    return dividend / divisor",
        "ZeroDivisionError: division by zero",
    )


def test_the_traceback_has_the_daemons_lines_as_frames_and_as_text() -> None:
    def task() -> None:
        raise RuntimeError(123)  # some comment

    error = travel(task)
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].name == "task"
    assert frames[-1].filename == __file__
    assert isinstance(error.__cause__, _RemoteTraceback)
    assert "raise RuntimeError(123)  # some comment" in error.__cause__.tb
    assert "raise RuntimeError(123)  # some comment" in "".join(traceback.format_exception(error))


def test_an_exception_that_is_its_own_context_travels() -> None:
    def task() -> None:
        first, second = ValueError("first"), KeyError("second")
        first.__cause__, second.__context__ = second, first
        raise first

    error = travel(task)
    assert error.__cause__ is not None
    assert error.__cause__.__context__ is error


def test_a_deep_recursion_comes_back_shortened() -> None:
    def task() -> None:
        task()

    error = travel(task)
    assert type(error) is RecursionError
    frames = traceback.extract_tb(error.__traceback__)
    assert len(frames) == 101
    assert "more frames" in frames[50].filename


def test_a_long_chain_of_contexts_travels_somehow() -> None:
    def task() -> None:
        error: Exception | None = None
        for n in range(3000):
            following = ValueError(n)
            following.__context__ = error
            error = following
        assert error is not None
        raise error

    error = travel(task)
    assert type(error) is ValueError
    assert error.args == (2999,)


def test_an_attribute_that_cannot_be_pickled_is_left_out_and_named() -> None:
    def task() -> None:
        raise LockedError("text")

    error = travel(task)
    assert isinstance(error, LockedError)
    assert (error.text, hasattr(error, "lock")) == ("text", False)
    assert error.__notes__ == ["Attributes left out because they cannot be pickled: lock"]


def test_an_argument_that_cannot_be_pickled_comes_as_its_text() -> None:
    def task() -> None:
        raise ValueError("text", threading.Lock())

    error = travel(task)
    assert type(error) is ValueError
    assert error.args[0] == "text"
    assert error.args[1].startswith("<unlocked _thread.lock")


@pytest.mark.parametrize("cls", [HostileError, UnloadableError, LyingError])
def test_an_exception_that_pickles_badly_comes_as_itself(cls: type[Exception]) -> None:
    def task() -> None:
        raise cls("text")

    error = travel(task)
    assert type(error) is cls
    assert error.args == ("text",)


class StatusError(Exception):
    """Says what an attribute says that cannot travel."""

    def __init__(self, status: int) -> None:
        super().__init__("ignored")
        self.status = status
        self.response = type("Response", (), {"lock": threading.Lock(), "code": status})()

    def __str__(self) -> str:
        return f"status {self.response.code}"

    def __repr__(self) -> str:
        return f"<StatusError {self.response.code}>"


class ForgetfulError(StatusError):
    """Its ``__reduce__`` loses what its ``__str__`` needs."""

    def __reduce__(self) -> tuple[Any, ...]:
        return ForgetfulError.__new__, (type(self), *self.args)


class SlottedError(Exception):
    __slots__ = ("hint", "where")
    hint: str | None
    where: str

    def __str__(self) -> str:
        return f"{self.args[0]} at {self.where}"


@pytest.mark.parametrize("cls", [StatusError, ForgetfulError])
def test_an_exception_that_lost_an_attribute_keeps_its_text(cls: type[StatusError]) -> None:
    def task() -> None:
        raise ValueError("outer") from cls(404)

    cause = travel(task).__cause__
    assert cause is not None
    for error in (cause, travel(lambda: fail(cls(404)))):
        for found in (error, pickle.loads(pickle.dumps(error)), decode_error(encode_error(error))):
            assert isinstance(found, cls)
            assert (str(found), repr(found)) == ("status 404", "<StatusError 404>")
            assert (found.status, found.args) == (404, ("ignored",))
            assert traceback.format_exception_only(found)[0].endswith("Error: status 404\n")
            assert (type(found).__name__, type(found).__module__) == (cls.__name__, __name__)


def test_what_an_exception_keeps_in_slots_comes_back() -> None:
    def made() -> SlottedError:
        error = SlottedError("lost")
        error.hint, error.where = None, "sea"
        return error

    errors: list[Any] = [travel(lambda: fail(made())), decode_value(encode_value(made()).blob)]
    for error in errors:
        assert (type(error), str(error), error.hint) == (SlottedError, "lost at sea", None)


def test_a_cause_that_cannot_travel_does_not_cost_the_error() -> None:
    def task() -> None:
        raise ValueError("outer") from HostileError("inner")

    error = travel(task)
    assert type(error) is ValueError
    assert isinstance(error.__cause__, HostileError)


def test_an_exception_whose_class_cannot_travel_becomes_a_remote_error() -> None:
    class LocalError(Exception):
        lock = threading.Lock()

    def task() -> None:
        raise LocalError("text")

    error = travel(task)
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("LocalError")
    assert error.text == "text"
    assert "raise LocalError(" in error.traceback
    assert isinstance(pickle.loads(pickle.dumps(error)), RemoteError)


def test_texts_that_fail_or_are_huge_are_survived() -> None:
    class LocalError(TextlessError):
        lock = threading.Lock()

    def silent() -> None:
        raise LocalError

    def huge() -> None:
        raise ValueError("x" * 10_000_000, threading.Lock())

    assert isinstance(travel(silent), RemoteError)
    assert isinstance(travel(huge).__cause__, _RemoteTraceback)
    cause = travel(huge).__cause__
    assert isinstance(cause, _RemoteTraceback)
    assert len(cause.tb) < 100_000


def test_a_result_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(PayloadError, match=r"cannot pickle result\['a'\]\[1\] \(a _thread.lock"):
        encode_value({"a": [1, threading.Lock()]})


class Nobody:
    lock = threading.Lock()

    def cancel(self, task: TaskId, *, running: bool) -> None: ...

    def owns_this_thread(self) -> bool:
        return False


class LinkedFuture(Future[int]):
    """Like those of other executors, with much behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.executor = Nobody()


@pytest.mark.parametrize(
    "future", [Future(), LinkedFuture(), MiraiFuture(TaskId(1), Nobody())], ids=type
)
def test_a_future_is_named_with_what_to_do_instead_of_its_parts(future: Future[int]) -> None:
    kind = f"a {type(future).__module__}.{type(future).__qualname__} object"
    advice = "it belongs to the process that created it; send its result instead"
    for value, path in (
        ([future], "result[0]"),
        ({"a": {"b": future}}, "result['a']['b']"),
        (functools.partial(id, future), "result.args[0]"),
        (future.result, "result.__self__"),
    ):
        with pytest.raises(PayloadError) as caught:
            encode_value(value)
        assert str(caught.value) == f"cannot pickle {path} ({kind}): {advice}"


def test_a_future_or_task_of_asyncio_is_named_likewise_and_a_coroutine_with_what_to_do() -> None:
    async def nothing() -> None: ...

    async def names() -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        task = loop.create_task(nothing())
        coroutine = nothing()
        for value in (loop.create_future(), task, coroutine):
            with pytest.raises(PayloadError) as caught:
                encode_value([value])
            yield str(caught.value)
        coroutine.close()
        await task

    async def collect() -> list[str]:
        return [name async for name in names()]

    future, task, coroutine = asyncio.run(collect())
    assert future.endswith("it belongs to the process that created it; send its result instead")
    assert task.startswith("cannot pickle result[0] (a _asyncio.Task object): it belongs to")
    assert coroutine == (
        "cannot pickle result[0] (a coroutine object): a coroutine cannot leave its process; "
        "pass the async function that returns it"
    )


@pytest.mark.filterwarnings("error")
def test_a_coroutine_that_is_the_result_is_closed_as_nobody_will_await_it() -> None:
    async def nothing() -> None: ...

    coroutine = nothing()
    with pytest.raises(PayloadError, match="cannot leave its process"):
        encode_value(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_generator_is_named_with_what_to_do_instead() -> None:
    with pytest.raises(PayloadError) as caught:
        encode_value([1, (n for n in (1, 2))])
    assert str(caught.value) == (
        "cannot pickle result[1] (a generator object): a generator cannot leave its process; make "
        "a list of it, and send that"
    )


def test_what_user_code_raises_while_it_is_pickled_is_the_error() -> None:
    class Refuses:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __reduce__(self) -> NoReturn:
            raise self.error

    for error in (ValueError("x"), pickle.PicklingError("x"), SystemExit(3), TypeError("mine")):
        with pytest.raises(type(error)) as caught:
            encode_value([Refuses(error)])
        assert caught.value is error


def explode() -> NoReturn:
    raise ValueError("at the host")


def leave() -> NoReturn:
    sys.exit(3)


class Calls:
    def __init__(self, fn: Callable[[], Any]) -> None:
        self.fn = fn

    def __reduce__(self) -> tuple[Any, ...]:
        return self.fn, ()


def test_a_result_that_cannot_be_unpickled_says_why() -> None:
    with pytest.raises(PayloadError, match="cannot unpickle the result: ValueError: at the host"):
        decode_value(encode_value(Calls(explode)).blob)
    with pytest.raises(SystemExit):
        decode_value(encode_value(Calls(leave)).blob)


def test_errors_of_main_come_back_as_the_hosts_without_our_frames() -> None:
    script = """
import traceback, sys
class Mine(Exception):
    def __init__(self, *, code):
        super().__init__(code)
        self.code = code
def inner(): raise Mine(code=3)
def task():
    inner()
with Daemon() as d:
    error = d.error(task)
    print(type(error) is Mine, error.code, isinstance(error, Mine))
    print([f.name for f in traceback.extract_tb(error.__traceback__)][-3:])
    print("mirai_executor" in error.__cause__.tb, "raise Mine(code=3)" in error.__cause__.tb)
    print(type(d.error(sys.exit, 3)).__name__, d.error(sys.exit, 3).code)
    print(d.error(lambda: d_not_there).__traceback__ is not None)
    error = d.error(lambda: exec("def g():\\\\n  1 / 0\\\\ng()"))
    print(type(error).__name__)
    try: d.source("x = 1\\\\ny = x / 0")
    except ZeroDivisionError as error: print("y = x / 0" in error.__cause__.tb)
    print(d.error(5), d.error(abs))
"""
    assert run_host(script.replace("\\\\n", "\\n")) == (
        "True 3 True\n['answer', 'task', 'inner']\nFalse True\nSystemExit 3\nTrue\n"
        "ZeroDivisionError\nTrue\n"
        "'int' object is not callable abs() takes exactly one argument (0 given)\n"
    )


def test_the_hosts_copyreg_is_left_alone() -> None:
    import copyreg

    before = dict(copyreg.dispatch_table)
    travel(lambda: 1 / 0)
    assert copyreg.dispatch_table == before


def test_an_error_at_an_instruction_without_a_line_comes_back_as_itself() -> None:
    def divide() -> float:
        return 1 / 0

    divide.__code__ = divide.__code__.replace(co_linetable=b"")
    error = raised(divide)
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_next is not None
    assert error.__traceback__.tb_next.tb_lineno is None, "it has a line: this shows nothing"
    assert type(travel(divide)) is ZeroDivisionError
