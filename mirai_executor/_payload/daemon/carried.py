"""Carries over what has been changed in place, to values that arrive once more.

Names that share an object come as one entry. If a daemon has one of them already, and meets the
others for the first time, it gets new objects for all: only these are what the names share. What
an initializer or a task has changed in the old one, is done to the new one then::

    here, changed in place    CACHE ──► {"x": 1}
    arrive together           CACHE ──► {} ◄── ALIAS
    afterwards                CACHE ──► {"x": 1} ◄── ALIAS
"""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from types import CellType, FunctionType, ModuleType
from typing import Any

from mirai_executor._payload.common.entries import DIGEST_SIZE, Applied

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or as if
_DICTS = frozenset({Counter, OrderedDict, defaultdict, dict})
_LISTS = frozenset({deque, list})
_CARRIED = _DICTS | _LISTS | {CellType, FunctionType, bytearray, set, tuple}


def carry_over(
    names: Sequence[str],
    digest: bytes,
    values: Mapping[str, object],
    applied: Applied,
    is_as_set: Callable[[str], tuple[bool, object]],
) -> Container[str]:
    """Keep what has happened here to names that come once more, with others that are new.

    If all have come before, or the host has changed one of them, they follow the host together.

    Args:
        names: The names of the entry.
        digest: Its digest, which consists of theirs.
        values: What they are to be set to.
        applied: Which of them have come before.
        is_as_set: Tells whether a name is bound to what it was set to, and its value.

    Returns:
        Those that have been bound to something else here, and stay so.
    """
    own = [digest[i : i + DIGEST_SIZE] for i in range(0, len(digest), DIGEST_SIZE)]
    known = [name for name, each in zip(names, own, strict=True) if applied.has(name, each)]
    if len(known) == len(names) or sum(name in applied for name in names) > len(known):
        return ()
    rebound, pairs = [], []
    for name in known:
        is_same, value = is_as_set(name)
        if is_same:
            pairs.append((values[name], value))
        else:
            rebound.append(name)
    _carry_over(pairs)
    return rebound


def _carry_over(pairs: Iterable[tuple[object, object]]) -> None:
    """Give new objects the content of old ones, and that of their parts to their parts.

    Args:
        pairs: The new and the old object, which have been the same once.
    """
    found: list[tuple[Any, Any]] = []
    new_of: dict[int, Any] = {}  # by the id of the old one, which is alive
    taken: set[int] = set()
    waiting = list(pairs)
    while waiting:
        new, old = waiting.pop()
        kind = type(old)
        if new is old or type(new) is not kind or id(old) in new_of or id(new) in taken:
            continue
        if kind not in _CARRIED and not _has_attributes(kind):
            continue
        new_of[id(old)] = new
        taken.add(id(new))
        found.append((new, old))
        waiting += _parts(new, old)
    for new, old in found:
        _fill(new, old, new_of)


def _parts(new: Any, old: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what two objects have at the same place."""
    kind = type(old)
    if kind in _DICTS:
        yield from ((new[key], value) for key, value in old.items() if key in new)
    elif kind in _LISTS or kind is tuple:
        yield from zip(new, old, strict=False)
    elif kind is CellType:
        if not (_is_empty(new) or _is_empty(old)):
            yield new.cell_contents, old.cell_contents
    elif kind is FunctionType:
        yield from zip(new.__closure__ or (), old.__closure__ or (), strict=False)
        yield from zip(new.__defaults__ or (), old.__defaults__ or (), strict=False)
        yield new.__kwdefaults__, old.__kwdefaults__
        yield new.__dict__, old.__dict__
    elif _has_attributes(kind):
        yield vars(new), vars(old)


def _fill(new: Any, old: Any, new_of: dict[int, Any]) -> None:
    kind = type(old)
    if kind in _DICTS:
        content = {key: new_of.get(id(value), value) for key, value in old.items()}
        new.clear()
        new.update(content)
    elif kind in _LISTS:
        items = [new_of.get(id(item), item) for item in old]
        new.clear()
        new.extend(items)
    elif kind is bytearray:
        new[:] = old
    elif kind is set:
        items = [new_of.get(id(item), item) for item in old]
        new.clear()
        new.update(items)
    elif kind is CellType and not _is_empty(old):
        new.cell_contents = new_of.get(id(old.cell_contents), old.cell_contents)


def _is_empty(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises if it is
    except ValueError:
        return True
    return False


def _has_attributes(kind: Any) -> bool:
    """Tell whether instances are what their attributes are: those of most classes in Python."""
    return (
        bool(kind.__flags__ & _HEAP_TYPE)
        and kind.__dictoffset__ != 0
        and not issubclass(kind, (type, ModuleType, BaseException))
    )
