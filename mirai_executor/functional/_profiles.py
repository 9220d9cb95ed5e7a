"""Decides which executor a call goes to: that of the current profile, or one of its own.

All functions of this module are safe from any thread. The current profile belongs to the context
(``contextvars``): entering ``with profile(...)`` in one coroutine or thread changes no other, and
a new thread begins with the profile "default".
"""

import errno
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from mirai_executor._arguments import check_flag, check_options
from mirai_executor._around._options import TRACES
from mirai_executor.errors import DaemonsNotSetError
from mirai_executor.executor import PARAMETERS, MiraiExecutor

if TYPE_CHECKING:
    from mirai_executor._around._tracing import Setting
    from mirai_executor.executor import DaemonsKeywords
    from mirai_executor.launchers import Launcher

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = "default"
_NAMED = ("max_workers", "url", "remote")  # daemons() has them itself
_OPTIONS = [name for name in PARAMETERS if name not in _NAMED]
_current = ContextVar("mirai profile", default=_DEFAULT)

# Touched only by single operations of the dictionary, which are atomic: a lock could be inherited
# locked by a fork.
_profiles: dict[str, MiraiExecutor] = {}


class Daemons:
    """What :func:`daemons` returns: a context manager that resets the profile at the end.

    The variable of the ``with`` statement is the executor, and inside the block the profile is the
    current one. At the end of the block the profile is reset and unfinished tasks are cancelled,
    so collect all results inside. An instance is false if it stands for no daemons.

    Attributes:
        n: How many daemons were requested; 1 if daemons connect to a url.
        compute: The name of the profile.

    Example:
        >>> with daemons(2) as executor:
        ...     mirai(pow, 2, 10).result(), executor.size
        (1024, 2)
    """

    def __init__(self, n: int, compute: str) -> None:
        self.n = n
        self.compute = compute
        self._token: Token[str] | None = None

    def __enter__(self) -> MiraiExecutor:
        executor = executor_for(self.compute)
        self._token = _current.set(self.compute)
        return executor

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self._token is not None:
                _current.reset(self._token)
        finally:
            _reset(self.compute)

    async def __aenter__(self) -> MiraiExecutor:
        from mirai_executor._observing._awaiting import running_loop  # with asyncio

        running_loop()
        return self.__enter__()

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        """Reset the profile, while the event loop goes on."""
        from mirai_executor._observing._awaiting import leave  # with asyncio

        if self._token is not None:
            _current.reset(self._token)
            self._token = None
        await leave(self.__exit__, self.__exit__, exc_type)

    def __bool__(self) -> bool:
        return self.n > 0

    def __repr__(self) -> str:
        return f"<Daemons n={self.n} compute={self.compute!r}>"


def daemons(
    n: int | None = None,
    *,
    url: str | Sequence[str] | None = None,
    remote: "Launcher | None" = None,
    compute: str | None = None,
    sync: bool = False,
    **options: "Unpack[DaemonsKeywords]",
) -> Daemons:
    """Set up a profile: start its daemons, and wait until they are connected. 0 resets it.

    With a ``url``, daemons connect by themselves: this starts none, unless ``remote`` is given,
    and does not wait for any.

    If the profile has daemons already, they are shut down first: queued and running tasks are
    cancelled, and tasks that do not stop within a second are killed together with their daemon.
    Safe from any thread.

    Args:
        n: The number of local daemons; with ``remote``, the number to request (1 by default). Not
            allowed with a ``url`` alone.
        url: The address to which daemons connect, as returned by :func:`host_url`.
        remote: How to start daemons on other machines, as returned by :func:`ssh_config`.
        compute: The name of the profile; by default the current one, which is ``"default"``
            outside of any ``with`` block.
        sync: Whether tasks run in this process instead, one after the other, each before its
            :func:`mirai` returns: the ``mode="inline"`` of :class:`MiraiExecutor`. ``n`` may be
            left out then.
        **options: Further options of :class:`MiraiExecutor`, such as ``dispatcher=False``.

    Returns:
        A context manager that resets the profile at the end of its block.

    Raises:
        TypeError: ``n`` is not an integer, or there is no such option. Nothing has changed.
        ValueError: ``n`` is negative, or an option is out of range, or does not go with ``sync``.
            Nothing has changed.
        LaunchError: A daemon could not be started. The profile is not set.
        OSError: Listening on ``url`` failed. Nothing has changed, unless the address was in use:
            the profile has then been reset, as it might have been the one to use it.

    Example:
        >>> with daemons(2):
        ...     collect([mirai(pow, n, 2) for n in (2, 3)])
        [4, 9]
    """
    is_elsewhere = url is not None or remote is not None
    check_flag("sync", sync)
    check_options(options, ("n", "url", "remote", "compute", "sync", *_OPTIONS))
    if sync:
        options["mode"] = "inline"
        n = 1 if n is None and not is_elsewhere else n
    _check_number(n, optional=is_elsewhere)
    name = _name(compute)
    if n == 0:
        _reset(name)
        return Daemons(0, name)
    setting = _setting()
    settings: dict[str, Any] = {"url": url, "remote": remote, "name": name, "cleanup": True}
    settings.update(options)
    try:
        executor = MiraiExecutor(n, **settings)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or name not in _profiles:
            raise
        _reset(name)  # it may be this profile that listens there
        executor = MiraiExecutor(n, **settings)
    _reset(name)
    _bring_to_work(executor, wait=not is_elsewhere)
    _set(name, executor)
    if setting is not None:
        setting.is_done(executor, name, dispatcher=bool(options.get("dispatcher", True)))
    return Daemons(n or executor._max_workers, name)  # noqa: SLF001 - libraries ask for it, too


