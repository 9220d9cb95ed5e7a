"""What an executor tells of its last events and commands, and when its log does."""

import logging
from typing import Any

import pytest

from mirai_executor import MiraiExecutor

pytestmark = pytest.mark.live


def test_an_executor_that_has_done_nothing_has_no_story() -> None:
    with MiraiExecutor(1) as executor:
        assert executor.story() == ""


def test_a_story_outlives_its_executor_and_has_nothing_of_the_users_in_it() -> None:
    with MiraiExecutor(1) as executor:
        assert executor.submit("{}-{}".format, "private", 1).result() == "private-1"
    story = executor.story()
    assert "event   TaskSubmitted(task=1, " in story
    assert "command ResolveTasks(tasks=(1,))" in story
    assert "private" not in story


def test_a_host_thread_that_fails_logs_its_story(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirai_executor._host._loop import Loop

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(Loop, "on_results", fail)
    with MiraiExecutor(1) as executor, caplog.at_level(logging.CRITICAL, "mirai_executor"):
        error = executor.submit(abs, -1).exception()
    assert str(error) == "the executor has failed by an internal error before this was done"
    (record,) = caplog.records
    phrase, _, story = record.getMessage().partition("\n")
    assert "this is a bug in mirai_executor; please report it" in phrase
    assert "command SendTasks(daemon=1, tasks=(1,))" in story
