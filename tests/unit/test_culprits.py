"""What cannot be pickled is found wherever it is, by no code but what pickling runs."""

import asyncio
import copyreg
import io
import random
import re
import sys
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mirai_executor._payload.common.anatomy import step
from mirai_executor._payload.daemon.outcomes import encode_value
from mirai_executor._payload.host import CallEncoder
from mirai_executor.errors import PayloadError

LOCK = threading.Lock()


class Ordinary:
    """Has its attributes in a dictionary."""

    def __init__(self, *held: object) -> None:
        self.first, self.held, self.others = 1, held[-1], held[:-1]


class Slotted:
    """Has its attributes in slots, also in those of its base."""

    __slots__ = ("__private", "held", "unset")

    def __init__(self, *held: object) -> None:
        self.__private, self.held = held[:-1], held[-1]


class Both(Slotted):
    """Has some in slots, and others in a dictionary."""

    def __init__(self, *held: object) -> None:
        super().__init__(*held)
        self.others = held[:-1]


@dataclass(slots=True)
class Data:
    """Is a data class without a dictionary."""

    held: object
    others: object = None


class Items(list[Any]):
    """Is a list with an attribute."""

    name: object = None


class Hiding:
    """Has something that only its own code shows to pickle."""

    hidden: ClassVar[dict[int, tuple[object, ...]]] = {}

    def __init__(self, *held: object) -> None:
        self.hidden[id(self)] = held

    def __reduce__(self) -> Any:
        return Ordinary, (1,), {"made": [1, list(self.hidden[id(self)])]}


class HidingArguments(Hiding):
    """Has it made of something."""

    def __reduce__(self) -> Any:
        return Ordinary, (1, [2], *self.hidden[id(self)])


def attributed(*held: object) -> Items:
    items = Items(held[:-1])
    items.name = held[-1]
    return items


SHOWN: list[Callable[..., object]] = [
    lambda *held: [1, *held],
    lambda *held: held,
    lambda *held: [*range(70), *held],
    lambda *held: (*held, "x", 2),
    lambda *held: {"a": 1, **{f"k{i}": each for i, each in enumerate(held)}},
    lambda *held: OrderedDict(enumerate(held)),
    lambda *held: defaultdict(list, enumerate(held)),
    lambda *held: Items(held),
    attributed,
    Ordinary,
    Slotted,
    Both,
    lambda *held: Data(held[0], held[1:]),
]


class Builder:
    """Builds something at random, with a culprit in it.

    Args:
        seed: Decides what.
        shares: Whether things have parts in common, and parts of their own above them.
    """

    def __init__(self, seed: int, *, shares: bool) -> None:
        self._random = random.Random(seed)
        self._made: list[Any] = []
        self._shares = shares

    def good(self, depth: int) -> Any:
        """Make something that can be pickled."""
        if self._shares and self._made and self._random.random() < 0.3:
            return self._random.choice(self._made)
        if depth == 0 or self._random.random() < 0.3:
            return self._random.choice([1, "x", None, (), [], 2.5, {}])
        parts = [self.good(depth - 1) for _ in range(self._random.randint(1, 3))]
        made = self._random.choice(SHOWN)(*parts)
        self._made.append(made)
        return made

    def around(self, culprit: object, depth: int) -> Any:
        """Put something into so many things, among others."""
        for _ in range(depth):
            parts = [
                self.good(self._random.randint(0, 3)) for _ in range(self._random.randint(0, 3))
            ]
            parts.insert(self._random.randint(0, len(parts)), culprit)
            culprit = self._random.choice(SHOWN)(*parts)
            if self._shares and isinstance(culprit, list) and self._random.random() < 0.5:
                culprit.insert(self._random.randint(0, len(culprit)), culprit)
            self._made.append(culprit)
        return culprit


def named(value: object) -> tuple[str, object, bool]:
    """Return the message about something, what its path leads to, and whether it ends there."""
    with pytest.raises(PayloadError) as caught:
        CallEncoder().encode(len, (value,), {})
    text = str(caught.value)
    path, more = re.match(r"cannot pickle (args\S*?)(…?) \(a ", text).groups()  # type: ignore[union-attr]
    return text, eval(path, {"args": (value,)}), not more


