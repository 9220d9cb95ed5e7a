"""Proves that a function is still what it was when it was pickled.

Everything that its bytes were made from is remembered, object by object::

    function ─┬─ code, defaults, names, attributes   are the same objects
              └─ cells, and the globals that its     hold the same objects, of which each is
                 code may look up                      a number, a text, a tuple of such
                                                       an importable module, function or class
                                                       a function by value, proved in turn

Whatever else it reaches (a list, an instance, a class of ``__main__``) may change without a trace:
then there is no proof, and the function is pickled anew for each call.
"""

import contextlib
import functools
import sys
import typing
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, CellType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import Any

from mirai_executor._payload.common.fast_pickle import ATOMS
from mirai_executor._payload.common.importable import (
    FUNCTION_DUNDERS,
    MAIN,
    Home,
    Travel,
    home_of,
    home_of_globals,
    registered_by_value,
    travel_of,
    what_is_known_of_modules,
)
from mirai_executor._payload.common.names import STANDARD_DUNDERS, names_of, submodules_asked_for

_UNCHANGING = ATOMS | {type(...), range}
# ``list[int]``, ``int | None`` and their old spellings in annotations.
_ALIASES = frozenset(
    {GenericAlias, UnionType, type(typing.List[int]), type(typing.Optional[int])}  # noqa: UP006, UP045 - these spellings
)
_ABSENT = object()

# Its code cannot change, but all of these can be replaced, even the code as a whole. Python 3.12
# and 3.14 have a part more.
_ANNOTATE, _ANNOTATIONS = "__annotate__", "__annotations__"
_PARTS = (
    "__code__",
    "__defaults__",
    "__kwdefaults__",
    "__dict__",
    _ANNOTATIONS,
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    *(part for part in ("__type_params__", _ANNOTATE) if hasattr(FunctionType, part)),
)

# To compile a proof pays after so many looks at it, where it has no more than so many terms.
_OFTEN, _FEW = 256, 200


class _Unprovable(Exception):  # noqa: N818 - a way out, not an error
    """Something that the function reaches can change without a trace."""


def prove(function: FunctionType) -> "Proof | None":
    """Return what has to hold for as long as the function's bytes are good, if that can be."""
    if registered_by_value():
        return None
    proof = Proof()
    waiting: list[Any] = [function]
    seen: dict[int, object] = {}  # with the objects: an id may come again
    try:
        while waiting:
            value = waiting.pop()
            if type(value) not in _UNCHANGING and id(value) not in seen:
                seen[id(value)] = value
                waiting.extend(proof.add(value))
    except Exception:  # _Unprovable, or the user's code: that will speak when it is pickled
        return None
    return proof


