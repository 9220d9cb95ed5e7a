"""Says which part of an object cannot be pickled, and whether pickle or user code said so."""

import functools
import sys
from collections.abc import Callable, Iterator
from types import CoroutineType, FunctionType, MethodType

from mirai_executor._payload import annotations
from mirai_executor._payload.pickles import PicklingError
from mirai_executor._payload.places import home_of_globals
from mirai_executor._typing import Any
from mirai_executor.errors import PayloadError

__all__ = ["describe", "explain", "parts_of_function", "said_by_pickle"]

_LONGEST = 200  # characters of a foreign text in a message of ours
_MOST_PROBES = 200
_DEEPEST = 20
_REFUSALS = ("cannot pickle", "can't pickle", "can't get local object")


def said_by_pickle(error: BaseException) -> bool:
    """Tell whether the pickler refused an object; otherwise the user's own code raised this."""
    if isinstance(error, RecursionError):
        return True
    if not isinstance(error, (TypeError, AttributeError, PicklingError)):
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


def describe(error: BaseException) -> str:
    """Return the class and text of an error, never too long, never failing."""
    try:
        text = str(error)
    except Exception:  # a user's __str__
        text = "<its text cannot be shown>"
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def explain(
    parts: dict[str, Any], probe: Callable[[object], object], error: BaseException
) -> PayloadError:
    """Return the error that names the smallest part that pickle refuses.

    Args:
        parts: The whole, by the names that the user knows: ``args[0]``, ``result``.
        probe: Pickles one object, and raises where that fails.
        error: What pickle said.
    """
    search = _Search(probe)
    path, culprit = search.smallest(parts)
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


class _Search:
    def __init__(self, probe: Callable[[object], object]) -> None:
        self._probe = probe
        self._probes = 0
        self._seen: set[int] = set()

    def smallest(self, parts: dict[str, Any]) -> tuple[str, object]:
        path, culprit = " or ".join(parts), next(iter(parts.values()), None)
        candidates: Iterator[tuple[str, object]] = iter(parts.items())
        for _ in range(_DEEPEST):
            found = next(((p, o) for p, o in candidates if self._fails(o)), None)
            if found is None:
                break
            path, culprit = found
            if _advice(culprit) or _refuses_itself(culprit):
                break
            candidates = _children(path, culprit)
        return path, culprit

    def _fails(self, obj: object) -> bool:
        if id(obj) in self._seen or self._probes >= _MOST_PROBES:
            return False
        self._seen.add(id(obj))
        self._probes += 1
        try:
            self._probe(obj)
        except Exception:  # that is the question
            return True
        return False


def _advice(obj: object) -> str:
    """Return what to do instead of sending an object of a kind that can never travel."""
    for module in ("concurrent.futures._base", "asyncio.futures"):
        # Not imported for this: without the module, there is no such object.
        if isinstance(obj, getattr(sys.modules.get(module), "Future", ())):
            return "it belongs to the process that created it; send its result instead"
    if isinstance(obj, CoroutineType):
        return (
            "a daemon calls functions, and awaits nothing; pass it a function that calls "
            "asyncio.run()"
        )
    return ""


def _refuses_itself(obj: object) -> bool:
    """Tell whether an object's own ``__reduce__`` raises: it explains more than its parts do."""
    if type(obj).__reduce__ is object.__reduce__:
        return False
    try:
        obj.__reduce__()
    except Exception:  # that is the question
        return True
    return False


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
