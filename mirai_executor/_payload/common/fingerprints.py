"""Says in a few bytes how a value of ``__main__`` is defined, alike at a host and its daemons.

Both have made the value by running the same file. Where nobody has changed it since, they find
the same fingerprint, and the daemon's own stays. A fingerprint that differs although the values
are alike does no harm: then the value travels. So what cannot be looked into (a lock, a file)
counts by its type alone, and what would take long to look through has no fingerprint.

A function counts by its code, without the lines that it stands on; a class by all that its body
has set; what a module other than ``__main__`` has by its name, by that name.
"""

import copyreg
import marshal
import sys
from collections.abc import Callable, Iterable
from types import CellType, CodeType, FunctionType, MappingProxyType, ModuleType

from mirai_executor._payload.common.entries import DIGEST_SIZE, digest_of
from mirai_executor._payload.common.fast_pickle import PROTOCOL
from mirai_executor._payload.common.importable import MAIN, value_at
from mirai_executor._typing import Any

UNKNOWN = bytes(DIGEST_SIZE)  # of what would take too long, or fails

_MOST = 20_000  # objects to look at: milliseconds
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_CODE_PARTS = (
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_name"),
    *("co_qualname", "co_code", "co_exceptiontable", "co_consts", "co_names", "co_varnames"),
    *("co_freevars", "co_cellvars"),
)
# Of a class's namespace: what Python keeps there for itself, and says of where it stands.
_NOT_OF_THE_BODY = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__classdictcell__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__slotnames__",  # by copyreg, for the first instance that is pickled
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)


class _TooMuch(Exception):  # noqa: N818 - a way out, not an error
    """To look through it all would take too long."""


def fingerprint_of(value: object) -> bytes:
    """Return what two processes can compare to see whether they have defined the same."""
    try:
        return _Walk().look_at(value)
    except (_TooMuch, RecursionError):
        return UNKNOWN


def kind_fingerprint(value: object) -> bytes:
    """Return the fingerprint of what cannot travel: of a function or class, that of its code.

    Any other such value counts by its type: it is each process's own. So is what a function or
    class holds: a host may have filled a cache, or a library have configured its classes there.
    """
    if isinstance(value, (FunctionType, type)):
        try:
            return _WalkOfCode().look_at(value)
        except (_TooMuch, RecursionError):
            return UNKNOWN
    return digest_of(_name_of(type(value)))


