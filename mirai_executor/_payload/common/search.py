"""Finds the way to what a pickler has failed at, in less time than pickling takes.

It is looked for in three steps, each only as far as a message goes::

    while there is one thing only that can hold it    go there
    breadth first, in C, for a few steps              until the culprit itself is found
    depth first, by what the pickler has met          until something is found that fails

A pickler meets things in their order. So of those that lie side by side, the last one that it has
met is where it has failed, or the one after that.
"""

import bisect
import collections
import gc
from collections.abc import Collection, Iterator
from itertools import chain, compress, count, islice, repeat
from operator import is_, length_hint

from mirai_executor._payload.common.anatomy import PLAIN, in_order, is_no_atom, place_in, rows_of
from mirai_executor._payload.common.fast_pickle import ATOMS, PROTOCOL, Pickler, Pieces
from mirai_executor._payload.common.importable import Travel, home_of
from mirai_executor._payload.common.refusals import is_as_it_looks
from mirai_executor._typing import Any, NamedTuple, Protocol

MOST = 22  # objects of a way: what holds the parts, a part, and 20 steps below that
_BROAD = 4  # steps: then few ways are left, and each step takes time
_MOST_SEEN = 1_000_000  # objects: what is beyond is hardly worth the wait
_AT_ONCE = 256  # objects, so that little has to be looked at again
_FEW, _LONG, _MANY = 8, 64, 4096  # items
# When the pickler notes that it has met one: before its items, or after them.
_NOTED_FIRST = frozenset({dict, list, set})
_NOTED_LAST = frozenset({frozenset, tuple})
_EMPTY: tuple[object, ...] = ()

Places = dict[int, tuple[object, int]]  # by the id of a part, what holds it, and where


class FailedPickler(Protocol):
    """A pickler that has failed."""

    @property
    def serial(self) -> object:
        """What the user has for classes, if anything."""

    @property
    def culprit(self) -> object:
        """What it was given last."""

    @property
    def memo(self) -> Any:
        """What it has met."""

    def dump(self, obj: Any, /) -> object:
        """Pickle something."""

    def begin_anew(self) -> None:
        """Forget what was pickled, to see what else fails; nobody will read that."""


def way_to(culprit: object, whole: list[Any], pickler: FailedPickler) -> tuple[list[Any], Places]:
    """Return the way to the culprit, or to what hides it, or as far as it is of use.

    That is what holds what, from the whole on down; and some places that are known.
    """
    only = _OnlyWay(culprit, pickler)
    way = only.way(whole, MOST)
    start, most = way[-1], MOST - len(way)
    if start is culprit or not most:
        return way, {}
    search = _Search(start, culprit)
    rest = search.way(min(most, _BROAD))
    if not rest:
        rest = _Descent(culprit, pickler, only, way).way(start, most)
        if len(rest) < most and not (rest and rest[-1] is culprit):
            rest = search.way(most) or rest  # things that are met in several places mislead
    return way + rest, search.places


def fails(pickler: FailedPickler, obj: object) -> bool:
    """Tell whether an object cannot be pickled."""
    try:
        pickler.dump(obj)
    except Exception:  # that is the question
        return True
    return False


class _OnlyWay:
    """Goes down for as long as there is one thing only that can hold the culprit.

    So nothing has to be pickled to see that it is there.
    """

    def __init__(self, culprit: object, pickler: FailedPickler) -> None:
        self._culprit = culprit
        self._has_hooks = pickler.serial is not None
        self._as_they_look: dict[type, bool] = {}

    def way(self, holder: Any, most: int) -> list[Any]:
        """Return what holds what, from this on down."""
        way = [holder]
        while len(way) < most and holder is not self._culprit:
            held = self._held_by(holder)
            if len(held) > 1:  # most often, others lie beside it: small ones, and what is above
                held = [part for part in held if self._may_hold(part, way)]
            if len(held) != 1:
                break
            holder = held[0]
            way.append(holder)
        return way

    def _may_hold(self, part: Any, way: list[Any]) -> bool:
        if part is self._culprit:
            return True
        return not _is_barren(part) and not any(map(is_, way, repeat(part)))

    def _held_by(self, holder: Any) -> list[Any]:
        """Return what may hold something, of something small that shows all that it holds."""
        kind = type(holder)
        if kind in PLAIN:
            return _held_by(holder)
        if kind not in self._as_they_look:
            home = home_of(kind)  # else the class, too, is pickled, and may hold it
            by_name = home is not None and home.kind is Travel.IMPORTABLE
            looks = by_name and not self._has_hooks and is_as_it_looks(kind)
            self._as_they_look[kind] = looks
        if not self._as_they_look[kind]:
            return []
        rows = rows_of(holder)
        if sum(map(len, rows)) > _LONG:
            return []
        return [part for part in chain(*rows) if type(part) not in ATOMS]


