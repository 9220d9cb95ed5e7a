"""Decides which executor a call goes to: that of the current profile, or one of its own.

Every function here is safe from any thread. The current profile belongs to the context
(``contextvars``): a coroutine or thread that enters ``with profile(...)`` changes no other's, and
a new thread begins at the profile "default".
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

_DEFAULT = "default"
_current = ContextVar("mirai profile", default=_DEFAULT)

# Touched only by single operations of the dictionary, which are atomic: a lock could be inherited
# locked by a fork.
_profiles: dict[str, MiraiExecutor] = {}


# Tasks


@overload
def mirai(source: str, /, **variables: Any) -> MiraiFuture[Any]: ...
@overload
def mirai(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> MiraiFuture[T]: ...
def mirai(fn_or_source: "Callable[..., Any] | str", /, *args: Any, **kwargs: Any) -> Any:
    """Evaluate a call, or code, on a daemon of the current profile. Never blocks.

    Where no daemons are set, a daemon is started for this one task, and ends with it. Every
    keyword belongs to the function; for a timeout or retries, go through an executor:
    ``executor_for().with_options(timeout=5).submit(fn)``.

    Args:
        fn_or_source: A function, or Python code as a string. The value of code is that of its
            last line, if that is an expression.
        args: The arguments of the function; code takes none.
        kwargs: Its keyword arguments, or the variables of the code.

    Returns:
        The future of the task.

    Raises:
        TypeError: It is neither a function nor code, or code was given positional arguments.
        SyntaxError: The code is not Python.
        DaemonsNotSetError: The current profile, not being the default one, has been reset.
        LaunchError: No daemon can be started.
    """
    executor = _current_or_none()
    if executor is not None:
        return _submit(executor, fn_or_source, args, kwargs)
    ephemeral = MiraiExecutor(1, name="ephemeral")
    try:
        return _submit(ephemeral, fn_or_source, args, kwargs)
    finally:
        ephemeral.shutdown(wait=False)


def everywhere(
    fn_or_source: "Callable[..., Any] | str", /, *args: Any, **kwargs: Any
) -> list[MiraiFuture[Any]]:
    """Evaluate a call, or code, once on each daemon of the current profile, and keep its effects.

    It also runs on each daemon that joins later. What it leaves in ``__main__`` stays there
    through the cleanup between tasks.

    Args:
        fn_or_source: As for :func:`mirai`; but code is evaluated in the ``__main__`` of the
            daemon itself.
        args: The arguments of the function; code takes none.
        kwargs: Its keyword arguments, or the variables of the code.

    Returns:
        A future for each daemon that there is.

    Raises:
        DaemonsNotSetError: The current profile has no daemons.
        TypeError: It is neither a function nor code, or code was given positional arguments.
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
            raise TypeError("code takes keyword arguments only: mirai('f(x)', f=f, x=1)")
    elif not callable(fn_or_source):
        # `mirai(f(x))` has called f here and now: say so, before a daemon says something else.
        raise TypeError(
            f"mirai() takes a function and its arguments, or code as a string: mirai(f, x) or "
            f"mirai('f(x)', f=f, x=x), not the {type(fn_or_source).__name__} that a call returned"
        )


# Profiles


