"""Has daemons find the context variables that a host has.

A variable travels as the name of the module attribute that it is, where daemons import that. Any
other one is made at a daemon, once, and is from then on the same in all that the host sends.
"""

import os
import sys
from contextvars import Context, ContextVar
from typing import Any, TypeAlias

from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.importable import Home, Travel, travel_of

_Variable: TypeAlias = ContextVar[Any]

# Where each variable was found; of one that was not, among how many modules.
_homes: dict[_Variable, Home | int] = {}
_by_identity: dict[str, _Variable] = {}
_identities: dict[_Variable, str] = {}


def home_of_variable(variable: _Variable) -> Home | None:
    """Return which attribute of which module a variable is; None if of none."""
    known = _homes.get(variable)
    if known is None or (isinstance(known, int) and known != len(sys.modules)):
        # Whoever has imported it from elsewhere has it, too: daemons find it in any of them.
        homes = sorted(_all_homes(variable), key=lambda home: home.kind is not Travel.IMPORTABLE)
        known = _homes[variable] = homes[0] if homes else len(sys.modules)
    return None if isinstance(known, int) else known


def _all_homes(variable: _Variable) -> "list[Home]":
    return [
        Home(travel_of(module), module, name)
        for module, names in [(m, vars(sys.modules[m])) for m in list(sys.modules)]
        for name, value in list(names.items())
        if value is variable
    ]


def reduce_context_variable(_: object, variable: _Variable) -> Any:
    """Take a variable apart, for any pickler of ours."""
    home = home_of_variable(variable)
    if home is not None and home.kind is Travel.IMPORTABLE:
        return _named, (home.module, home.qualname)
    identity = _identities.get(variable) or _note(os.urandom(8).hex(), variable)
    of_main = home.qualname if home is not None and home.kind is Travel.MAIN else None
    return _made, (identity, of_main, variable.name, *_default_of(variable))


def _default_of(variable: _Variable) -> tuple[Any, ...]:
    try:
        return (Context().run(variable.get),)
    except LookupError:
        return ()


def _named(module: str, name: str) -> Any:
    return getattr(rebuild.import_module(module), name)


def _made(identity: str, of_main: str | None, name: str, *default: Any) -> _Variable:
    if of_main is not None:
        there = vars(rebuild.main_module()).get(of_main)
        if type(there) is ContextVar:  # daemons may have imported the script
            return there
    variable = _by_identity.get(identity)
    if variable is None:
        variable = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _note(identity, variable)
    return variable


def _note(identity: str, variable: _Variable) -> str:
    _by_identity[identity] = variable
    _identities[variable] = identity
    return identity
