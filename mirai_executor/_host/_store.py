"""Keeps the large buffers of tasks, and the ways by which daemons of this machine share them."""

import contextlib
import os
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from mirai_executor import _arena
from mirai_executor._arena import Buffer, LateExchange, Place, size_of, whole

if TYPE_CHECKING:
    from mirai_executor._arena import Arena
    from mirai_executor._waiting import Reactor, Timer

    from ._gate import Gate

_SHARE = 4  # one part of so many of this machine's memory may be filled, or be kept warm
_KEEP_WARM = 1.0  # seconds until memory that is free is given back
_UNREAD = 64  # letters of daemons that have gone, until somebody looks for them
_ARENAS = 32  # each costs two descriptors here, and one at each daemon
_BUDGET = 64 << 20  # bytes that may be copied for tasks at their submission; decision 28

BULKY = 1 << 16  # bytes from which on a pickle counts; the pickler writes pieces of that size


class Lasting(Place):
    """A place that is kept for as long as somebody refers to something, as this does."""

    keeper: object

    @classmethod
    def of(cls, place: Place, keeper: object) -> "Lasting":
        self = cls(*place)
        self.keeper = keeper
        return self


class _CopyHolder:
    """Who holds the copies of a call, until they are let go of: the buffers of its task."""


class _Lost(weakref.ref[_CopyHolder]):
    """Lets go of the copies of a call whose holder is gone: it has never become a task.

    A KeyboardInterrupt has struck before that. No bytecode runs when a holder goes, so that none
    can strike there: this is put into the inbox of the host thread, which calls it some time.

    Attributes:
        taken: The arenas.
    """

    __slots__ = ("_let_go", "taken")

    taken: "list[Arena | None]"
    _let_go: Callable[[], None]

    @classmethod
    def of(
        cls, holder: _CopyHolder, put: "Callable[[Any], None]", let_go: Callable[[], None]
    ) -> "_Lost":
        self = cls(holder, put)
        self.taken, self._let_go = [], let_go
        return self

    def __call__(self) -> None:
        self._let_go()


class Deferred(tuple[Any, ...]):
    """The large buffers of a call that are to be copied when it is sent.

    They are views of the user's own memory, and pickles in pieces.
    """


class Letterbox:
    """Where daemons leave the host's ends of their channels until these are needed.

    A descriptor that lies in the queue of a socket takes no place in this process, which has not
    many. One thread; ``close`` is for any.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)  # for all who write to it
        self._ours, self._theirs = ours, theirs
        self._letters: _arena.Channel | None = None  # what they come through, once somebody looks
        self._ends: dict[int, int] = {}  # taken out, and not asked for yet
        self._gone: set[int] = set()

    def slot(self) -> int:
        """Return a descriptor for ``leave_channel`` (the caller closes it).

        Raises:
            OSError: No descriptor is free.
        """
        return os.dup(self._theirs.fileno())

    def take(self, key: int) -> int:
        """Return what was left under a key (the caller closes it).

        Raises:
            OSError: There is nothing, or this process has no descriptor free.
        """
        if key not in self._ends:
            self._look()
        if (end := self._ends.pop(key, None)) is None:
            raise ConnectionError("the peer has left no channel")
        return end

    def drop(self, key: int) -> None:
        """Note that nobody will ask for what was left, or will be left, under a key."""
        if (end := self._ends.pop(key, None)) is not None:
            os.close(end)
            return
        self._gone.add(key)
        if len(self._gone) >= _UNREAD:
            try:
                self._look()
            except OSError:  # no descriptor is free: the next time
                return
            self._gone.clear()  # those that had died before they could leave anything

    def _look(self) -> None:
        if self._letters is None:
            self._letters = _arena.Channel(self._ours.detach())
        for letter in self._letters.receive():
            key = letter.arena
            if isinstance(letter, _arena.Gone):
                continue  # nobody writes such letters
            if key in self._gone:
                self._gone.discard(key)
                os.close(letter.fd)
            else:
                self._ends[key] = letter.fd

    def close(self) -> None:
        """Let go of everything; in a forked child, of what is the parent's."""
        with contextlib.suppress(KeyError):  # another thread may come here, too
            while True:
                os.close(self._ends.popitem()[1])
        self._theirs.close()
        self._ours.close()
        if self._letters is not None:
            self._letters.close()


