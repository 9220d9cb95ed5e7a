"""Builds a call's table: the ``__main__`` names that it may need, each pickled on its own.

::

    call ─pickled─► refers to f, C       (hard: it cannot be unpickled without them)
                       │
    entry f ─pickled─► may look up DATA  (soft: f runs without it, perhaps)
    entry C ─pickled─► refers to Base    (hard)

A name found while an entry is pickled becomes an entry itself, until there are no new ones. What
cannot be pickled makes the call fail only if the call refers to it, directly or through hard
references; otherwise its entry says why it is missing. In the end, names whose values share an
object (see ``sharing.py``) become one entry, pickled once more, together.
"""

from __future__ import annotations

import contextlib
import copyreg
import sys
from collections.abc import Callable, Collection, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.entries import UNAVAILABLE, NameEntry, digest_of
from mirai_executor._payload.common.fast_pickle import OutOfBand, Value, dump_value
from mirai_executor._payload.common.importable import MAIN, Home, Travel
from mirai_executor._payload.common.names import STANDARD_DUNDERS
from mirai_executor._payload.common.pickler import PayloadPickler
from mirai_executor._payload.common.wording import describe
from mirai_executor._payload.host.seals import Seals
from mirai_executor._payload.host.sharing import Met, may_share, sharing
from mirai_executor._typing import Record

if TYPE_CHECKING:
    from mirai_executor._payload.common.serial import Hooks
    from mirai_executor._payload.host.inherit import KnownInheritance
    from mirai_executor._payload.host.mainfile import MainFile

_SEMAPHORES = "multiprocessing.synchronize"


class Key(NamedTuple):
    """A global name and its module."""

    module: str
    name: str

    @property
    def text(self) -> str:
        """The name in the table."""
        return self.name if self.module == MAIN else f"{self.module}:{self.name}"


class Need(NamedTuple):
    """A name that a payload refers to; ``dotted`` if only to a part of it, as ``C.Inner``."""

    key: Key
    dotted: bool


class PickledValue(Record):
    """A pickled object, and the names that it cannot do without.

    ``identity`` is that of a class: the daemon changes such a class in place, so that its
    instances there stay its instances.
    """

    value: Value
    needs: tuple[Need, ...]
    identity: str

    @property
    def blob(self) -> bytes:
        """All of it, if nothing travels beside."""
        return self.value.blob


class PicklingFailure(Record):
    """Why the value of a name cannot be pickled."""

    error: BaseException
    key: Key
    pickler: CallPickler | None


class CallPickler(PayloadPickler):
    """Pickles a call or one table entry, and notes the names that it refers to."""

    carries_reducers = True

    def __init__(
        self,
        file: Any,
        entries: Collection[Key] = (),
        local_locks: bool = False,
        beside: OutOfBand | None = None,
        lend: Callable[[int], Any] | None = None,
        known: KnownInheritance | None = None,
        serial: Hooks | None = None,
    ) -> None:
        super().__init__(file, beside)
        self.serial = serial
        self.file = file
        self._lend = lend
        self._known = known
        self.lends = False
        self.copies = False  # what multiprocessing would share, such as a tensor of torch
        self.entries = entries
        self.local_locks = local_locks
        self.replaced_locks = False
        self.identity = ""
        self.needs: dict[Need, None] = {}
        self.mentions: dict[Key, None] = {}
        self.refers_to_main = False

    def by_reference(self, home: Home) -> bool:
        if home.kind is Travel.IMPORTABLE:
            return True
        if self._known is not None and self._known.has(home):
            inherited = vars(sys.modules[MAIN])[home.root]
            for name in self._known.replaced_for(inherited):
                self.mentions[Key(MAIN, name)] = None
            return True
        key = Key(home.module, home.root)
        if key in self.entries:
            return False  # part of what this entry says
        self.needs[Need(key, "." in home.qualname)] = None
        return True

    def entry_for(self, home: Home | None) -> str | None:
        if home is None or not self.entries or "." in home.qualname:
            return None
        key = Key(home.module, home.root)
        return key.text if key in self.entries else None

    def found_globals(self, home: Home, names: tuple[str, ...]) -> None:
        self.refers_to_main |= home.kind is Travel.MAIN
        namespace = vars(sys.modules[home.module])
        for name in names:
            if name not in namespace or name in STANDARD_DUNDERS:
                continue
            if self._known is None or not self._known.has(home._replace(qualname=name)):
                self.mentions[Key(home.module, name)] = None

    def found_own_class(self, identity: str) -> None:
        self.identity = identity

    def travels_with_its_names(self, module: ModuleType) -> bool:
        return False

    def lend(self, descriptor: int) -> Any:
        if self.entries:  # pickled for each task, and fetched by those that use it
            raise _DescriptorError(
                "cannot pickle a file descriptor in a global name: pass it as an argument"
            )
        self.lends = True
        return super().lend(descriptor)

    def _reduce_as_registered(self, kind: type, reducer: Callable[[Any], Any], obj: Any) -> Any:
        if self.copies and _says_how_to_copy(kind):
            return NotImplemented
        return super()._reduce_as_registered(kind, reducer, obj)

    def reducer_override(self, obj: Any) -> Any:
        if self.local_locks and (kind := _kind_of_lock(obj)):
            self.replaced_locks = True
            return rebuild.make_lock, (kind,)
        if self._known is not None and type(obj).__module__ == _SEMAPHORES:
            self.trail.append(obj)
            number = self._known.number_of(obj)
            if number is not None:
                return rebuild.inherited_semaphore, (number,)
        return super().reducer_override(obj)


