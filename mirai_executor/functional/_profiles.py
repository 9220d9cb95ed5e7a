"""Decides which executor a call goes to: that of the current profile, or one of its own.

All functions of this module are safe from any thread. The current profile belongs to the context
(``contextvars``): entering ``with profile(...)`` in one coroutine or thread changes no other, and
a new thread begins with the profile "default".
"""

import errno
import functools
import os
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from mirai_executor._status import Info, Status
from mirai_executor.errors import DaemonsNotSetError
from mirai_executor.executor import MiraiExecutor
from mirai_executor.futures import MiraiFuture

if TYPE_CHECKING:
    from mirai_executor.launchers import Launcher

__all__ = [
    "Daemons",
    "DaemonsNotSetError",
    "daemons",
    "daemons_set",
    "everywhere",
    "executor_for",
    "info",
    "launch_local",
    "launch_remote",
    "mirai",
    "profile",
    "require_daemons",
    "status",
]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = "default"
_current = ContextVar("mirai profile", default=_DEFAULT)

# Touched only by single operations of the dictionary, which are atomic: a lock could be inherited
# locked by a fork.
_profiles: dict[str, MiraiExecutor] = {}

# By process, since a forked child has none: who starts daemons for single tasks, while some run.
_ephemeral: dict[int, weakref.ref[MiraiExecutor]] = {}
_MOST_EPHEMERAL = 64  # daemons at once
_DESCRIPTORS = 16  # for each: it takes 8 at its host, which has other uses for them


# Tasks


