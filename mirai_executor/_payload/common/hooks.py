"""Holds every private name of cloudpickle that payloads lean on, and checks that it is there.

cloudpickle promises only ``dumps``, ``Pickler`` and the by-value registry. How a class without
an importable home is taken apart and put together again is its private knowledge, and too much
of it (slots, ABCs, enums, Python 3.13's class attributes) to have twice. So the supported range is
pinned, ``cloudpickle>=3.1,<4``, and a version that renamed something fails here, at import.
"""

import typing
from collections.abc import Callable
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as _private

from mirai_executor._payload.common import annotations
from mirai_executor._private import check, missing

check("_payload.common.hooks")

# ``Any``: cloudpickle is untyped.
_reduce_class: Callable[[type], tuple[Any, ...]] = _private._dynamic_class_reduce  # noqa: SLF001 - see above
set_class_state: Callable[[Any, Any], Any] = _private._class_setstate  # noqa: SLF001 - see above
make_typevar: Callable[..., Any] = _private._make_typevar  # noqa: SLF001 - see above
decompose_typevar: Callable[[Any], tuple[Any, ...]] = _private._decompose_typevar  # noqa: SLF001 - see above
builtin_type: Callable[[str], type] = _private._builtin_type  # noqa: SLF001 - see above
BUILTIN_TYPE_NAMES: dict[type, str] = _private._BUILTIN_TYPE_NAMES  # noqa: SLF001 - see above
REDUCERS: dict[type, Callable[[Any], Any]] = dict(cloudpickle.Pickler._dispatch_table)  # noqa: SLF001 - see above
registered_by_value: Callable[[], set[str]] = cloudpickle.list_registry_pickle_by_value


def reduce_class(cls: type) -> tuple[Any, ...]:
    """Take a class apart: make, arguments, state, None, None, ``set_class_state``."""
    make, arguments, *rest = _reduce_class(cls)
    if make is _private._make_skeleton_class:  # noqa: SLF001 - see above
        constructor, name, bases, attributes, *others = arguments
        arguments = (constructor, name, *_repaired(cls, bases, attributes), *others)
        (namespace, slots), *rest = rest
        rest = [({**namespace, **annotations.of_class(cls)}, slots), *rest]
    return make, arguments, *rest


def _repaired(
    cls: type, bases: tuple[Any, ...], attributes: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make good what cloudpickle 3.1 loses when it makes a class."""
    own = vars(cls)
    # Without __slots__, instances would have a __dict__.
    if "__slots__" in own:
        attributes = {**attributes, "__slots__": own["__slots__"]}
    # Made from NamedTuple itself, it would be a tuple of no fields, and refuse its __slots__.
    if typing.NamedTuple in bases:
        attributes = {**attributes, "__orig_bases__": bases}
        bases = cls.__bases__
    return bases, attributes


def tracker_id(arguments: tuple[Any, ...]) -> str:
    """Return the id under which both processes know a class, from its constructor arguments."""
    found = arguments[-2]
    assert isinstance(found, str)  # noqa: S101 - what _check_shape found at import
    return found


def class_tracked_as(identity: str) -> type | None:
    """Return the class that this process knows under an id, if it is alive."""
    found: type | None = _private._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)  # noqa: SLF001 - see above
    return found


def track_class(cls: type, arguments: tuple[Any, ...]) -> None:
    """Have a class be the one that constructor arguments ask for."""
    _private._lookup_class_or_track(tracker_id(arguments), cls)  # noqa: SLF001 - see above


def _check_shape() -> None:
    """Fail where the names are there but a class no longer comes apart as we expect."""
    probe = type("Probe", (), {"__slots__": ("a",)})
    reduced = reduce_class(probe)
    arguments = reduced[1] if len(reduced) == 6 else ()
    if not arguments or reduced[5] is not set_class_state or not isinstance(arguments[-2], str):
        raise missing("cloudpickle.cloudpickle._dynamic_class_reduce in its known form")
    if class_tracked_as(arguments[-2]) is not probe:
        raise missing("cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID in its known form")


_check_shape()