class Proof:
    """All that a function's bytes were made from. It keeps those objects alive."""

    def __init__(self) -> None:
        self._asked = 0
        self._known_of_modules = what_is_known_of_modules()
        self._lookups: dict[tuple[int, str], tuple[Callable[..., Any], str, Any]] = {}
        self._cells: list[tuple[CellType, object]] = []
        self._dicts: list[dict[str, Any]] = []  # which may grow
        self._sizes: list[int] = []

    def holds(self) -> bool:
        """Tell whether nothing has changed."""
        self._asked += 1
        if self._asked == _OFTEN and len(self._lookups) + len(self._cells) <= _FEW:
            with contextlib.suppress(Exception):  # an audit hook may forbid it
                self.holds = self._compiled()  # type: ignore[method-assign]  # for this proof
        for get, name, value in self._lookups.values():
            if get(name, _ABSENT) is not value:
                return False
        for cell, value in self._cells:
            if _content(cell) is not value:
                return False
        return (
            list(map(len, self._dicts)) == self._sizes
            and what_is_known_of_modules() is self._known_of_modules
            and not registered_by_value()
        )

    def _compiled(self) -> Callable[[], bool]:
        """Make one expression of all that has to hold, which takes less than half the time."""
        names: dict[str, Any] = {
            "ABSENT": _ABSENT,
            "content": _content,
            "known_of_modules": what_is_known_of_modules,
            "known": self._known_of_modules,
            "registered": registered_by_value,
            "len": len,
        }
        terms = ["known_of_modules() is known", "not registered()"]
        for i, (get, name, value) in enumerate(self._lookups.values()):
            names[f"value{i}"] = value
            if isinstance(get, functools.partial):
                names[f"f{i}"] = get.args[0]
                terms.append(f"f{i}.{name} is value{i}")
            else:
                names |= {f"get{i}": get, f"name{i}": name}
                terms.append(f"get{i}(name{i}, ABSENT) is value{i}")
        for i, (cell, value) in enumerate(self._cells):
            names |= {f"cell{i}": cell, f"inside{i}": value}
            terms.append(f"content(cell{i}) is inside{i}")
        for i, growing in enumerate(self._dicts):
            names[f"dict{i}"] = growing
            terms.append(f"len(dict{i}) == {self._sizes[i]}")
        code = compile(f"lambda: {' and '.join(terms)}", "<proof>", "eval")
        made: Callable[[], bool] = eval(code, names)  # noqa: S307 - our own text
        return made

    def add(self, value: Any) -> Iterable[Any]:
        """Remember one object; return those that it consists of."""
        kind = type(value)
        if kind is FunctionType:
            return () if self._finds_by_name(value) else self._add_function(value)
        if kind is tuple or kind is frozenset:
            return value  # type: ignore[no-any-return]  # it is one
        if kind in _ALIASES:
            origin = typing.get_origin(value)
            return (*typing.get_args(value), *((origin,) if isinstance(origin, type) else ()))
        if issubclass(kind, ModuleType):
            self._add_module(value)
        elif kind is type and _is_nameless(value):
            return ()  # the type of None, and such
        elif not (_may_have_a_home(kind) and self._finds_by_name(value)):
            raise _Unprovable
        return ()

    def _finds_by_name(self, value: Any) -> bool:
        """Remember where an object is found; tell whether the daemon imports it from there."""
        home = home_of(value)
        name, module_name = value.__qualname__, value.__module__
        if "<locals>" in name:
            return False
        module = self._look_up(sys.modules, module_name)
        if module is not _ABSENT:
            if "." in name:  # of a class, which may change
                raise _Unprovable
            self._look_up(_dict_of(module), name)
        return home is not None and home.kind is Travel.IMPORTABLE

    def _add_module(self, module: ModuleType) -> None:
        name = module.__name__
        if (
            self._look_up(sys.modules, name) is not module
            or travel_of(name) is not Travel.IMPORTABLE
        ):
            raise _Unprovable

    def _add_function(self, function: FunctionType) -> Iterable[Any]:
        is_lazy = getattr(function, _ANNOTATE, None) is not None  # then nobody evaluates them
        parts = {p: getattr(function, p) for p in _PARTS if not (is_lazy and p == _ANNOTATIONS)}
        part_of = functools.partial(getattr, function)
        for part, value in parts.items():
            self._lookups[id(function), part] = (part_of, part, value)
        home = self._home_of_globals(function)
        found = self._add_globals(function, home)
        contents = self._add_cells(function)
        for name in submodules_asked_for(function.__code__, [*found, *contents]):
            module = self._look_up(sys.modules, name)
            if module is not _ABSENT:
                contents.append(module)
        for attributes in ("__dict__", "__kwdefaults__", _ANNOTATIONS):
            contents.extend(self._add_names(parts.pop(attributes, None)))
        contents += (value for part, value in parts.items() if part != "__code__")
        # What an importable module holds stays there.
        return contents if home.kind is Travel.IMPORTABLE else [*found, *contents]

    def _home_of_globals(self, function: FunctionType) -> Home:
        namespace = function.__globals__
        home = home_of_globals(namespace)
        if home is None or type(namespace) is not dict:
            raise _Unprovable
        self._look_up(sys.modules, MAIN)
        if home.kind is not Travel.MAIN:
            self._look_up(namespace, "__name__")
            self._look_up(sys.modules, home.module)
        return home

    def _add_globals(self, function: FunctionType, home: Home) -> list[Any]:
        namespace = function.__globals__
        if home.kind is Travel.HELD:  # these travel with its functions
            for name in FUNCTION_DUNDERS:
                if isinstance(self._look_up(namespace, name), list):  # __path__
                    raise _Unprovable
        names = (n for n in names_of(function.__code__).globals if n not in STANDARD_DUNDERS)
        if home.kind is Travel.IMPORTABLE:  # only the submodules of its packages are asked for
            names = (n for n in names if isinstance(namespace.get(n), ModuleType))
        found = (self._look_up(namespace, name) for name in names)
        return [value for value in found if value is not _ABSENT]

    def _add_cells(self, function: FunctionType) -> list[Any]:
        cells = function.__closure__ or ()
        contents = [_content(cell) for cell in cells]
        self._cells += zip(cells, contents, strict=True)
        return [value for value in contents if value is not _ABSENT]

    def _add_names(self, names: dict[str, Any] | None) -> list[Any]:
        if names is None:
            return []
        if type(names) is not dict or not all(type(name) is str for name in list(names)):
            raise _Unprovable
        self._dicts.append(names)
        self._sizes.append(len(names))
        return [self._look_up(names, name) for name in list(names)]

    def _look_up(self, names: dict[str, Any], name: str) -> Any:
        lookup = (names.get, name, names.get(name, _ABSENT))
        return self._lookups.setdefault((id(names), name), lookup)[2]


def _may_have_a_home(kind: type) -> bool:
    return kind is BuiltinFunctionType or issubclass(kind, type)


def _dict_of(module: object) -> dict[str, Any]:
    names = getattr(module, "__dict__", None)
    if type(names) is not dict:
        raise _Unprovable
    return names


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return _ABSENT


def _is_nameless(cls: type) -> bool:
    """Tell whether a class is one of Python's own that no module has by its name."""
    if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls:
        return False
    from mirai_executor._payload.common import hooks  # with cloudpickle: hardly ever

    return cls in hooks.BUILTIN_TYPE_NAMES