class _Walk:
    """One look through a value and all that it consists of."""

    plain = frozenset({list, tuple, dict})  # what counts as it is, if it holds nothing else

    def __init__(self) -> None:
        self._looked = 0
        self._seen: dict[int, tuple[object, bytes]] = {}  # with the objects: an id may come again

    def look_at(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _ATOMS or kind in self.plain:
            try:
                return digest_of(b"plain" + marshal.dumps(value, 0))
            except ValueError:  # it holds something else
                pass
        if (seen := self._seen.get(id(value))) is not None:
            return seen[1]
        self._looked += 1
        if self._looked > _MOST:
            raise _TooMuch
        # Until it is known: where a cycle comes back to it.
        self._seen[id(value)] = value, b"cycle %d" % len(self._seen)
        found = digest_of(_name_of(kind) + b"".join(self._parts(kind, value)))
        self._seen[id(value)] = value, found
        return found

    def all_of(self, values: Iterable[Any]) -> list[bytes]:
        return [self.look_at(value) for value in values]

    def _parts(self, kind: Any, value: Any) -> Iterable[bytes]:
        of_kind = _OF_KINDS.get(kind)
        if of_kind is not None:
            return of_kind(self, value)
        if issubclass(kind, type):
            return [_name_of(value)] if _has_name_elsewhere(value) else self._of_class(value)
        if issubclass(kind, ModuleType):
            return [value.__name__.encode()]
        return self._of_instance(kind, value)

    def of_cell(self, cell: CellType) -> list[bytes]:
        try:
            return [self.look_at(cell.cell_contents)]
        except ValueError:  # empty
            return []

    def of_function(self, function: FunctionType) -> list[bytes]:
        if _has_name_elsewhere(function):
            return [_name_of(function)]
        parts = [
            *(function.__code__, function.__defaults__, function.__kwdefaults__),
            *(function.__closure__, function.__dict__, function.__name__, function.__qualname__),
        ]
        if getattr(function, "__annotate__", None) is None:  # else nobody evaluates them
            parts.append(function.__annotations__)
        return self.all_of(parts)

    def _of_class(self, cls: type) -> list[bytes]:
        own = {k: v for k, v in list(vars(cls).items()) if k not in _NOT_OF_THE_BODY}
        return self.all_of([cls.__qualname__, cls.__bases__, *own, *own.values()])

    def _of_instance(self, kind: Any, value: Any) -> list[bytes]:
        reducer = copyreg.dispatch_table.get(kind)
        try:
            reduced: Any = value.__reduce_ex__(PROTOCOL) if reducer is None else reducer(value)
            # The items of a list, and of a dictionary, come as iterators.
            if isinstance(reduced, tuple):
                items = (None if part is None else [*part] for part in reduced[3:5])
                reduced = (*reduced[:3], *items, *reduced[5:])
        except Exception:  # it cannot be pickled: what it is like is its own affair
            return []
        if isinstance(reduced, str):  # its name; what a wrapper wraps may have changed
            return self.all_of([reduced, getattr(value, "__dict__", None)])
        return self.all_of(reduced)


_OF_KINDS: dict[Any, Callable[[_Walk, Any], Iterable[bytes]]] = {
    list: _Walk.all_of,
    tuple: _Walk.all_of,
    dict: lambda walk, value: walk.all_of(part for pair in list(value.items()) for part in pair),
    MappingProxyType: lambda walk, value: [walk.look_at(dict(value))],
    set: lambda walk, value: sorted(walk.all_of(value)),
    frozenset: lambda walk, value: sorted(walk.all_of(value)),
    CodeType: lambda walk, value: walk.all_of(getattr(value, part) for part in _CODE_PARTS),
    CellType: _Walk.of_cell,
    FunctionType: _Walk.of_function,
    property: lambda walk, value: walk.all_of([value.fget, value.fset, value.fdel]),
    staticmethod: lambda walk, value: [walk.look_at(value.__func__)],
    classmethod: lambda walk, value: [walk.look_at(value.__func__)],
}


class _WalkOfCode(_Walk):
    """One that looks at code alone, and passes over all that functions and classes hold."""

    plain = frozenset({tuple})

    def _parts(self, kind: Any, value: Any) -> Iterable[bytes]:
        if kind is FunctionType and not _has_name_elsewhere(value):
            held = filter(_is_code, map(_content, value.__closure__ or ()))
            return self.all_of([value.__code__, value.__qualname__, *held])
        if kind in _OF_CODE or issubclass(kind, (type, ModuleType)):
            return super()._parts(kind, value)
        return []

    def _of_class(self, cls: type) -> list[bytes]:
        own = {k: v for k, v in list(vars(cls).items()) if k not in _NOT_OF_THE_BODY}
        own = {k: v for k, v in own.items() if _is_code(v)}
        return self.all_of([cls.__qualname__, cls.__bases__, *own, *own.values()])


_OF_CODE = frozenset(
    {CodeType, FunctionType, classmethod, frozenset, property, staticmethod, tuple}
)


def _is_code(value: object) -> bool:
    return isinstance(value, (FunctionType, classmethod, property, staticmethod, type))


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _name_of(named: Any) -> bytes:
    return f"{named.__module__}:{named.__qualname__} ".encode(errors="replace")


def _has_name_elsewhere(value: Any) -> bool:
    """Tell whether a module other than ``__main__`` has it by its name."""
    name, qualname = value.__module__, value.__qualname__
    if name == MAIN or not isinstance(name, str):
        return False
    module = sys.modules.get(name)
    return module is not None and value_at(module, qualname) is value
