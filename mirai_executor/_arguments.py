"""Checks the arguments of public calls, so that a wrong one is reported where it was given."""

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["check_callable", "check_count", "check_launcher", "check_options", "check_seconds"]


def check_seconds(name: str, value: Any, *, optional: bool = False, zero: bool = False) -> None:
    """Require a positive number of seconds.

    Args:
        name: What the caller calls it.
        value: What was given.
        optional: Whether it may be None.
        zero: Whether it may be 0.

    Raises:
        TypeError: It is not a number, or one that cannot be added to a moment, as a Decimal.
        ValueError: It is negative, NaN, or 0 where it may not be.
    """
    if value is None and optional:
        return
    sign = "zero or positive" if zero else "positive"
    wanted = f"{name} must be {sign}{', or None' if optional else ''} (seconds), not {value!r}"
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        raise TypeError(wanted)
    try:
        seconds = 0.0 + value
    except TypeError:
        raise TypeError(wanted) from None
    if not (seconds > 0 or (zero and seconds == 0)):  # NaN is neither
        raise ValueError(wanted)


def check_count(name: str, value: Any, least: int = 0, *, optional: bool = False) -> None:
    """Require an integer that is not too small.

    Args:
        name: What the caller calls it.
        value: What was given.
        least: The smallest value.
        optional: Whether it may be None.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is smaller than ``least``.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(
            f"{name} must be an integer{' or None' if optional else ''}, not {value!r}"
        )
    if value < least:
        raise ValueError(f"{name} must be >= {least}, not {value!r}")


def check_options(options: Iterable[str], valid: Sequence[str]) -> None:
    """Require names of options that exist.

    Raises:
        TypeError: There is no such option; the message lists those that there are.
    """
    for name in options:
        if name not in valid:
            raise TypeError(f"unknown option {name!r}; valid options: {', '.join(valid)}")


def check_callable(call: str, fn: object, also: str = "") -> None:
    """Require a function.

    Args:
        call: The name of the method that takes it.
        fn: What was given.
        also: What the method takes besides functions.

    Raises:
        TypeError: It cannot be called, as the result of ``f(x)`` in ``submit(f(x))`` cannot.
    """
    if not callable(fn):
        raise TypeError(
            f"{call}() takes a function and its arguments{also}: write {call}(f, x), "
            f"not {call}(f(x)); got {fn!r:.60}"
        )


def check_launcher(remote: object) -> None:
    """Require what :func:`ssh_config` and the like return, or None.

    Raises:
        TypeError: It cannot plan how to start daemons.
    """
    if remote is not None and not hasattr(remote, "plan"):
        raise TypeError(
            "remote must come from ssh_config(), cluster_config(), remote_config() or "
            f"http_config(), not be {remote!r:.60}"
        )
