"""A task on its way, and which of them may be expected to take equally long."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any

from mirai_executor._typing import NamedTuple

if TYPE_CHECKING:
    from mirai_executor import _wire
    from mirai_executor._core import TaskId
    from mirai_executor._payload import host as _payload

    from ._outcomes import OpenFuture
    from ._settings import Limits

__all__ = ["OpenTask", "kind_of"]


class OpenTask(NamedTuple):
    """A task on its way: its future, and its call while it may still have to be sent.

    All in one: while thousands of them wait, each object more is one more to collect garbage from.
    """

    task: TaskId
    future: OpenFuture
    limits: Limits
    kind: int | None
    blob: bytes
    names: tuple[_payload.NameEntry, ...]
    buffers: tuple[_wire.Buffer, ...] = ()


def kind_of(fn: Any, args: tuple[Any, ...]) -> int | None:
    """Return the same number for calls of the same function; None if there is no telling.

    A function that is called with another one, such as the chunks of a ``map``, counts together
    with that one, and with the length of the list that comes next. By name, not by identity: the
    functions themselves may be gone when their next call comes, as lambdas are.
    """
    if type(fn) is FunctionType and not (args and callable(args[0])):
        return hash((fn.__module__, fn.__qualname__))  # as below, for most
    try:
        if not hasattr(fn, "__qualname__"):
            fn = getattr(fn, "__wrapped__", fn)
            while type(fn) is functools.partial:
                fn, args = fn.func, (*fn.args, *args)
        if args and callable(args[0]):
            size = len(args[1]) if len(args) > 1 and type(args[1]) is list else 0
            return hash((_name_of(fn), _name_of(args[0]), size))
        return hash(_name_of(fn))
    except Exception:  # the user's own __getattr__ or __hash__
        return None


def _name_of(fn: Any) -> tuple[Any, Any]:
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return named.__module__, named.__qualname__
