"""Puts functions, classes and modules together again where a payload arrives.

These functions are named in the payloads, so they run at both ends. Whatever can be part of a
cycle (a function that its own closure holds, a class in its own registry) is made empty first,
and filled once the unpickler can refer to it.
"""

import builtins
import functools
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import CellType, CodeType, FunctionType, ModuleType

from mirai_executor._payload.common.importable import MAIN
from mirai_executor._typing import TYPE_CHECKING, Any
from mirai_executor.errors import PayloadError

if TYPE_CHECKING:
    from mirai_executor._payload.common.inheritance import Inheritance
    from mirai_executor._payload.common.serial import Hooks

# Where a function's globals are: None for __main__, the name of a module to import, (name, a few
# of its dunders) for a module that only the host holds, or a dict that travels with it.
Where = None | str | tuple[str, dict[str, Any]] | dict[str, Any]

# Names that a daemon is just now applying, each with its object as soon as that exists, empty or
# not: a class whose registry holds its own subclass is needed before it is complete.
entries_in_progress: dict[str, object] = {}

# At a daemon, the modules made for those that only the host holds; None at a host.
held_modules: dict[str, ModuleType] | None = None

# At a daemon that was forked from its host, what it has from there.
inheritance: "Inheritance | None" = None

# At a daemon, the user's own functions that take results apart, if its host has any.
serial: "Hooks | None" = None


# At a daemon, its own classes of a main module that it has imported, by the ids under which the
# host speaks of them. Once the host changes one, it is changed in place: its instances stay so.
imported_classes: dict[str, Any] = {}


# At a daemon, and in the process that it was forked from: the import of the host's main module,
# if that has come before the fork.
imported_first: Any = None


# Called before a daemon imports the host's main module; returns what is to be called afterwards.
around_main: "Callable[[], Callable[[], object]] | None" = None


def main_module() -> ModuleType:
    """Return the ``__main__`` of this process."""
    return sys.modules[MAIN]


def import_module(name: str) -> ModuleType:
    """Import a module, or find one that only ``sys.modules`` knows."""
    return importlib.import_module(name)


def held_module(name: str, dunders: Mapping[str, Any]) -> ModuleType:
    """Return the module that stands, at a daemon, for one that only the host holds."""
    if held_modules is None:
        return sys.modules[name]
    module = held_modules.get(name)
    if module is None:
        module = held_modules[name] = ModuleType(name)
        # In place of a module of that name found here: at the host, too, it is this one.
        sys.modules[name] = module
        _have_parents(name)
    module.__dict__.update(dunders)
    return module


def _have_parents(name: str) -> None:
    """See to it that ``import name`` finds the packages on its way.

    pickle imports the module that it looks a name up in, and an import begins at the top.
    """
    parent, _, child = name.rpartition(".")
    if not parent:
        return
    if parent not in sys.modules:
        try:
            import_module(parent)
        except Exception:  # the host holds it as well, and no name of it is needed
            package = ModuleType(parent)
            package.__path__ = []
            sys.modules[parent] = package
            _have_parents(parent)
    setattr(sys.modules[parent], child, sys.modules[name])


def make_module(name: str) -> ModuleType:
    """Make a module that is in nobody's ``sys.modules``."""
    return ModuleType(name)


def fill_module(module: ModuleType, names: Mapping[str, Any]) -> None:
    """Give a module its names."""
    module.__dict__.update(names)


def _globals_at(where: Where) -> dict[str, Any]:
    if where is None:
        return main_module().__dict__
    if isinstance(where, str):
        return import_module(where).__dict__
    if isinstance(where, tuple):
        return held_module(*where).__dict__
    return where


# What a code object consists of. Nothing else can be set in one, up to Python 3.15.
CODE_PARTS = (
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize"),
    *("co_flags", "co_filename", "co_name", "co_qualname", "co_firstlineno", "co_linetable"),
    *("co_code", "co_exceptiontable", "co_consts", "co_names", "co_varnames", "co_freevars"),
    "co_cellvars",
)


def make_code(*parts: Any) -> CodeType:
    """Make a code object out of its parts."""
    any_code = make_code.__code__  # the first text that a process compiles takes it 2 ms
    return any_code.replace(**dict(zip(CODE_PARTS, parts, strict=True)))


def make_function(
    code: CodeType, where: Where, name: str, cells: tuple[CellType, ...] | None, entry: str | None
) -> FunctionType:
    """Make a function without defaults and with empty cells; ``fill_function`` follows."""
    namespace = _globals_at(where)
    namespace.setdefault("__builtins__", builtins)
    function = FunctionType(code, namespace, name, None, cells)
    _announce(entry, function)
    return function


def fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    """Set all of a function that may refer back to it."""
    attributes, slots, contents, captured, _submodules = state
    function.__dict__.update(attributes)
    for name, value in slots.items():
        setattr(function, name, value)
    for cell, content in zip(function.__closure__ or (), contents, strict=True):
        fill_cell(cell, content)
    if captured:
        function.__globals__.update(captured)


def make_cell() -> CellType:
    """Make an empty cell."""
    return CellType()


def fill_cell(cell: CellType, content: Sequence[Any]) -> None:
    """Put a value into a cell; an empty sequence leaves it empty."""
    if content:
        cell.cell_contents = content[0]


