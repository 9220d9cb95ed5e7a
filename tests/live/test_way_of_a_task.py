"""The way of a task, as the page of the architecture has it, is the way that it takes."""

import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import mirai_executor
from mirai_executor import MiraiExecutor

pytestmark = [
    pytest.mark.once,
    pytest.mark.local_link("is the way to a daemon of this machine"),
]

PACKAGE = Path(mirai_executor.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs/architecture.md").read_text("utf-8")
WAY = PAGE.partition("## From `submit`")[2].partition("\n## ")[0]
STEPS = re.findall(r"^\d+\. `([\w/]+\.py)`, `([\w.]+)`", WAY, re.MULTILINE)
HELPERS = re.findall(r"^\| `([\w/]+\.py)` \| [\d, ]+ \|", WAY, re.MULTILINE)
ROUNDS = 20  # in some of them the host thread sleeps when the task comes, in others it doesn't yet

Call = tuple[str, str]  # a file of the package, and a function in it


class Recorder:
    """Notes which functions of the package are called, until a frame has been sent."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.is_on = False

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        file = Path(frame.f_code.co_filename)
        if not self.is_on or event not in ("call", "return") or PACKAGE not in file.parents:
            return
        call = (file.relative_to(PACKAGE).as_posix(), frame.f_code.co_qualname)
        if event == "call":
            self.calls.append(call)
        elif call == ("_transport/_stream.py", "Link.send"):
            self.is_on = False

    @contextmanager
    def recording(self) -> Iterator[list[Call]]:
        """Record this thread, and those that were started for it."""
        self.calls, self.is_on = [], True
        sys.setprofile(self)
        try:
            yield self.calls
        finally:
            sys.setprofile(None)


@pytest.fixture(scope="module")
def rounds() -> list[list[Call]]:
    """What is called on the way of a task to its frame, several times."""
    recorder = Recorder()
    threading.setprofile(recorder)
    found = []
    with pytest.MonkeyPatch.context() as patch, MiraiExecutor(1) as executor:
        patch.delitem(sys.modules, "opentelemetry.trace", raising=False)  # another test's
        try:
            executor.submit(shlex.join, ["a", "b"]).result()  # its host thread has begun
        finally:
            threading.setprofile(None)
        for _ in range(ROUNDS):
            executor.submit(shlex.join, ["a", "b"]).result()
            with recorder.recording() as calls:
                future = executor.submit(shlex.join, ["a", "b"])
            future.result()
            found.append(calls)
    return found


def test_a_task_takes_the_steps_of_the_page_in_their_order(rounds: list[list[Call]]) -> None:
    steps = [(file, name.rpartition(".")[2]) for file, name in STEPS]
    for calls in rounds:
        met = [(file, name.rpartition(".")[2]) for file, name in calls]
        assert [step for step in dict.fromkeys(met) if step in steps] == steps


def test_the_page_names_each_file_that_a_task_passes_and_no_other(
    rounds: list[list[Call]],
) -> None:
    named = {file for file, _ in STEPS} | set(HELPERS)
    files: list[set[object]] = [{file for file, _ in calls} for calls in rounds]
    assert set.intersection(*files) - named == set()  # what else the thread does now and then
    assert named - set.union(*files) == set()
