"""Has the user's own functions take objects of some classes apart, and put them together again.

::

    obj ─ the hook of the nearest of its classes ─► dumps(obj) ─► bytes, or buffers
        ─► (load, the hook's key, what dumps returned) in the payload
        ─► at the other side, the hook with this key ─► loads(that)

A host's hooks are known to its process, and come to a daemon before anything that needs them, so a
payload has no more of a hook than its key. The other picklers know nothing of hooks, and where an
executor has none, nothing here is imported.
"""

import os
from collections.abc import Iterable

from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.fast_pickle import (
    OutOfBand,
    PickleBuffer,
    PlainPickler,
    Value,
    dump_value,
    seen_places,
)
from mirai_executor._payload.common.wording import OF_A_HOOK, is_of_a_hook
from mirai_executor._typing import TYPE_CHECKING, Any, NamedTuple
from mirai_executor.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirai_executor._payload.common.entries import Call
    from mirai_executor._payload.common.refusals import Refusal

_MOST_SEEN = 4096


class Hook(NamedTuple):
    """How objects of a class, and of its subclasses, are taken apart and put together."""

    key: bytes
    kind: type
    dumps: "Callable[[Any], Any]"
    loads: "Callable[[Any], Any]"

    def reduce(self, obj: object) -> tuple[Any, ...]:
        """Take an object apart, for a pickler."""
        try:
            return load, (self.key, _sendable(self.dumps(obj)))
        except Exception as error:
            self._mark(error, "dumps")
            raise

    def load(self, data: Any) -> Any:
        """Put an object together again."""
        try:
            return self.loads(_received(data))
        except Exception as error:
            self._mark(error, "loads")
            raise

    def _mark(self, error: Exception, which: str) -> None:
        # Not by setattr: an exception may be frozen.
        if not is_of_a_hook(error):
            error.__dict__[OF_A_HOOK] = name = f"{which} of {self.kind.__qualname__}"
            error.add_note(f"raised by {name}, as registered for serialization")


def new_key() -> bytes:
    """Return what no other hook has, in no process."""
    return os.urandom(12)


# All that this process may meet, as a host or as a daemon. The results of an executor may be asked
# for when it is long gone.
_known: dict[bytes, Hook] = {}


def load(key: bytes, data: Any) -> Any:
    """Put an object together again; named in payloads."""
    hook = _known.get(key)
    if hook is None:
        raise PayloadError("an object was taken apart by a hook that this process does not have")
    return hook.load(data)


def install(hooks: Iterable[Hook]) -> None:
    """Have a daemon take results apart, and put arguments together, as its host does."""
    rebuild.serial = Hooks(hooks)


class Hooks:
    """The hooks of one executor. For any thread.

    Args:
        hooks: At most one for each class.
    """

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self.all: tuple[Hook, ...] = tuple(hooks)
        self._of_class = {hook.kind: hook for hook in self.all}
        self._seen: dict[type, Hook | None] = {}
        _known.update((hook.key, hook) for hook in self.all)

    def of(self, kind: type) -> Hook | None:
        """Return the hook for instances of a type: that of the nearest class of its MRO."""
        try:
            return self._seen[kind]
        except KeyError:
            found = next((self._of_class[c] for c in kind.__mro__ if c in self._of_class), None)
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[kind] = found
        return found

    def call(self, encode: "Callable[..., Call]") -> "Call":
        """Return the call by which a daemon gets them; ``encode`` is that of a CallEncoder."""
        return encode(install, (self.all,), {}, lasting=True)

    def dump_plainly(
        self, obj: object, *, out_of_band: bool = False, apart: bool = False
    ) -> "Value | Refusal | None":
        """Do as ``fast_pickle.dump_plainly``.

        Raises:
            Exception: What a hook has raised.
        """
        made: list[_HookedPickler] = []

        def pickler(file: Any, beside: OutOfBand | None) -> PlainPickler:
            made.append(_HookedPickler(file, beside))
            made[-1].seen, made[-1].serial = seen_places(), self
            return made[-1]

        try:
            return dump_value(pickler, obj, out_of_band=out_of_band, apart=apart)
        except Exception as error:
            if is_of_a_hook(error):
                raise
            from mirai_executor._payload.common.refusals import refusal_of

            return refusal_of(made[-1], error)


class _HookedPickler(PlainPickler):
    """Asks the hooks once for each type that it meets, and for each object that has one."""

    serial: Hooks

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self.good:
            return NotImplemented
        hook = self.serial.of(kind)
        return super().reducer_override(obj) if hook is None else hook.reduce(obj)


def _sendable(data: Any) -> Any:
    """Return what a pickler can take, with large buffers beside: each buffer in a tuple."""
    if type(data) is bytes:
        return data
    if isinstance(data, (list, tuple)):
        return [part if type(part) is bytes else _beside(part) for part in data]
    return _beside(data)


def _beside(data: Any) -> tuple[PickleBuffer]:
    try:
        return (PickleBuffer(data),)
    except TypeError:
        raise TypeError(
            "dumps must return bytes, another buffer, or a list of these, not "
            f"{type(data).__qualname__}"
        ) from None


def _received(data: Any) -> Any:
    """Return what ``dumps`` has returned: bytes as such, other buffers as a memoryview."""
    if type(data) is list:
        return [_received(part) for part in data]
    return memoryview(data[0]) if type(data) is tuple else data
