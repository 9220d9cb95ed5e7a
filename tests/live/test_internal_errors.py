"""What is said when the scheduler itself fails: that it is a bug, and what had led to it."""

import logging

import pytest

from mirai_executor import MiraiExecutor
from mirai_executor._core import Dispatcher, TaskSubmitted

pytestmark = [pytest.mark.live, pytest.mark.local_link("is about the host")]


def test_a_host_thread_that_fails_says_that_this_is_a_bug_with_its_story(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    with MiraiExecutor(1, logging=False) as executor:
        assert executor.submit(abs, -1).result() == 1
        monkeypatch.setitem(Dispatcher._HANDLERS, TaskSubmitted, fail)
        error = executor.submit(abs, -2).exception(timeout=60)
        story = executor.story()
    assert error is not None
    assert str(error.__cause__) == "on purpose"
    assert "command SendTasks(daemon=1, tasks=(1,))" in story
    (said,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert said.exc_info is not None
    assert said.exc_info[0] is RuntimeError
    first, _, rest = said.getMessage().partition("\n")
    assert "this is a bug in mirai_executor; please report it" in first
    assert rest == story
