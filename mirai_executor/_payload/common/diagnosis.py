"""Says which part of an object cannot be pickled, and whether pickle or user code said so."""

import collections
import functools
import gc
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import compress, count, islice, repeat
from operator import is_, length_hint
from types import CoroutineType, FunctionType, GeneratorType, MethodType, ModuleType

from mirai_executor._payload.common import annotations
from mirai_executor._payload.common.fast_pickle import ATOMS, PicklingError
from mirai_executor._payload.common.importable import Kind, home_of, home_of_globals
from mirai_executor._payload.common.wording import describe, is_of_a_hook
from mirai_executor._typing import Any, NamedTuple
from mirai_executor.errors import PayloadError

_DEEPEST = 20  # steps of a path
_MOST_SEEN = 1_000_000  # objects: what is beyond is hardly worth the wait
_AT_ONCE = 256  # objects, so that little has to be looked at again
_LONG = 64  # items
_PLAIN = frozenset({dict, frozenset, list, set, tuple})
_REFUSALS = ("cannot pickle", "can't pickle", "can't get local object")


def said_by_pickle(error: BaseException) -> bool:
    """Tell whether the pickler refused an object; otherwise the user's own code raised this."""
    if isinstance(error, RecursionError):
        return True
    if not isinstance(error, (TypeError, AttributeError, PicklingError)) or is_of_a_hook(error):
        return False
    module = _module_that_raised(error)
    if module.partition(".")[0] in ("mirai_executor", "cloudpickle", "copyreg", "pickle"):
        return True
    # socket, ssl and others refuse in their own __getstate__.
    refuses = str(error).lower().startswith(_REFUSALS)
    return refuses and module.partition(".")[0] in sys.stdlib_module_names


def _module_that_raised(error: BaseException) -> str:
    trace, module = error.__traceback__, ""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
    return module


def explain(
    parts: dict[str, Any],
    trail: Sequence[object],
    probe: Callable[[object], object],
    error: BaseException,
) -> PayloadError:
    """Return the error that names what pickle refuses, and where it is.

    Args:
        parts: The whole, by the names that the user knows: ``args[0]``, ``result``.
        trail: What the pickler has taken apart last, in this order: it has refused the last one.
        probe: Pickles one object, and raises where that fails.
        error: What pickle said.
    """
    path, culprit = _found(parts, () if isinstance(error, RecursionError) else trail, probe)
    kind = type(culprit)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    why = _advice(culprit) or describe(error)
    explained = PayloadError(f"cannot pickle {path} (a {name} object): {why}")
    explained.__cause__ = error
    return explained


def _advice(obj: object) -> str:
    """Return what to do instead of sending an object of a kind that can never travel."""
    for module in ("concurrent.futures._base", "asyncio.futures"):
        # Not imported for this: without the module, there is no such object.
        if isinstance(obj, getattr(sys.modules.get(module), "Future", ())):
            return "it belongs to the process that created it; send its result instead"
    if isinstance(obj, CoroutineType):
        return "a coroutine cannot leave its process; pass the async function that returns it"
    if isinstance(obj, GeneratorType):
        return "a generator cannot leave its process; make a list of it, and send that"
    return ""


def _found(
    parts: dict[str, Any], trail: Sequence[object], probe: Callable[[object], object]
) -> tuple[str, object]:
    # What can never travel says more than its parts do.
    for culprit in (*filter(_advice, trail), *reversed(trail)):
        # If the last one exists only while it is pickled, one before it had it made: which fails.
        if culprit is trail[-1] or _fails(probe, culprit):
            path = _path_to(culprit, parts)
            if path is not None:
                return path, culprit
    for path, part in parts.items():
        if len(parts) == 1 or _fails(probe, part):
            return path, part
    return " or ".join(parts), next(iter(parts.values()), None)


def _fails(probe: Callable[[object], object], obj: object) -> bool:
    try:
        probe(obj)
    except Exception:  # that is the question
        return True
    return False


class _Some(NamedTuple):
    """Some objects of the same depth, and those whose parts they are."""

    objects: list[Any]
    above: "_Some | None"


def _path_to(target: object, parts: dict[str, Any]) -> str | None:
    """Return the shortest path to an object, in words; None if none is found."""
    # What the garbage collector does not track holds nothing that it does: numbers, texts, dates.
    # It does not know what arrays hold, though.
    for may_hold in (gc.is_tracked, _is_no_atom) if gc.is_tracked(target) else (_is_no_atom,):
        if (path := _Search(target, may_hold).path(parts)) is not None:
            return path
    return None


