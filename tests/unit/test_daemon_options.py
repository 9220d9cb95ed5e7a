"""How the options of a daemon are given: to what launches it, and on its command line."""

import inspect
from typing import Any, get_type_hints

import pytest

import mirai_executor
from mirai_executor import MiraiExecutor, cli, keeper
from mirai_executor._daemon_options import OPTIONS, DaemonKeywords, DaemonOptions, words_for

UNUSUAL: DaemonKeywords = {
    "output": False,
    "cleanup": True,
    "dispatcher": False,
    "idle_time": 1.5,
    "wall_time": 3600,
    "max_tasks_per_child": 7,
    "autoexit": "finish",
    "retry": 0,
    "grace": 20.0,
}


def test_type_checkers_know_every_option_with_its_type() -> None:
    assert get_type_hints(DaemonKeywords) == get_type_hints(DaemonOptions)
    assert list(OPTIONS) == list(get_type_hints(DaemonKeywords))


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_is_given_to_a_launch_is_that_of_the_daemon(
    name: str, kept: list[keeper.KeeperOptions]
) -> None:
    given: Any = {name: UNUSUAL[name]}  # type: ignore[literal-required]  # it is one of them
    assert given[name] != OPTIONS[name].default
    assert cli.main(["daemon", "tcp://127.0.0.1:1", *words_for(given)]) == 0
    (options,) = kept
    assert options == keeper.KeeperOptions(urls=options.urls, **given)


def test_an_option_that_is_none_says_nothing(kept: list[keeper.KeeperOptions]) -> None:
    nothing: Any = dict.fromkeys(OPTIONS)
    assert words_for(nothing) == ()
    assert cli.main(["daemon", "tcp://127.0.0.1:1"]) == 0
    (options,) = kept
    assert options == keeper.KeeperOptions(urls=options.urls)


@pytest.mark.parametrize(
    "call",
    [
        MiraiExecutor.launch_local,
        MiraiExecutor.launch_remote,
        MiraiExecutor.adapt,
        mirai_executor.launch_local,
        mirai_executor.launch_remote,
    ],
)
def test_no_argument_of_a_launch_hides_an_option(call: Any) -> None:
    assert not inspect.signature(call).parameters.keys() & OPTIONS.keys()


def test_a_wrong_option_is_named_with_the_right_ones() -> None:
    wrong: Any = {"idle_timeout": 3}
    with pytest.raises(TypeError, match="unknown option 'idle_timeout'") as raised:
        words_for(wrong)
    assert str(raised.value).endswith(f"valid options: {', '.join(OPTIONS)}")
