"""Turns calls into bytes, and the bytes of their results into objects again."""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common.entries import (
    AROUND,
    SYS_PATH,
    Call,
    NameEntry,
    digest_of,
    names_in,
)
from mirai_executor._payload.common.fast_pickle import (
    BRIEF,
    LARGE,
    PROTOCOL,
    Buffer,
    Value,
    dump_plainly,
    is_imported,
    is_short,
)
from mirai_executor._payload.common.preparation import host_sys_path
from mirai_executor._payload.host.functions import FrozenFunction, FunctionCache, pickle_function
from mirai_executor.errors import PayloadError

if TYPE_CHECKING:
    import ast

    from mirai_executor._payload.common.loans import Loan
    from mirai_executor._payload.common.refusals import Refusal
    from mirai_executor._payload.common.serial import Hooks
    from mirai_executor._payload.host.inherit import KnownInheritance
    from mirai_executor._payload.host.large_captures import LargeCaptures
    from mirai_executor._payload.host.mainfile import MainFile, Mode
    from mirai_executor._payload.host.seals import Seals
    from mirai_executor._payload.host.table import PicklingFailure

T = TypeVar("T")


class MainFinder:
    """Finds the main module's file, if daemons import it; decides that when first asked.

    Args:
        mode: Whether daemons import it: ``"auto"`` if it has a guard.
    """

    def __init__(self, mode: "Mode") -> None:
        self._mode: Mode = mode
        self.file: MainFile | None = None  # if it is known

    def __call__(self) -> "MainFile | None":
        if self._mode != "value" and self.file is None:
            from mirai_executor._payload.host.mainfile import main_file  # with ast: for names only

            self.file = main_file(self._mode)
            if self.file is None:
                self._mode = "value"
        return self.file