def _is_no_atom(obj: object) -> bool:
    return type(obj) not in ATOMS


class _Search:
    """Looks for an object among the parts of others, and their parts, breadth first.

    Almost all of it is done in C, and a long container is gone through once: it may take no
    longer than pickling does.
    """

    def __init__(self, target: object, may_hold: Callable[[object], bool]) -> None:
        self._target = target
        self._may_hold = may_hold
        self._place: tuple[object, int] | None = None  # a long holder, and where it is in it

    def path(self, parts: dict[str, Any]) -> str | None:
        seen: dict[int, object] = {}
        waiting = collections.deque([_Some([list(parts.values())], None)])
        while waiting and len(seen) < _MOST_SEEN:
            some = waiting.popleft()
            found = self._parts_of(some.objects)
            before = len(seen)
            seen.update(zip(map(id, found), found, strict=True))  # alive, if made to be looked at
            if id(self._target) in seen:
                return _in_words(self._target, some, list(parts), self._place)
            # A dictionary ends with its new keys.
            objects = list(islice(reversed(seen.values()), len(seen) - before))[::-1]
            for i in range(0, len(objects), _AT_ONCE):
                waiting.append(_Some(objects[i : i + _AT_ONCE], some))
        return None

    def _parts_of(self, objects: list[Any]) -> list[Any]:
        """Return all that these have, travels with them, and may be or hold the target."""
        if _PLAIN.issuperset(map(type, objects)) and max(map(len, objects)) < _LONG:
            return list(filter(self._may_hold, gc.get_referents(*objects)))
        found: list[Any] = []
        short: list[Any] = []
        for obj in objects:
            if type(obj) in _PLAIN and len(obj) < _LONG:
                short.append(obj)
            else:
                found += self._items_of(obj)
            if self._place is not None:
                return [self._target]
        return found + list(filter(self._may_hold, gc.get_referents(*short)))

    def _items_of(self, obj: Any) -> list[Any]:
        """Return the parts of something that is long, or no container of Python's."""
        found: list[Any] = []
        before = 0
        for items in _rows_of(obj):
            rest, begin, many = iter(items), 0, 1
            worth = filter(self._may_hold, rest)
            while some := list(islice(worth, many)):
                end = len(items) - length_hint(rest)
                if any(map(is_, some, repeat(self._target))):
                    place = end - 1 if many == 1 else _place_from(begin, items, self._target)
                    self._place = obj, before + place
                    return found
                found += some
                # Among numbers it is nearly alone: then there is no need to look for its place.
                begin, many = end, 1 if len(found) < _LONG else _AT_ONCE
            before += len(items)
        return found


def _place_from(begin: int, items: Collection[Any], part: object) -> int:
    hits = map(is_, islice(items, begin, None), repeat(part))
    return next(compress(count(begin), hits))


def _rows_of(obj: Any) -> tuple[Collection[Any], ...]:
    """Return the parts of an object, as they are counted: keys after all values."""
    kind: Any = type(obj)
    if kind is dict:
        return obj.values(), obj.keys()
    if kind in _PLAIN:
        return (obj,)
    if _is_simple(kind):
        return (vars(obj).values(),)
    if _is_array_of_objects(obj):
        return (obj.ravel().tolist(),)
    return () if _travels_by_name(obj) else ([part for _, part in _children("", obj)],)


@functools.lru_cache(maxsize=64)
def _is_simple(kind: Any) -> bool:
    """Tell whether instances have attributes and nothing else, as those of most classes do."""
    special = (*_PLAIN, type, FunctionType, MethodType, ModuleType, functools.partial)
    return (
        not issubclass(kind, special)
        and kind.__dictoffset__ != 0
        and not any("__slots__" in vars(base) for base in kind.__mro__)
    )


def _is_array_of_objects(obj: Any) -> bool:
    kind = type(obj)
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray" and obj.dtype.kind == "O"


def _travels_by_name(obj: object) -> bool:
    if isinstance(obj, (type, FunctionType)):
        home = home_of(obj)
        return home is not None and home.kind is Kind.IMPORTABLE
    return isinstance(obj, ModuleType)


