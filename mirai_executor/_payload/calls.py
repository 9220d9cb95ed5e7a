"""Turns calls into bytes at the host."""

import ast
import pickle
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

from mirai_executor._payload.culprits import explain, said_by_pickle
from mirai_executor._payload.pickler import PROTOCOL, dump
from mirai_executor._payload.places import Kind, kind_of
from mirai_executor._payload.preparation import host_sys_path
from mirai_executor._payload.source import SOURCE_NAME, run_source
from mirai_executor._payload.table import CallPickler, Failure, NameEntry, Table, digest_of

__all__ = ["SYS_PATH", "Call", "CallEncoder"]

SYS_PATH = "sys.path"  # the reserved name of the table

# Exactly these: a subclass may be picklable only by value.
_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})


class Call(NamedTuple):
    """A pickled call.

    ``names`` is the flat table of what it may look up in ``__main__``, perhaps empty.
    """

    blob: bytes
    names: tuple[NameEntry, ...]


class CallEncoder:
    """Turns calls into bytes, for one executor. Any thread may encode at any time.

    Args:
        sys_path: The import path that the daemons were prepared with; the current one if absent.
    """

    def __init__(self, sys_path: list[str] | None = None) -> None:
        self._prepared_path = host_sys_path() if sys_path is None else list(sys_path)
        self._path_seen = sys.path.copy()
        # Once it differed it is sent for good: a daemon may have the path of any moment between.
        self._path_entry: tuple[NameEntry, ...] = self._compare_path()

    def encode(
        self,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        local_locks: bool = False,
    ) -> Call:
        """Turn a call into bytes.

        Args:
            fn: The function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            local_locks: Replace locks of multiprocessing, which cannot travel, by one lock in
                each daemon, with a RuntimeWarning.

        Raises:
            PayloadError: Something that the call needs cannot be pickled; the message names it.
            BaseException: What the user's own code raised while it was being pickled.
        """
        path = self._current_path_entry()
        call = (fn, args, kwargs)
        if _is_plain(fn, args, kwargs):
            return Call(pickle.dumps(call, PROTOCOL), path)
        table = Table(local_locks=local_locks)
        try:
            pickled = table.pickle(call)
        except BaseException as error:
            if said_by_pickle(error):
                raise _explained(call, error) from error
            raise
        table.close()
        if failure := table.failure_of(pickled.needs):
            try:
                raise _error_of(failure)
            finally:  # the error's traceback has this frame: no cycle through it to the arguments
                del failure, table
        if table.replaced_locks:
            _warn_of_local_locks()
        return Call(pickled.blob, path + table.entries())

    def encode_source(self, source: str, variables: Mapping[str, object]) -> Call:
        """Turn code in a string, and the variables that it sees, into bytes.

        Its value is that of its last line, if that is an expression.

        Raises:
            SyntaxError: The string is not Python.
            PayloadError: A variable cannot be pickled; the message names it.
        """
        source = textwrap.dedent(source)
        ast.parse(source, SOURCE_NAME)
        return self.encode(run_source, (source, dict(variables)), {})

    def _current_path_entry(self) -> tuple[NameEntry, ...]:
        if self._path_seen != sys.path:
            self._path_seen = sys.path.copy()
            self._path_entry = self._compare_path()
        return self._path_entry

    def _compare_path(self) -> tuple[NameEntry, ...]:
        path = host_sys_path()
        if path == self._prepared_path and not getattr(self, "_path_entry", ()):
            return ()
        blob = pickle.dumps(path, PROTOCOL)
        return (NameEntry(SYS_PATH, digest_of(blob), blob),)


def _is_plain(fn: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether plain pickle is enough: an importable function of numbers and texts."""
    if not all(type(value) in _PLAIN for value in args):
        return False
    if kwargs and not all(type(value) in _PLAIN for value in kwargs.values()):
        return False
    if type(fn) is BuiltinFunctionType:
        return fn.__module__ == "builtins" or fn.__module__ == "math"
    if type(fn) is not FunctionType and type(fn) is not type:
        return False
    module = sys.modules.get(fn.__module__)  # home_of() in short: this is on every call's path
    if module is None or vars(module).get(fn.__qualname__) is not fn:
        return False
    return kind_of(fn.__module__) is Kind.IMPORTABLE


def _explained(call: tuple[Any, ...], error: BaseException) -> BaseException:
    fn, args, kwargs = call
    parts = {"the function": fn}
    parts.update({f"args[{i}]": value for i, value in enumerate(args)})
    parts.update({f"kwargs[{name!r}]": value for name, value in kwargs.items()})
    return explain(parts, lambda obj: dump(CallPickler, obj), error)


def _error_of(failure: Failure) -> BaseException:
    error, key = failure.error, failure.key
    if not said_by_pickle(error):
        return error
    value = vars(sys.modules[key.module])[key.name]

    def probe(obj: object) -> bytes:
        return dump(lambda file: CallPickler(file, key), obj)

    return explain({f"{key.module}.{key.name}": value}, probe, error)


def _warn_of_local_locks() -> None:
    warnings.warn(
        "a multiprocessing lock cannot travel to a daemon that already runs: each daemon gets a "
        "lock of its own, which excludes nothing in other processes",
        RuntimeWarning,
        stacklevel=4,
    )