def holds(whole: object, part: object) -> bool:
    """Tell whether something can be reached by what pickle takes."""
    seen: dict[int, object] = {}
    waiting = [whole]
    while waiting:
        obj: Any = waiting.pop()
        if obj is part:
            return True
        if id(obj) in seen or isinstance(obj, (int, str, type)):
            continue
        seen[id(obj)] = obj
        if not isinstance(obj, (list, tuple, dict, Hiding)):
            waiting += obj.__reduce_ex__(2)[2:3]
        waiting += getattr(obj, "__dict__", {}).values()
        waiting += (
            obj.values()
            if isinstance(obj, dict)
            else obj
            if isinstance(obj, (list, tuple))
            else ()
        )
    return False


@pytest.mark.parametrize("shares", [False, True], ids=["trees", "graphs"])
@pytest.mark.parametrize("depth", [1, 3, 8, 15, 40])
def test_the_path_leads_to_the_culprit_in_whatever_it_is(depth: int, shares: bool) -> None:
    for seed in range(40):
        value = Builder(seed, shares=shares).around(LOCK, depth)
        text, found, is_all = named(value)
        assert "(a _thread.lock object)" in text
        assert found is LOCK if is_all else holds(found, LOCK), (seed, text)
        assert is_all or depth > 10


@pytest.mark.parametrize("hide", [Hiding, HidingArguments])
@pytest.mark.parametrize("shares", [False, True], ids=["trees", "graphs"])
@pytest.mark.parametrize("depth", [0, 1, 3, 8])
def test_what_hides_a_culprit_is_named(hide: type[Hiding], depth: int, shares: bool) -> None:
    for seed in range(40):
        hiding = hide(LOCK)
        text, found, is_all = named(Builder(seed, shares=shares).around(hiding, depth))
        assert is_all
        assert found is hiding or (shares and holds(found, hiding)), (seed, text)


class Counting:
    """Counts how often its instances are taken apart."""

    taken: ClassVar[list[object]] = []

    def __init__(self, held: object = None) -> None:
        self.held = held

    def __getstate__(self) -> object:
        self.taken.append(self)
        return {"held": self.held}


@pytest.fixture
def taken() -> Iterator[list[object]]:
    Counting.taken.clear()
    yield Counting.taken
    Counting.taken.clear()


def in_lists(depth: int, held: object) -> object:
    for number in range(depth):
        held = [[number], (number, held), {number}]
    return held


@pytest.mark.parametrize("depth", [0, 3, 30])
@pytest.mark.parametrize("hide", [lambda held: held, Hiding, HidingArguments])
def test_nothing_behind_a_culprit_is_taken_apart(
    depth: int, hide: Callable[[object], object], taken: list[object]
) -> None:
    before, behind = Counting(), [Counting(), (Counting(), [1]), {"k": Counting()}]
    value = [before, [in_lists(depth, hide(LOCK)), *behind], (behind, *behind), behind]
    named(value)
    assert set(map(id, taken)) == {id(before)}


def test_what_pickle_refuses_is_pickled_once(taken: list[object]) -> None:
    named([Counting(), Counting(), [LOCK]])
    assert len(taken) == 2


def test_what_is_nested_deeper_than_a_message_says_is_seen_to_fail() -> None:
    value: object = LOCK
    for _ in range(100):
        value = [list(range(100)), value, [1]]
    text, found, is_all = named(value)
    assert text.startswith("cannot pickle args[0]" + "[1]" * 20 + "… (a _thread.lock object): ")
    assert not is_all
    assert holds(found, LOCK)


@pytest.mark.parametrize("seed", range(20))
def test_the_shortest_way_through_a_graph_is_named(seed: int) -> None:
    rng = random.Random(seed)
    nodes = [Ordinary(None) for _ in range(100)]
    for node in nodes:
        node.others = (*rng.sample(nodes, 2), nodes, node)
    nodes[seed * 5].held = LOCK
    text, _, _ = named(nodes)
    assert text.startswith(f"cannot pickle args[0][{seed * 5}].held (a ")


