"""Decides how daemons come into being where a context of multiprocessing says so.

::

    mp_context      daemons are
    None            fresh interpreters; or forks, if the initargs can only be inherited by those
    "fork"          forks of this process
    any other       fresh interpreters, as its processes are
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mirai_executor._host import Forking

if TYPE_CHECKING:
    from mirai_executor._payload.host import Inheritance


def _is_fork(context: Any) -> bool:
    """Tell whether the processes of a context are forks of this one.

    Raises:
        TypeError: It is no context.
    """
    if context is None:
        return False
    get_start_method = getattr(context, "get_start_method", None)
    if not callable(get_start_method):
        hint = f"multiprocessing.get_context({context!r})" if isinstance(context, str) else ""
        raise TypeError(
            "mp_context must be a context of multiprocessing, as "
            f"{hint or 'multiprocessing.get_context() returns'}, or None, not {context!r:.60}"
        )
    return bool(get_start_method() == "fork")


def forking(context: Any, options: Mapping[str, object]) -> Forking | None:
    """Return how daemons are forked from this process; None if they never are.

    Args:
        context: The ``mp_context`` of an executor.
        options: Of its other arguments, those that make daemons something else than forks.

    Raises:
        TypeError: It is no context.
        ValueError: It contradicts an option.
        RuntimeError: This system does not tell when a process has ended that another has forked.
    """
    always = _is_fork(context)
    other = next((name for name, value in options.items() if value is not None), None)
    if always and other is not None:
        raise ValueError(
            "with a fork context as mp_context, daemons are forks of this process: leave out "
            f"{other}, or take multiprocessing.get_context('spawn')"
        )
    if always:
        _check_system()
    if not always and (other is not None or context is not None):
        return None
    return Forking(_import_template, always)


def _check_system() -> None:
    from mirai_executor._local import has_pidfds

    if not has_pidfds():
        raise RuntimeError(
            "daemons can be forked from this process only on Linux 5.3 or later, where nothing "
            "forbids pidfds: take multiprocessing.get_context('spawn') as mp_context"
        )


def _import_template() -> "Callable[[int, int, Inheritance], NoReturn]":
    """Import all that a fork of this process needs, and return what it does."""
    from mirai_executor._payload.daemon import Namespace, encode_error  # noqa: F401 - a fork may import nothing
    from mirai_executor.daemon._template import become_template

    return become_template
