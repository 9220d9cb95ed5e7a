"""Live: context variables travel with a task where that is asked for."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest

from live.mischief import REQUEST, SOON, request, running
from mirai_executor import MiraiExecutor, PayloadError

HERE: ContextVar[Any] = ContextVar("HERE")  # of a module that daemons do not import


def both() -> tuple[Any, Any]:
    return REQUEST.get(), HERE.get("unset")


async def both_in_a_loop() -> tuple[Any, Any]:
    await asyncio.sleep(0)
    return both()


def set_both(value: object) -> tuple[Any, Any]:
    REQUEST.set(value)
    HERE.set(value)
    return both()


def test_a_task_sees_the_variables_of_whoever_submits_it_if_it_is_to() -> None:
    def at_the_host() -> None:
        REQUEST.set(1)
        HERE.set([2])
        assert executor.submit(request).result(SOON) == "none"
        with_all = executor.with_options(context=True)
        assert with_all.submit(both).result(SOON) == (1, [2])
        assert with_all.submit(request).result(SOON) == 1
        assert list(with_all.map(lambda n: (n, *both()), [0], timeout=SOON)) == [(0, 1, [2])]
        assert with_all.submit(both_in_a_loop).result(SOON) == (1, [2])
        assert with_all.submit_source("v.get(), x", v=HERE, x=3).result(SOON) == ([2], 3)
        some = executor.with_options(context=[REQUEST])
        assert some.submit(both).result(SOON) == (1, "unset")
        assert some.with_options(retries=1).submit(request).result(SOON) == 1
        assert some.with_options(context=False).submit(request).result(SOON) == "none"

    with running() as executor:
        copy_context().run(at_the_host)


def keep(name: str) -> None:
    vars(sys.modules["__main__"])[name] = both()


def test_calls_of_everywhere_see_them_too_on_daemons_that_join_later_as_well() -> None:
    def at_the_host() -> None:
        REQUEST.set(1)
        HERE.set([2])
        with_all = executor.with_options(context=True)
        with_all.everywhere(keep, "by_function")
        with_all.everywhere("by_code = [v.get(), x]", v=HERE, x=3)
        executor.everywhere(keep, "without")

    with running() as executor:
        copy_context().run(at_the_host)
        for _ in range(2):
            look = executor.submit_source("by_function, by_code, without")
            assert look.result(SOON) == ((1, [2]), [[2], 3], ("none", "unset"))
            executor.restart()


def test_what_a_task_sets_ends_with_it() -> None:
    with running() as executor:
        with_all = executor.with_options(context=True)
        assert with_all.submit(set_both, 1).result(SOON) == (1, 1)
        assert with_all.submit(both).result(SOON) == ("none", "unset")


def test_a_value_that_cannot_be_pickled_is_left_out_or_named() -> None:
    def at_the_host() -> None:
        REQUEST.set(threading.Lock())
        HERE.set(2)
        assert executor.with_options(context=True).submit(both).result(SOON) == ("none", 2)
        error = executor.with_options(context=[REQUEST]).submit(request).exception(SOON)
        assert isinstance(error, PayloadError)
        assert "context['REQUEST']" in str(error)
        assert executor.submit(request).result(SOON) == "none"

    with running() as executor:
        copy_context().run(at_the_host)


def test_two_variables_of_one_name_both_travel() -> None:
    twin: ContextVar[int] = ContextVar("HERE")

    def at_the_host() -> Any:
        HERE.set(1)
        twin.set(2)
        some = executor.with_options(context=[HERE, twin])
        return some.submit(lambda: (HERE.get(), twin.get())).result(SOON)

    with running() as executor:
        assert copy_context().run(at_the_host) == (1, 2)


def test_each_coroutine_sends_its_own() -> None:
    async def one(value: int) -> Any:
        REQUEST.set(value)
        await asyncio.sleep(0)
        return await asyncio.wrap_future(with_all.submit(request))

    async def several() -> list[Any]:
        return await asyncio.gather(*map(one, range(4)))

    with running(2) as executor:
        with_all = executor.with_options(context=True)
        assert asyncio.run(several()) == [0, 1, 2, 3]


def test_an_error_has_the_frames_of_the_task_first() -> None:
    with running() as executor:
        error = executor.with_options(context=True).submit(divmod, 1, 0).exception(SOON)
        assert isinstance(error, ZeroDivisionError)
        error = (
            executor.with_options(context=True, post_mortem=True)
            .submit(lambda left: left / 0, 3)
            .exception(SOON)
        )
        assert error is not None
        assert "left = 3" in error.__notes__[0]


SCRIPT = """\
from contextvars import ContextVar
from mirai_executor import MiraiExecutor
v = ContextVar("v", default=0)
def look():
    return v.get()
def main():
    with MiraiExecutor(1) as executor:
        v.set(1)
        both = (executor, executor.with_options(context=True))
        print(*[each.submit(look).result() for each in both])
"""


@pytest.mark.parametrize("guard", ["if __name__ == '__main__': ", ""], ids=["guarded", "plain"])
def test_variables_of_a_script_travel_with_and_without_a_guard(tmp_path: Path, guard: str) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"{SCRIPT}{guard}main()\n")
    ended = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, timeout=50, check=False
    )
    assert (ended.stdout, ended.stderr) == ("0 1\n", "")


def test_a_task_of_this_process_has_a_context_of_its_own() -> None:
    with MiraiExecutor(mode="inline") as executor:
        with_all = executor.with_options(context=True)
        assert with_all.submit(set_both, 1).result() == (1, 1)
        assert both() == ("none", "unset")
        assert with_all.submit_source("x.get('unset')", x=HERE).result() == "unset"


@pytest.mark.parametrize("context", [1, "REQUEST", [REQUEST, None]])
def test_what_is_no_choice_of_variables_is_refused_at_once(context: Any) -> None:
    with (
        MiraiExecutor(1) as executor,
        pytest.raises(TypeError, match="context must be True, False or a list of ContextVar"),
    ):
        executor.with_options(context=context)


def yield_both() -> Iterator[tuple[Any, Any]]:
    yield both()


def test_generators_and_elements_see_the_variables_too() -> None:
    def at_the_host() -> None:
        REQUEST.set(1)
        HERE.set([2])
        view = executor.with_options(context=True)
        with view.stream(yield_both) as stream:
            assert list(stream) == [(1, [2])]
        assert view.mirai_map(range(40), lambda _: both()).collect() == [(1, [2])] * 40

    with running() as executor:
        executor.wait_ready()
        copy_context().run(at_the_host)