def _in_words(
    target: object, some: _Some, names: list[str], known: tuple[object, int] | None
) -> str:
    """Say how one gets to an object that is a part of some others; of this one, if it is known."""
    steps: list[tuple[Any, object]] = []
    level: _Some | None = some
    while level is not None:
        holder = known[0] if known and not steps else _holder_among(level.objects, target)
        steps.append((holder, target))
        target, level = holder, level.above
    path = names[_place_in(*steps.pop()) or 0]
    for step, (holder, part) in enumerate(reversed(steps)):
        if step == _DEEPEST:
            return f"{path}…"
        place = known[1] if known and step == len(steps) - 1 else _place_in(holder, part) or 0
        path = _step(path, holder, place, part)
    return path


def _holder_among(objects: list[Any], part: object) -> Any:
    """Return the first of some objects that has a part, as one of them has."""
    while len(objects) > 1:
        half = len(objects) // 2
        objects = objects[:half] if _have(objects[:half], part) else objects[half:]
    return objects[0]


def _have(objects: list[Any], part: object) -> bool:
    if _PLAIN.issuperset(map(type, objects)):
        return any(map(is_, gc.get_referents(*objects), repeat(part)))
    return any(_place_in(obj, part) is not None for obj in objects)


def _place_in(obj: Any, part: object) -> int | None:
    """Return where an object is among the parts of another one; None if it is not."""
    start = 0
    for items in _rows_of(obj):
        rest = iter(items)
        if any(map(is_, rest, repeat(part))):
            return start + len(items) - length_hint(rest) - 1
        start += len(items)
    return None


def _step(path: str, holder: Any, place: int, part: object) -> str:
    # Not by all its children, of which each would be put into words.
    if type(holder) in (list, tuple):
        return f"{path}[{place}]"
    if type(holder) in (set, frozenset):
        return f"a member of {path}"
    if type(holder) is dict:
        if place >= len(holder):  # after all values
            return f"key {_short(part)} of {path}"
        return f"{path}[{_short(next(islice(holder, place, None)))}]"
    if _is_array_of_objects(holder):
        return f"{path}.flat[{place}]"
    return next((words for words, child in _children(path, holder) if child is part), path)


def _children(path: str, obj: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of an object, with the words that lead to them."""
    if isinstance(obj, dict):
        for key, value in obj.items():
            yield f"key {_short(key)} of {path}", key
            yield f"{path}[{_short(key)}]", value
    elif isinstance(obj, (list, tuple)):
        yield from ((f"{path}[{i}]", item) for i, item in enumerate(obj))
    elif isinstance(obj, (set, frozenset)):
        yield from ((f"a member of {path}", item) for item in obj)
    if isinstance(obj, FunctionType):
        yield from parts_of_function(path, obj)
    elif isinstance(obj, MethodType):
        yield f"{path}.__self__", obj.__self__
        yield f"{path}.__func__", obj.__func__
    elif isinstance(obj, functools.partial):
        yield f"{path}.func", obj.func
        yield from _children(f"{path}.args", obj.args)
        yield from _children(f"{path}.keywords", obj.keywords)
    yield from _attributes(path, obj)


def parts_of_function(path: str, function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what travels with a function by value, with the words that lead to it."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{name!r} captured by {path}", cell.cell_contents
        except ValueError:  # empty
            continue
    yield from _children(f"the defaults of {path}", function.__defaults__ or ())
    yield from _children(f"the defaults of {path}", function.__kwdefaults__ or {})
    where, said = annotations.of_function(function)
    if where == "__annotate__":
        yield f"the annotations of {path}", said
    else:
        yield from _children(f"the annotations of {path}", said)
    if home_of_globals(function.__globals__) is None:  # otherwise they don't travel with it
        for name in function.__code__.co_names:
            if name in function.__globals__:
                yield f"global {name!r} of {path}", function.__globals__[name]


def _attributes(path: str, obj: object) -> Iterator[tuple[str, object]]:
    names = getattr(obj, "__dict__", None)
    if isinstance(names, dict):
        yield from ((f"{path}.{name}", value) for name, value in names.items())
    elif isinstance(obj, type):
        yield from ((f"{path}.{name}", value) for name, value in vars(obj).items())
    for slot in getattr(type(obj), "__slots__", ()):
        if isinstance(slot, str) and hasattr(obj, slot):
            yield f"{path}.{slot}", getattr(obj, slot)


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 40 else text[:40] + "…"
