"""What both ends know of calls and their tables, and of which functions a daemon keeps.

The host of a daemon keeps the same count of what the daemon has, and never asks.

::

    host                                      daemon
    Sent.is_new(entry) ── digest, bytes ────► Kept.receive       the first time
                       ── digest ───────────► Kept.receive       as long as it is kept
          │                                        │
          └────────── Latest: one rule ────────────┘             so both forget the same ones

A daemon keeps the bytes, not the function: each call gets a fresh one, so that what a task does
to its cells or attributes is gone with the task.
"""

import functools
import sys
from collections import OrderedDict

from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common.fast_pickle import Large
from mirai_executor._payload.common.importable import MAIN
from mirai_executor._typing import TYPE_CHECKING, Any, NamedTuple
from mirai_executor.errors import PayloadError

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Sequence

try:
    from _blake2 import blake2b  # hashlib brings OpenSSL along, which takes milliseconds
except ImportError:
    from hashlib import blake2b

SYS_PATH = "sys.path"  # a reserved name of the table
# Reserved keyword arguments of a call; no argument, and no variable of code, has such a name.
AROUND = "<around>"  # what stands around it
STREAM = "<stream>"  # of its random numbers
RESERVED = frozenset({AROUND, STREAM})
MAIN_FILE = "<main file>"  # likewise: the file that daemons import as their ``__main__``
# The first byte of an entry that says why a name did not come; a pickle begins with 0x80.
UNAVAILABLE = b"!"
# That of an entry that begins with a fingerprint: the daemon's own stays if it has the same.
_OWN = b"="
# Those for the function of a call, as the last entry: itself, pickled, or where it is found
# ("module:name").
MP_MAIN = "__mp_main__"  # what multiprocessing calls __main__ in its children
FUNCTION = "<function>"
NAMED = "<named function>"
FUNCTIONS = (FUNCTION, NAMED)
MOST_FUNCTIONS = 256  # that a daemon keeps
MOST_BYTES = 32 << 20  # of all of these
DIGEST_SIZE = 16  # bytes


class NameEntry(NamedTuple):
    """One name of the host's ``__main__``.

    ``name`` is ``module:name`` for one of another module that only the host holds, and
    ``sys.path`` for the import path. Names that share an object come as one entry: ``a,b`` with
    the digests of what each is by itself, and a tuple of their values.
    """

    name: str
    digest: bytes
    blob: bytes


class Call(NamedTuple):
    """A pickled call.

    ``names`` is the flat table of what it may look up in ``__main__``, perhaps empty; the last one
    may be the function itself, if it has no name. ``buffers`` are views of the user's own memory,
    in the order in which the blob refers to them: they are good until ``submit`` returns. If the
    blob is empty, it is the last of the buffers.
    """

    blob: bytes
    names: tuple[NameEntry, ...]
    buffers: tuple[Large, ...] = ()


def new_seal(blob: bytes) -> blake2b:
    """Return the beginning of a digest."""
    return blake2b(blob, digest_size=DIGEST_SIZE)


def digest_of(blob: bytes) -> bytes:
    """Return the digest of bytes that refer to nothing else."""
    return new_seal(blob).digest()


def names_in(entry: str) -> list[str]:
    """Return the names that an entry of the table is about: nearly always one."""
    return entry.split(",")


class Applied:
    """The rule: which names a daemon has, and which of these came together."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[bytes, str | bytes]] = {}  # its digest, and what it came in

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def has(self, entry: str, digest: bytes) -> bool:
        """Tell whether an entry says nothing new.

        Of names that share an object, each is as it was, and they came together, perhaps with
        others. Those that come alone later, unchanged, stay as they are.
        """
        if "," not in entry:
            return entry in self._names and self._names[entry][0] == digest
        found = [self._names.get(name, (b"", name)) for name in names_in(entry)]
        return b"".join(own for own, _ in found) == digest and len({it for _, it in found}) == 1

    def note(self, entry: str, digest: bytes) -> None:
        """Note that a daemon has an entry."""
        if "," not in entry:
            self._names[entry] = (digest, entry)
            return
        for i, name in enumerate(names_in(entry)):
            self._names[name] = (digest[i * DIGEST_SIZE : (i + 1) * DIGEST_SIZE], digest)


class Own(NamedTuple):
    """What an entry says of a value that a daemon has by importing the host's main module.

    ``fingerprint`` is that of the host's value; ``identity``, of a class, the id by which the
    host speaks of it.
    """

    fingerprint: bytes
    identity: str = ""

    @staticmethod
    def mark(own: "Sequence[Own]", blob: bytes) -> bytes:
        """Return the bytes of an entry, with this before them, for each of its names."""
        marks = [_OWN]
        for fingerprint, identity in own:
            text = identity.encode()
            marks += (fingerprint, bytes([len(text)]), text)
        return b"".join([*marks, blob])

    @staticmethod
    def split(blob: bytes, count: int) -> "tuple[list[Own | None], bytes]":
        """Return what an entry begins with for each of its names, if anything; and the rest."""
        if not blob.startswith(_OWN):
            return [None] * count, blob
        found: list[Own | None] = []
        end = len(_OWN)
        for _ in range(count):
            start, text = end + DIGEST_SIZE, end + DIGEST_SIZE + 1
            fingerprint, end = blob[end:start], text + blob[start]
            found.append(Own(fingerprint, blob[text:end].decode()))
        return found, blob[end:]


class Latest:
    """The rule: the functions that came last, up to a number and a size; at least one."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self._total = 0

    def __contains__(self, digest: object) -> bool:
        return digest in self._sizes

    def use(self, digest: bytes, size: int) -> list[bytes]:
        """Note that a call has this function; return the digests that are forgotten for it."""
        if digest not in self._sizes:
            self._sizes[digest] = size
            self._total += size
        self._sizes.move_to_end(digest)
        forgotten = []
        while len(self._sizes) > 1 and self._is_too_much():
            oldest, size = self._sizes.popitem(last=False)
            self._total -= size
            forgotten.append(oldest)
        return forgotten

    def _is_too_much(self) -> bool:
        return len(self._sizes) > MOST_FUNCTIONS or self._total > MOST_BYTES