def make_class(
    make: Callable[..., type], arguments: tuple[Any, ...], qualname: str, entry: str | None
) -> type:
    """Make a class without its attributes, or find the one made before; then ``fill_class``."""
    if imported_classes and (own := imported_classes.pop(arguments[-2], None)) is not None:
        _hooks().track_class(own, arguments)
        _filled[own] = frozenset(name for name in vars(own) if not name.startswith("__"))
    made = make(*arguments)
    if made.__qualname__ != qualname:
        made.__qualname__ = qualname  # cloudpickle makes them all top-level ones
    _announce(entry, made)
    return made


def _hooks() -> Any:
    """Return what knows cloudpickle: only classes that travel by value need it."""
    from mirai_executor._payload.common import hooks

    return hooks


# The names that each class got when it was last filled.
_filled: "weakref.WeakKeyDictionary[type, frozenset[str]]" = weakref.WeakKeyDictionary()


def fill_class(made: type, state: Any) -> None:
    """Give a class its attributes; of one filled before, what has gone since goes here too."""
    state, reducers = state[:2], state[2:]
    for reducer in reducers:
        _register(made, reducer)
    names = frozenset(state[0])
    for name in _filled.get(made, frozenset()) - names:
        if name in vars(made):
            delattr(made, name)
    _hooks().set_class_state(made, state)
    _filled[made] = names


_adopting = threading.local()  # several threads of a host unpickle at the same time


def make_kept_class(
    make: Callable[..., type], arguments: tuple[Any, ...], qualname: str, entry: str | None
) -> type:
    """At a host: find the class that it knows, or make a new one; then ``fill_kept_class``."""
    hooks = _hooks()
    known: type | None = hooks.class_tracked_as(hooks.tracker_id(arguments))
    if known is not None:
        return known
    made = make_class(make, arguments, qualname, entry)
    fresh: dict[int, type] = _adopting.__dict__.setdefault("fresh", {})
    fresh[id(made)] = made
    return made


def fill_kept_class(made: type, state: Any) -> None:
    """At a host: fill a class that was unknown; one that it has is never changed by a result."""
    if _adopting.__dict__.get("fresh", {}).pop(id(made), None) is not None:
        fill_class(made, state)


def _announce(entry: str | None, made: object) -> None:
    if entry is not None and entry in entries_in_progress:
        entries_in_progress[entry] = made


def make_registered(
    kind: type, reducer: Callable[[Any], Any], make: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """Make an instance of a type that the host has registered at multiprocessing; do as it did."""
    _register(kind, reducer)
    return make(*arguments)


def _register(kind: type, reducer: Callable[[Any], Any]) -> None:
    from mirai_executor._payload.common.descriptors import register_here  # hardly ever

    register_here(kind, reducer)


def make_lru_cache(
    function: Callable[..., Any], maxsize: int | None, typed: bool, attributes: Mapping[str, Any]
) -> Any:
    """Wrap a function in a cache of its own, which begins empty."""
    cached = functools.lru_cache(maxsize, typed)(function)
    cached.__dict__.update(attributes)
    return cached


def make_cached_property(function: Callable[..., Any], name: str | None) -> Any:
    """Make a ``cached_property``; up to Python 3.11 it holds a lock, which cannot travel."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def make_newtype(name: str, module: str, qualname: str, supertype: Any) -> Any:
    """Make a ``typing.NewType``."""
    import typing  # what makes one has it

    made = typing.NewType(name, supertype)  # type: ignore[misc]  # not for the checker
    made.__module__ = module
    made.__qualname__ = qualname
    return made


def make_type_variable(make: Callable[..., Any], arguments: tuple[Any, ...], module: str) -> Any:
    """Make a ``TypeVar``, ``ParamSpec`` or ``TypeVarTuple``."""
    made = make(*arguments)
    made.__module__ = module  # it took the module of its caller: us
    return made


def make_type_alias(module: str, name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """Make what Python 3.12's ``type`` statement makes."""
    import typing  # as above

    make = "typing.TypeAliasType(name, value, type_params=parameters)"
    names = {"name": name, "value": value, "parameters": parameters, "typing": typing}
    # Its __module__ is that of the calling frame, and read-only.
    return eval(make, {"__name__": module}, names)  # noqa: S307 - our own text


def make_weak_key_dictionary(items: Mapping[Any, Any]) -> Any:
    """Make a ``WeakKeyDictionary``; its own form holds weak references, which cannot travel."""
    return weakref.WeakKeyDictionary(items)


def make_lock(kind: str) -> Any:
    """At a daemon: make the lock that stands for one of the host."""
    import multiprocessing  # for once: every daemon would import it at its start

    # That of other contexts has a name, which would outlive a daemon that is killed.
    return getattr(multiprocessing.get_context("fork"), kind)()


def has_inherited(name: str) -> bool:
    """Tell whether a name of ``__main__`` has the value here that the host had at the fork."""
    if inheritance is None or name not in inheritance.names:
        return False
    return inheritance.names[name] is main_module().__dict__.get(name)


def inherited_semaphore(number: int) -> Any:
    """Return a lock or the like that was there at the fork."""
    return _inherited().semaphores[number]


def run_inherited() -> object:
    """Call the initializer, which came with its arguments by the fork."""
    initializer: Any = _inherited().initializer
    result: object = initializer(*_inherited().initargs)
    return result


def _inherited() -> "Inheritance":
    if inheritance is None:
        raise PayloadError("this process has not been forked from the host")
    return inheritance


def itself(obj: object) -> object:
    """Return what something stood for that has stayed at the host."""
    return obj
