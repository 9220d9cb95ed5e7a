"""Whether everything that the dispatcher can ask for is done by somebody."""

from typing import Any, get_args

import pytest

from mirai_executor._core import BroadcastId, Command, DaemonId
from mirai_executor._host._broadcasts import Broadcasts
from mirai_executor._host._loop import Loop


class Somebody:
    """Has every attribute and method, and knows which of them were called."""

    def __init__(self, name: str = "", called: list[str] | None = None) -> None:
        self._name = name
        self.called: list[str] = [] if called is None else called

    def __getattr__(self, name: str) -> "Somebody":
        return Somebody(f"{self._name}.{name}", self.called)

    def __call__(self, *_: object, **__: object) -> "Somebody":
        self.called.append(self._name)
        return self


# What each leads to; a command that is missing here has nobody yet.
DONE_BY = {
    "LaunchDaemon": [".launch"],
    "SendTasks": [".send"],
    "RecallTasks": [".recall"],
    "SendBroadcast": [".send_broadcast"],
    "InterruptTask": [".interrupt"],
    "DismissDaemon": [".dismiss"],
    "KillDaemon": [".kill"],
    "ResolveTasks": [".resolve"],
    "FailTask": [".fail"],
    "FailBroadcast": [".loss_reports.is_lost", ".loss_reports.lost_error", ".end_later"],
    "InterruptBroadcast": [".interrupt"],
    "ForgetBroadcast": [],
    "ReportShortage": [".loss_reports.report_shortage"],
    "ReportWait": [".loss_reports.report_wait"],
}


@pytest.mark.parametrize("cls", get_args(Command), ids=lambda cls: cls.__name__)
def test_every_command_is_carried_out(cls: Any) -> None:
    somebody: Any = Somebody()
    calls: dict[BroadcastId, Any] = {BroadcastId(7): (somebody, somebody)}
    broadcasts = Broadcasts(Somebody(), somebody, somebody.put, somebody.end_later)  # type: ignore[arg-type]
    broadcasts._calls = calls
    broadcasts._futures = {(DaemonId(7), BroadcastId(7)): Somebody()}  # type: ignore[dict-item]
    loop: Any = Loop.__new__(Loop)
    loop._fleet = loop._tasks = somebody
    loop._dispatcher, loop._broadcasts, loop._elsewhere = Somebody(), broadcasts, None
    command: Command = cls(*(7 for _ in cls._fields))
    loop._carry_out([command])
    assert somebody.called == DONE_BY[cls.__name__]
    assert bool(calls) == (cls.__name__ != "ForgetBroadcast")
