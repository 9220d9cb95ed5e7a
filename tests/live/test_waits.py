"""Who waits for daemons that do not come hears of it, and why."""

import logging
import threading

import pytest

from elsewhere import new_url
from mirai_executor import MiraiExecutor, remote_config
from mirai_executor._host import _settings

pytestmark = pytest.mark.once

SOON = 30.0


def test_tasks_that_nobody_comes_for_are_told_of_with_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_settings, "_WARN_AFTER", 0.05)
    told = threading.Event()
    texts: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())
            told.set()

    log = logging.getLogger("mirai_executor")
    monkeypatch.setattr(log, "handlers", [*log.handlers, Listener()])
    with MiraiExecutor(url=new_url()) as lonely:
        lonely.launch_remote(2, remote_config("echo", ["job 17 #", "."]))
        future = lonely.submit(abs, -1)
        assert told.wait(SOON)
        [text] = texts
        assert text.startswith("1 task has waited for ")
        assert "2 were requested and have not come; echo said: job 17" in text
        waiting = lonely.waiting
        assert waiting is not None
        assert (waiting.tasks, waiting.requested) == (1, 2)
        assert waiting.seconds >= 0.05
        assert "echo said: job 17" in repr(lonely.status())
        lonely.launch_local(1)
        assert future.result(SOON) == 1
        assert lonely.waiting is None
        lonely.shutdown()
