"""Finds the names whose values have an object in common, so that a daemon gets that once.

Each value was pickled on its own, and its pickler still knows every object that it has met. What
two of them have met is common to both, unless nobody could tell it from a copy: it travels by its
name, or is as immutable as a text. Of two large values, only the last instances in one are looked
for in the other, and each as an item of the other.
"""

from __future__ import annotations

import copyreg
import gc
import io
import sys
from collections.abc import Hashable, Iterable, Mapping
from itertools import repeat
from operator import is_
from pickle import BINGET, LONG_BINGET
from types import CellType, FunctionType, ModuleType
from typing import Any, TypeVar

from mirai_executor._payload.common.fast_pickle import ATOMS, PROTOCOL
from mirai_executor._payload.common.importable import home_of
from mirai_executor._payload.common.pickler import PayloadPickler, home_of_sentinel

Key = TypeVar("Key", bound=Hashable)

_LARGE = 1 << 16  # bytes

_KNOWN_TO_ALL = frozenset({"abc", "builtins", "dataclasses", "enum", "types", "typing"})
# Of these modules; all else that they define is made anew by whoever needs it, or has a name.
_OWN = frozenset({CellType, FunctionType, bytearray, dict, list, object, set})


def may_share(value: object) -> bool:
    """Tell whether a value can have a part in common with another: a quick look."""
    if type(value) is FunctionType:
        return bool(
            value.__defaults__ or value.__kwdefaults__ or value.__closure__ or value.__dict__
        )
    return type(value) not in ATOMS


class Met:
    """All that was met while the value of one name was pickled. It keeps that alive.

    Args:
        value: The value.
        pickler: What has pickled it, and nothing else.
        file: Where to; it is still open.
    """

    def __init__(self, value: object, pickler: PayloadPickler, file: io.BytesIO) -> None:
        self._pickler, self._file = pickler, file
        self.is_large = file.tell() > _LARGE
        self._value = value
        self._last = tuple(pickler.trail) if self.is_large else ()
        self._known = 0

    def objects(self) -> dict[int, object]:
        """Return what was met, by id; of a large value only its last instances."""
        if self.is_large:  # to list what it has met takes longer than to pickle it
            return {id(obj): obj for obj in self._last}
        return {each: obj for each, (_, obj) in self._pickler.memo.copy().items()}

    def holds(self, other: Met) -> bool:
        """Tell whether this value is another one, or holds it as one of its items."""
        found = gc.get_referents(self._value)
        return self._value is other._value or any(map(is_, found, repeat(other._value)))

    def has(self, obj: object) -> bool:
        """Tell whether an object was met, at the cost of pickling it if it was not."""
        if not self._known:
            mark: list[object] = []
            self._number_of(mark)  # now it has the next number
            self._known = self._number_of(mark)
        try:
            return self._number_of(obj) < self._known
        except Exception:  # of the user's code, which did better before
            return False

    def _number_of(self, obj: object) -> int:
        """Return an object's number in the memo, which is what the pickler writes then."""
        start = self._file.tell()
        self._pickler.dump(obj)
        written = bytes(self._file.getbuffer()[start:])
        self._file.truncate(start)
        self._file.seek(start)
        if len(written) == 5 and written[2:3] == BINGET:
            return written[3]
        if len(written) == 17 and written[11:12] == LONG_BINGET:
            return int.from_bytes(written[12:16], "little")
        return sys.maxsize


def sharing(met: Mapping[Key, Met]) -> list[tuple[Key, ...]]:
    """Return the groups of names that share something, in the order of the names."""
    groups: dict[Key, list[Key]] = {key: [key] for key in met}
    large = [key for key in met if met[key].is_large]
    owner_of: dict[int, Key] = {}
    for key in sorted(met, key=lambda key: met[key].is_large):
        objects = met[key].objects()
        for each in objects.keys() & owner_of.keys():
            other = owner_of[each]
            if groups[key] is not groups[other] and _is_itself(objects[each]):
                _unite(groups, key, other)
        for name in large:
            if groups[name] is not groups[key] and (
                _has_any(met[name], objects.values())
                or met[name].holds(met[key])
                or met[key].holds(met[name])
            ):
                _unite(groups, key, name)
        owner_of.update(dict.fromkeys(objects, key))
    found = {id(group): group for group in groups.values() if len(group) > 1}
    order = list(met)
    return [tuple(sorted(group, key=order.index)) for group in found.values()]


def _has_any(met: Met, objects: Iterable[object]) -> bool:
    return any(_is_itself(obj) and met.has(obj) for obj in objects)


def _unite(groups: dict[Key, list[Key]], one: Key, other: Key) -> None:
    united = groups[one] + groups[other]
    groups.update(dict.fromkeys(united, united))


def _is_itself(obj: Any) -> bool:
    """Tell whether a copy of an object is something else than the object."""
    kind: Any = type(obj)
    if issubclass(kind, (type, ModuleType)) or _is_enumeration(kind):
        return False
    if kind.__module__ in _KNOWN_TO_ALL:
        if kind not in _OWN:
            return False
    elif kind.__hash__ not in (None, object.__hash__) and not kind.__dictoffset__:
        return False  # it compares by value, and has no attributes that may change
    if kind is FunctionType or kind.__module__ == "functools":
        return home_of(obj) is None
    return home_of_sentinel(kind, obj) is None and not _has_name(obj)


def _is_enumeration(kind: type) -> bool:
    enum = sys.modules.get("enum")
    return enum is not None and issubclass(kind, enum.Enum)


def _has_name(obj: Any) -> bool:
    """Tell whether an object says of itself that it is found by its name."""
    kind: Any = type(obj)
    if kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__:
        return False
    reduce = copyreg.dispatch_table.get(kind)
    try:
        return isinstance(reduce(obj) if reduce else obj.__reduce_ex__(PROTOCOL), str)
    except Exception:  # of its own code
        return False
