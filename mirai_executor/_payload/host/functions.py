"""Keeps the bytes of functions at the host, for as long as they are proven to be still right.

::

    a function by name  ─► still found by it:     the bytes of last time
    a function by value ─► its proof holds:       the bytes of last time
                         ─► it is proven anew:     pickled, kept
                         ─► new, or without proof: pickled with its call
    what map() submits  ─► the bytes of the moment when map was called
"""

import functools
import os
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from mirai_executor._payload.common import entries
from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common.entries import FUNCTION, NAMED, NameEntry, digest_of
from mirai_executor._payload.common.fast_pickle import PROTOCOL, is_imported
from mirai_executor._payload.common.importable import (
    MAIN,
    registered_by_value,
    what_is_known_of_modules,
)
from mirai_executor._typing import NamedTuple

if TYPE_CHECKING:
    from mirai_executor._payload.common.serial import Hooks
    from mirai_executor._payload.host.inherit import KnownInheritance
    from mirai_executor._payload.host.mainfile import MainFile
    from mirai_executor._payload.host.validity import Proof

MOST_MET = 1024
_BETWEEN_LOOKS = 1.0  # seconds


class PickledFunction(NamedTuple):
    """A function's part of a call.

    ``reference`` is what the call itself says of it: the function, or None if its bytes are the
    last of the entries.
    """

    reference: Any
    entries: tuple[NameEntry, ...]


class _Proved(NamedTuple):
    proof: "Proof"
    pickled: PickledFunction
    size: int


