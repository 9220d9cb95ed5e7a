"""Takes apart what multiprocessing shares by inheritance: locks, queues, values and the like.

Their own reducers refuse to work unless a process is being started, as a child of it inherits
descriptors. Here they are lent instead (see ``descriptors``), and semaphores have names.
"""

from multiprocessing.synchronize import SemLock
from typing import Any

from mirai_executor._payload.common.descriptors import Lend, lending
from mirai_executor._payload.common.fast_pickle import PROTOCOL
from mirai_executor._private import check
from mirai_executor.errors import PayloadError

check("_payload.common.inherited")


class OnlyInheritedError(PayloadError):
    """An object reaches another process only if that is forked from this one."""


def reduce_inherited(obj: Any, lend: Lend) -> Any:
    """Return how an object is taken apart while a process is being started.

    Raises:
        OnlyInheritedError: It is a lock or the like that can only be inherited by forking.
    """
    if not isinstance(obj, SemLock):
        with lending(lend):
            return obj.__reduce_ex__(PROTOCOL)
    kind = type(obj).__name__
    if is_nameless(obj):
        raise OnlyInheritedError(
            f"this {kind} of multiprocessing's fork context can only be inherited by forking; to "
            f"share one, make it with multiprocessing.get_context('spawn').{kind}()"
        )
    with lending(lend):
        reduced: Any = obj.__reduce_ex__(PROTOCOL)
    make, arguments, state = reduced[:3]
    return make, arguments, state, None, None, set_semaphore


def is_nameless(semaphore: Any) -> bool:
    """Tell whether other processes cannot find a lock; that of a fork context has no name."""
    return semaphore._semlock.name is None  # noqa: SLF001 - all versions have it


def set_semaphore(semaphore: Any, state: Any) -> None:
    """At the other side: open a semaphore by its name."""
    try:
        semaphore.__setstate__(state)
    except FileNotFoundError as error:
        raise PayloadError(
            f"a {type(semaphore).__name__} of multiprocessing was not found here: it exists only "
            "on the machine where it was made, and as long as it is in use there"
        ) from error
