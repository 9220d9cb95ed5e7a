"""Lists the global names that a function may look up when it runs."""

import dis
import sys
import weakref
from collections.abc import Iterable
from types import CodeType, ModuleType
from typing import Any, NamedTuple

# A module has these of its own, at either end.
STANDARD_DUNDERS = frozenset(
    {
        "__annotate__",  # Python 3.14
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__conditional_annotations__",  # Python 3.14
        "__dict__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
    }
)

# LOAD_NAME: the body of a class that a function defines. LOAD_FROM_DICT_OR_GLOBALS: the same
# inside Python 3.12's type parameter scopes.
_LOOKUPS = frozenset(
    {
        "LOAD_GLOBAL",
        "STORE_GLOBAL",
        "DELETE_GLOBAL",
        "LOAD_NAME",
        "LOAD_FROM_DICT_OR_GLOBALS",
    }
)


class Names(NamedTuple):
    """What a code object and those nested in it mention."""

    globals: tuple[str, ...]  # looked up in the globals, perhaps
    mentioned: frozenset[str]  # every name, attributes too


_known: "weakref.WeakKeyDictionary[CodeType, Names]" = weakref.WeakKeyDictionary()


def names_of(code: CodeType) -> Names:
    """Return the names that a code object mentions. Keeps no code object alive."""
    names = _known.get(code)
    if names is None:
        names = _known[code] = _read(code)
    return names


def _read(code: CodeType) -> Names:
    # A dict for its order: the table's order must not depend on the hashes of strings.
    found = {str(i.argval): None for i in dis.get_instructions(code) if i.opname in _LOOKUPS}
    mentioned = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = names_of(constant)
            found.update(dict.fromkeys(inner.globals))
            mentioned |= inner.mentioned
    return Names(tuple(found), frozenset(mentioned))


def submodules_of(code: CodeType, captured: Iterable[Any]) -> list[ModuleType]:
    """Return the submodules that a function reaches through a package that it captured.

    ``import concurrent.futures`` binds only ``concurrent``: elsewhere the submodule has to be
    imported as well, or the attribute is not there.
    """
    found: list[ModuleType] = []
    for name in submodules_asked_for(code, captured):
        module = sys.modules.get(name)
        if isinstance(module, ModuleType) and module not in found:
            found.append(module)
    return found


def submodules_asked_for(code: CodeType, captured: Iterable[Any]) -> list[str]:
    """Return the names that ``submodules_of`` looks up in ``sys.modules``."""
    mentioned = sorted(names_of(code).mentioned)
    asked: dict[str, None] = {}
    waiting = [
        m.__name__ for m in captured if isinstance(m, ModuleType) and hasattr(m, "__path__")
    ]
    while waiting:
        package = waiting.pop()
        for name in (f"{package}.{each}" for each in mentioned):
            if name not in asked:
                asked[name] = None
                if isinstance(sys.modules.get(name), ModuleType):
                    waiting.append(name)
    return list(asked)