class _File:
    """The file of a module whose functions daemons find by name: they import it once.

    Attributes:
        next_look: When to see whether it has changed.
    """

    def __init__(self, module: str, path: str) -> None:
        self._module = module
        self._path = path
        self.next_look = monotonic() + _BETWEEN_LOOKS
        self._seen = self._found()

    def _found(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - pathlib takes milliseconds
        except (OSError, ValueError):
            return None
        return status.st_mtime_ns, status.st_size

    def check(self, stacklevel: int) -> None:
        """Warn, once for each change of it; ``stacklevel`` is that of the line that submits."""
        self.next_look = monotonic() + _BETWEEN_LOOKS
        before, self._seen = self._seen, self._found()
        if self._seen in (None, before):
            return
        import warnings

        warnings.warn(
            f"{self._path} has changed since the first task of {self._module!r}: daemons that "
            "have imported it go on with the old version; call restart() of the executor after "
            "you have reloaded it here",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


class _Named:
    """A function that daemons find by name, and what that was seen from."""

    def __init__(self, fn: FunctionType, file: _File | None) -> None:
        self.file = file
        self._known_of_modules = what_is_known_of_modules()
        self._module: ModuleType = sys.modules[fn.__module__]
        self._names = vars(self._module)
        self._file = self._names.get("__file__")
        self.pickled = _by_name(fn)

    def is_still(self, fn: FunctionType) -> bool:
        """As :func:`is_imported` would, at a third of its cost."""
        names = self._names
        return (
            sys.modules.get(fn.__module__) is self._module
            and names.get(fn.__qualname__) is fn
            and names.get("__file__") is self._file
            and what_is_known_of_modules() is self._known_of_modules
            and not registered_by_value()
        )


class _MetFunction(NamedTuple):
    function: "weakref.ref[FunctionType]"
    times: int


class FunctionCache:
    """The latest functions that were pickled, with their proofs. For any thread.

    Functions are held strongly, a bounded number of them: weak references would keep none that
    calls itself, for what its proof refers to is the function. What a proof keeps alive beside
    functions and modules cannot be more than what was pickled, and that is bounded, too.

    Args:
        main: Finds the main module's file, if daemons import it.
        known: What daemons have by a fork, if they come that way.
        serial: What the user has for classes, if anything.
    """

    def __init__(
        self,
        main: "Callable[[], MainFile | None]",
        known: "KnownInheritance | None" = None,
        serial: "Hooks | None" = None,
    ) -> None:
        self._how = main, known, serial
        # No lock: each step is one operation of a C dict, and a lost race costs a pickle more. A
        # lock could be met again by a finalizer that submits.
        self._known: OrderedDict[FunctionType, _Proved] = OrderedDict()
        self._named: OrderedDict[FunctionType, _Named] = OrderedDict()
        self._files: dict[str, _File | None] = {}  # by module; None for one without
        # By id, with plain weak references: those of a WeakKeyDictionary run Python at the end of
        # each function, where a KeyboardInterrupt would be lost.
        self._met: OrderedDict[int, _MetFunction] = OrderedDict()

    def find(self, fn: Any) -> PickledFunction | None:
        """Return the bytes of a function, from before or made now; None as long as unproven."""
        if type(fn) is not FunctionType:
            return PickledFunction(fn, ())
        named = self._named.get(fn)
        if named is not None and named.is_still(fn):
            if (file := named.file) is not None and monotonic() > file.next_look:
                file.check(6)
            return named.pickled
        known = self._known.get(fn)
        if known is None or not known.proof.holds():
            return self._name(fn) if is_imported(fn) else self._learn(fn)
        try:  # noqa: SIM105 - to suppress takes several times as long
            self._known.move_to_end(fn)
        except KeyError:  # another thread has just dropped it
            pass
        return known.pickled

    def _name(self, fn: FunctionType) -> PickledFunction:
        """Return the bytes of a name. What it means there, the daemon looks up for each call."""
        file = self._file_of(sys.modules[fn.__module__])
        if file is not None and monotonic() > file.next_look:  # a reloaded function, perhaps
            file.check(7)
        self._named[fn] = named = _Named(fn, file)
        if len(self._named) > entries.MOST_FUNCTIONS:
            self._named.popitem(last=False)
        return named.pickled

    def _file_of(self, module: ModuleType) -> _File | None:
        name = module.__name__
        if name not in self._files:
            path = None if name == MAIN else getattr(module, "__file__", None)
            self._files[name] = _File(name, path) if isinstance(path, str) else None
        return self._files[name]

    def forget_files(self) -> None:
        """Take the files of modules as they will be found next."""
        self._files.clear()
        self._named.clear()

    def _learn(self, fn: FunctionType) -> PickledFunction | None:
        self._known.pop(fn, None)
        times = self._meet(fn)
        # Not the first time: most lambdas are met once. Then ever more seldom (2, 4, 8, ...): one
        # that had no proof so often will hardly have one now.
        if times == 1 or times & (times - 1):
            return None
        from mirai_executor._payload.host.validity import prove  # not for functions with a name

        proof = prove(fn)
        if proof is None:
            return None
        # Another thread may change it just now, and change it back: twice alike, or not at all.
        pickled = pickle_function(fn, *self._how)
        if pickled is None or not proof.holds():
            return None
        if pickle_function(fn, *self._how) != pickled:
            return None
        if not proof.holds():
            return None
        self._met[id(fn)] = _MetFunction(weakref.ref(fn), 1)
        self._known[fn] = _Proved(proof, pickled, sum(len(e.blob) for e in pickled.entries))
        while self._is_too_much():
            self._known.popitem(last=False)
        return pickled

    def _meet(self, fn: FunctionType) -> int:
        """Return how often this function was met without a proof that held, now included."""
        before = self._met.pop(id(fn), None)
        times = before.times if before is not None and before.function() is fn else 0
        self._met[id(fn)] = _MetFunction(weakref.ref(fn), times + 1)
        while len(self._met) > MOST_MET:
            self._met.popitem(last=False)
        return times + 1

    def _is_too_much(self) -> bool:
        sizes = [known.size for known in list(self._known.values())]
        return len(sizes) > 1 and (
            len(sizes) > entries.MOST_FUNCTIONS or sum(sizes) > entries.MOST_BYTES
        )


def pickle_function(
    fn: Callable[..., object],
    main: "Callable[[], MainFile | None]",
    known: "KnownInheritance | None" = None,
    serial: "Hooks | None" = None,
) -> PickledFunction | None:
    """Pickle a function by itself; None if that fails: the call will say why."""
    from mirai_executor._payload.host.table import Table  # not for functions with a name

    table = Table(main=main, known=known, serial=serial)
    try:
        pickled = table.pickle(fn)
    except Exception:
        return None
    table.close()
    if table.failure_of(pickled.needs) is not None or table.lends:
        return None  # a descriptor is lent anew to each call
    if _is_name_of(fn, pickled.blob):
        return _by_name(fn, table.entries())
    own = NameEntry(FUNCTION, digest_of(pickled.blob), pickled.blob)
    return PickledFunction(None, (*table.entries(), own))


def _is_name_of(fn: Any, blob: bytes) -> bool:
    try:
        return type(fn) is FunctionType and pickle.dumps(fn, PROTOCOL) == blob
    except Exception:
        return False


def _by_name(fn: Any, names: tuple[NameEntry, ...] = ()) -> PickledFunction:
    where = f"{fn.__module__}:{fn.__qualname__}".encode()
    return PickledFunction(None, (*names, NameEntry(NAMED, digest_of(where), where)))


class FrozenFunction:
    """A function as it is now, whatever becomes of it: pickled once, for many calls."""

    def __init__(self, fn: Callable[..., object], pickled: PickledFunction) -> None:
        functools.update_wrapper(self, fn)  # whoever replaces submit may look at it
        self.__wrapped__ = fn
        self.pickled_payload = pickled

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> Any:
        from mirai_executor._payload.common import rebuild  # hardly ever

        # As an argument of another call it is what it was made from.
        return rebuild.itself, (self.__wrapped__,)