class Sent:
    """What one daemon has of the entries that its host has sent."""

    def __init__(self) -> None:
        self._names = Applied()
        self._functions = Latest()

    def is_new(self, entry: NameEntry) -> bool:
        """Tell whether the daemon lacks the bytes of an entry, and note that it gets them."""
        name, digest, blob = entry
        if name in FUNCTIONS:
            is_new = digest not in self._functions
            self._functions.use(digest, len(blob))
        else:
            is_new = not self._names.has(name, digest)
            if is_new:
                self._names.note(name, digest)
        return is_new


class Kept:
    """The bytes of the functions that a daemon keeps, by digest."""

    def __init__(self) -> None:
        self._latest = Latest()
        self._blobs: dict[bytes, bytes] = {}

    def receive(self, digest: bytes, blob: bytes | None) -> None:
        """Note the function of a call; its bytes are None if they came before."""
        if blob is not None:
            self._blobs[digest] = blob
        if digest in self._blobs:
            for forgotten in self._latest.use(digest, len(self._blobs[digest])):
                del self._blobs[forgotten]

    def __contains__(self, digest: object) -> bool:
        return digest in self._blobs

    def __getitem__(self, digest: bytes) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise PayloadError("the bytes of the call's function have not arrived") from None


def find_named(where: bytes) -> object:
    """Return what a module has by a name at this moment, as pickle would, at less cost."""
    module, names = _parts(where)
    found: Any = None
    try:
        found = sys.modules[module]
        spec = found.__spec__
        is_there = spec is None or not spec._initializing  # noqa: SLF001 - as the import itself does
    except (KeyError, AttributeError):
        is_there = False
    if not is_there:  # or another thread is about to import it, and has to be waited for
        __import__(module)
        found = sys.modules[module]
    for name in names:
        found = getattr(found, name)
    return found


@functools.lru_cache(MOST_FUNCTIONS)
def _parts(where: bytes) -> tuple[str, list[str]]:
    module, _, name = where.decode().partition(":")
    return module, name.split(".")


class Brought(set[str]):
    """The names of ``__main__`` that calls have brought from the host.

    Code never sees them: which there are depends on the functions that have run at this daemon.
    What an initializer or ``everywhere`` has set is no such name, or no longer.
    """

    def call(self, fn: "Callable[..., object]", *args: Any, **kwargs: Any) -> object:
        """Call a function whose changes of ``__main__`` are for all tasks to come."""
        main = vars(sys.modules[MAIN])
        before = {name: main[name] for name in self & main.keys()}
        try:
            return fn(*args, **kwargs)
        finally:
            self -= {name for name, value in before.items() if main.get(name, value) is not value}


class EntryUnpickler(pickle.Unpickler):
    """Finds the names of a table that are not applied yet by applying them.

    Args:
        file: The pickle.
        namespace: Applies them: the daemon's.
    """

    def __init__(self, file: "io.BytesIO", namespace: Any) -> None:
        super().__init__(file)
        self._namespace = namespace

    def find_class(self, module: str, name: str) -> Any:
        root, *rest = name.split(".")
        if module in (MAIN, MP_MAIN):
            found = self._namespace.find(root)
        elif self._namespace.knows_held(module):
            found = self._namespace.find_held(module, root)
        else:
            return super().find_class(module, name)
        for part in rest:
            found = getattr(found, part)
        return found
