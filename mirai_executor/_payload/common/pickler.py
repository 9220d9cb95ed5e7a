"""Takes objects apart that plain pickle refuses: functions, classes and modules without a home.

Two picklers build on this one: the host's, whose functions of ``__main__`` refer to the call's
table (``table.py``), and the daemon's, whose classes go back to where they came from
(``careful.py``). What they have in common is here::

    reducer_override ── has a home, by_reference(home) ──► plain pickle writes its name
                     └─ otherwise ──────────────────────► (make, …, state, fill), see rebuild.py
"""

import collections
import copyreg
import io
import pickle
import sys
from collections.abc import Callable
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from mirai_executor._payload.common import annotations, exceptions, rebuild
from mirai_executor._payload.common.fast_pickle import PROTOCOL, has_no_state
from mirai_executor._payload.common.importable import (
    FUNCTION_DUNDERS,
    MAIN,
    Home,
    Travel,
    home_of,
    home_of_globals,
    travel_of,
)
from mirai_executor._payload.common.names import STANDARD_DUNDERS, names_of, submodules_of
from mirai_executor._payload.common.reducers import (
    content_of,
    is_inherited,
    reducer_of,
    registered_reducer,
)

if TYPE_CHECKING:
    from mirai_executor._payload.common.serial import Hooks

_REBUILD = vars(rebuild)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made at run time, not a static type of C


