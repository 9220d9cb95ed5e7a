"""What shows progress, by what was asked for, what is installed, and where it would be seen."""

import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor import _progress
from mirai_executor._progress import Counter, PlainBar, bar_for, check_progress, counted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeTqdm:
    made: list["FakeTqdm"]

    def __init__(self, total: int | None = None, desc: str | None = None) -> None:
        self.total, self.desc, self.is_closed = total, desc, False
        self.n: float = 0
        self.text = ""
        self.updates: list[int] = []
        self.shown: list[tuple[float, str]] = []
        self.made.append(self)

    def update(self, n: int) -> None:
        self.n += n
        self.updates.append(n)
        self.refresh()

    def set_postfix_str(self, text: str, *, refresh: bool) -> None:
        self.text = text

    def refresh(self) -> None:
        self.shown.append((self.n, self.text))

    def close(self) -> None:
        self.is_closed = True


class FakeRich:
    """Both modules of rich that are imported."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def Console(self, *, stderr: bool) -> str:  # noqa: N802 - a class of rich's
        return f"stderr={stderr}"

    def TextColumn(self, text: str, *, markup: bool) -> str:  # noqa: N802 - likewise
        return f"{text}, {markup=}"

    @property
    def Progress(self) -> "FakeRich":  # noqa: N802 - likewise
        return self

    def get_default_columns(self) -> tuple[str, ...]:
        return ("bar",)

    def __call__(self, *columns: str, console: str) -> "FakeRich":
        self.said.append((*columns, console))
        return self

    def add_task(self, label: str, *, total: int | None, text: str) -> str:
        self.said.append((label, total, text))
        return "task"

    def start(self) -> None:
        self.said.append("start")

    def update(self, task: str, *, completed: float, text: str) -> None:
        self.said.append((task, completed, text))

    def stop(self) -> None:
        self.said.append("stop")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    # Not sys.stderr itself: pytest replaces that after the fixtures.
    theirs = types.SimpleNamespace(stderr=terminal, modules=sys.modules)
    monkeypatch.setattr(_progress, "sys", theirs)
    return terminal


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has no library installed but those that are given, as modules by their names."""

    def install(**modules: Any) -> None:
        names = {name.replace("_", "."): module for name, module in modules.items()}
        monkeypatch.setattr(_progress, "_is_installed", lambda name: name in names)
        monkeypatch.setattr(importlib, "import_module", names.__getitem__)

    return install


@pytest.fixture
def tqdm() -> types.SimpleNamespace:
    FakeTqdm.made = []
    return types.SimpleNamespace(tqdm=FakeTqdm)


def test_a_function_is_told_how_many_are_done_and_of_how_many() -> None:
    told: list[tuple[int, int | None]] = []
    bar = bar_for(lambda done, total: told.append((done, total)), 2)
    assert bar is not None
    bar.show(1)
    bar.show(2)
    bar.close()
    assert told == [(1, 2), (2, 2)]
    assert not bar.shows_parts


def test_a_bar_that_is_given_is_updated_and_left_open(tqdm: Any) -> None:
    given = FakeTqdm(total=7)
    bar = bar_for(given, 2)
    assert bar is not None
    bar.show(1)
    bar.close()
    assert (given.n, given.is_closed) == (1, False)


def test_a_bar_of_tqdm_shows_parts_without_the_errors_of_floats(tqdm: Any) -> None:
    given = FakeTqdm()
    given.n = 1  # by somebody else
    bar = bar_for(given, 2)
    assert bar is not None
    for shown in [(0, 0.1, "a"), (0, 0.3, "a"), (1, 0.1, "b"), (1, 0.1, "b"), (2, 0, "")]:
        bar.show(*shown)
    assert given.shown == [(1.1, "a"), (1.3, "a"), (2.1, "b"), (2.1, "b"), (3, "")]
    assert type(given.n) is int
    assert given.updates == [0, 0]  # what is counted, it shows as often as it likes


def test_what_only_can_be_updated_is_told_of_whole_ones() -> None:
    told: list[int] = []
    bar = bar_for(types.SimpleNamespace(update=told.append), 2)
    assert bar is not None
    assert not bar.shows_parts
    bar.show(1)
    assert told == [1]


@pytest.mark.parametrize("progress", [False, None])
def test_nothing_is_shown_where_nothing_was_asked_for(terminal: Terminal, progress: Any) -> None:
    assert bar_for(progress, 3) is None
    assert terminal.getvalue() == ""


