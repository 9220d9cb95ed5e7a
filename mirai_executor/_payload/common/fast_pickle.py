"""Pickles at the speed of C, leaves what is large beside the bytes, and gives up on the rest.

Pickle's half in Python takes milliseconds to import, so everything here is done without it. Its
protocol 5 hands over each buffer that an object offers (an array's memory, a ``PickleBuffer``). A
small one is cheaper to copy into the stream than to look after. Where memory is shared, a pickle
that is large itself (many ``bytes``, a long list) goes beside, too: as the last of its buffers, in
the pieces that the pickler wrote.

Numbers, texts, containers and arrays never meet any Python here. What does meet it is looked at
once for each class and function, and from then on only compared with what was seen. The first
object that plain pickle would get wrong, as everything of ``__main__``, ends the attempt: the
careful picklers of ``pickler.py`` begin again, and a ``__reduce__`` before it runs a second time.
"""

import copyreg
import io
import sys
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType

from mirai_executor._payload.common.importable import (
    MULTIPROCESSING,
    WITH_CARE,
    Travel,
    registered_by_value,
    travel_of,
    what_is_known_of_modules,
)
from mirai_executor._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mirai_executor._payload.common.refusals import Refusal

__all__ = [
    "ATOMS",
    "BRIEF",
    "LARGE",
    "OUT_OF_BAND",
    "PROTOCOL",
    "Buffer",
    "Large",
    "OutOfBand",
    "PickleBuffer",
    "Pickler",
    "PicklingError",
    "Pieces",
    "PlainPickler",
    "Unpickler",
    "Value",
    "dump_plainly",
    "dump_value",
    "dumps",
    "has_no_state",
    "is_imported",
    "is_short",
    "loads",
    "seen_places",
    "taken_apart",
]

try:
    from _pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads
except ImportError:  # it is CPython's own
    from pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads

PROTOCOL = 5
_MOST_SEEN = 4096
_SHORT = 4096  # bytes

Buffer = bytes | bytearray | memoryview  # what decoding takes
Large = memoryview | list[bytes]  # what encoding gives; a list: one after the other

OUT_OF_BAND = 192 * 1024  # bytes; where the copy becomes dearer than a place of its own, measured
LARGE = 1 << 20  # bytes; from here on, a pickle is better beside than in a frame, measured

# Exactly these: a subclass may be picklable only by value.
ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None)})
# What is pickled at once, with nothing to look for inside: all atoms but those that may be long.
BRIEF = ATOMS - {bytes, str}


def is_short(value: object) -> bool:
    """Tell whether something is a text or ``bytes`` that is pickled at once."""
    kind = type(value)
    return (kind is str or kind is bytes) and len(value) < LARGE // 4  # type: ignore[arg-type]


class Value(NamedTuple):
    """A pickled object, and its large buffers: views of the memory that it lies in itself.

    If there are buffers and ``blob`` is empty, the pickle is the last of the buffers.
    """

    blob: bytes
    buffers: tuple[Large, ...] = ()

    @property
    def nbytes(self) -> int:
        """How many bytes they are together."""
        sizes = (sum(map(len, it)) if isinstance(it, list) else it.nbytes for it in self.buffers)
        return len(self.blob) + sum(sizes)


def made_value(blob: bytes, buffers: tuple[Large, ...] = ()) -> Value:
    """Make a Value at half of what its constructor takes."""
    return tuple.__new__(Value, (blob, buffers))


def dump_value(
    make: "Callable[[Any, OutOfBand | None], Pickler]",
    obj: object,
    *,
    out_of_band: bool = False,
    apart: bool = False,
) -> Value:
    """Pickle an object.

    Args:
        make: Makes a pickler from its file and its ``buffer_callback``; perhaps twice.
        obj: The object.
        out_of_band: Whether large buffers may travel beside the bytes.
        apart: Whether a large pickle may be one of them; only with ``out_of_band``.
    """
    if apart:
        beside, pieces = OutOfBand(), Pieces()
        make(pieces, beside).dump(obj)
        if (value := pieces.to_value(tuple(beside))) is not None:
            return value
    collected = OutOfBand() if out_of_band else None
    file = io.BytesIO()  # left open: whoever made the pickler may go on with it
    make(file, collected).dump(obj)
    return made_value(file.getvalue(), tuple(collected or ()))