def test_nothing_is_taken_apart_behind_what_was_met_elsewhere(taken: list[object]) -> None:
    shared = {"k": [1]}
    hiding = Hiding(LOCK)
    _, found, _ = named([shared, [[hiding], shared, [Counting()]]])
    assert taken == []
    assert holds(found, hiding)


def test_of_several_arguments_that_are_too_deep_the_right_one_is_named() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    try:
        for n in range(3):
            args: list[list[Any]] = [[1], [2], [3]]
            args[n] = deep
            with pytest.raises(PayloadError, match=rf"args\[{n}\] \(a list object\): Recursion"):
                CallEncoder().encode(len, tuple(args), {})
    finally:
        while deep:  # or the interpreter's own destructor has a long way to go
            deep = deep.pop()


@pytest.mark.parametrize("registry", ["copyreg", "multiprocessing"])
def test_a_type_that_is_registered_after_it_was_refused_travels(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forking: Any = ForkingPickler
    reducers = copyreg.dispatch_table if registry == "copyreg" else forking._extra_reducers
    with Path(__file__).open() as file:
        for culprit in (LOCK, file):
            with pytest.raises(PayloadError, match=r"args\[0\]\['k'\] \(a "):
                CallEncoder().encode(len, ({"k": culprit},), {})
            monkeypatch.setitem(reducers, type(culprit), lambda _: (int, ()))
            CallEncoder().encode(len, ({"k": culprit},), {})


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_an_open_file_is_refused_at_once(mode: str, taken: list[object]) -> None:
    with Path(__file__).open(mode) as file:
        with pytest.raises(PayloadError, match=r"args\[0\]\[1\] \(a _io\.\w+ object\): TypeError"):
            CallEncoder().encode(len, ([Counting(), file],), {})
        assert len(taken) == 1


def test_a_standard_stream_travels_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    call = CallEncoder().encode(len, ([Ordinary(1), sys.stdout],), {})
    assert b"stdout" in call.blob


def test_a_future_is_named_and_not_what_it_holds() -> None:
    with closing(asyncio.new_event_loop()) as loop:
        futures = (Future[int](), loop.create_future())
    for future in futures:
        with pytest.raises(PayloadError, match=r"args\[0\]\['k'\] \(a .*Future.*send its result"):
            CallEncoder().encode(len, ({"k": future, "l": [LOCK]},), {})


@pytest.mark.parametrize("hide", [lambda held: held, Hiding])
def test_a_daemon_names_the_culprit_of_a_result(hide: Callable[[object], object]) -> None:
    value = in_lists(2, {"k": hide(LOCK)})
    with pytest.raises(PayloadError, match=r"cannot pickle result\[1\]\[1\]\[1\]\[1\]\['k'\] \("):
        encode_value(value)


def test_a_key_without_a_text_is_no_obstacle() -> None:
    class Key(tuple[int, ...]):
        __slots__ = ()

        def __repr__(self) -> str:
            raise ValueError

    assert step("args[0]", {Key(): LOCK}, LOCK) == "args[0][<Key object>]"


# What else may be wrong


def test_of_an_instance_whose_class_is_sent_along_the_class_may_hold_it() -> None:
    class Local:
        lock = threading.Lock()

        def __init__(self) -> None:
            self.items = [1, 2]

    with pytest.raises(PayloadError, match="lock") as caught:
        encode_value(Local())
    assert "items" not in str(caught.value)


def test_what_the_code_of_an_object_raises_meanwhile_is_not_what_is_wrong() -> None:
    class Raising:
        @property
        def __dict__(self) -> Any:  # type: ignore[override]  # on purpose
            raise RuntimeError("on purpose")

        def __reduce__(self) -> Any:
            return int, ()

    with pytest.raises(PayloadError, match=r"cannot pickle .*lock"):
        encode_value([Raising(), LOCK])