class Daemons:
    """What :func:`daemons` has set; in a ``with`` statement, for the time of its block.

    The block's variable is the executor. Inside, the profile is the current one. Leaving the
    block resets the profile, so collect all results inside: what is unresolved is cancelled.
    It is false where there are no daemons.

    Attributes:
        n: How many daemons there are to be; 1 where they come by themselves.
        compute: The name of the profile.
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
    """Set a profile: start its daemons, and wait until they are connected. 0 resets it.

    With a ``url``, daemons connect there when they like to: this starts none, unless by
    ``remote``, and waits for none.

    A profile that was set is reset before: its daemons end, tasks that are queued or running are
    cancelled, and those that do not let go within a second are killed with their daemon.

    Args:
        n: The number of local daemons; with ``remote``, of those that it is asked for (1 by
            default); with a ``url`` alone, none is to be given.
        url: Where daemons connect, as :func:`host_url` returns it.
        remote: How daemons are started elsewhere, as :func:`ssh_config` returns it.
        compute: The name of the profile; by default the current one, which is "default" outside
            of any ``with`` block.
        options: Those of :class:`MiraiExecutor`, as ``dispatcher=False``.

    Returns:
        A context manager that resets the profile when its block is left.

    Raises:
        TypeError: ``n`` is no integer, or there is no such option. Nothing has changed.
        ValueError: ``n`` is negative, or an option out of its range. Nothing has changed.
        LaunchError: A daemon could not be started. The profile is not set.
        OSError: It cannot be listened at the ``url``. Nothing has changed, unless the address was
            in use: then the profile has been reset, as it could have been the one to use it.
    """
    is_elsewhere = url is not None or remote is not None
    if not (n is None and is_elsewhere) and not isinstance(n, int):
        raise TypeError(f"n must be the number of daemons, an integer, not {n!r}{_hint(n)}")
    if n is not None and n < 0:
        raise ValueError("the number of daemons must be zero or greater")
    name = _name(compute)
    if n == 0:
        _reset(name)
        return Daemons(0, name)
    settings = {"url": url, "remote": remote, "name": name, **options}
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


@contextmanager
def profile(name: str) -> Iterator[MiraiExecutor]:
    """Make a profile the current one inside a ``with`` block, or in a function it decorates.

    The block's variable is the profile's executor. Blocks nest.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
    """
    executor = executor_for(name)
    token = _current.set(name)
    try:
        yield executor
    finally:
        _current.reset(token)


def executor_for(compute: str | None = None) -> MiraiExecutor:
    """Return the executor of a profile: for libraries that take one, and for its options.

    Args:
        compute: The name of the profile; by default the current one.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
    """
    name = _name(compute)
    executor = _profiles.get(name)
    if executor is None:
        raise DaemonsNotSetError(_how_to_set(name))
    return executor


def daemons_set(compute: str | None = None) -> bool:
    """Tell whether a profile, by default the current one, has daemons."""
    return _name(compute) in _profiles


def require_daemons(compute: str | None = None) -> None:
    """Raise an error that says what to do, where a profile has no daemons.

    Raises:
        DaemonsNotSetError: The profile, by default the current one, has none.
    """
    executor_for(compute)


def launch_local(n: int = 1, *, compute: str | None = None, **options: Any) -> int:
    """Start more local daemons for a profile, and return how many. Does not wait for them.

    Args:
        n: How many.
        compute: The name of the profile; by default the current one.
        options: How they live, as for :meth:`MiraiExecutor.launch_local`.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        ValueError: ``n`` is negative.
        TypeError: There is no such option.
    """
    return executor_for(compute).launch_local(n, **options)


def launch_remote(
    n: int = 1, remote: "Launcher | None" = None, *, compute: str | None = None, **options: Any
) -> list[str]:
    """Start daemons on other machines for a profile, or return the commands that do.

    Args:
        n: How many.
        remote: How; by default as :func:`daemons` was told.
        compute: The name of the profile; by default the current one.
        options: How they live, as for :meth:`MiraiExecutor.launch_local`.

    Returns:
        As :meth:`MiraiExecutor.launch_remote`.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        LaunchError: The launcher has failed.
        RuntimeError: The profile has no ``url``.
    """
    return executor_for(compute).launch_remote(n, remote, **options)


def status(compute: str | None = None) -> Status:
    """Return what a profile is doing now; where no daemons are set by default, nothing.

    Raises:
        DaemonsNotSetError: There is no such profile.
    """
    executor = executor_for(compute) if compute is not None else _current_or_none()
    return executor.status() if executor is not None else Status(0, None, 0, 0, 0, ())


def info(compute: str | None = None) -> Info:
    """Return mirai's five counters; where no daemons are set by default, zeros.

    Raises:
        DaemonsNotSetError: There is no such profile.
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
    known = ", ".join(map(repr, sorted(_profiles))) or "none at all"
    return f"no daemons are set for the profile {name!r} (set are: {known}); use {call} to set 4"


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
