"""Owns a daemon's ``__main__``: decides which of the host's names are applied there, and when.

::

    receive(name, digest, bytes) ─► kept until a call needs it; a function without a name: Kept
    decode(call, its names)      ─► name seen with this digest: leave what is there
                                    set here by someone, never seen: leave that, note the digest
                                    otherwise: unpickle and set it, others that it needs first

Names that share an object come as one entry, and all are set if one of them is new; of these, too,
one that was set here by someone and never seen is left, without the others.

So the daemon's ``__main__`` follows the host's, and keeps what initializers and tasks put there.
"""

import functools
import importlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.entries import (
    FUNCTION,
    FUNCTIONS,
    MAIN_FILE,
    MP_MAIN,
    RESERVED,
    SYS_PATH,
    UNAVAILABLE,
    Applied,
    Brought,
    EntryUnpickler,
    Kept,
    Own,
    find_named,
    names_in,
)
from mirai_executor._payload.common.fast_pickle import Buffer, taken_apart
from mirai_executor._payload.common.importable import MAIN
from mirai_executor._payload.common.preparation import (
    Preparation,
    forget_where_modules_were,
    make_main,
    path_of,
    prepare_process,
)
from mirai_executor._typing import TYPE_CHECKING, Any
from mirai_executor.errors import PayloadError

if TYPE_CHECKING:
    from mirai_executor._payload.daemon.mainimport import MainImport

_SOURCE = "mirai_executor._payload.common.source"
_NOT_YET = object()

# The namespace of this process, once it is a daemon.
current: "Namespace | None" = None


class _TooEarly(PayloadError):  # noqa: N818 - a way to start again, not an error
    """A name is needed to unpickle an entry that has to be unpickled first itself."""


