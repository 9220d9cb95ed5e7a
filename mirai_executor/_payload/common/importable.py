"""Decides whether a fresh interpreter would find an object by its name, and under which.

An object *has a home* where ``sys.modules[obj.__module__]`` leads to that very object by its
qualified name. The home is one of three kinds::

    main         the host's ``__main__``: names travel in the call's table
    importable   a fresh interpreter with this ``sys.path`` finds that very file: by reference
    held         only this process holds the module (pytest's importlib mode, a conftest,
                 ``exec``): its names travel in the table, as those of ``__main__`` do
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from types import ModuleType

from mirai_executor._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

MAIN = "__main__"
# What relative imports inside a function, and ``__name__``, look up.
FUNCTION_DUNDERS = ("__name__", "__package__", "__path__", "__file__")
_MAIN_NAMES = frozenset({MAIN, "__mp_main__"})
# The daemon cannot even read a payload without these, however the host came by them.
_ALWAYS_THERE = frozenset({"mirai_executor", "cloudpickle", "tblib"})
MULTIPROCESSING = "multiprocessing.reduction"  # where programs register how types are pickled
# Where all the types are defined whose instances reducers.py takes apart by themselves.
WITH_CARE = frozenset(
    [
        "_contextvars",
        "_io",
        "_weakrefset",
        "abc",
        "builtins",
        "dataclasses",
        "functools",
        "logging",
        "typing",
        "weakref",
    ]
)


class Travel(Enum):
    """How the names of one module travel."""

    MAIN = "main"
    IMPORTABLE = "importable"
    HELD = "held"
    REGISTERED = "registered"  # cloudpickle.register_pickle_by_value: always by value


class Home(NamedTuple):
    """Where an object is found by name."""

    kind: Travel
    module: str
    qualname: str

    @property
    def root(self) -> str:
        """The module's name that leads to it: ``C`` for ``C.Inner.method``."""
        return self.qualname.partition(".")[0]


_NOTHING = object()


def home_of(obj: object, name: str | None = None) -> Home | None:
    """Return where a function, class or type variable is found by name; None if nowhere."""
    qualname = name or getattr(obj, "__qualname__", None)
    module_name = getattr(obj, "__module__", None)
    if not isinstance(qualname, str) or not isinstance(module_name, str):
        return None
    if "<locals>" in qualname:
        return None
    module = sys.modules.get(module_name)
    if module is None or value_at(module, qualname) is not obj:
        return None
    kind = travel_of(module_name)
    if kind is Travel.REGISTERED:
        return None
    return Home(kind, MAIN if kind is Travel.MAIN else module_name, qualname)


def home_of_globals(namespace: dict[str, Any]) -> Home | None:
    """Return the module whose globals these are; of a module that has none, None."""
    main = sys.modules.get(MAIN)
    if main is not None and main.__dict__ is namespace:
        return Home(Travel.MAIN, MAIN, "")
    name = namespace.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or getattr(module, "__dict__", None) is not namespace:
        return None
    kind = travel_of(str(name))
    return None if kind is Travel.REGISTERED else Home(kind, str(name), "")


def value_at(module: ModuleType, qualname: str) -> object:
    """Follow a qualified name through a module, without waking a module's ``__getattr__``."""
    root, *rest = qualname.split(".")
    found: object = getattr(module, "__dict__", {}).get(root, _NOTHING)
    for part in rest:
        try:
            found = getattr(found, part, _NOTHING)
        except Exception:  # a user's descriptor: then it is not found by name
            return _NOTHING
    return found


def travel_of(module_name: str) -> Travel:
    """Return how the names of a module of ``sys.modules`` travel."""
    if module_name in _MAIN_NAMES:
        return Travel.MAIN
    registered = registered_by_value()
    if registered and any(parent in registered for parent in _with_parents(module_name)):
        return Travel.REGISTERED
    return Travel.IMPORTABLE if is_importable(module_name) else Travel.HELD


def registered_by_value() -> Collection[str]:
    """Return the modules whose names the user wants to travel by value."""
    # Nobody can have registered one at a cloudpickle that nobody has imported.
    registry = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", None)
    return () if registry is None else registry()


def _with_parents(module_name: str) -> Iterator[str]:
    while module_name:
        yield module_name
        module_name = module_name.rpartition(".")[0]


class _Findings:
    """What the search for modules has shown, for as long as ``sys.path`` stays as it is."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.known: dict[tuple[str, str | None], bool] = {}

    def now(self) -> dict[tuple[str, str | None], bool]:
        """Return the findings that still hold; each caller keeps the dict that it got."""
        if self.path != sys.path:
            self.known = {}  # before the path: another thread must not trust old findings
            self.path = sys.path.copy()
        return self.known


_findings = _Findings()


# Returns a token: the same object as long as ``is_importable`` has no reason to think anew.
what_is_known_of_modules: Callable[[], object] = _findings.now


def is_importable(module_name: str) -> bool:
    """Tell whether a fresh interpreter with this ``sys.path`` imports that very module."""
    if module_name.partition(".")[0] in _ALWAYS_THERE:
        return True
    module = sys.modules.get(module_name)
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    known = _findings.now()
    answer = known.get((module_name, file))
    if answer is None:
        answer = known[module_name, file] = _finds_again(module_name, module, file)
    return answer


def _finds_again(module_name: str, module: ModuleType, file: str | None) -> bool:
    if getattr(getattr(module, "__spec__", None), "origin", None) in ("built-in", "frozen"):
        return True
    parent = module_name.rpartition(".")[0]
    if parent and not is_importable(parent):
        return False
    spec = _search(module_name, parent)
    if spec is None:
        # Some packages make submodules as they are imported (six.moves, pybind11 modules); those
        # have no file. A file that is not found again is another module, or somewhere else.
        return bool(parent) and file is None
    if file is None:
        return spec.origin is None and spec.submodule_search_locations is not None
    return spec.origin is not None and _same_file(spec.origin, file)


def _search(module_name: str, parent: str) -> "ModuleSpec | None":
    """Look for a module as an import would, without importing anything."""
    from importlib.machinery import ModuleSpec, PathFinder  # few calls come here

    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if parent and path is None:
        return None
    # PathFinder first: it is all that most modules need. The others are those of editable
    # installations, which a fresh interpreter has as well.
    finders = [PathFinder, *(f for f in sys.meta_path if f is not PathFinder)]
    for finder in finders:
        find_spec = getattr(finder, "find_spec", None)
        try:
            spec = find_spec(module_name, path) if find_spec else None
        except Exception:  # a foreign finder that fails has not found it
            spec = None
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def _same_file(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)