def _held_by(container: Any) -> list[Any]:
    if len(container) > _FEW:
        return []
    parts = chain(container, container.values()) if type(container) is dict else container
    return [part for part in parts if type(part) not in ATOMS]


def _is_barren(obj: Any) -> bool:
    """Tell whether something is a small container of numbers, texts and empty containers."""
    if type(obj) not in PLAIN or len(obj) > _FEW:
        return False
    held = _held_by(obj)
    return not held or all(type(part) in PLAIN and not part for part in held)


class _Some(NamedTuple):
    """Some objects of the same depth, and those whose parts they are."""

    objects: list[Any]
    above: "_Some | None"
    depth: int


class _Search:
    """Looks for an object among the parts of others, and their parts, breadth first.

    Almost all of it is done in C, and a long container is gone through once: it may take no
    longer than pickling does.
    """

    def __init__(self, start: object, target: object) -> None:
        self._target = target
        self._is_tracked = gc.is_tracked(target)
        self._seen: dict[int, object] = {}
        self._waiting = collections.deque([_Some([start], None, 1)])
        # Long containers, and where in them the first things are that may be or hold the target.
        self.places: Places = {}

    def way(self, steps: int) -> list[Any]:
        """Return the shortest way from below the start to the target; go on where one has ended.

        Args:
            steps: How long it may be.
        """
        seen, waiting = self._seen, self._waiting
        while waiting and waiting[0].depth <= steps and len(seen) < _MOST_SEEN:
            some = waiting.popleft()
            found = self._parts_of(some.objects)
            before = len(seen)
            seen.update(zip(map(id, found), found))  # noqa: B905 - alive, if made to be looked at
            if id(self._target) in seen:
                return self._way_down(some)
            if len(seen) - before < len(found):  # a dictionary ends with its new keys
                found = list(islice(reversed(seen.values()), len(seen) - before))[::-1]
            for i in range(0, len(found), _AT_ONCE):
                waiting.append(_Some(found[i : i + _AT_ONCE], some, some.depth + 1))
        return []

    def _parts_of(self, objects: list[Any]) -> list[Any]:
        """Return all that these have, travels with them, and may be or hold the target."""
        if PLAIN.issuperset(map(type, objects)) and len(objects[0]) < _LONG:
            parts = gc.get_referents(*objects)
            if len(parts) < _LONG or max(map(len, objects)) < _LONG:
                return self._worth(parts)
        found: list[Any] = []
        short: list[Any] = []
        for obj in objects:
            if type(obj) in PLAIN and len(obj) < _LONG:
                short.append(obj)
            else:
                found += self._parts_of_one(obj)
        return found + self._worth(gc.get_referents(*short))

    def _parts_of_one(self, obj: Any) -> list[Any]:
        """Return the parts of something that is long, or no container of Python's."""
        found: list[Any] = []
        before = 0
        for items in rows_of(obj):
            if len(items) < _LONG:
                found += self._worth(items)
            else:
                found += self._parts_of_long(obj, items, before)
                if id(self._target) in self.places:
                    break
            before += len(items)
        return found

    def _parts_of_long(self, obj: object, items: Collection[Any], before: int) -> list[Any]:
        found: list[Any] = []
        rest, begin, many = iter(items), 0, 1
        worth = filter(gc.is_tracked if self._is_tracked else is_no_atom, rest)
        while some := list(islice(worth, many)):
            end = len(items) - length_hint(rest)
            if many == 1:
                self.places.setdefault(id(some[0]), (obj, before + end - 1))
            found += some
            if any(map(is_, some, repeat(self._target))):
                if many > 1:
                    place = before + _place_from(begin, items, self._target)
                    self.places.setdefault(id(self._target), (obj, place))
                return found
            # Among numbers it is nearly alone: then there is no need to look for its place.
            begin, many = end, 1 if len(found) < _LONG else _AT_ONCE
        return found

    def _way_down(self, some: _Some | None) -> list[Any]:
        """Return what holds what, down to the target, which is a part of one of some objects."""
        way = [self._target]
        while some is not None:
            known, _ = self.places.get(id(way[-1]), (None, 0))
            is_there = known is not None and any(map(is_, some.objects, repeat(known)))
            way.append(known if is_there else _holder_among(some.objects, way[-1]))
            some = some.above
        return way[-2::-1]

    def _worth(self, parts: Collection[Any]) -> list[Any]:
        # What the garbage collector does not track holds nothing that it does: numbers, texts,
        # dates. It does not know what arrays hold, though: where there are few, all are looked at.
        if self._is_tracked and len(parts) > _FEW:
            return list(filter(gc.is_tracked, parts))
        return [part for part in parts if type(part) not in ATOMS]


