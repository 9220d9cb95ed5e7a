"""Tasks that draw random numbers. Daemons import this module by name."""

import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

from mirai_executor import rng

Draws = tuple[Any, ...]


def draw(*_: object) -> Draws:
    """Draw from every generator that is seeded, of which NumPy's may be imported only here."""
    own = random.random()
    import numpy as np

    return own, float(np.random.random()), float(rng().random()), float(rng().random())


def draw_plainly() -> float:
    return random.random()


def draw_unless_first(flag: Path) -> Draws:
    """Draw, and kill the daemon the first time."""
    drawn = draw()
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return drawn
    os._exit(1)


def draw_in_a_thread() -> float:
    drawn: list[float] = []
    thread = threading.Thread(target=lambda: drawn.append(float(rng().random())))
    thread.start()
    thread.join()
    return drawn[0]


def has_numpy() -> bool:
    return "numpy.random" in sys.modules