def taken_apart(blob: Buffer, buffers: Sequence[Buffer]) -> tuple[Buffer, Sequence[Buffer]]:
    """Return a pickle and its buffers, wherever it has travelled."""
    return (blob, buffers) if blob or not buffers else (buffers[-1], buffers[:-1])


class Pieces(list[bytes]):
    """What a pickler has written, as a file that keeps each piece as it is.

    The pickler hands over a large ``bytes`` itself, and the rest in pieces of about 64 KiB. Its
    ``write`` is C: while one in Python ran, other threads could change what is being pickled.
    """

    write = list.append

    def to_value(self, views: tuple[memoryview, ...]) -> Value | None:
        """Return all of it, with copies of what others can change; None if that cannot be done.

        The pickler hands over a ``bytearray`` itself, too. It has noted its length, at the end of
        the piece before; if it has another one by now, all has to be pickled again.
        """
        if len(self) == 1 and len(self[0]) < LARGE:  # nearly always
            return made_value(self[0], views)
        kinds = set(map(type, self))
        try:
            if bytearray in kinds and not self._copy_bytearrays():
                return None
            if sum(map(_size_of if PickleBuffer in kinds else len, self)) < LARGE:
                return Value(b"".join(self), views)
            if kinds != {bytes}:
                self[:] = [b"".join((piece,)) for piece in self]  # as they lie; bytes stay
        except (BufferError, TypeError, ValueError):  # another file says better what is wrong
            return None
        return Value(b"", (*views, self))

    def _copy_bytearrays(self) -> bool:
        pieces: list[Any] = self
        for i, piece in enumerate(pieces):
            if type(piece) is bytearray:
                pieces[i] = copy = bytes(piece)  # at once: other threads may change it
                if pieces[i - 1][-8:] != len(copy).to_bytes(8, "little"):
                    return False
        return True


def _size_of(piece: Buffer) -> int:
    return len(piece) if type(piece) is bytes else memoryview(piece).nbytes


class OutOfBand(list[memoryview]):
    """Collects the large buffers of one payload, in their order; pickle's ``buffer_callback``.

    They are views of the bytes of each, as they lie in memory.
    """

    def __call__(self, buffer: PickleBuffer) -> bool:
        """Take a buffer out of the stream; True if it stays there."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle says so
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        self.append(raw)
        return False


class _NeedsCare(Exception):  # noqa: N818 - a way out, not an error
    """Plain pickle is not enough."""


class PlainPickler(Pickler):
    """Pickles by name what a fresh interpreter imports, and nothing that has another home.

    It is used again and again: to make one takes longer than to pickle most calls.
    """

    seen: "_Places"
    serial: object = None  # what the user has for classes, at this executor

    def __init__(self, file: Any, beside: OutOfBand | None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=beside)
        self.file = file
        self.beside = beside
        # The classes whose instances are pickled as usual, each with the first of these. The last
        # one may be what has ended the attempt.
        self.good: dict[type, object] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        good = self.good
        if kind in good or (kind is type and obj in good) or kind is BuiltinFunctionType:
            return NotImplemented
        if kind is FunctionType or issubclass(kind, type):
            if not _is_among(self.seen, obj):
                good[kind] = obj
                raise _NeedsCare
            return NotImplemented
        good[kind] = obj
        if (
            not _is_among(self.seen, kind)
            or self.seen[id(kind)].instances_need_care
            or (
                # Looked at for each payload: a type may be registered at any time.
                (reduction := sys.modules.get(MULTIPROCESSING)) is not None
                and kind in reduction.ForkingPickler._extra_reducers  # noqa: SLF001 - see descriptors.py
            )
        ):
            raise _NeedsCare
        return NotImplemented

    @property
    def culprit(self) -> object:
        """What has ended the attempt, if it was the first of its type."""
        return next(reversed(self.good.values()), None)

    def begin_anew(self) -> None:
        self.clear_memo()  # to see what else fails


# Those that nobody uses. Each call takes one out: other threads may call, and what is pickled.
_free: list[PlainPickler] = []


def dump_plainly(
    obj: object, *, out_of_band: bool = False, apart: bool = False
) -> "Value | Refusal | None":
    """Pickle an object; None if only a careful pickler gets it right."""
    if not apart:
        pickler = PlainPickler(io.BytesIO(), OutOfBand() if out_of_band else None)
    else:
        try:
            pickler = _free.pop()
        except IndexError:
            pickler = PlainPickler(Pieces(), OutOfBand())
    pickler.seen = _seen.now()
    try:
        if apart:
            value = _dump_short(pickler, obj)
            return dump_plainly(obj, out_of_band=out_of_band) if value is None else value
        pickler.dump(obj)
        return made_value(pickler.file.getvalue(), tuple(pickler.beside or ()))
    except Exception as error:  # of the user's code, too: the careful pickler says what is wrong
        from mirai_executor._payload.common.refusals import refusal_of  # with much else

        return refusal_of(pickler, error)


def _dump_short(pickler: PlainPickler, obj: object) -> Value | None:
    """Pickle an object; None if what others may change has to be pickled anew."""
    pickler.dump(obj)
    pieces: Pieces = pickler.file
    if len(pieces) > 1 or len(pieces[0]) > _SHORT or pickler.beside:
        return pieces.to_value(tuple(pickler.beside or ()))
    value = made_value(pieces.pop())
    # Not of a long one: it would keep the memory of its memo for good.
    pickler.clear_memo()
    pickler.good.clear()
    _free.append(pickler)
    return value


def _needs_care(kind: type) -> bool:
    """Tell whether instances of a type may be pickled here in a way of our own."""
    if kind is object or _has_sentinels(kind):
        return True
    if kind.__module__ not in WITH_CARE:
        return issubclass(kind, (ModuleType, BaseException))
    from mirai_executor._payload.common.reducers import (
        needs_care,
    )  # with cloudpickle, and much else

    return needs_care(kind)


def _has_sentinels(kind: Any) -> bool:
    """Tell whether a type's module names an instance that is only itself: see pickler.py."""
    if kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        return False
    names = vars(sys.modules[kind.__module__])
    return any(type(v) is kind and has_no_state(v) for v in list(names.values()))