def _place_from(begin: int, items: Collection[Any], part: object) -> int:
    hits = map(is_, islice(items, begin, None), repeat(part))
    return next(compress(count(begin), hits))


def _holder_among(objects: list[Any], part: object) -> Any:
    """Return the first of some objects that has a part, as one of them has."""
    while len(objects) > 1:
        half = len(objects) // 2
        objects = objects[:half] if _have(objects[:half], part) else objects[half:]
    return objects[0]


def _have(objects: list[Any], part: object) -> bool:
    if PLAIN.issuperset(map(type, objects)):
        return any(map(is_, gc.get_referents(*objects), repeat(part)))
    return any(place_in(obj, part) is not None for obj in objects)


class _MemoReader(Pickler):
    """Tells what another pickler has met, which is what has a number in its memo.

    Nothing is pickled for that: what has none ends the attempt at its first part.
    """

    def __init__(self, memo: Any) -> None:
        self._written = Pieces()
        super().__init__(self._written, PROTOCOL)
        self.memo = memo  # which copies it, in C
        self._asked: object = None
        self._new: set[int] = set()  # the ids of what was not met; some have a number by now

    def persistent_id(self, obj: object) -> None:
        if obj is not self._asked:
            raise LookupError

    def reducer_override(self, obj: object) -> Any:
        raise LookupError

    def __call__(self, obj: object) -> bool:
        self._asked = obj
        self._written.clear()
        try:
            self.dump(obj)
        except LookupError:
            is_met = False
        else:
            is_met = id(obj) not in self._new and _is_number(self._written[0])
        if not is_met:
            self._new.add(id(obj))
        return is_met


def _is_number(pickled: bytes) -> bool:
    """Tell whether a pickle says of something only that it has been met."""
    size = len(pickled)
    return (size == 5 and pickled[2:3] == b"h") or (size == 17 and pickled[11:12] == b"j")


class _Descent:
    """Goes down to what was being pickled when a pickler failed, as far as that can be seen.

    Args:
        culprit: What has failed.
        pickler: It, with all that it has met. What is pickled once more was met by it.
        only: What goes down where there is nothing to decide.
        way: Where it begins.
    """

    def __init__(
        self, culprit: object, pickler: FailedPickler, only: _OnlyWay, way: list[Any]
    ) -> None:
        self._culprit = culprit
        self._only = only
        self._met = _MemoReader(pickler.memo)
        self._seen: dict[int, object] = {id(obj): obj for obj in way}
        self._pickler = pickler
        pickler.begin_anew()

    def way(self, start: Any, steps: int) -> list[Any]:
        """Return what holds what, from below something down to what fails; empty if none does."""
        if start is self._culprit or not steps:
            return []
        for part in self._candidates(start):
            way = self._only.way(part, steps)
            last, left = way[-1], steps - len(way)
            self._seen.update((id(obj), obj) for obj in way)
            rest = self.way(last, left)
            may_hide = type(last) not in PLAIN or not left
            if rest or last is self._culprit or (may_hide and fails(self._pickler, last)):
                return way + rest
        return []

    def _candidates(self, holder: Any) -> Iterator[Any]:
        """Yield the parts that may have been being pickled, the likeliest first."""
        parts = [part for part in _holding_parts(holder) if id(part) not in self._seen]
        if any(map(is_, parts, repeat(self._culprit))):
            yield self._culprit
            return
        if len(parts) == 1 and type(holder) in PLAIN:
            yield parts[0]
            return
        if type(holder) in PLAIN or len(parts) > _LONG:
            end = bisect.bisect_left(parts, True, key=lambda part: not self._met(part))
            begun, after = parts[max(end - 1, 0) : end], parts[end : end + 1]
        else:  # in which order its parts are pickled is its own affair
            begun = [part for part in reversed(parts) if self._met(part)]
            after = [part for part in parts if not self._met(part)][:1]
        unfinished = [part for part in begun if type(part) not in _NOTED_LAST]
        yield from unfinished[:1]
        yield from (part for part in after if type(part) not in _NOTED_FIRST)
        yield from unfinished[1:]


def _holding_parts(holder: Any) -> list[Any]:
    """Return the parts of something that may hold others, in the order of pickling."""
    if type(holder) in PLAIN and len(holder) > _MANY:  # as in _Search
        tracked = list(filter(gc.is_tracked, in_order(holder)))
        if tracked:
            return tracked
    # The pickler does not note that it has met an empty tuple.
    return [part for part in in_order(holder) if type(part) not in ATOMS and part is not _EMPTY]