@overload
def mirai(source: str, /, **variables: Any) -> MiraiFuture[Any]: ...
@overload
def mirai(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> MiraiFuture[T]: ...
def mirai(fn_or_source: "Callable[..., Any] | str", /, *args: Any, **kwargs: Any) -> Any:
    """Run a call, or code, on a daemon of the current profile, and return its future at once.

    If no daemons are set, a daemon is started for this task alone, and ends with it. There are at
    most 64 of those at once, fewer where this process may open fewer than 1024 files; further
    tasks wait. Every keyword argument belongs to the function; to set a timeout or retries, use
    an executor: ``executor_for().with_options(timeout=5).submit(fn)``. Safe from any thread.

    Args:
        fn_or_source: A function, or Python code as a string. The value of code is that of its last
            line, if that is an expression.
        *args: The arguments of the function; code has none.
        **kwargs: The keyword arguments of the function, or the variables of the code.

    Returns:
        The future of the task.

    Raises:
        TypeError: The first argument is neither a function nor code, or code was given positional
            arguments.
        SyntaxError: The code is not valid Python.
        DaemonsNotSetError: The current profile is not the default one, and has been reset.
        LaunchError: No daemon can be started.

    Example:
        >>> mirai(pow, 2, 10).result()
        1024
        >>> mirai("x + y", x=1, y=2).result()
        3
    """
    executor = _current_or_none()
    if executor is not None:
        return _submit(executor, fn_or_source, args, kwargs)
    executor = _ephemeral_executor()
    future = _submit(executor, fn_or_source, args, kwargs)
    # Until then, the task keeps it: with the last of them it shuts down, as it is dropped.
    future.add_done_callback(functools.partial(_let_go, executor))
    return future


def _ephemeral_executor() -> MiraiExecutor:
    """Return the executor whose daemons run one task each."""
    known = _ephemeral.get(pid := os.getpid())
    executor = None if known is None else known()
    if executor is None:
        made = MiraiExecutor(
            _most_ephemeral(), name="ephemeral", cleanup=True, max_tasks_per_child=1
        )
        # Of several threads that come here at the same time, most find that of the last one.
        _ephemeral[pid] = weakref.ref(made)
        executor = _ephemeral[pid]() or made
    return executor


def _most_ephemeral() -> int:
    import resource  # Windows has none; and not before it is needed

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _MOST_EPHEMERAL
    return max(1, min(_MOST_EPHEMERAL, limit // _DESCRIPTORS))


def _let_go(executor: MiraiExecutor, future: object) -> None:
    """Do nothing: the partial that calls this is gone with the task, and with it a reference."""


def everywhere(
    fn_or_source: "Callable[..., Any] | str", /, *args: Any, **kwargs: Any
) -> list[MiraiFuture[Any]]:
    """Run a call, or code, once on each daemon of the current profile.

    It also runs on each daemon that joins later, before any task. What it changes in ``__main__``
    stays there; the cleanup between tasks does not undo it.

    Args:
        fn_or_source: As for :func:`mirai`, but code runs in the daemon's ``__main__`` itself.
        *args: The arguments of the function; code has none.
        **kwargs: The keyword arguments of the function, or the variables of the code.

    Returns:
        One future for each daemon that is running or starting.

    Raises:
        DaemonsNotSetError: The current profile has no daemons.
        TypeError: The first argument is neither a function nor code, or code was given positional
            arguments.

    Example:
        >>> with daemons(2):
        ...     done = everywhere("limit = 10")
        ...     mirai("limit + 1").result()
        11
    """
    _check_call(fn_or_source, args)
    return executor_for().everywhere(fn_or_source, *args, **kwargs)


def _submit(
    executor: MiraiExecutor,
    fn_or_source: "Callable[..., Any] | str",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> MiraiFuture[Any]:
    _check_call(fn_or_source, args)
    if isinstance(fn_or_source, str):
        return executor.submit_source(fn_or_source, **kwargs)
    return executor.submit(fn_or_source, *args, **kwargs)


def _check_call(fn_or_source: object, args: tuple[Any, ...]) -> None:
    if isinstance(fn_or_source, str):
        if args:
            raise TypeError("code takes keyword arguments only: write mirai('f(x)', f=f, x=1)")
    elif not callable(fn_or_source):
        # `mirai(f(x))` has called f already; a daemon could not tell.
        raise TypeError(
            f"mirai() takes a function and its arguments, or code as a string: write mirai(f, x) "
            f"or mirai('f(x)', f=f, x=x), not mirai(f(x)); got {fn_or_source!r:.60}"
        )


# Profiles


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
    **options: Any,
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
        **options: Further options of :class:`MiraiExecutor`, such as ``dispatcher=False``.

    Returns:
        A context manager that resets the profile at the end of its block.

    Raises:
        TypeError: ``n`` is not an integer, or there is no such option. Nothing has changed.
        ValueError: ``n`` is negative, or an option is out of range. Nothing has changed.
        LaunchError: A daemon could not be started. The profile is not set.
        OSError: Listening on ``url`` failed. Nothing has changed, unless the address was in use:
            the profile has then been reset, as it might have been the one to use it.

    Example:
        >>> with daemons(2):
        ...     collect([mirai(pow, n, 2) for n in (2, 3)])
        [4, 9]
    """
    is_elsewhere = url is not None or remote is not None
    if not (n is None and is_elsewhere) and not isinstance(n, int):
        raise TypeError(f"n must be an integer, the number of daemons, not {n!r}{_hint(n)}")
    if n is not None and n < 0:
        raise ValueError(f"n must be >= 0, not {n}")
    name = _name(compute)
    if n == 0:
        _reset(name)
        return Daemons(0, name)
    settings = {"url": url, "remote": remote, "name": name, "cleanup": True, **options}
    try:
        executor = MiraiExecutor(n, **settings)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or name not in _profiles:
            raise
        _reset(name)  # it may be this profile that listens there
        executor = MiraiExecutor(n, **settings)
    _reset(name)
    try:
        if is_elsewhere:
            executor._finish_launch()  # noqa: SLF001 - what fails is to be raised here
        else:
            executor.wait_ready()
    except BaseException:
        _end(executor)
        raise
    _set(name, executor)
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

    Example:
        >>> with daemons(1, compute="gpu"):
        ...     with profile("gpu"):
        ...         mirai(pow, 2, 10).result()
        1024
    """
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


def launch_local(n: int = 1, *, compute: str | None = None, **options: Any) -> int:
    """Start more local daemons for a profile, without waiting for them.

    Args:
        n: How many.
        compute: The name of the profile; by default the current one.
        **options: The same as for :meth:`MiraiExecutor.launch_local`.

    Returns:
        ``n``.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        TypeError: There is no such option, or it has the wrong type.
        ValueError: ``n`` is negative, or an option is out of range.

    Example:
        >>> with daemons(1) as executor:
        ...     launch_local(1)
        ...     executor.wait_ready()
        ...     status().connections
        1
        2
    """
    return executor_for(compute).launch_local(n, **options)


def launch_remote(
    n: int = 1, remote: "Launcher | None" = None, *, compute: str | None = None, **options: Any
) -> list[str]:
    """Start daemons on other machines for a profile, or return the commands that start them.

    Args:
        n: How many.
        remote: How to start them, as returned by :func:`ssh_config` and the like; by default, as
            given to :func:`daemons`.
        compute: The name of the profile; by default the current one.
        **options: The same as for :meth:`MiraiExecutor.launch_local`.

    Returns:
        The answers of the launcher, or shell commands, as :meth:`MiraiExecutor.launch_remote`
        returns them.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        LaunchError: The launcher failed.
        RuntimeError: The profile has no ``url``.

    Example:
        >>> with daemons(url=local_url(tcp=True)):
        ...     commands = launch_remote(2)
        >>> len(commands)
        2
    """
    return executor_for(compute).launch_remote(n, remote, **options)


def status(compute: str | None = None) -> Status:
    """Return a snapshot of a profile; an empty one if no default daemons are set.

    Args:
        compute: The name of the profile; by default the current one.

    Raises:
        DaemonsNotSetError: There is no such profile.

    Example:
        >>> with daemons(2):
        ...     status().connections
        2
    """
    executor = executor_for(compute) if compute is not None else _current_or_none()
    return executor.status() if executor is not None else Status(0, None, 0, 0, 0, ())


def info(compute: str | None = None) -> Info:
    """Return mirai's five counters; zeros if no default daemons are set.

    Args:
        compute: The name of the profile; by default the current one.

    Raises:
        DaemonsNotSetError: There is no such profile.

    Example:
        >>> with daemons(2):
        ...     info()
        Info(connections=2, cumulative=2, awaiting=0, executing=0, completed=0)
    """
    executor = executor_for(compute) if compute is not None else _current_or_none()
    return executor.info() if executor is not None else Info(0, 0, 0, 0, 0)


def _hint(n: object) -> str:
    return "; did you mean url=?" if isinstance(n, str) and "://" in n else ""


def _name(compute: str | None) -> str:
    return _current.get() if compute is None else compute


def _current_or_none() -> MiraiExecutor | None:
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


def _set(name: str, executor: MiraiExecutor) -> None:
    # Another thread may have set the same profile meanwhile: the last one wins.
    while _profiles.setdefault(name, executor) is not executor:
        _reset(name)


def _reset(name: str) -> None:
    executor = _profiles.pop(name, None)
    if executor is not None:
        _end(executor)


def _end(executor: MiraiExecutor) -> None:
    # What a `with` block does that is left by sys.exit(): it cancels queued and running tasks,
    # and is back soon.
    executor.__exit__(SystemExit, None, None)