def has_no_state(obj: object) -> bool:
    """Tell whether pickle would make a new object of nothing but the class of this one."""
    if getattr(obj, "__dict__", None) or type(obj) in copyreg.dispatch_table:
        return False
    try:
        reduced = obj.__reduce_ex__(PROTOCOL)
    except Exception:  # then pickle says what is wrong, or knows another way
        return False
    return reduced[1:] == ((type(obj),), None, None, None)


def is_imported(obj: Any) -> bool:
    """Tell whether a fresh interpreter imports a function or class by its name.

    home_of() in short, for names without a dot: this is on the path of every call.
    """
    return _is_among(_seen.now(), obj)


class _Place(NamedTuple):
    """Where a class or function was found."""

    obj: Any
    module_name: str
    module: ModuleType
    names: dict[str, Any]  # the module's
    file: Any  # the module's
    instances_need_care: bool


_Places = dict[int, _Place]  # by id


class _Seen:
    """The classes and functions that a fresh interpreter was seen to import."""

    def __init__(self) -> None:
        self._places: tuple[object, _Places] = (None, {})

    def now(self) -> _Places:
        """Return what still holds, as far as ``sys.path`` and cloudpickle's registry go."""
        if registered_by_value():
            return {}
        known = what_is_known_of_modules()
        known_then, places = self._places
        if known_then is not known:
            places = {}
            self._places = known, places  # at once: another thread must not take one for the other
        return places


_seen = _Seen()
seen_places = _seen.now


def _is_among(places: _Places, obj: Any) -> bool:
    """Compare with what was seen; look anew where that is not so any more."""
    place = places.get(id(obj))
    if place is not None:
        known, module_name, module, names, file, _ = place
        if (
            known is obj
            and obj.__module__ == module_name
            and sys.modules.get(module_name) is module
            and names.get(obj.__qualname__) is obj
            and names.get("__file__") is file
        ):
            return True
    return _look(places, obj)


def _look(places: _Places, obj: Any) -> bool:
    module_name = obj.__module__
    module = sys.modules.get(module_name)
    if module is None:
        return False
    names = vars(module)
    if names.get(obj.__qualname__) is not obj or travel_of(module_name) is not Travel.IMPORTABLE:
        return False
    if len(places) >= _MOST_SEEN:
        places.clear()
    care = isinstance(obj, type) and _needs_care(obj)
    places[id(obj)] = _Place(obj, module_name, module, names, names.get("__file__"), care)
    return True
