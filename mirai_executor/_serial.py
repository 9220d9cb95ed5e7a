"""What users say of classes that pickle does not know, for one executor or for all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any, TypeVar, overload

from ._payload.common.fast_pickle import ATOMS, PickleBuffer
from ._payload.common.serial import Hook, Hooks, new_key
from .errors import PayloadError

T = TypeVar("T")

# The pickler asks nobody about instances of these, or needs them as they are.
_UNASKED = ATOMS | {bytearray, dict, frozenset, list, set, tuple, PickleBuffer}
_NEEDED = frozenset({object, FunctionType, BuiltinFunctionType, ModuleType, CodeType, CellType})

# What is registered for all executors, the latest for each class. Changed by single operations.
_registered: dict[type, Hook] = {}


@dataclass(frozen=True, repr=False)
class SerialConfig:
    """How objects of some classes travel; made by :func:`serial_config`. It never changes.

    Example:
        >>> import decimal
        >>> serial_config(decimal.Context, repr, eval)
        <SerialConfig for decimal.Context>
    """

    _hooks: tuple[Hook, ...]

    def __repr__(self) -> str:
        return f"<SerialConfig for {', '.join(_name(hook.kind) for hook in self._hooks)}>"


@overload
def serial_config(
    cls: type[T], dumps: Callable[[T], Any], loads: Callable[[Any], Any]
) -> SerialConfig: ...
@overload
def serial_config(
    cls: Sequence[type[Any]],
    dumps: Sequence[Callable[[Any], Any]],
    loads: Sequence[Callable[[Any], Any]],
) -> SerialConfig: ...
def serial_config(cls: Any, dumps: Any, loads: Any) -> SerialConfig:
    """Say how objects of a class travel between the host and its daemons.

    The result is given to :class:`MiraiExecutor` or :func:`daemons` as ``serial``. The functions
    are then asked wherever an object of the class is found: in arguments and results, however
    deep inside other objects; in what functions capture; in initial arguments and exceptions.
    Daemons get them when they connect, before anything else, and need no setup of their own.

    Subclasses count, too: an object is handed to the functions of the first class of its
    ``__mro__`` that has some. They win over the ``__reduce__`` of the class, and over what
    ``copyreg`` and ``multiprocessing`` know of it.

    If one of them raises an exception, the future of the task ends in that exception, and the
    executor goes on. The functions may be called on any thread, and more than once.

    Args:
        cls: The class, or a list of classes.
        dumps: Called with an object; returns ``bytes``, another buffer such as a ``memoryview`` or
            an array, or a list of these. Buffers of 192 KiB or more are not copied into the
            pickle, and reach daemons of this machine through shared memory. With a list of
            classes, a list of as many functions.
        loads: Called at the other side with what ``dumps`` has returned, and returns the object.
            ``bytes`` arrive as ``bytes``, any other buffer as a ``memoryview`` of its bytes, which
            the object may keep; a list as a list.

    Returns:
        A frozen object, for any number of executors.

    Raises:
        TypeError: ``cls`` is not a class, or a function is not callable.
        ValueError: The lists differ in length, a class is there twice, or pickle asks nobody
            about objects of the class, as for ``dict``. Subclasses of ``dict`` are fine.

    Example:
        >>> import threading
        >>> class Sensor:
        ...     def __init__(self, port):
        ...         self.port, self.lock = port, threading.Lock()  # which cannot be pickled
        >>> config = serial_config(
        ...     Sensor, lambda it: str(it.port).encode(), lambda data: Sensor(int(data))
        ... )
        >>> with MiraiExecutor(1, serial=config) as executor:
        ...     executor.submit(lambda found: found["a"].port + 1, {"a": Sensor(4)}).result()
        5
    """
    if not isinstance(cls, (list, tuple)):
        cls, dumps, loads = [cls], [dumps], [loads]
    elif not isinstance(dumps, (list, tuple)) or not isinstance(loads, (list, tuple)):
        raise TypeError("with a list of classes, dumps and loads must be lists of functions")
    if not len(cls) == len(dumps) == len(loads):
        raise ValueError(
            "cls, dumps and loads must be equally long, not "
            f"{len(cls)}, {len(dumps)} and {len(loads)}"
        )
    hooks = tuple(map(_hook, cls, dumps, loads))
    if len(set(cls)) < len(hooks):
        raise ValueError("cls has the same class twice")
    return SerialConfig(hooks)


def register_serial(cls: Any, dumps: Any, loads: Any = None) -> None:
    """Say how objects of a class travel, for all executors of this process that are made later.

    For libraries, and for programs with many executors. Executors that exist stay as they are.
    What an executor is given as ``serial`` comes on top, and wins where both have something for
    the same class; so does what is registered later. Safe from any thread. A daemon that is a host
    itself registers for itself.

    Args:
        cls: The class, or a list of classes, as for :func:`serial_config`.
        dumps: As there; None, and no ``loads``, takes back what was registered.
        loads: As there.

    Raises:
        TypeError: As there.
        ValueError: As there.

    Example:
        >>> import fractions
        >>> register_serial(fractions.Fraction, lambda x: str(x).encode(), bytes.decode)
        >>> with MiraiExecutor(1) as executor:
        ...     executor.submit(lambda x: x, fractions.Fraction(1, 3)).result()
        '1/3'
        >>> register_serial(fractions.Fraction, None)
    """
    if dumps is None and loads is None:
        for each in cls if isinstance(cls, (list, tuple)) else [cls]:
            _registered.pop(each, None)
        return
    for hook in serial_config(cls, dumps, loads)._hooks:  # noqa: SLF001 - ours
        _registered[hook.kind] = hook


def hooks_for(given: object) -> Hooks | None:
    """Return what is registered, and what an executor is given on top; None if that is nothing.

    Raises:
        TypeError: It is given something else than a SerialConfig, or several.
        PayloadError: What it is given cannot be sent to daemons.
    """
    configs = [] if given is None else given if isinstance(given, (list, tuple)) else [given]
    found = dict(_registered)
    for config in configs:
        if not isinstance(config, SerialConfig):
            raise TypeError(
                f"serial must be made by serial_config(), or a list of such, not {config!r:.60}"
            )
        found.update((hook.kind, hook) for hook in config._hooks)  # noqa: SLF001 - as above
    if not found:
        return None
    hooks = Hooks(found.values())
    for hook in hooks.all:
        _check(hook)
    return hooks


def _check(hook: Hook) -> None:
    """Pickle a hook as it will be sent, so that an error comes while the user looks."""
    from ._payload.host import CallEncoder  # cloudpickle takes its time

    try:
        CallEncoder().encode(tuple, ((hook.kind, hook.dumps, hook.loads),), {})
    except Exception as error:
        raise PayloadError(
            f"the functions of serial for {_name(hook.kind)} cannot be sent to daemons: {error}"
        ) from error


def _hook(cls: Any, dumps: Any, loads: Any) -> Hook:
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class, or a list of classes, not {cls!r:.60}")
    if cls in _UNASKED or cls in _NEEDED or issubclass(cls, type):
        raise ValueError(
            f"objects of {_name(cls)} itself are always pickled in Python's own way; say it of a "
            "subclass, or of the class of what they hold"
        )
    for name, function in (("dumps", dumps), ("loads", loads)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, not {function!r:.60}")
    return Hook(new_key(), cls, dumps, loads)


def _name(cls: type) -> str:
    home = "" if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}."
    return f"{home}{cls.__qualname__}"
