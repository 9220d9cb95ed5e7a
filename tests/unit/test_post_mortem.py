"""``post_mortem=True``: an exception tells of the variables of its frames, and never too much."""

from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor import RemoteError
from mirai_executor._payload.common.exceptions import POST_MORTEM
from mirai_executor._payload.common.postmortem import PostMortem
from mirai_executor._payload.daemon import encode_error, failures
from mirai_executor._payload.host import decode_error


class Long:
    def __repr__(self) -> str:
        return "x" * 10_000


class Broken:
    def __repr__(self) -> str:
        raise OSError


class Watched(dict[int, int]):
    """Counts how many of its items are looked at."""

    looked_at = 0

    def items(self) -> Any:
        def each() -> Iterator[tuple[int, int]]:
            for item in super(Watched, self).items():
                self.looked_at += 1
                yield item

        return each()


def fail(value: object, depth: int = 0) -> None:
    if depth:
        fail(value, depth - 1)
    raise ValueError("no")


def raised_by(fn: Any, *args: Any) -> BaseException:
    try:
        PostMortem(fn)(*args)
    except ValueError as error:
        return error
    raise AssertionError("it must raise")


def test_the_note_has_the_variables_of_each_frame_of_the_task_and_no_attribute_stays() -> None:
    error = decode_error(encode_error(raised_by(fail, [1, 2], 1)))
    (note,) = error.__notes__
    head, outer, *rest = note.split("\n")
    assert head == "Variables of the task's frames, the innermost last:"
    assert outer.endswith("in fail")
    assert rest[:2] == ["    value = [1, 2]", "    depth = 1"]
    assert rest[3:] == ["    value = [1, 2]", "    depth = 0"]
    assert POST_MORTEM not in error.__dict__
    assert "Variables" not in str(error.__cause__), "they are told once"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Long(), "x" * 197 + "..."),
        (Broken(), "<its repr raised OSError>"),
        ("y" * 10_000, "..."),
        (b"z" * 10**6, "..."),
        (set(range(10**5)), "{0, 1, 2, 3, 4, 5, ...}"),
        (dict.fromkeys(range(10**5)), "{0: None, 1: None, 2: None, 3: None, ...}"),
        ([[1] * 100] * 100, "[[1, 1, 1, 1, 1, 1, ...], "),
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_value_takes_one_line_of_at_most_200_characters(value: object, shown: str) -> None:
    note = raised_by(fail, value).__dict__[POST_MORTEM]
    (line,) = [line for line in note.split("\n") if line.startswith("    value = ")]
    assert shown in line
    assert len(line) <= 200 + len("    value = ")


def test_no_more_of_a_value_is_looked_at_than_is_shown() -> None:
    watched = Watched(dict.fromkeys(range(1000), 0))
    Watched.__name__, Watched.__module__ = "dict", "builtins"  # by which reprlib goes
    raised_by(fail, watched)
    assert 0 < watched.looked_at < 10


def test_many_variables_and_many_frames_are_counted_only() -> None:
    names = {f"name_{n}": n for n in range(60)}

    def exec_fail() -> None:
        exec("raise ValueError", {}, names)

    note = raised_by(exec_fail).__dict__[POST_MORTEM]
    assert note.count("    name_") == 50
    assert note.endswith("    and 10 more")
    assert raised_by(fail, 1, 90).__dict__[POST_MORTEM].count("in fail") == 20


def test_an_error_that_cannot_travel_tells_of_them_in_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failures, "_loadable", lambda *_: None)
    error = decode_error(encode_error(raised_by(fail, 7)))
    assert isinstance(error, RemoteError)
    assert "    value = 7" in error.traceback


def test_an_error_whose_notes_are_no_list_stays_as_it_is() -> None:
    error = raised_by(fail, 7)
    error.__dict__["__notes__"] = "not a list"
    assert isinstance(decode_error(encode_error(error)), ValueError)