class _DescriptorError(TypeError):
    """A value of a global name cannot be shared as multiprocessing shares it."""


def _says_how_to_copy(kind: type) -> bool:
    """Tell whether a class does so by itself, whatever multiprocessing was told of it."""
    own = (name for base in kind.__mro__[:-1] for name in vars(base))  # without object's
    return kind in copyreg.dispatch_table or not {"__reduce__", "__reduce_ex__"}.isdisjoint(own)


def _needs_main(needs: Iterable[Need]) -> bool:
    return any(need.key.module == MAIN for need in needs)


def _kind_of_lock(obj: object) -> str | None:
    module = sys.modules.get(_SEMAPHORES)
    if module is not None and type(obj) in (module.Lock, module.RLock):
        from mirai_executor._payload.common.inherited import is_nameless

        if not is_nameless(obj):
            return None  # it travels as itself
        return type(obj).__name__
    return None


class Table:
    """The names found while one call is pickled. Used once, by one thread.

    Args:
        local_locks: Replace locks of multiprocessing that can only be inherited by forking.
        lend: Lends a descriptor, if the payload will be sent.
        known: What daemons have by a fork, if they come that way.
        main: Finds the main module's file, if daemons import it.
        seals: Know the values of the tables before.
        serial: What the user has for classes, if anything.
    """

    def __init__(
        self,
        *,
        local_locks: bool = False,
        lend: Callable[[int], Any] | None = None,
        known: KnownInheritance | None = None,
        main: Callable[[], MainFile | None] = lambda: None,
        seals: Seals | None = None,
        serial: Hooks | None = None,
    ) -> None:
        self._serial = serial
        self._seals = Seals() if seals is None else seals
        self._known = known
        self.replaced_locks = False
        self.lends = False
        self.failed: CallPickler | None = None  # the pickler that has failed last
        self._local_locks = local_locks
        self._lend = lend
        self._find_main = main
        self._main: MainFile | None = None
        self._waiting: dict[Key, None] = {}
        self._entries: dict[Key, PickledValue | PicklingFailure] = {}
        self._met: dict[Key, Met] = {}  # of names that may share something
        self._joint: dict[Key, tuple[tuple[Key, ...], PickledValue]] = {}

    def pickle(
        self,
        obj: object,
        entries: tuple[Key, ...] = (),
        *,
        out_of_band: bool = False,
        apart: bool = False,
        copies: bool = False,
    ) -> PickledValue:
        """Pickle a call, or the value of one or several names; note the names it refers to."""
        made: list[CallPickler] = []

        def pickler(file: Any, beside: OutOfBand | None) -> CallPickler:
            how = (self._local_locks, beside, self._lend, self._known, self._serial)
            made.append(CallPickler(file, entries, *how))
            made[-1].copies = copies
            return made[-1]

        try:
            value = dump_value(pickler, obj, out_of_band=out_of_band, apart=apart)
        except BaseException as error:
            if isinstance(error, _DescriptorError) and not copies:
                return self.pickle(obj, entries, out_of_band=out_of_band, apart=apart, copies=True)
            self.failed = made[-1] if made else None  # a KeyboardInterrupt may come before
            raise
        last = made[-1]
        if len(entries) == 1 and may_share(obj):
            self._met[entries[0]] = Met(obj, last, last.file)
        self.replaced_locks |= last.replaced_locks
        self.lends |= last.lends
        if self._main is None and (last.refers_to_main or _needs_main(last.needs)):
            self._main = self._find_main()
        for key in (*(need.key for need in last.needs), *last.mentions):
            if key not in self._entries:
                self._waiting.setdefault(key)
        return PickledValue(value, tuple(last.needs), last.identity)

    def close(self) -> None:
        """Pickle the value of every name found, and those found by that, to the end."""
        self._pickle_waiting()
        self._spread_failures()
        if len(self._met) > 1:
            self._join()
            self._pickle_waiting()  # if another thread has changed something meanwhile
        self._met.clear()

    def _pickle_waiting(self) -> None:
        while self._waiting:
            key, _ = self._waiting.popitem()
            self._entries[key] = self._pickle_value(key)

    def _join(self) -> None:
        good = [k for k in self._ordered() if isinstance(self._entries[k], PickledValue)]
        for keys in sharing({key: self._met[key] for key in good if key in self._met}):
            with contextlib.suppress(Exception):  # of the user's code: each by itself did well
                values = tuple(vars(sys.modules[key.module])[key.name] for key in keys)
                self._joint.update(dict.fromkeys(keys, (keys, self.pickle(values, keys))))

    def failure_of(self, needs: Iterable[Need]) -> PicklingFailure | None:
        """Return why one of these names cannot travel, if so."""
        for key, _ in needs:
            entry = self._entries.get(key)
            if isinstance(entry, PicklingFailure) and not self._is_imported(key):
                return entry
        return None

    def _is_imported(self, key: Key) -> bool:
        """Tell whether daemons have something by this name of their own."""
        return self._main is not None and key.module == MAIN and self._main.binds(key.name)

    def entries(self) -> tuple[NameEntry, ...]:
        """Return the table, in the order in which the modules got their names.

        A class comes before its subclasses, then, and a decorator before what it decorates.
        """
        found: list[NameEntry] = []
        for key in self._ordered():
            keys, joint = self._joint.get(key, ((key,), None))
            if joint is None:
                found.append(self._entry(key))
            elif key == keys[0]:
                parts = [self._entry(each) for each in keys]
                name, digest = ",".join(e.name for e in parts), b"".join(e.digest for e in parts)
                found.append(NameEntry(name, digest, joint.blob))
        if self._main is not None:
            found = self._main.marked(found, self._identities())
        return tuple(found)

    def _ordered(self) -> list[Key]:
        found: list[Key] = []
        for module in sorted({key.module for key in self._entries}):
            wanted = {key.name for key in self._entries if key.module == module}
            names = [name for name in list(vars(sys.modules[module])) if name in wanted]
            found += (Key(module, name) for name in names)
        return found

    def _identities(self) -> dict[str, str]:
        """Return the ids of the classes of the table."""
        entries = self._entries.items()
        return {key.text: each.identity for key, each in entries if isinstance(each, PickledValue)}

    def _entry(self, key: Key) -> NameEntry:
        entry = self._entries[key]
        if isinstance(entry, PickledValue):
            blob, digest = self._sealed(key, entry)
            return NameEntry(key.text, digest, blob)
        kind = type(vars(sys.modules[key.module]).get(key.name))
        # Not of the reason: it may hold an address, and a daemon applies what looks new.
        digest = digest_of(f"{key.text}: {kind.__module__}.{kind.__qualname__}".encode())
        why = describe(entry.error)
        if self._main is None and self._known is None and key.module == MAIN:
            from mirai_executor._payload.host.mainfile import advice  # hardly ever

            why += advice()
        return NameEntry(key.text, digest, UNAVAILABLE + why.encode())

    def _sealed(self, key: Key, entry: PickledValue) -> tuple[bytes, bytes]:
        """Return the bytes of an entry, and what changes whenever it has to be unpickled again.

        That is also when another object is behind a name that it refers to: ``[helper]`` has the
        same bytes after ``helper`` was redefined.
        """
        reached: dict[str, bytes] = {}
        waiting = list(entry.needs)
        while waiting:
            need = waiting.pop()
            name = f"{need.key.text}.{need.dotted}"
            other = self._entries[need.key]
            if name in reached or isinstance(other, PicklingFailure):
                continue
            if other.identity and not need.dotted:
                reached[name] = other.identity.encode()
            else:
                reached[name] = self._seals.of(need.key, other.blob)[1].digest()
                waiting.extend(other.needs)
        blob, seal = self._seals.of(key, entry.blob)
        for name in sorted(reached):
            seal.update(name.encode() + reached[name])
        return blob, seal.digest()

    def _pickle_value(self, key: Key) -> PickledValue | PicklingFailure:
        try:
            value = vars(sys.modules[key.module])[key.name]
            return self.pickle(value, (key,))
        except (Exception, SystemExit) as error:  # any code of the user runs here
            return PicklingFailure(error, key, self.failed)

    def _spread_failures(self) -> None:
        """An entry that cannot be unpickled without a missing one is missing too."""
        spreading = True
        while spreading:
            spreading = False
            for key, entry in self._entries.items():
                if isinstance(entry, PickledValue) and (failure := self.failure_of(entry.needs)):
                    self._entries[key] = failure
                    spreading = True
