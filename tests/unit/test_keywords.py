"""The options of ``daemons()`` are those of the executor, for type checkers and at the call."""

import inspect
from typing import get_type_hints

import pytest

from mirai_executor import MiraiExecutor, daemons, daemons_set
from mirai_executor.functional._keywords import ExecutorKeywords

NAMED = {"self", "max_workers", "url", "remote"}  # daemons() has them itself


def test_each_parameter_of_the_executor_is_known_to_type_checkers() -> None:
    parameters = inspect.signature(MiraiExecutor.__init__).parameters
    assert set(get_type_hints(ExecutorKeywords)) == parameters.keys() - NAMED


@pytest.mark.parametrize("n", [0, 1])
def test_a_wrong_option_names_itself_and_lists_those_that_there_are(n: int) -> None:
    with pytest.raises(TypeError, match=r"'idle_tim'.*\bcompute\b.*\bidle_time\b.*\bmemory\b"):
        daemons(n, idle_tim=3)  # type: ignore[call-arg]  # that is asked
    assert not daemons_set()