class CallEncoder:
    """Turns calls into bytes, for one executor. Any thread may encode at any time.

    Args:
        sys_path: The import path that the daemons were prepared with; the current one if absent.
        main: Whether daemons import the main module: ``"auto"`` if it has a guard.
        known: What the daemons have by a fork, if they come that way.
        serial: What the user has for classes, if anything.
    """

    def __init__(
        self,
        sys_path: list[str] | None = None,
        *,
        main: "Mode" = "value",
        known: "KnownInheritance | None" = None,
        serial: "Hooks | None" = None,
    ) -> None:
        self._inherited = known
        self._serial = serial
        self._dump_plainly = dump_plainly if serial is None else serial.dump_plainly
        self._prepared_path = host_sys_path() if sys_path is None else list(sys_path)
        self.find_main = MainFinder(main)
        self._functions = FunctionCache(self.find_main, known, serial)
        self._captures: LargeCaptures | None = None
        self._seals: Seals | None = None  # until something is pickled with care
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
        lasting: bool = False,
        out_of_band: bool = False,
        apart: bool = False,
    ) -> Call:
        """Turn a call into bytes.

        Args:
            fn: The function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            local_locks: Replace locks of multiprocessing that cannot travel by one lock in
                each daemon, with a RuntimeWarning.
            lasting: Whether the call may be made more than once, and so the descriptors in it
                fetched more than once. What is left of them ends with the table of the call.
            out_of_band: Whether large buffers may travel beside the bytes.
            apart: Whether a large pickle may be one of them; only with ``out_of_band``.

        Raises:
            PayloadError: Something that the call needs cannot be pickled; the message names it.
            BaseException: What the user's own code raised while it was being pickled.
        """
        path = self._current_path_entry()
        are_atoms = _are_atoms(args, kwargs)
        if are_atoms and type(fn) is not FunctionType and _is_plain(fn):
            blob = pickle.dumps((fn, args, kwargs), PROTOCOL)
            if len(blob) < LARGE:
                return Call(blob, path)
        taken = fn.pickled_payload if type(fn) is FrozenFunction else None
        found = taken or self._functions.find(fn)
        if found is not None and not local_locks:
            if are_atoms and found.reference is None:
                blob = pickle.dumps((None, args, kwargs), PROTOCOL)
                if len(blob) < LARGE:
                    # At half the cost of Call(...), for most calls.
                    return tuple.__new__(Call, (blob, path + found.entries, ()))
            call = (found.reference, args, kwargs)
            dumped = self._dump_plainly(call, out_of_band=out_of_band, apart=apart)
            if isinstance(dumped, Value):
                # As above.
                return tuple.__new__(Call, (dumped.blob, path + found.entries, dumped.buffers))
            _raise_if(dumped, args, kwargs)
        call = (None if taken else fn, args, kwargs)
        value, names, loan = self._with_care(
            call, local_locks, lasting, out_of_band=out_of_band, apart=apart
        )
        if found is None:
            self._note(fn, value, names)
        names = path + (_merged(taken.entries, names) if taken else names)
        return Call(value.blob, loan.kept_by(names), value.buffers)

    def encode_inherited(self) -> Call:
        """Turn the call of an initializer into bytes that daemons have by a fork."""
        from mirai_executor._payload.common import rebuild

        return Call(pickle.dumps((rebuild.run_inherited, (), {}), PROTOCOL), ())

    def _note(self, fn: object, value: Value, names: tuple[NameEntry, ...]) -> None:
        """Warn of a function that is large and is pickled anew at each call."""
        if self._captures is None:
            from mirai_executor._payload.host.large_captures import LargeCaptures

            self._captures = LargeCaptures()
        self._captures.note(fn, value.nbytes, names)

    def forget_files(self) -> None:
        """Take the files of modules as they are now for what daemons import."""
        self._functions.forget_files()

    def take(self, fn: Callable[..., T]) -> Callable[..., T]:
        """Return the function as it is now, pickled for any number of calls.

        It returns ``fn`` itself if that is as good, or cannot be pickled: then each call says so.
        """
        if _is_plain(fn):
            return fn
        pickled = pickle_function(fn, self.find_main, self._inherited, self._serial)
        taken: Any = fn if pickled is None else FrozenFunction(fn, pickled)
        return taken  # type: ignore[no-any-return]  # it can be called as fn can

    def _with_care(
        self, call: tuple[Any, ...], local_locks: bool, lasting: bool, **how: Any
    ) -> tuple[Value, tuple[NameEntry, ...], "Loan"]:
        """Pickle a call that plain pickle would get wrong; return it, its table and its loan."""
        from mirai_executor._payload.common.diagnosis import explain_call, said_by_pickle
        from mirai_executor._payload.common.loans import Loan
        from mirai_executor._payload.host.seals import Seals
        from mirai_executor._payload.host.table import Table

        self._seals = self._seals or Seals()
        loan = Loan(lasting=lasting)
        table = Table(
            local_locks=local_locks,
            lend=loan.lend,
            known=self._inherited,
            main=self.find_main,
            seals=self._seals,
            serial=self._serial,
        )
        try:
            pickled = table.pickle(call, **how)
        except BaseException as error:
            loan.end()
            if said_by_pickle(error):
                raise explain_call(call, table.failed, error) from error
            raise
        table.close()
        if failure := table.failure_of(pickled.needs):
            loan.end()
            try:
                raise _error_of(failure)
            finally:  # the error's traceback has this frame: no cycle through it to the arguments
                del failure, table
        if table.replaced_locks:
            from mirai_executor._payload.host.callers import warn_of_local_locks

            warn_of_local_locks()
        return pickled.value, table.entries(), loan

    def encode_source(self, source: str, variables: Mapping[str, object]) -> Call:
        """Turn code in a string, and the variables that it sees, into bytes.

        Its value is that of its last line, if that is an expression.

        Raises:
            SyntaxError: The string is not Python.
            PayloadError: A variable cannot be pickled; the message names it.
        """
        self.check_source(source)
        return self.encode_checked(source, variables)

    def check_source(self, source: str) -> None:
        """Raise SyntaxError if code in a string is not Python."""
        from mirai_executor._payload.common.source import parse_source  # only for code

        parse_source(source)

    def encode_checked(
        self, source: str, variables: Mapping[str, object], beside: Mapping[str, Any] | None = None
    ) -> Call:
        """Do as :meth:`encode_source` with code that has been checked, and its stream."""
        from mirai_executor._payload.common.source import run_source  # as above

        names, reserved = dict(variables), dict(beside or {})
        if AROUND in names:
            reserved[AROUND] = names.pop(AROUND)
        try:
            return self.encode(run_source, (source, names), reserved)
        except PayloadError as error:
            from mirai_executor._payload.common.diagnosis import of_code

            raise of_code(error, names) from error.__cause__

    def names_set_by(self, source: str, variables: Mapping[str, object]) -> frozenset[str] | None:
        """Return the names that code sets in ``__main__``; None if it may do anything else.

        It does nothing else if it consists of assignments of its variables, or of constants.
        """
        import ast

        from mirai_executor._payload.common.source import parse_source  # as above

        names = set(variables) - {AROUND}
        for statement in parse_source(source).body:
            if not isinstance(statement, ast.Assign) or not _is_given(statement.value, variables):
                return None
            for target in statement.targets:
                if not isinstance(target, ast.Name):
                    return None
                names.add(target.id)
        return frozenset(names)

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


