"""Decides which context variables travel with a task, and with which values."""

import functools
from contextvars import ContextVar, copy_context
from typing import Any, TypeAlias

from mirai_executor._payload.common.around import InContext
from mirai_executor._payload.common.context import home_of_variable
from mirai_executor._payload.host.calls import CallEncoder

Chosen: TypeAlias = bool | tuple[ContextVar[Any], ...]

_ATOMS = (type(None), bool, int, float, complex, str, bytes)


def in_context(chosen: Chosen) -> InContext:
    """Return what has functions see variables as they are now.

    Args:
        chosen: The variables; True for all that a daemon can find by a name of a module, and
            whose values can be pickled.
    """
    now = copy_context()
    variables = chosen if isinstance(chosen, tuple) else tuple(filter(_travels, now))
    found = [(variable, now[variable]) for variable in variables if variable in now]
    if not isinstance(chosen, tuple):
        found = [(variable, value) for variable, value in found if _can_be_sent(value)]
    # Numbered, as two may have one name: an error shows the key, and so the variable.
    keys = [variable.name for variable, _ in found]
    keys = [f"{key} {n}" if keys.count(key) > 1 else key for n, key in enumerate(keys)]
    return InContext(dict(zip(keys, found, strict=True)))


def _travels(variable: ContextVar[Any]) -> bool:
    home = home_of_variable(variable)
    # A daemon has no profiles of the host's.
    return home is not None and home.module.partition(".")[0] != "mirai_executor"


@functools.cache
def _probe() -> CallEncoder:
    return CallEncoder()


def _can_be_sent(value: object) -> bool:
    if isinstance(value, _ATOMS):
        return True
    try:
        _probe().encode(bool, (value,), {})
    except Exception:  # whatever its own code raises
        return False
    return True
