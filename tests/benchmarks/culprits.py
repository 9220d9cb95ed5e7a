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

from benchmarks.checks import check
from mirai_executor._payload.host import CallEncoder
from mirai_executor.errors import PayloadError

MANY = 100_000
ROUNDS = 7
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


def nested(depth: int, held: object) -> object:
    """Put something into so many lists, one in the other."""
    for number in range(depth):
        held = [number, held]
    return held


def array_of(items: list[object]) -> Any:
    """Make an array of objects."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def captured(items: list[object]) -> Callable[[], object]:
    """Make a function that captures them."""
    return lambda: items


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
    "2,000 lists, 50 deep": (2000, partial(nested, 50), list),
    "10 lists, 50 deep": (10, partial(nested, 50), list),
    "one list, 300 deep": (1, partial(nested, 300), list),
}


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
        check("lock object" in str(error))
    return time.process_time() - start


def main() -> None:
    """Print a line for each shape."""
    for shape in sys.argv[1:] or SHAPES:
        ratios = []
        for place in range(3):
            good, bad = built(shape, place, 7), built(shape, place, LOCK)
            # By turns: the speed of a machine changes.
            times = [(seconds_of(good), seconds_of(bad)) for _ in range(ROUNDS)]
            pickling, error = (min(some) for some in zip(*times, strict=True))
            ratios.append(error / pickling)
        print(f"{shape:32s}", *(f"{ratio:6.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