def _is_given(value: "ast.expr", variables: Mapping[str, object]) -> bool:
    """Tell whether an expression is a constant, or one of these variables."""
    import ast

    if isinstance(value, ast.Tuple | ast.List):
        return all(_is_given(element, variables) for element in value.elts)
    is_name = isinstance(value, ast.Name) and value.id in variables
    return is_name or isinstance(value, ast.Constant)


def _are_atoms(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # A loop: a generator expression costs as much as pickling.
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) not in BRIEF and not is_short(value):
            return False
    return True


def _is_plain(fn: object) -> bool:
    """Tell whether plain pickle is enough for a function: it is importable."""
    if type(fn) is BuiltinFunctionType:
        return fn.__module__ == "builtins" or fn.__module__ == "math"
    return type(fn) in (FunctionType, type) and is_imported(fn)


def _merged(taken: tuple[NameEntry, ...], found: tuple[NameEntry, ...]) -> tuple[NameEntry, ...]:
    """Return one table for a function as it was and arguments as they are: these win.

    But of names that share an object with others of the function, all are as they were.
    """
    joint = {name for entry in taken if "," in entry.name for name in names_in(entry.name)}
    found = tuple(entry for entry in found if joint.isdisjoint(names_in(entry.name)))
    names = {entry.name: entry for entry in (*taken[:-1], *found)}
    return (*names.values(), taken[-1])


def _raise_if(refusal: "Refusal | None", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if refusal is not None:
        from mirai_executor._payload.common.diagnosis import explain_call

        raise explain_call((None, args, kwargs), refusal.pickler, refusal.error)


def _error_of(failure: "PicklingFailure") -> BaseException:
    from mirai_executor._payload.common.diagnosis import explain, said_by_pickle

    error, key = failure.error, failure.key
    if not said_by_pickle(error):
        return error
    value = vars(sys.modules[key.module])[key.name]
    return explain({f"{key.module}.{key.name}": value}, failure.pickler, error)


# The pickles of None, booleans and most numbers: how long they are, how they begin, where their
# one opcode stands, and which it is. What is longer than three bytes stands in a frame.
_HEAD = b"\x80" + bytes((PROTOCOL,))
_NUMBERS = {
    4: (_HEAD, 2, b"N\x88\x89"),
    5: (_HEAD, 2, b"K"),
    15: (_HEAD + b"\x95", 11, b"M"),
    17: (_HEAD + b"\x95", 11, b"J"),
    21: (_HEAD + b"\x95", 11, b"G"),
}
NO_NUMBER = object()


def decode_value(blob: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """Return the result that a daemon pickled. For the host; any thread.

    Args:
        blob: Its bytes; empty if they are the last of the buffers.
        buffers: The bytes of its large buffers, which the value keeps and does not copy; writable
            if the value is to be.

    Raises:
        PayloadError: It cannot be unpickled here.
        BaseException: KeyboardInterrupt or SystemExit, while the user's code ran.
    """
    try:
        if not buffers:
            return pickle.loads(blob)
        pickled, beside = pickle.taken_apart(blob, buffers)
        return pickle.loads(pickled, buffers=beside)
    except Exception as error:
        from mirai_executor._payload.common.wording import describe, is_of_a_hook  # hardly ever

        if is_of_a_hook(error):
            raise
        raise PayloadError(f"cannot unpickle the result: {describe(error)}") from error


def decode_number(blob: bytes | memoryview) -> object:
    """Return a result that takes no time to decode: a number, a boolean or None.

    Returns:
        ``NO_NUMBER`` if it is none of these, an integer of more than 32 bits, or no pickle at all.
    """
    found = _NUMBERS.get(len(blob))
    if found is None:
        return NO_NUMBER
    head, place, opcodes = found
    if blob[place] not in opcodes or blob[: len(head)] != head:
        return NO_NUMBER
    try:
        return pickle.loads(blob)
    except Exception:  # it only looks like one
        return NO_NUMBER