class PayloadPickler(pickle.Pickler):
    """Pickles by reference what the other side finds by name, and the rest by value."""

    make_class: Callable[..., type] = staticmethod(rebuild.make_class)
    fill_class: Callable[..., Any] = staticmethod(rebuild.fill_class)
    carries_reducers = False  # what the user has registered at multiprocessing
    serial: "Hooks | None" = None  # what the user has for classes, at this executor

    def __init__(self, file: Any, buffer_callback: Any = None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=buffer_callback)
        # Cells that a function has promised to fill: two functions may share one.
        self._hollow: set[int] = set()
        # One travelling dict for each globals dict that belongs to no module.
        self._travelling: dict[int, dict[str, Any]] = {}
        # What was taken apart last: an error does not say what it is about.
        self.trail: collections.deque[object] = collections.deque(maxlen=20)
        self._as_usual: set[type] = set()  # whatever the instance
        self._lend: Callable[[int], Any] | None = None

    @property
    def culprit(self) -> object:
        """What has failed, if anything has."""
        return self.trail[-1] if self.trail else None

    def begin_anew(self) -> None:
        """Forget what was pickled, to see what else fails; nobody will read that."""
        self.clear_memo()
        self._lend = None

    def by_reference(self, home: Home) -> bool:
        """Decide whether the other side finds this by name."""
        raise NotImplementedError

    def entry_for(self, home: Home | None) -> str | None:
        """Return the table entry that this object itself is, if it is one."""
        return None

    def found_globals(self, home: Home, names: tuple[str, ...]) -> None:
        """Hear of names that a function may look up in a module that is not importable."""

    def found_own_class(self, identity: str) -> None:
        """Hear that the table entry itself is a class, known to both sides by this id."""

    def travels_with_its_names(self, module: ModuleType) -> bool:
        """Decide whether a module that only this process holds is made anew, with its names."""
        raise NotImplementedError

    # Called by the C pickler for every object but those of the commonest builtin types.
    def reducer_override(self, obj: Any) -> Any:
        self.trail.append(obj)
        kind = type(obj)
        return NotImplemented if kind in self._as_usual else self._reduce(kind, obj)

    def _reduce(self, kind: type, obj: Any) -> Any:
        if kind is FunctionType:
            # Every payload names a few functions of rebuild.py: no need to look for them.
            return NotImplemented if obj.__globals__ is _REBUILD else self._reduce_function(obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if (reduced := self._reduce_as_users_say(kind, obj)) is not None:
            return reduced
        reducer = reducer_of(kind)
        if reducer is not None:
            return reducer(self, obj)
        if issubclass(kind, ModuleType):
            return self.reduce_module(obj)
        if issubclass(kind, BaseException):
            return self.reduce_exception(obj)
        if is_inherited(kind):
            from mirai_executor._payload.common.inherited import reduce_inherited

            return reduce_inherited(obj, self.lend)
        return self._reduce_instance(kind, obj)

    def lend(self, descriptor: int) -> Any:
        """Return what travels in place of a descriptor, also in a payload that nobody reads."""
        if self._lend is not None:
            return self._lend(descriptor)
        from mirai_executor._payload.common.descriptors import lend_nothing

        return lend_nothing(descriptor)

    def _reduce_as_users_say(self, kind: type, obj: Any) -> Any:
        """Ask the user's functions for the class of an object; None if there are none."""
        if self.serial is not None and (hook := self.serial.of(kind)) is not None:
            return hook.reduce(obj)
        registered = registered_reducer(kind)
        return None if registered is None else self._reduce_as_registered(kind, registered, obj)

    def _reduce_as_registered(self, kind: type, reducer: Callable[[Any], Any], obj: Any) -> Any:
        from mirai_executor._payload.common.descriptors import is_standard, lending

        with lending(self.lend):
            reduced = reducer(obj)
        if isinstance(reduced, str) or is_standard(reducer) or not self.carries_reducers:
            return reduced
        make, arguments, *rest = reduced
        return rebuild.make_registered, (kind, reducer, make, arguments), *rest

    def is_named(self, home: Home | None) -> bool:
        """Tell whether an object with this home travels as its name."""
        return home is not None and self.by_reference(home)

    def reduce_exception(self, error: BaseException) -> Any:
        """Reduce an exception that is a value like others."""
        if type(error) in copyreg.dispatch_table or not exceptions.loses_itself(type(error)):
            return NotImplemented
        return exceptions.reduce_directly(error)

    def _reduce_function(self, function: FunctionType) -> Any:
        home = home_of(function)
        if self.is_named(home):
            return NotImplemented
        code, cells = function.__code__, function.__closure__
        self._hollow.update(map(id, cells or ()))
        contents = tuple(map(content_of, cells or ()))
        where, captured = self._globals(function)
        reached = _values(function, names_of(code).globals)
        values = [*reached.values(), *(c[0] for c in contents if c)]
        state = (
            function.__dict__,
            _slots(function),
            contents,
            captured,
            submodules_of(code, values),
        )
        made = (code, where, function.__name__, cells, self.entry_for(home))
        return rebuild.make_function, made, state, None, None, rebuild.fill_function

    def _globals(self, function: FunctionType) -> tuple[rebuild.Where, dict[str, Any] | None]:
        """Say where the function's globals are, and which of them have to travel with it."""
        namespace = function.__globals__
        home = home_of_globals(namespace)
        names = names_of(function.__code__).globals
        if home is None or (home.kind is Travel.HELD and self._is_foreign(home)):
            travelling = self._travelling.setdefault(id(namespace), _dunders(namespace))
            return travelling, _values(function, names)
        if home.kind is Travel.IMPORTABLE:
            # No names of the source: pytest has rewritten its asserts, which daemons do not.
            made = tuple(name for name in names if name.startswith("@"))
            return home.module, _values(function, made) if made else None
        self.found_globals(home, names)
        return (None if home.kind is Travel.MAIN else (home.module, _dunders(namespace))), None

    def _is_foreign(self, home: Home) -> bool:
        return self.travels_with_its_names(sys.modules[home.module])

    def _reduce_class(self, cls: type) -> Any:
        home = home_of(cls)
        if self.is_named(home):
            return NotImplemented
        from mirai_executor._payload.common import (
            hooks,
        )  # with cloudpickle: not for what has a name

        if cls in hooks.BUILTIN_TYPE_NAMES:
            return hooks.builtin_type, (hooks.BUILTIN_TYPE_NAMES[cls],)
        if not cls.__flags__ & _HEAP_TYPE:
            return NotImplemented  # a nameless static type of C: plain pickle says what is wrong
        make, arguments, state, _, _, _ = hooks.reduce_class(cls)
        entry = self.entry_for(home)
        if entry is not None:
            self.found_own_class(hooks.tracker_id(arguments))
        made = (make, arguments, cls.__qualname__, entry)
        if self.carries_reducers and (reducer := registered_reducer(cls)) is not None:
            state = (*state, reducer)
        return self.make_class, made, state, None, None, self.fill_class

    def reduce_module(self, module: ModuleType) -> Any:
        """Reduce a module: by its name wherever the other side can find it."""
        name = module.__name__
        if sys.modules.get(MAIN) is module:
            return rebuild.main_module, ()
        if sys.modules.get(name) is module:
            kind = travel_of(name)
            if kind is Travel.IMPORTABLE:
                return rebuild.import_module, (name,)
            if kind is Travel.HELD and not self.travels_with_its_names(module):
                return self._reduce_held_module(module)
        names = {k: v for k, v in vars(module).items() if k not in STANDARD_DUNDERS}
        names.update(_dunders(vars(module)))
        return rebuild.make_module, (name,), names, None, None, rebuild.fill_module

    def _reduce_held_module(self, module: ModuleType) -> Any:
        names = tuple(name for name in vars(module) if name not in STANDARD_DUNDERS)
        self.found_globals(Home(Travel.HELD, module.__name__, ""), names)
        return rebuild.held_module, (module.__name__, _dunders(vars(module)))

    def _reduce_instance(self, kind: type, obj: Any) -> Any:
        """Let singletons that reduce to their own name live in ``__main__`` too."""
        if _reduces_as_usual(kind):
            home = home_of_sentinel(kind, obj)
            return home.qualname if home is not None and self.is_named(home) else NotImplemented
        if kind in copyreg.dispatch_table or travel_of(kind.__module__) is Travel.IMPORTABLE:
            self._as_usual.add(kind)
            return NotImplemented
        reduced = obj.__reduce_ex__(PROTOCOL)
        if isinstance(reduced, str) and not self.is_named(home_of(obj, reduced)):
            return copyreg.__newobj__, (kind,), getattr(obj, "__dict__", None)  # type: ignore[attr-defined]  # typeshed lacks it
        return reduced

    def fill_later(self, cell: CellType) -> bool:
        """Tell whether a function of this payload fills the cell."""
        return id(cell) in self._hollow


def dump(pickler: Callable[[Any], PayloadPickler], obj: object) -> bytes:
    """Pickle one object with a pickler of the given kind."""
    with io.BytesIO() as file:
        pickler(file).dump(obj)
        return file.getvalue()


def _reduces_as_usual(kind: Any) -> bool:
    return kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__


def home_of_sentinel(kind: type, obj: object) -> Home | None:
    """Return where an object has a name that is nothing but itself: its copy would be no such.

    That is one without any state, which the module of its class names, or ``__main__`` an
    ``object()``.
    """
    if getattr(obj, "__dict__", None):
        return None
    module_name = MAIN if kind is object else kind.__module__
    module = sys.modules.get(module_name)
    for name, value in list(getattr(module, "__dict__", {}).items()):
        if value is obj:
            if not has_no_state(obj):
                return None
            return Home(Travel.MAIN, MAIN, name) if kind is object else home_of(obj, name)
    return None


def _values(function: FunctionType, names: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for name in names:
        if name not in STANDARD_DUNDERS:
            try:  # not .get(): the globals of a source task find what is not their own this way
                found[name] = function.__globals__[name]
            except KeyError:
                continue
    return found


def _dunders(namespace: dict[str, Any]) -> dict[str, Any]:
    return {k: namespace[k] for k in FUNCTION_DUNDERS if _is_plain(namespace.get(k))}


def _is_plain(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def _slots(function: FunctionType) -> dict[str, Any]:
    slots: dict[str, Any] = {
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
    }
    where, said = annotations.of_function(function)
    slots[where] = said
    if getattr(function, "__type_params__", ()):  # Python 3.12
        slots["__type_params__"] = function.__type_params__  # type: ignore[attr-defined]  # Python 3.12
    return slots
