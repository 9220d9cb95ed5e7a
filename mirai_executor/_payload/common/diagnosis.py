"""Says which part of an object cannot be pickled, and whether pickle or user code said so."""

import collections
import functools
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import compress, repeat
from operator import is_, length_hint
from types import CoroutineType, FunctionType, GeneratorType, MethodType, ModuleType

from mirai_executor._payload.common import annotations
from mirai_executor._payload.common.fast_pickle import ATOMS, PicklingError
from mirai_executor._payload.common.importable import Kind, home_of, home_of_globals
from mirai_executor._payload.common.wording import describe, is_of_a_hook
from mirai_executor._typing import Any, NamedTuple
from mirai_executor.errors import PayloadError

__all__ = ["explain", "parts_of_function", "said_by_pickle"]

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
    """Return the shortest path to an object, in words; None if none is found.

    Almost all of the search is done in C: it may take no longer than pickling does.
    """
    seen: dict[int, object] = {}
    waiting = collections.deque([_Some([list(parts.values())], None)])
    while waiting and len(seen) < _MOST_SEEN:
        some = waiting.popleft()
        found = _parts_of(some.objects, target)
        if any(map(is_, found, repeat(target))):
            return _in_words(target, some, list(parts))
        found = _without_atoms(found)
        new = dict(zip(map(id, found), found, strict=True))
        for known in seen.keys() & new.keys():
            del new[known]
        seen.update(new)  # and keep alive what is made only to be looked at
        objects = list(new.values())
        waiting.extend(
            _Some(objects[i : i + _AT_ONCE], some) for i in range(0, len(objects), _AT_ONCE)
        )
    return None


def _without_atoms(objects: list[Any]) -> list[Any]:
    """Leave numbers, texts and the like out, which hold nothing and can all be pickled."""
    kept: list[Any] = []
    for i in range(0, len(objects), _AT_ONCE):
        some = objects[i : i + _AT_ONCE]
        kinds = set(map(type, some))
        if kinds.isdisjoint(ATOMS):
            kept += some
        elif others := kinds - ATOMS:
            kept += compress(some, map(others.__contains__, map(type, some)))
    return kept


def _parts_of(objects: list[Any], target: object) -> list[Any]:
    """Return all that these objects have, and that travels with them; or this one alone."""
    kinds = set(map(type, objects))
    if kinds <= _PLAIN and sum(map(len, objects)) < _LONG * len(objects):
        return gc.get_referents(*objects)
    found: list[Any] = []
    plain: list[Any] = []
    for obj in objects:
        kind: Any = type(obj)
        if kind in _PLAIN:
            plain.append(obj)
        elif _is_simple(kind):
            found += vars(obj).values()
        elif not _travels_by_name(obj):
            found += [part for _, part in _children("", obj)]
    return found + _items_of(plain, target)


def _items_of(plain: list[Any], target: object) -> list[Any]:
    looked_at = []
    for obj in plain:
        if type(obj) is not dict and len(obj) >= _LONG:
            if any(map(is_, obj, repeat(target))):
                return [target]
            if set(map(type, obj)) <= ATOMS:  # often lists of numbers, which may be left out
                continue
        looked_at.append(obj)
    return gc.get_referents(*looked_at)


@functools.lru_cache(maxsize=64)
def _is_simple(kind: Any) -> bool:
    """Tell whether instances have attributes and nothing else, as those of most classes do."""
    special = (*_PLAIN, type, FunctionType, MethodType, ModuleType, functools.partial)
    return (
        not issubclass(kind, special)
        and kind.__dictoffset__ != 0
        and not any("__slots__" in vars(base) for base in kind.__mro__)
    )


def _travels_by_name(obj: object) -> bool:
    if isinstance(obj, (type, FunctionType)):
        home = home_of(obj)
        return home is not None and home.kind is Kind.IMPORTABLE
    return isinstance(obj, ModuleType)


def _in_words(target: object, some: _Some, names: list[str]) -> str:
    """Say how one gets to an object that is a part of some others."""
    steps: list[tuple[Any, int, object]] = []
    level: _Some | None = some
    while level is not None:
        places = ((obj, _place_in(obj, target)) for obj in level.objects)
        holder, place = next((obj, place) for obj, place in places if place is not None)
        steps.append((holder, place, target))
        target, level = holder, level.above
    _, place, _ = steps.pop()
    path = names[place]
    for step, (holder, place, part) in enumerate(reversed(steps)):
        if step == _DEEPEST:
            return f"{path}…"
        path = _step(path, holder, place, part)
    return path


def _place_in(obj: Any, part: object) -> int | None:
    """Return where an object is among the parts of another one; None if it is not."""
    if type(obj) not in (list, tuple):
        obj = gc.get_referents(obj) if type(obj) in _PLAIN else _parts_of([obj], part)
    rest = iter(obj)
    return len(obj) - length_hint(rest) - 1 if any(map(is_, rest, repeat(part))) else None


def _step(path: str, holder: Any, place: int, part: object) -> str:
    # Not by all its children, of which each would be put into words.
    if type(holder) in (list, tuple):
        return f"{path}[{place}]"
    if type(holder) in (set, frozenset):
        return f"a member of {path}"
    if type(holder) is dict:
        keys = list(holder)
        number = _place_in(list(holder.values()), part)
        return (
            f"key {_short(part)} of {path}"
            if number is None
            else f"{path}[{_short(keys[number])}]"
        )
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
