"""Compares finding what cannot be pickled with pickling: ``python -m benchmarks.culprits``.

Each shape holds a lock at its start, in its middle or at its end. What is printed is the processor
time until the error is there, all attempts to pickle included, over that of pickling the same with
a number in place of the lock.
"""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np

try:
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]
except ImportError:  # then it is not compared
    pd = None

from benchmarks.checks import check
from mirai_executor._payload.host import CallEncoder
from mirai_executor.errors import PayloadError

MANY = 100_000
ROUNDS, MOST = 7, 1000
LEAST = 0.3  # seconds
LOCK = threading.Lock()


class Ordinary:
    """Has its attributes in a dictionary."""

    def __init__(self, held: object) -> None:
        self.held, self.number, self.text = held, 1, "x"


class Slotted:
    """Has its attributes in slots."""

    __slots__ = ("held", "number")

    def __init__(self, held: object) -> None:
        self.held, self.number = held, 1


@dataclass
class Data:
    """Is a data class."""

    held: object
    text: str = "x"


@dataclass(slots=True)
class SlottedData:
    """Is a data class without a dictionary."""

    held: object
    text: str = "x"


class Node:
    """Knows what is above it."""

    def __init__(self, held: object, *below: "Node") -> None:
        self.held, self.below = held, list(below)
        self.above: Node | None = None
        for node in below:
            node.above = self


def nested(depth: int, wrap: Callable[[int, object], object], held: object) -> object:
    """Put something into something so many times, one in the other."""
    for number in range(depth):
        held = wrap(number, held)
    return held


def in_list(number: int, held: object) -> object:
    """Put something behind a number."""
    return [number, held]


def in_tuple(number: int, held: object) -> object:
    """Put something behind a number, for good."""
    return number, held


def in_dict(number: int, held: object) -> object:
    """Give something a name."""
    return {"number": number, "held": held}


def in_instance(_: int, held: object) -> object:
    """Make something an attribute."""
    return Ordinary(held)


def in_slot(_: int, held: object) -> object:
    """Make something an attribute that is in no dictionary."""
    return Slotted(held)


def in_data(_: int, held: object) -> object:
    """Make something a field."""
    return SlottedData(held)


def among_others(number: int, held: object) -> object:
    """Put something between what can be pickled."""
    return [[number], held, {"number": number}]


def in_any(number: int, held: object) -> object:
    """Put something into one thing or another, between others."""
    whole: tuple[object, ...] = (
        [[number], held],
        ([number], held, [number]),
        {"first": [number], "held": held, "last": (number, [])},
        Ordinary([held, ()]),
    )
    return whole[number % 4]


def tree(depth: int, held: object) -> Node:
    """Make a tree of nodes that holds something in its last leaf but one."""
    if depth == 0:
        return Node(held)
    return Node(depth, tree(depth - 1, 1), tree(depth - 1, held), Node(2))


def linked(held: object) -> Node:
    """Make a list of nodes, the last of which holds something."""
    node = Node(held)
    for number in range(100):
        node = Node(number, node)
    return node


def array_of(items: list[object]) -> Any:
    """Make an array of objects."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def captured(items: list[object]) -> Callable[[], object]:
    """Make a function that captures them."""
    return lambda: items


def table_of(items: list[object]) -> Any:
    """Make a data frame with a column of objects, and one of numbers."""
    return pd.DataFrame(
        {"number": np.arange(len(items)), "held": np.array([*items, 0], object)[:-1]}
    )


def index_of(items: list[object]) -> Any:
    """Make a series with an index of objects."""
    return pd.Series(np.arange(len(items)), index=pd.Index(array_of(items), dtype=object))


# How many there are, what makes each of them, and what makes the whole.
SHAPES: dict[str, tuple[int, Callable[[Any], object], Callable[[list[object]], object]]] = {
    "numbers": (10 * MANY, int, list),
    "texts": (MANY, str, list),
    "tuples": (MANY, lambda held: (held, "x"), list),
    "values of a dictionary": (MANY, int, lambda items: dict(enumerate(items))),
    "a thousand lists of a thousand": (1000, lambda held: [*range(999), held], list),
    "dates": (MANY // 4, lambda held: date.fromordinal(held + 1), list),
    "ordinary instances": (MANY // 4, Ordinary, list),
    "instances with slots": (MANY // 4, Slotted, list),
    "data classes": (MANY // 4, Data, list),
    "an array of objects": (MANY, str, array_of),
    "captured by a function": (MANY, int, captured),
    "lists, 2,000, 50 deep": (2000, partial(nested, 50, in_list), list),
    "lists, 10, 50 deep": (10, partial(nested, 50, in_list), list),
    "tuples, 10, 50 deep": (10, partial(nested, 50, in_tuple), list),
    "dictionaries, 10, 50 deep": (10, partial(nested, 50, in_dict), list),
    "lists among others, 10, 50 deep": (10, partial(nested, 50, among_others), list),
    "mixed, 10, 50 deep": (10, partial(nested, 50, in_any), list),
    "instances, 10, 50 deep": (10, partial(nested, 50, in_instance), list),
    "lists, 300 deep": (1, partial(nested, 300, in_list), list),
    "tuples, 300 deep": (1, partial(nested, 300, in_tuple), list),
    "dictionaries, 300 deep": (1, partial(nested, 300, in_dict), list),
    "lists among others, 300 deep": (1, partial(nested, 300, among_others), list),
    "mixed, 200 deep": (1, partial(nested, 200, in_any), list),
    "instances, 200 deep": (1, partial(nested, 200, in_instance), list),
    "slots, 200 deep": (1, partial(nested, 200, in_slot), list),
    "data classes with slots, 200 deep": (1, partial(nested, 200, in_data), list),
    "a list of linked nodes": (1, linked, list),
    "a tree of nodes": (1, partial(tree, 7), list),
    "small trees of nodes": (500, partial(tree, 2), list),
}
if pd is not None:
    SHAPES["a column of objects"] = (MANY, str, table_of)
    SHAPES["an index of objects"] = (MANY, str, index_of)
    SHAPES["small columns of objects"] = (10, lambda held: table_of([1, held, "x"]), list)


def built(shape: str, place: int, held: object) -> object:
    """Make a shape that holds something at one place: where it can, in one of its parts."""
    count, make, whole = SHAPES[shape]
    items = [make(number) for number in range(count)]
    at = place * (count - 1) // 2
    items[at] = held if make in (int, str) or isinstance(items[at], date) else make(held)
    return whole(items)


def seconds_of(whole: object) -> float:
    """Return the processor time that an encoder takes for a call, or for its error."""
    encoder = CallEncoder()
    start = time.process_time()
    try:
        encoder.encode(print, (), {"whole": whole})
    except PayloadError as error:
        check("lock" in str(error))
    return time.process_time() - start


def main() -> None:
    """Print a line for each shape."""
    for shape in sys.argv[1:] or SHAPES:
        ratios = []
        for place in range(3):
            good, bad = built(shape, place, 7), built(shape, place, LOCK)
            # By turns: the speed of a machine changes. What takes little is tried more often.
            times = [(seconds_of(good), seconds_of(bad))]
            while len(times) < ROUNDS or (sum(map(sum, times)) < LEAST and len(times) < MOST):
                times.append((seconds_of(good), seconds_of(bad)))
            pickling, error = (min(some) for some in zip(*times, strict=True))
            ratios.append(error / pickling)
        print(f"{shape:34s}", *(f"{ratio:6.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
