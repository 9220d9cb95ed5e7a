"""Warns of functions that are pickled anew at each call, and are large."""

import warnings
import weakref
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from mirai_executor._payload.common.anatomy import parts_of_function
from mirai_executor._payload.common.entries import NameEntry
from mirai_executor._payload.common.pickler import dump
from mirai_executor._payload.host.callers import stacklevel
from mirai_executor._payload.host.table import CallPickler

LARGE = 1 << 20  # bytes; pickling so many takes about a millisecond


class LargeCaptures:
    """Notes functions whose captures were large, and warns of each once: the second time."""

    def __init__(self) -> None:
        self._has_warned: weakref.WeakKeyDictionary[FunctionType, bool] = (
            weakref.WeakKeyDictionary()
        )

    def note(self, fn: Any, size: int, entries: Iterable[NameEntry]) -> None:
        """Hear of a call that was pickled without a proof that its function is unchanged."""
        if type(fn) is not FunctionType or self._has_warned.get(fn):
            return
        large = [entry.name for entry in entries if len(entry.blob) > LARGE]
        if not large and size <= LARGE:
            return
        if fn not in self._has_warned:
            self._has_warned[fn] = False
            return
        self._has_warned[fn] = True
        large = large or [name for name, value in parts_of_function("it", fn) if _is_large(value)]
        if large:
            _warn(fn, large)


def _is_large(value: object) -> bool:
    try:
        return len(dump(CallPickler, value)) > LARGE
    except Exception:  # it was pickled just now, in other company
        return False


def _warn(fn: FunctionType, names: list[str]) -> None:
    warnings.warn(
        f"{fn.__qualname__}() is pickled again for each task, since it captures more than "
        f"{LARGE >> 20} MiB that may change: {', '.join(names)}; pass large data as arguments, "
        "best as a copy by share(), or load it on the daemons with an initializer",
        RuntimeWarning,
        stacklevel=stacklevel(),  # the line that submits
    )