class ProfileBlock:
    """What :func:`profile` returns: a block, and a decorator that puts each call into one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tokens: list[Token[str]] = []  # of the blocks that are open

    def __enter__(self) -> MiraiExecutor:
        executor = executor_for(self._name)
        self._tokens.append(_current.set(self._name))
        return executor

    def __exit__(self, *exc_info: object) -> None:
        # A coroutine that is never finished may be closed elsewhere: there is nothing to reset.
        with suppress(ValueError):
            _current.reset(self._tokens.pop())

    def __call__(self, fn: F) -> F:
        from ._blocks import inside  # with inspect

        return inside(lambda: ProfileBlock(self._name), fn)


def profile(name: str) -> ProfileBlock:
    """Make a profile the current one inside a ``with`` block, or in a function it decorates.

    The variable of the ``with`` statement is the profile's executor. Blocks can be nested. Other
    threads and asyncio tasks are not affected. The function may be asynchronous or a generator;
    while a generator waits for its next turn, the profile is that of its caller.

    Args:
        name: The name of the profile.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        TypeError: ``name`` is not a string.

    Example:
        >>> with daemons(1, compute="gpu"):
        ...     with profile("gpu"):
        ...         mirai(pow, 2, 10).result()
        1024
    """
    if not isinstance(name, str):
        raise TypeError(f"profile() takes the name of a profile, not {name!r:.60}")
    return ProfileBlock(name)


def executor_for(compute: str | None = None) -> MiraiExecutor:
    """Return the executor of a profile, for its options and for libraries that need an executor.

    Safe from any thread.

    Args:
        compute: The name of the profile; by default the current one.

    Raises:
        DaemonsNotSetError: The profile has no daemons.

    Example:
        >>> with daemons(2):
        ...     executor_for().with_options(timeout=30).submit(pow, 2, 10).result()
        1024
    """
    name = _name(compute)
    executor = _profiles.get(name)
    if executor is None:
        raise DaemonsNotSetError(_how_to_set(name))
    return executor


def daemons_set(compute: str | None = None) -> bool:
    """Tell whether a profile, by default the current one, has daemons. Safe from any thread.

    Example:
        >>> with daemons(1, compute="gpu"):
        ...     daemons_set("gpu")
        True
        >>> daemons_set("gpu")
        False
    """
    return _name(compute) in _profiles


def require_daemons(compute: str | None = None) -> None:
    """Raise an error that explains what to do if a profile has no daemons.

    Args:
        compute: The name of the profile; by default the current one.

    Raises:
        DaemonsNotSetError: The profile has no daemons.

    Example:
        >>> with daemons(1):
        ...     require_daemons()
    """
    executor_for(compute)


def _check_number(n: object, *, optional: bool) -> None:
    if not (n is None and optional) and not isinstance(n, int):
        raise TypeError(f"n must be an integer, the number of daemons, not {n!r}{_hint(n)}")
    if isinstance(n, int) and n < 0:
        raise ValueError(f"n must be >= 0, not {n}")


def _hint(n: object) -> str:
    return "; did you mean url=?" if isinstance(n, str) and "://" in n else ""


def _name(compute: str | None) -> str:
    if not (compute is None or isinstance(compute, str)):
        raise TypeError(f"compute must be the name of a profile or None, not {compute!r:.60}")
    return _current.get() if compute is None else compute


def current_or_none() -> MiraiExecutor | None:
    """Return the executor of the current profile, None where the default one is not set."""
    if _current.get() == _DEFAULT:
        return _profiles.get(_DEFAULT)
    return executor_for()


def _how_to_set(name: str) -> str:
    call = "daemons(4)" if name == _DEFAULT else f"daemons(4, compute={name!r})"
    known = ", ".join(map(repr, sorted(_profiles))) or "none"
    return (
        f"no daemons are set for profile {name!r} (profiles with daemons: {known}); "
        f"call {call} to start 4"
    )


def _bring_to_work(executor: MiraiExecutor, *, wait: bool) -> None:
    try:
        if wait:
            executor.wait_ready()
        else:
            executor._finish_launch()  # noqa: SLF001 - what fails is to be raised here
    except BaseException:
        _end(executor)
        raise


def _set(name: str, executor: MiraiExecutor) -> None:
    # Another thread may have set the same profile meanwhile: the last one wins.
    while _profiles.setdefault(name, executor) is not executor:
        _reset(name)


def _reset(name: str) -> None:
    executor = _profiles.pop(name, None)
    if executor is not None:
        setting = _setting()
        _end(executor)
        if setting is not None:
            setting.is_undone(executor)


def _setting() -> "Setting | None":
    """Return what makes a span of setting, or resetting, a profile; None if nobody traces."""
    if TRACES not in sys.modules:
        return None
    from mirai_executor._around._tracing import Setting

    return Setting()


def _end(executor: MiraiExecutor) -> None:
    # What a `with` block does that is left by sys.exit(): it cancels queued and running tasks,
    # and is back soon.
    executor.__exit__(SystemExit, None, None)
