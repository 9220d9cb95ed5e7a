"""Pickles what holds nothing of ``__main__`` at the speed of C, and gives up on the rest.

Numbers, texts, containers and arrays never meet any Python here. What does meet it is looked at
once for each class and function, and from then on only compared with what was seen. The first
object that plain pickle would get wrong ends the attempt: the careful picklers of ``pickler.py``
begin again, and a ``__reduce__`` before it runs a second time.
"""

import copyreg
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType

from mirai_executor._payload.common import buffers as pickle
from mirai_executor._payload.common.buffers import OutOfBand, Pieces, Value, dump_value, made_value
from mirai_executor._payload.common.entries import MULTIPROCESSING, PROTOCOL, WITH_CARE
from mirai_executor._payload.common.importable import (
    Kind,
    kind_of,
    registered_by_value,
    what_is_known_of_modules,
)
from mirai_executor._typing import Any, NamedTuple

__all__ = ["PlainPickler", "dump_plainly", "has_no_state", "is_imported", "seen_places"]

_MOST_SEEN = 4096
_SHORT = 4096  # bytes


class _NeedsCare(Exception):  # noqa: N818 - a way out, not an error
    """Plain pickle is not enough."""


class PlainPickler(pickle.Pickler):
    """Pickles by name what a fresh interpreter imports, and nothing that has another home.

    It is used again and again: to make one takes longer than to pickle most calls.
    """

    seen: "_Places"

    def __init__(self, file: Any, beside: OutOfBand | None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=beside)
        self.file = file
        self.beside = beside
        self.good: set[type] = set()  # the classes whose instances are pickled as usual

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        good = self.good
        if kind in good or (kind is type and obj in good) or kind is BuiltinFunctionType:
            return NotImplemented
        if kind is FunctionType or issubclass(kind, type):
            if not _is_among(self.seen, obj):
                raise _NeedsCare
        elif (
            not _is_among(self.seen, kind)
            or self.seen[id(kind)].instances_need_care
            or (
                # Looked at for each payload: a type may be registered at any time.
                (reduction := sys.modules.get(MULTIPROCESSING)) is not None
                and kind in reduction.ForkingPickler._extra_reducers  # noqa: SLF001 - see descriptors.py
            )
        ):
            raise _NeedsCare
        else:
            good.add(kind)
        return NotImplemented


def _plain_pickler(file: Any, beside: OutOfBand | None) -> PlainPickler:
    pickler = PlainPickler(file, beside)
    pickler.seen = _seen.now()
    return pickler


# Those that nobody uses. Each call takes one out: other threads may call, and what is pickled.
_free: list[PlainPickler] = []


def dump_plainly(obj: object, *, out_of_band: bool = False, apart: bool = False) -> Value | None:
    """Pickle an object; None if only a careful pickler gets it right."""
    try:
        if apart and (value := _dump_short(obj)) is not None:
            return value
        return dump_value(_plain_pickler, obj, out_of_band=out_of_band)
    except Exception:  # of the user's code, too: the careful pickler says what is wrong
        return None


def _dump_short(obj: object) -> Value | None:
    """Pickle an object; None if what others may change has to be pickled anew."""
    try:
        pickler = _free.pop()
    except IndexError:
        pickler = PlainPickler(Pieces(), OutOfBand())
    pickler.seen = _seen.now()
    pickler.dump(obj)
    pieces: Pieces = pickler.file
    if len(pieces) > 1 or len(pieces[0]) > _SHORT or pickler.beside:
        return pieces.settle(tuple(pickler.beside or ()))
    value = made_value(pieces.pop())
    # Not of a long one: it would keep the memory of its memo for good.
    pickler.clear_memo()
    pickler.good.clear()
    _free.append(pickler)
    return value


def _needs_care(kind: type) -> bool:
    """Tell whether instances of a type may be pickled here in a way of our own."""
    if kind is object or _has_sentinels(kind):
        return True
    if kind.__module__ not in WITH_CARE:
        return issubclass(kind, (ModuleType, BaseException))
    from mirai_executor._payload.common.reducers import (
        needs_care,
    )  # with cloudpickle, and much else

    return needs_care(kind)


def _has_sentinels(kind: Any) -> bool:
    """Tell whether a type's module names an instance that is only itself: see pickler.py."""
    if kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        return False
    names = vars(sys.modules[kind.__module__])
    return any(type(v) is kind and has_no_state(v) for v in list(names.values()))


def has_no_state(obj: object) -> bool:
    """Tell whether pickle would make a new object of nothing but the class of this one."""
    if getattr(obj, "__dict__", None) or type(obj) in copyreg.dispatch_table:
        return False
    try:
        reduced = obj.__reduce_ex__(PROTOCOL)
    except Exception:  # then pickle says what is wrong, or knows another way
        return False
    return reduced[1:] == ((type(obj),), None, None, None)


def is_imported(obj: Any) -> bool:
    """Tell whether a fresh interpreter imports a function or class by its name.

    home_of() in short, for names without a dot: this is on the path of every call.
    """
    return _is_among(_seen.now(), obj)


class _Place(NamedTuple):
    """Where a class or function was found."""

    obj: Any
    module_name: str
    module: ModuleType
    names: dict[str, Any]  # the module's
    file: Any  # the module's
    instances_need_care: bool


_Places = dict[int, _Place]  # by id


class _Seen:
    """The classes and functions that a fresh interpreter was seen to import."""

    def __init__(self) -> None:
        self._places: tuple[object, _Places] = (None, {})

    def now(self) -> _Places:
        """Return what still holds, as far as ``sys.path`` and cloudpickle's registry go."""
        if registered_by_value():
            return {}
        known = what_is_known_of_modules()
        known_then, places = self._places
        if known_then is not known:
            places = {}
            self._places = known, places  # at once: another thread must not take one for the other
        return places


_seen = _Seen()
seen_places = _seen.now


def _is_among(places: _Places, obj: Any) -> bool:
    """Compare with what was seen; look anew where that is not so any more."""
    place = places.get(id(obj))
    if place is not None:
        known, module_name, module, names, file, _ = place
        if (
            known is obj
            and obj.__module__ == module_name
            and sys.modules.get(module_name) is module
            and names.get(obj.__qualname__) is obj
            and names.get("__file__") is file
        ):
            return True
    return _look(places, obj)


def _look(places: _Places, obj: Any) -> bool:
    module_name = obj.__module__
    module = sys.modules.get(module_name)
    if module is None:
        return False
    names = vars(module)
    if names.get(obj.__qualname__) is not obj or kind_of(module_name) is not Kind.IMPORTABLE:
        return False
    if len(places) >= _MOST_SEEN:
        places.clear()
    care = isinstance(obj, type) and _needs_care(obj)
    places[id(obj)] = _Place(obj, module_name, module, names, names.get("__file__"), care)
    return True
