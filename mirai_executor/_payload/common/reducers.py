"""Takes objects of a few types apart, each type in its own way, where plain pickle refuses.

Most belong to the standard library. What ``pickler.py`` asks first is what the user has registered
at multiprocessing; then what is here; then what cloudpickle has.
"""

import functools
import io
import sys
import typing
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from types import CellType, CodeType, ModuleType
from typing import Any, Protocol

from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.importable import MULTIPROCESSING, WITH_CARE, Home, home_of

# Where multiprocessing's locks, queues and values are, which refuse to be pickled unless a process
# is being started.
_SHARED = frozenset(
    {"multiprocessing.queues", "multiprocessing.sharedctypes", "multiprocessing.synchronize"}
)


class Pickler(Protocol):
    """What a reducer asks of the pickler that uses it."""

    def is_named(self, home: Home | None) -> bool: ...
    def reduce_module(self, module: ModuleType) -> Any: ...
    def fill_later(self, cell: CellType) -> bool: ...


def needs_care(kind: type) -> bool:
    """Tell whether instances of a type may be pickled here in a way of our own."""
    return reducer_of(kind) is not None or issubclass(kind, (ModuleType, BaseException))


def content_of(cell: CellType) -> tuple[Any, ...]:
    """Return what is in a cell: one value, or nothing."""
    try:
        return (cell.cell_contents,)
    except ValueError:  # empty
        return ()


def _reduce_code(_: Pickler, code: CodeType) -> Any:
    # cloudpickle 3.1.3 would leave the file out, and with it the lines of every traceback.
    parts = [getattr(code, part) for part in rebuild.CODE_PARTS]
    # Some tuples are made anew when they are asked for, and some are shared: all alike, so that
    # the same function always has the same bytes.
    return rebuild.make_code, tuple((*p,) if type(p) is tuple else p for p in parts)


def _reduce_module(pickler: Pickler, module: ModuleType) -> Any:
    return pickler.reduce_module(module)


def _reduce_cell(pickler: Pickler, cell: CellType) -> Any:
    content = content_of(cell)
    if not content or pickler.fill_later(cell):
        return rebuild.make_cell, ()
    return rebuild.make_cell, (), content, None, None, rebuild.fill_cell


def _reduce_lru_cache(pickler: Pickler, cached: Any) -> Any:
    if pickler.is_named(home_of(cached)):
        return NotImplemented
    own = {
        k: v
        for k, v in vars(cached).items()
        if k not in ("__wrapped__", "cache_parameters", *functools.WRAPPER_ASSIGNMENTS)
    }
    form = cached.cache_parameters()
    return rebuild.make_lru_cache, (cached.__wrapped__, form["maxsize"], form["typed"], own)


def _reduce_type_variable(pickler: Pickler, variable: Any) -> Any:
    if pickler.is_named(home_of(variable, variable.__name__)):
        return NotImplemented
    make: Callable[..., Any] = type(variable)
    parts: tuple[Any, ...] = (variable.__name__,)
    if isinstance(variable, typing.TypeVar):
        from mirai_executor._payload.common import hooks

        make, parts = hooks.make_typevar, hooks.decompose_typevar(variable)
    return rebuild.make_type_variable, (make, parts, variable.__module__)


def _reduce_newtype(pickler: Pickler, made: Any) -> Any:
    if pickler.is_named(home_of(made)):
        return NotImplemented
    parts = (made.__name__, made.__module__, made.__qualname__, made.__supertype__)
    return rebuild.make_newtype, parts


def _reduce_type_alias(pickler: Pickler, alias: Any) -> Any:
    if pickler.is_named(home_of(alias, alias.__name__)):
        return NotImplemented
    parts = (alias.__module__, alias.__name__, alias.__value__, alias.__type_params__)
    return rebuild.make_type_alias, parts


def _reduce_text_file(_: Pickler, file: io.TextIOWrapper) -> Any:
    # cloudpickle would read the whole file and send its text.
    for name in ("stdout", "stderr"):
        if getattr(sys, name, None) is file:
            return getattr, (sys, name)
    return NotImplemented


def _reduce_context_variable(pickler: Pickler, variable: Any) -> Any:
    from mirai_executor._payload.common.context import reduce_context_variable  # few have any

    return reduce_context_variable(pickler, variable)


def _reduce_cached_property(_: Pickler, found: Any) -> Any:
    return rebuild.make_cached_property, (found.func, found.attrname)


def _reduce_weak_key_dictionary(_: Pickler, found: Any) -> Any:
    return rebuild.make_weak_key_dictionary, (dict(found),)


def _without_pickler(reduce: Callable[[Any], Any]) -> Callable[[Pickler, Any], Any]:
    return lambda _, obj: reduce(obj)


_Reducer = Callable[[Pickler, Any], Any]
_OWN: dict[type, _Reducer] = {
    CellType: _reduce_cell,
    CodeType: _reduce_code,
    ModuleType: _reduce_module,
    type(functools.cache(len)): _reduce_lru_cache,
    ContextVar: _reduce_context_variable,
    functools.cached_property: _reduce_cached_property,
    io.TextIOWrapper: _reduce_text_file,
    typing.NewType: _reduce_newtype,
    typing.ParamSpec: _reduce_type_variable,
    typing.TypeVar: _reduce_type_variable,
    typing.TypeVarTuple: _reduce_type_variable,
    weakref.WeakKeyDictionary: _reduce_weak_key_dictionary,
}
if hasattr(typing, "TypeAliasType"):  # Python 3.12
    _OWN[typing.TypeAliasType] = _reduce_type_alias


def is_inherited(kind: type) -> bool:
    """Tell whether multiprocessing shares instances of a type by inheritance."""
    return any(base.__module__ in _SHARED for base in kind.__mro__)


def registered_reducer(kind: type) -> Callable[[Any], Any] | None:
    """Return how multiprocessing's picklers take instances apart, if they were told so."""
    reduction: Any = sys.modules.get(MULTIPROCESSING)
    if reduction is not None:
        if kind not in reduction.ForkingPickler._extra_reducers:  # noqa: SLF001 - see descriptors.py
            return None
    elif kind.__module__ != "socket":  # all others need its import before there are any
        return None
    from mirai_executor._payload.common import descriptors

    return descriptors.registered_reducer(kind)


def reducer_of(kind: type) -> _Reducer | None:
    """Return how instances of a type are taken apart here; None if as anywhere else."""
    reducer = _OWN.get(kind)
    if reducer is None and kind.__module__ in WITH_CARE:
        reducer = _borrowed().get(kind)
    return reducer


@functools.cache
def _borrowed() -> dict[type, _Reducer]:
    """Return what cloudpickle has for types of the standard library."""
    from mirai_executor._payload.common import hooks

    return {kind: _without_pickler(reduce) for kind, reduce in hooks.REDUCERS.items()}