class Store:
    """The memory that a host fills, for all its daemons. Any thread.

    Args:
        shared: Whether its daemons are on this machine; else everything travels in frames.
        capacity: How many bytes of calls may be queued; None for any number.
        put: Has something called later, by whoever lets go of what is copied.

    Attributes:
        gate: Lets calls into the queue, if there is a bound; nothing is deferred then.
        copied: How many bytes were copied, or pickled, for each open task for which they are many.
    """

    def __init__(
        self,
        *,
        shared: bool = True,
        capacity: int | None = None,
        put: Callable[[Any], None] = lambda call: None,
    ) -> None:
        self._put = put
        self._lost: dict[int, _Lost] = {}  # by task, while it has copies
        self.is_shared = shared and _arena.available()  # by its daemons
        self._letterbox: Letterbox | None = None  # until there is a daemon
        self._pools: dict[None, _arena.Pool] = {}  # the pool, once there is something for it
        # If a KeyboardInterrupt strikes before a task without large buffers is queued, its entry
        # stays: then a little less is copied at submission.
        self.copied: dict[int, int] = {}
        self._latest: Sequence[bytes] = ()  # of the pickles that were deferred
        self.gate = None if capacity is None else _gate_of(capacity)

    def _pool(self) -> "_arena.Pool":
        if (pool := self._made) is not None:
            return pool
        made = _arena.Pool(limit=_arena.physical_memory() // _SHARE, count=_ARENAS)
        return self._pools.setdefault(None, made)  # in one step: another thread may come here too

    @property
    def _made(self) -> "_arena.Pool | None":
        return self._pools.get(None)

    def take(
        self, task: int, blob: bytes, buffers: Sequence[memoryview | list[bytes]], retries: int
    ) -> tuple[bytes, tuple[Buffer, ...] | Deferred]:
        """Copy what is large in a call, or defer that if too much has been copied already.

        Args:
            task: Its task.
            blob: Its pickle; if that is empty, it is the last of the buffers.
            buffers: Its large buffers.
            retries: How often the task may run again.

        Returns:
            The pickle, and the buffers that the task has from now on.
        """
        places = self._places_of_shared(buffers)
        size = len(blob) + _size_of_own(buffers, places)
        if size <= BULKY:
            return blob, self._copy(task, buffers, places, retries)
        if self.gate is None and sum(list(self.copied.values())) >= _BUDGET:
            return self._defer(blob, buffers)
        copies = self._copy(task, buffers, places, retries)
        self.copied[task] = size
        return blob, copies

    def copy(self, task: int, buffers: tuple[Any, ...], retries: int) -> tuple[Buffer, ...]:
        """Copy the large buffers of a call, now that it is about to be sent."""
        places = self._places_of_shared(buffers)
        self.copied[task] = _size_of_own(buffers, places)
        return self._copy(task, buffers, places, retries)

    def _places_of_shared(
        self, buffers: "Sequence[memoryview | list[bytes]]"
    ) -> list[Place | None]:
        if not self.is_shared or (pool := self._made) is None:
            return [None] * len(buffers)
        return [None if isinstance(it, list) else pool.locate(it) for it in buffers]

    def _copy(
        self,
        task: int,
        buffers: "Sequence[memoryview | list[bytes]]",
        shared: Sequence[Place | None],
        retries: int,
    ) -> tuple[Buffer, ...]:
        """Copy those that are not shared.

        What is to be sent a second time must not lie where the first daemon may have written to
        it, so the buffers of tasks that may be retried stay in this process, and each daemon
        gets a copy of them.
        """
        own = [it for it, place in zip(buffers, shared, strict=True) if place is None]
        places = None if retries or not own or not self.is_shared else self._place(task, own)
        copied: Iterator[Buffer] = iter(places) if places else map(whole, own)
        return tuple(
            next(copied) if place is None else Lasting.of(place, it)
            for it, place in zip(buffers, shared, strict=True)
        )

    def _place(self, task: int, own: list[Any]) -> Sequence[Lasting] | None:
        holder = _CopyHolder()
        lost = _Lost.of(holder, self._put, partial(self.let_go, task))
        self._lost[task] = lost
        places = self._pool().place(own, lost.taken)
        return None if places is None else [Lasting.of(place, holder) for place in places]

    def _defer(
        self, blob: bytes, buffers: Sequence[memoryview | list[bytes]]
    ) -> tuple[bytes, Deferred]:
        """Keep views of the user's memory, and of a pickle what differs from the one before.

        A pickle is made at once, and may be as large as what it was made from. But calls that
        are submitted by the hundred often have the same objects: in most pieces, their pickles
        are equal, and then each piece is kept only once.
        """
        if not blob and isinstance(pieces := buffers[-1], list):
            buffers = buffers[:-1]
        elif len(blob) > BULKY:
            pieces = [blob[at : at + BULKY] for at in range(0, len(blob), BULKY)]
            blob = b""
        else:
            return blob, Deferred(map(_resizable_copied, buffers))
        pairs = zip_longest(pieces, self._latest[: len(pieces)])
        self._latest = pieces = [old if new == old else new for new, old in pairs]
        return blob, Deferred((*map(_resizable_copied, buffers), pieces))

    def let_go(self, task: int) -> None:
        """Give back what a task had of copies: one that has ended, or that nobody has queued."""
        self.copied.pop(task, None)
        if not self.copied:
            self._latest = ()
        if (lost := self._lost.pop(task, None)) is not None and (pool := self._made) is not None:
            pool.give_back(lost.taken)

    def share(self, buffers: Sequence[memoryview]) -> tuple[memoryview, ...]:
        """Copy large buffers to where daemons can look at them; return views.

        Raises:
            OSError: The system has no memory, or no descriptor, left.
        """
        if not self.is_shared:
            return tuple(memoryview(whole(buffer)) for buffer in buffers)
        pool = self._pool()
        # One by one, so that each is let go of by itself.
        return tuple(pool.share([buffer]).views()[0] for buffer in buffers)

    @property
    def is_sharing(self) -> bool:
        """Whether something may be shared."""
        return (pool := self._made) is not None and pool.is_sharing

    def exchange(self, key: int) -> tuple[LateExchange, int] | None:
        """Return an exchange with a new daemon, and the descriptor that the daemon inherits.

        Args:
            key: What the daemon will leave its channel under. For the host thread only.

        Raises:
            OSError: No descriptor is free.
        """
        if not self.is_shared:
            return None
        if self._letterbox is None:
            self._letterbox = Letterbox()
        box = self._letterbox
        exchange = LateExchange(
            lambda: _arena.Exchange(self._pool(), _arena.Channel(box.take(key))),
            lambda buffers: _arena.out_of_arenas(self._pool(), buffers),
            lambda: box.drop(key),
        )
        return exchange, box.slot()

    def trim(self) -> None:
        """Give what is free back to the system."""
        if (pool := self._made) is not None:
            pool.trim()

    def close(self) -> None:
        """Let go of everything; in a forked child, of what is the parent's."""
        if (pool := self._made) is not None:
            pool.close()
        if self._letterbox is not None:
            self._letterbox.close()


def _gate_of(capacity: int) -> "Gate":
    from ._gate import Gate  # few have a bound

    return Gate(capacity)


def _resizable_copied(buffer: "memoryview | list[bytes]") -> "memoryview | list[bytes]":
    # While there is a view of it, a bytearray cannot change its size.
    if isinstance(buffer, memoryview) and isinstance(buffer.obj, bytearray):
        return [bytes(buffer)]
    return buffer


def _size_of_own(
    buffers: "Sequence[memoryview | list[bytes]]", shared: Sequence[Place | None]
) -> int:
    return sum(size_of(it) for it, place in zip(buffers, shared, strict=True) if place is None)


class Trimmer:
    """Gives memory back once no large buffer has come or gone for a while.

    Args:
        store: Has what is free.
        reactor: Tells when it is time.
        trim: Tells daemons; returns whether memory of theirs may be in use here.
    """

    def __init__(self, store: Store, reactor: "Reactor", trim: Callable[[], bool]) -> None:
        self._store = store
        self._reactor = reactor
        self._trim_daemons = trim
        self._pause = _KEEP_WARM
        self._timer: Timer | None = None

    def put_off(self) -> None:
        """Note that a large buffer comes or goes."""
        self._pause = _KEEP_WARM
        if self._timer is None or self._timer.is_over:
            self._timer = self._reactor.call_in(_KEEP_WARM, self._trim)
        else:
            self._reactor.move(self._timer, self._reactor.now() + _KEEP_WARM)

    def _trim(self) -> None:
        """Give back what is free, and come again while something is in use."""
        self._store.trim()
        is_borrowing = self._trim_daemons()
        # Nothing tells when the user drops an array; looking ever more seldom is enough.
        if is_borrowing or self._store.is_sharing:
            self._pause *= 2
            self._timer = self._reactor.call_in(self._pause, self._trim)
