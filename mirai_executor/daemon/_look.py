"""Looks at all channels at once: most tasks leave nothing, and every task pays for the look.

A channel is a few attributes that are compared with saved ones, because the daemon pays for all
of them after each task, also after one that took a microsecond. So each says by an expression what
holds while there is nothing to undo, and all of these are compiled into one: a loop over as many
functions would take two to three times as long.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from operator import is_

from mirai_executor._typing import Any, Final, Generic, Protocol, TypeVar

T = TypeVar("T")

_MODULES: Final = {module.__name__: module for module in (os, sys, threading, warnings)}
_LATER: Final = ("logging",)  # modules that somebody may import, or nobody


class Channel(Protocol):
    """One way in which a task can leave a trace.

    Attributes:
        name: What it is about.
        unless_left: An expression that is true while there is nothing to restore; if there is, it
            is false, raises, or restores it by itself. ``{c}`` stands for the channel, and
            ``{c.seen}`` for what its attribute was at the last :meth:`Look.refresh`: to look an
            attribute up takes as long as much of what is asked here. Modules are known by their
            names.
        unless_latched: The same where no watched function has been called.
    """

    name: str

    @property
    def unless_left(self) -> str: ...
    @property
    def unless_latched(self) -> str: ...
    def take(self) -> None: ...
    def restore(self) -> None: ...


LOOK: Final = "{c.look}() == {c.seen}"
NEVER: Final = "True"  # without a watched function, nothing is ever left


class Look:
    """Tells whether all of some expressions are true.

    Attributes:
        is_clear: Does so; an expression may raise instead.
    """

    def __init__(self, expressions: Iterable[tuple[Channel, str]]) -> None:
        self._attributes: dict[str, tuple[Channel, str]] = {}
        self._names: dict[str, Any] = {**_MODULES, "is_": is_}
        terms = []
        for number, (channel, expression) in enumerate(expressions):
            if expression != NEVER:
                name = f"c{number}"
                self._names[name] = channel
                terms.append(f"({expression.format(c=_Named(channel, name, self._attributes))})")
        code = compile(f"lambda: {' and '.join(terms)}", "<channels>", "eval")
        self.is_clear: Callable[[], bool] = eval(code, self._names)  # noqa: S307 - our own text

    def refresh(self) -> None:
        """Take note of what channels have become: after whatever changes their attributes."""
        self._names.update({name: sys.modules.get(name) for name in _LATER})
        for name, (channel, attribute) in self._attributes.items():
            self._names[name] = getattr(channel, attribute)


class _Named:
    """In a format string: a channel, and its attributes, by the names that stand for them."""

    def __init__(self, channel: Channel, name: str, found: dict[str, tuple[Channel, str]]) -> None:
        self.__channel, self.__name, self.__found = channel, name, found

    def __getattr__(self, attribute: str) -> str:
        name = f"{self.__name}_{attribute}"
        self.__found[name] = self.__channel, attribute
        return name

    def __str__(self) -> str:
        return self.__name


class Setting(Generic[T]):
    """A value that is cheap to read."""

    unless_left = unless_latched = LOOK
    seen: T

    def __init__(self, name: str, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self.name, self.look, self._write = name, read, write

    def take(self) -> None:
        self.seen = self.look()

    def restore(self) -> None:
        if self.look() != self.seen:
            self._write(self.seen)


class SetAnew(Generic[T]):
    """A value that is as cheap to set as to read, or that only setting it can tell."""

    unless_left = unless_latched = LOOK

    def __init__(self, name: str, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self.name, self._read, self._write = name, read, write

    def take(self) -> None:
        self.look = partial(self._write, self._read())
        self.seen = self.look()  # nothing, or the value that it has replaced

    def restore(self) -> None:
        self.look()