class Namespace:
    """The names of a daemon's ``__main__``. For the daemon's main thread only.

    Args:
        preparation: What the host said of itself; it is carried out at once: ``sys.path``,
            ``sys.argv``, the working directory (if it exists here), and a fresh module as
            ``__main__``.

    Attributes:
        module: The daemon's ``__main__``.
        on_sys_path: Called with the new ``sys.path`` after the host changed it.
        missing_because: Why names that the host's ``__main__`` has did not come.
    """

    def __init__(self, preparation: Preparation) -> None:
        global current  # a process has one __main__
        self.module = make_main(self.find, preparation)
        self.on_sys_path: Callable[[list[str]], None] | None = None
        self.missing_because: dict[str, str] = {}
        self._preparation = preparation
        names = () if rebuild.imported_first is None else rebuild.imported_first.names
        self._host_names: set[str] = set(names)
        self._brought = Brought(names)
        self._applied = Applied()
        self._received: dict[str, dict[bytes, bytes]] = {}
        self._pending: dict[str, bytes] = {}
        self._entry_of: dict[str, str] = {}  # of names that share an object, and are pending
        self._set_to: dict[str, int] = {}  # the ids of the values of names, at first
        self._functions = Kept()
        self._table: Sequence[tuple[str, bytes]] | None = None  # all of it is applied
        self._function_entry: tuple[str, bytes] | None = None  # of that table
        self._imported: MainImport | None = rebuild.imported_first
        sys.modules[MAIN] = sys.modules[MP_MAIN] = self.module
        rebuild.serial = None  # not that of a host which is a daemon itself, and was forked
        rebuild.held_modules = {} if rebuild.inheritance is None else dict(sys.modules)
        current = self
        self._own_path = tuple(sys.path)
        prepare_process(preparation)

    @property
    def host_names(self) -> AbstractSet[str]:
        """Names of ``__main__`` that the host's has as well: cleanup leaves their values."""
        return self._host_names

    def receive(self, name: str, digest: bytes, blob: bytes | memoryview | None) -> None:
        """Keep the bytes of a name until a call needs them. Never fails.

        The daemon says so of each name of each call, in the order in which the host sent them:
        with None where the bytes came before. What it forgets, its host then knows.
        """
        own = None if blob is None else bytes(blob)
        if name in FUNCTIONS:
            self._functions.receive(digest, own)
        elif own is not None and not self._applied.has(name, digest):
            self._received.setdefault(name, {})[digest] = own

    def decode(
        self,
        blob: Buffer,
        names: Sequence[tuple[str, bytes]],
        *,
        buffers: Sequence[Buffer] = (),
        persist: bool = False,
    ) -> Callable[[], object]:
        """Bring ``__main__`` up to date and return the call, ready to run.

        Args:
            blob: The pickled call; empty if it is the last of the buffers.
            names: The name and digest of each entry of its table; the same object means the same
                table.
            buffers: The bytes of its large buffers, which the call keeps and does not copy;
                writable where the host's were writable.
            persist: If the call is code in a string, what it binds stays in ``__main__``.

        Raises:
            PayloadError: Something cannot be unpickled, or bytes are missing. What was not
                applied yet is tried again by the next call that names it.
            BaseException: KeyboardInterrupt or SystemExit, while the user's code ran.
        """
        if names is not self._table:  # else it is that of the call before
            self._use(names)
        function, what = self._function_entry, "the call"
        try:
            if buffers:
                pickled, beside = taken_apart(blob, buffers)
                fn, args, kwargs = pickle.loads(pickled, buffers=beside)
            else:
                fn, args, kwargs = pickle.loads(blob)
            if function is not None:
                what = "the function"
                fn = self._function(*function)
        except Exception as error:
            from mirai_executor._payload.common.wording import fail_to_load  # as below

            fail_to_load(what, error)
        if not kwargs or RESERVED.isdisjoint(kwargs):
            return self._bound(fn, args, kwargs, persist)
        from mirai_executor._payload.common.around import inside, seeded, take_reserved

        around, stream = take_reserved(kwargs)
        call = inside(around, self._bound(fn, args, kwargs, persist))
        return call if stream is None else seeded(stream, call)

    def _bound(self, fn: Any, args: Any, kwargs: Any, persist: bool) -> Callable[[], object]:
        source = sys.modules.get(_SOURCE)  # imported with the first call of that kind
        if source is not None and fn is source.run_source:
            kwargs = {"brought": self._brought, "persist": persist}
        elif persist:
            return functools.partial(self._brought.call, fn, *args, **kwargs)
        if not callable(fn):  # the call says so
            return lambda: fn(*args, **kwargs)
        return functools.partial(fn, *args, **kwargs)

    def _use(self, names: Sequence[tuple[str, bytes]]) -> None:
        self._table = None  # until all is applied
        function, rest = None, names
        if names and names[-1][0] in FUNCTIONS:
            function, rest = names[-1], names[:-1]
        changed = [entry for entry in rest if not self._applied.has(*entry)]
        if changed:
            self._apply(changed)
        self._function_entry = function
        self._table = names

    def _function(self, kind: str, digest: bytes) -> Any:
        blob = self._functions[digest]
        return pickle.loads(blob) if kind == FUNCTION else find_named(blob)

    def find(self, name: str) -> object:
        """Return a global of ``__main__`` by name, as a payload or ``getattr`` asks for it."""
        if (value := self._find_entry(name)) is not _NOT_YET:
            return value
        names = vars(self.module)
        if name not in names and not (name.startswith("__") and name.endswith("__")):
            self._import_main()
        if name not in names:
            raise AttributeError(self._why_not(name), name=name, obj=self.module)
        return names[name]

    def find_held(self, module: str, name: str) -> object:
        """Return a global of a module that only the host has as a file."""
        value = self._find_entry(f"{module}:{name}")
        return getattr(importlib.import_module(module), name) if value is _NOT_YET else value

    def knows_held(self, module: str) -> bool:
        """Tell whether names of this module come from the host."""
        prefix = f"{module}:"
        return any(
            name.startswith(prefix)
            for name in (*self._pending, *self._entry_of, *rebuild.entries_in_progress)
        )

    def _find_entry(self, name: str) -> object:
        """Return what a name of the table will be, as far as it is made; apply it if need be."""
        if name in rebuild.entries_in_progress:
            value = rebuild.entries_in_progress[name]
            if value is _NOT_YET:
                raise _TooEarly(name)
            return value
        entry = self._entry_of.get(name, name)
        if entry in self._pending:
            self._apply_entry(entry)
        return _NOT_YET

    def _apply(self, changed: Sequence[tuple[str, bytes]]) -> None:
        self._pending = dict(changed)
        joint = [entry for entry in self._pending if "," in entry]
        self._entry_of = {name: entry for entry in joint for name in names_in(entry)}
        try:
            if SYS_PATH in self._pending:  # first: the others may need it to be imported
                self._apply_sys_path(self._pending[SYS_PATH])
            if MAIN_FILE in self._pending:  # then that: it has the names before they are applied
                self._import_main(self._bytes_of(MAIN_FILE, self._pending[MAIN_FILE]))
                self._note_applied(MAIN_FILE)
            while self._pending:
                self._apply_next()
        finally:
            self._pending, self._entry_of = {}, {}

    def _apply_next(self) -> None:
        """Apply one entry, beginning with one that no cycle needs to be complete.

        A subclass that its base's registry holds needs its base, which needs the subclass: that
        works only if it begins with the base.
        """
        for entry in list(self._pending):
            before = dict(self._pending)
            try:
                self._apply_entry(entry)
            except _TooEarly:
                applied = self._applied
                self._pending = {n: d for n, d in before.items() if not applied.has(n, d)}
            else:
                return
        entries = ", ".join(self._pending)
        raise PayloadError(f"these names of the host's __main__ depend on each other: {entries}")

    def _apply_entry(self, entry: str) -> None:
        """Set the names of an entry. Nothing is noted unless it succeeds."""
        digest = self._pending.pop(entry)
        names = names_in(entry)
        own, blob = Own.split(self._bytes_of(entry, digest), len(names))
        is_missing = blob.startswith(UNAVAILABLE)
        changed = self._changed(dict(zip(names, own, strict=True)), is_missing)
        if changed and is_missing:
            self._lack(entry, blob[len(UNAVAILABLE) :].decode())
        elif changed and (values := self._unpickle_or_keep(entry, blob)) is not None:
            if len(names) > 1:  # hardly ever
                from mirai_executor._payload.daemon.carried import carry_over

                kept = carry_over(names, digest, values, self._applied, self._is_as_set)
                changed = [name for name in changed if name not in kept]
            for name in changed:
                self._set(name, values[name])
        self._note(entry, digest)

    def _is_as_set(self, entry: str) -> tuple[bool, object]:
        """Tell whether a name is bound to what it was set to; and to what it is bound."""
        namespace, name = self._namespace_of(entry)
        value = namespace.get(name, _NOT_YET)
        return id(value) == self._set_to.get(entry), value

    def _changed(self, names: Mapping[str, Own | None], is_missing: bool) -> list[str]:
        """Return those names of an entry that do not stay as they are here."""
        changed = [name for name in names if not self._stays(name, names[name], is_missing)]
        if changed and len(changed) < len(names) and self._imported is not None:
            # What they share has to be the same for all that are the host's.
            changed = [n for n in names if n in changed or self._imported.has_as_imported(n)]
        return changed

    def _stays(self, entry: str, own: Own | None, is_missing: bool) -> bool:
        namespace, name = self._namespace_of(entry)
        if name not in namespace or entry in self._applied or rebuild.has_inherited(entry):
            return False
        imported = None if ":" in entry else self._imported
        return imported is None or imported.keeps(name, own, is_missing)

    def _lack(self, entry: str, reason: str) -> None:
        namespace, name = self._namespace_of(entry)
        namespace.pop(name, None)
        self.missing_because[name] = reason

    def _set(self, entry: str, value: object) -> None:
        namespace, name = self._namespace_of(entry)
        if ":" not in entry and name not in namespace:
            self._brought.add(name)
        namespace[name] = value
        self._set_to[entry] = id(value)
        self.missing_because.pop(name, None)

    def _unpickle_or_keep(self, entry: str, blob: bytes) -> dict[str, object] | None:
        """Do as :meth:`_unpickle`; None if that fails, and the import has made values as well."""
        try:
            return self._unpickle(entry, blob)
        except PayloadError as error:
            is_early, it = isinstance(error, _TooEarly), self._imported
            if is_early or it is None or not it.stands_in(names_in(entry), error):
                raise
            return None

    def _unpickle(self, entry: str, blob: bytes) -> dict[str, object]:
        """Return the value of each name of an entry."""
        names = names_in(entry)
        rebuild.entries_in_progress.update(dict.fromkeys(names, _NOT_YET))
        try:
            value: Any = EntryUnpickler(io.BytesIO(blob), self).load()
        except Exception as error:
            from mirai_executor._payload.common.wording import fail_to_load  # not for all

            fail_to_load(f"{entry!r} of the host's __main__", error)
        finally:
            for name in names:
                rebuild.entries_in_progress.pop(name, None)
        return dict(zip(names, value, strict=True)) if len(names) > 1 else {entry: value}

    def _namespace_of(self, entry: str) -> tuple[dict[str, Any], str]:
        module, _, name = entry.rpartition(":")
        if not module:
            return vars(self.module), name
        return vars(rebuild.held_module(module, {})), name

    def _note(self, entry: str, digest: bytes) -> None:
        self._applied.note(entry, digest)
        names = names_in(entry)
        self._host_names.update(name for name in names if ":" not in name)
        if self._imported is not None:
            for name in names:
                self._imported.forget(name)
        # Of older values, too: the host sends again what it goes back to.
        kept = self._received.get(entry, {})
        for old in list(kept):
            del kept[old]
            if old == digest:
                break

    def _bytes_of(self, entry: str, digest: bytes) -> bytes:
        blob = self._received.get(entry, {}).get(digest)
        if blob is None:
            raise PayloadError(f"the bytes of {entry!r} of the host's __main__ have not arrived")
        return blob

    def _apply_sys_path(self, digest: bytes) -> None:
        host_path = pickle.loads(self._bytes_of(SYS_PATH, digest))
        sys.path[:] = path = path_of(self._preparation, host_path, self._own_path)
        forget_where_modules_were()
        if self.on_sys_path is not None:
            self.on_sys_path(list(path))
        self._note_applied(SYS_PATH)

    def _note_applied(self, reserved: str) -> None:
        self._applied.note(reserved, self._pending.pop(reserved))
        self._received.pop(reserved, None)

    def _import_main(self, file: bytes | None = None) -> None:
        """Import the host's main module: this file; or, without one, only to fill gaps."""
        if rebuild.inheritance is not None:
            return  # with a fork came all that there is
        if self._imported is None:
            from mirai_executor._payload.daemon.mainimport import MainImport  # not for all

            self._imported = MainImport(self.module, self._preparation)
        added = self._imported.fill_gaps() if file is None else self._imported.carry_out(file)
        self._host_names |= added
        self._brought |= added

    def _why_not(self, name: str) -> str:
        text = f"module '__main__' has no attribute {name!r}"
        if reason := self.missing_because.get(name):
            text += f" on this daemon: the host's value cannot be pickled ({reason})"
        elif (it := self._imported) is not None and it.failure:
            text += f" on this daemon, and {it.failure}"
        return text
