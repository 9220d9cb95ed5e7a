"""Says what an object holds that travels with it, and in words how one gets to a part of it."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice, repeat
from operator import is_, length_hint
from types import FunctionType, MemberDescriptorType, ModuleType

from mirai_executor._payload.common import annotations
from mirai_executor._payload.common.fast_pickle import ATOMS
from mirai_executor._payload.common.importable import Travel, home_of, home_of_globals
from mirai_executor._typing import Any

_FEW = 8  # items
PLAIN = frozenset({dict, frozenset, list, set, tuple})
_CONTAINERS: tuple[Any, ...] = (dict, frozenset, list, set, tuple)  # and their subclasses

_Getter = Callable[[object], Any]


def rows_of(obj: Any) -> tuple[Collection[Any], ...]:
    """Return the parts of an object, as they are counted: keys after all values."""
    kind: Any = type(obj)
    if kind is dict:
        return obj.values(), obj.keys()
    if kind in PLAIN:
        return (obj,)
    if (getters := _getters_of(kind)) is not None:
        return (_values_of(obj, getters) if getters else vars(obj).values(),)
    if is_array_of_objects(obj):
        return (obj.ravel().tolist(),)
    if _travels_by_name(obj):
        return ()
    return *_rows_of_container(obj), [part for _, part in _attributes("", obj)]


def in_order(obj: Any) -> Iterable[Any]:
    """Return the parts of an object in the order in which they are pickled."""
    if isinstance(obj, dict):
        first = chain.from_iterable(dict.items(obj))
        return first if type(obj) is dict else chain(first, *rows_of(obj)[2:])
    return chain(*rows_of(obj))


def place_in(obj: Any, part: object) -> int | None:
    """Return where an object is among the parts of another one; None if it is not."""
    if (type(obj) is list or type(obj) is tuple) and len(
        obj
    ) < _FEW:  # most often: at half the cost
        for place, each in enumerate(obj):
            if each is part:
                return place
        return None
    start = 0
    for items in rows_of(obj):
        rest = iter(items)
        if any(map(is_, rest, repeat(part))):
            return start + len(items) - length_hint(rest) - 1
        start += len(items)
    return None


def step(path: str, holder: Any, part: object, place: int | None = None) -> str:
    """Return the path to a part, from that to what holds it.

    Args:
        path: That.
        holder: What holds the part.
        part: The part.
        place: Its place among all the parts, if that is known.
    """
    if place is None:
        place = place_in(holder, part) or 0
    kind = type(holder)
    return (
        f"{path}[{place}]" if kind is list or kind is tuple else _step(path, holder, place, part)
    )


def _step(path: str, holder: Any, place: int, part: object) -> str:
    # Not by words for all parts of a container, of which each key would be put into words.
    kind = _container_of(type(holder))
    length = 0 if kind is None else kind.__len__(holder)
    if kind is dict:
        if place < length:
            return f"{path}[{_short(next(islice(dict.keys(holder), place, None)))}]"
        if place < 2 * length:
            return f"key {_short(part)} of {path}"
        length *= 2
    elif place < length:
        return f"{path}[{place}]" if kind in (list, tuple) else f"a member of {path}"
    if is_array_of_objects(holder):
        return f"{path}.flat[{place}]"
    words = islice(_attributes(path, holder), place - length, None)
    return next(words, (path, None))[0]


def parts_of_function(path: str, function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what travels with a function by value, with the words that lead to it."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{name!r} captured by {path}", cell.cell_contents
        except ValueError:  # empty
            continue
    defaults = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
    yield from ((f"the defaults of {path}[{k!r}]", v) for k, v in defaults.items())
    where, said = annotations.of_function(function)
    if where == "__annotate__":
        yield f"the annotations of {path}", said
    else:
        yield from ((f"the annotations of {path}[{k!r}]", v) for k, v in said.items())
    if home_of_globals(function.__globals__) is None:  # otherwise they don't travel with it
        for name in function.__code__.co_names:
            if name in function.__globals__:
                yield f"global {name!r} of {path}", function.__globals__[name]


def forget_classes() -> None:
    """Let go of the classes that were looked at."""
    _getters_of.cache_clear()


def is_no_atom(obj: object) -> bool:
    """Tell whether something may hold anything."""
    return type(obj) not in ATOMS


def is_array_of_objects(obj: Any) -> bool:
    """Tell whether something is an array of NumPy that holds objects."""
    kind = type(obj)
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray" and obj.dtype.kind == "O"


@functools.lru_cache(maxsize=64)
def _getters_of(kind: Any) -> "tuple[_Getter, ...] | None":
    """Return what gets the attributes that are in no dictionary; None if there is more to see.

    Instances of most classes have attributes and nothing else.
    """
    if issubclass(kind, (*_CONTAINERS, type, FunctionType, ModuleType)):
        return None
    getters = tuple(_members_of(kind).values())
    return getters if getters or kind.__dictoffset__ else None


def _members_of(kind: Any) -> "dict[str, _Getter]":
    return {
        name: member.__get__
        for base in reversed(kind.__mro__)
        for name, member in vars(base).items()
        if type(member) is MemberDescriptorType
    }


def _values_of(obj: object, getters: "tuple[_Getter, ...]") -> list[Any]:
    found: list[Any] = [*vars(obj).values()] if type(obj).__dictoffset__ else []
    for get in getters:
        try:
            found.append(get(obj))
        except AttributeError:  # it has no value
            continue
    return found


def _rows_of_container(obj: Any) -> tuple[Collection[Any], ...]:
    """Return what an instance of a subclass holds as a container, not asking its own methods."""
    kind = _container_of(type(obj))
    if kind is dict:
        return dict.values(obj), dict.keys(obj)
    return () if kind is None else ([*kind.__iter__(obj)],)


def _container_of(kind: type) -> Any:
    return kind if kind in PLAIN else next((k for k in _CONTAINERS if issubclass(kind, k)), None)


def _travels_by_name(obj: object) -> bool:
    if isinstance(obj, (type, FunctionType)):
        home = home_of(obj)
        return home is not None and home.kind is Travel.IMPORTABLE
    return isinstance(obj, ModuleType)


def _attributes(path: str, obj: object) -> Iterator[tuple[str, object]]:
    if isinstance(obj, FunctionType):
        yield from parts_of_function(path, obj)
    names = vars(obj) if isinstance(obj, type) else getattr(obj, "__dict__", None)
    if isinstance(names, dict) or isinstance(obj, type):
        yield from ((f"{path}.{name}", value) for name, value in (names or {}).items())
    kind: Any = type(obj)
    for name, get in () if isinstance(obj, type) else _members_of(kind).items():
        try:
            yield f"{path}.{name}", get(obj)
        except AttributeError:  # it has no value
            continue


def _short(key: object) -> str:
    try:
        text = repr(key)
    except Exception:  # of the user's code: what is to be said is something else
        text = f"<{type(key).__name__} object>"
    return text if len(text) <= 40 else text[:40] + "…"
