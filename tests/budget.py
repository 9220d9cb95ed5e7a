"""Decides how often a chaos test repeats itself: until its time is up, or with ``--full`` always.

How far each of them came, the end of the run says.
"""

import math
import time
from collections.abc import Callable, Iterator

import pytest

PROPERTY = "rounds"


def add_options(parser: pytest.Parser) -> None:
    parser.addoption(
        "--minutes",
        type=float,
        default=1.0,
        help="how long a chaos test may go on with its rounds (default: 1)",
    )
    parser.addoption(
        "--full", action="store_true", help="have chaos tests do all their rounds, and all sizes"
    )


class Budget:
    """The time that a test has for its rounds, from its first one on."""

    def __init__(self, seconds: float, record: Callable[[str, object], None]) -> None:
        self._seconds = seconds
        self._record = record

    def rounds(self, most: int) -> Iterator[int]:
        """Count from 0 up to ``most``, or until the time is up; at least one round is made."""
        deadline = time.monotonic() + self._seconds
        done = 0
        while done < most and (done == 0 or time.monotonic() < deadline):
            yield done
            done += 1
        self._record(PROPERTY, f"{done:,} of {most:,} rounds")


@pytest.fixture
def budget(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Budget:
    options = request.config.option
    return Budget(math.inf if options.full else 60 * options.minutes, record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many rounds each test has made."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == PROPERTY:
                terminalreporter.write_line(f"{value}: {report.nodeid}")
