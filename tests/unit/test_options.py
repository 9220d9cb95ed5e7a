"""What the options of a view are, and which of them the dispatcher hears of."""

from contextvars import ContextVar

import pytest

from mirai_executor._around._options import changed, check_task_options
from mirai_executor._core import Limits
from mirai_executor._host import Options

VARIABLE = ContextVar("VARIABLE", default=0)


def test_limits_and_other_options_are_told_apart_and_what_is_not_given_stays() -> None:
    once = changed(Options(), {"timeout": 5, "cancel_running": False})
    assert once == Options(Limits(timeout=5), cancel_running=False)
    assert changed(once, {"retries": 2}).limits == Limits(timeout=5, retries=2)
    assert changed(once, {"buffer": 3}).limits is once.limits  # one object for all its tasks


def test_every_option_is_a_field_and_known_to_type_checkers() -> None:
    with pytest.raises(TypeError) as error:
        changed(Options(), {"nonsense": 1})  # type: ignore[typeddict-unknown-key]
    listed = str(error.value).partition("valid options: ")[2].split(", ")
    assert listed == [*Limits._fields, *Options._fields[1:]]
    assert "limits" not in listed


def test_variables_that_come_once_are_there_for_each_task() -> None:
    assert check_task_options({"context": iter([VARIABLE])}) == {"context": (VARIABLE,)}