def test_a_file_gets_no_bar(monkeypatch: pytest.MonkeyPatch, only: Any, tqdm: Any) -> None:
    only(tqdm=tqdm)
    for stream in (io.StringIO(), None):  # a program without a console has no standard error
        monkeypatch.setattr(sys, "stderr", stream)
        assert bar_for(True, 3) is None
    assert FakeTqdm.made == []


def test_on_a_terminal_tqdm_comes_first(terminal: Terminal, only: Any, tqdm: Any) -> None:
    only(tqdm=tqdm, rich=None)
    bar = bar_for("fits", 3)
    assert bar is not None
    bar.show(1)
    bar.close()
    (made,) = FakeTqdm.made
    assert (made.total, made.desc, made.n, made.is_closed) == (3, "fits", 1, True)


def test_without_tqdm_rich_shows_it_on_standard_error(terminal: Terminal, only: Any) -> None:
    rich = FakeRich()
    only(rich=None, rich_console=rich, rich_progress=rich)
    bar = bar_for("fits", 3)
    assert bar is not None
    bar.show(1, 0.5, "words")
    bar.close()
    assert rich.said == [
        ("bar", "{task.fields[text]}, markup=False", "stderr=True"),
        ("fits", 3, ""),
        "start",
        ("task", 1.5, "words"),
        "stop",
    ]


def test_without_either_a_plain_line_does(terminal: Terminal, only: Any) -> None:
    only()
    bar = bar_for("fits", 2)
    assert bar is not None
    bar.show(1)
    bar.show(2)
    bar.close()
    assert terminal.getvalue().startswith("\rfits [....")
    assert terminal.getvalue().endswith("####] 2/2\n")


def test_a_notebook_gets_the_bar_that_tqdm_has_for_it(
    monkeypatch: pytest.MonkeyPatch, only: Any, tqdm: Any
) -> None:
    shell = types.SimpleNamespace(kernel="a kernel")
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    only(tqdm=None, tqdm_auto=tqdm, ipywidgets=None)
    assert bar_for(True, 3) is not None
    assert len(FakeTqdm.made) == 1
    only(tqdm=tqdm)  # the bar of text: nothing is to be drawn with
    assert bar_for(True, 3) is not None
    assert len(FakeTqdm.made) == 2
    only()
    assert bar_for(True, 3) is None
    del shell.kernel  # IPython on a terminal, here redirected to a file
    assert bar_for(True, 3) is None


def test_a_plain_line_is_written_ten_times_a_second_at_most() -> None:
    terminal, now = Terminal(), 0.0
    bar = PlainBar(terminal, None, 1000, lambda: now)
    for done in range(1, 501):
        bar.show(done)
    assert terminal.getvalue().count("\r") == 1
    now = 1.0
    bar.show(501)
    assert terminal.getvalue().count("\r") == 2
    assert terminal.getvalue().endswith("] 501/1000")


def test_where_nobody_knows_how_many_there_will_be_a_plain_line_counts() -> None:
    terminal = Terminal()
    bar = PlainBar(terminal, None, None)
    bar.show(1)
    bar.close()
    assert terminal.getvalue().endswith("\r1 done\n")


def test_a_plain_line_shows_parts_at_once_and_leaves_nothing_of_what_stood_there() -> None:
    terminal = Terminal()
    bar = PlainBar(terminal, None, 2, lambda: 0.0)
    bar.show(1)  # too soon
    bar.show(1, 0.25, "words")
    bar.show(1, 0.3, "")
    assert terminal.getvalue().split("\r")[2:] == [
        f"[{'#' * 18}{'.' * 12}] 1.25/2 words",
        f"[{'#' * 19}{'.' * 11}] 1.3/2       ",
    ]


def test_a_plain_line_is_no_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    terminal = Terminal()
    bar = PlainBar(terminal, None, 2)
    bar.show(0, 0.25, "words " * 10)
    assert [len(line) for line in terminal.getvalue().split("\r")[2:]] == [49]


@pytest.mark.parametrize("wrong", [1, 2.5, [], object()])
def test_what_cannot_show_progress_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="progress must be True, False"):
        check_progress(wrong)


def test_results_that_are_counted_are_let_go_of_when_their_consumer_stops() -> None:
    closed = []

    def results() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            closed.append("results")

    told: list[int] = []
    bar = bar_for(lambda done, total: told.append(done), None)
    assert bar is not None
    iterator = counted(results(), Counter(bar))
    assert next(iterator) == 0
    iterator.close()  # type: ignore[attr-defined]  # it is a generator
    assert (told, closed) == ([1], ["results"])


def test_the_libraries_are_looked_for_by_their_real_names() -> None:
    assert _progress._is_installed("importlib")
    assert not _progress._is_installed("no_such_library")
