"""Knows, at the host, what its forked daemons have as it is here."""

import sys
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from mirai_executor._payload.common.importable import MAIN, Home, Travel
from mirai_executor._payload.common.inheritance import Inheritance, nameless_semaphores
from mirai_executor._payload.common.inherited import OnlyInheritedError, is_nameless
from mirai_executor._payload.common.names import STANDARD_DUNDERS, names_of

_NOTHING = object()


class KnownInheritance:
    """What travels to forked daemons by a name or a number. For any thread.

    It keeps nothing alive that can be referred to weakly.

    Args:
        inheritance: What daemons have.
    """

    def __init__(self, inheritance: Inheritance) -> None:
        self._names = {name: _reference(value) for name, value in inheritance.names.items()}
        self._semaphores = {
            number: weakref.ref(each) for number, each in inheritance.semaphores.items()
        }

    def has(self, home: Home) -> bool:
        """Tell whether daemons have an object that is found here by name."""
        return home.kind is Travel.MAIN and self.has_name(home.root)

    def has_name(self, name: str) -> bool:
        """Tell whether a name of ``__main__`` still has the value that it had at the fork."""
        refer = self._names.get(name)
        if refer is None:
            return False
        if refer() is vars(sys.modules[MAIN]).get(name, _NOTHING):
            return True
        # For good: a daemon that has been told another value would take its name for that.
        self._names.pop(name, None)
        return False

    def replaced_for(self, obj: object) -> Iterator[str]:
        """Yield the names that an object which daemons have may look up, and find otherwise."""
        namespace = vars(sys.modules[MAIN])
        waiting, seen = [obj], set[int]()
        while waiting:
            found = waiting.pop()
            if id(found) in seen:
                continue
            seen.add(id(found))
            if isinstance(found, type):
                waiting += vars(found).values() if found.__module__ == MAIN else ()
            function = getattr(found, "__func__", found)  # of a classmethod or a staticmethod
            if type(function) is not FunctionType or function.__globals__ is not namespace:
                continue
            for name in names_of(function.__code__).globals:
                if name not in namespace or name in STANDARD_DUNDERS:
                    continue
                if self.has_name(name):
                    waiting.append(namespace[name])
                else:
                    yield name

    def number_of(self, semaphore: object) -> int | None:
        """Return the number of a lock or the like; None if it travels in another way.

        Raises:
            OnlyInheritedError: It was not there at the fork, and has no other way.
        """
        if not hasattr(semaphore, "_semlock") or not is_nameless(semaphore):
            return None
        known = self._semaphores.get(id(semaphore))
        if known is not None and known() is semaphore:
            return id(semaphore)
        kind = type(semaphore).__name__
        raise OnlyInheritedError(
            f"this {kind} of multiprocessing's fork context was made after the daemons had been "
            f"forked, which happens when the first task is submitted: make it before that"
        )


def _reference(value: object) -> Callable[[], object]:
    try:
        return weakref.ref(value)
    except TypeError:  # a number, a text, a list
        return lambda: value


def only_forks_share(fn: Callable[..., object], args: tuple[Any, ...]) -> bool:
    """Tell whether a call has something that reaches other processes only by a fork."""
    if not nameless_semaphores():  # then there is nothing of this kind, and nothing is pickled
        return False
    from mirai_executor._payload.host.calls import CallEncoder

    try:
        CallEncoder().encode(fn, args, {}, lasting=True)  # what it lends goes with the encoder
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OnlyInheritedError):
            cause = cause.__cause__
        return cause is not None
    return False
