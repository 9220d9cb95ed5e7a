"""Checks the arguments of public calls, so that a wrong one is reported where it was given."""

from collections.abc import Iterable, Sequence
from typing import Any

from .errors import PayloadError


def check_seconds(name: str, value: Any, *, optional: bool = False, zero: bool = False) -> None:
    """Require a positive number of seconds.

    Args:
        name: What the caller calls it.
        value: What was given.
        optional: Whether it may be None.
        zero: Whether it may be 0.

    Raises:
        TypeError: It is not a number, or one that cannot be added to a moment, as a Decimal.
        ValueError: It is negative, NaN, or 0 where it may not be.
    """
    if value is None and optional:
        return
    sign = "zero or positive" if zero else "positive"
    wanted = f"{name} must be {sign}{', or None' if optional else ''} (seconds), not {value!r}"
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        raise TypeError(wanted)
    try:
        seconds = 0.0 + value
    except TypeError:
        raise TypeError(wanted) from None
    if not (seconds > 0 or (zero and seconds == 0)):  # NaN is neither
        raise ValueError(wanted)


def check_wait(timeout: Any) -> None:
    """Require how long to wait, as the standard library takes it: negative is not at all.

    Raises:
        TypeError: It is not a number.
    """
    if timeout is not None and not hasattr(type(timeout), "__float__"):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r:.60}")


def check_flag(name: str, value: Any) -> None:
    """Require True or False, or what is as clearly one of them: the text "no" counts as true.

    Raises:
        TypeError: It is not.
    """
    is_number = isinstance(value, int | float)
    if (
        value is None
        or not hasattr(type(value), "__bool__")
        or (is_number and value not in (0, 1))
    ):
        raise TypeError(f"{name} must be True or False, not {value!r:.60}")


def check_flags(**flags: object) -> None:
    """Require booleans, each named in the message."""
    for name, value in flags.items():
        check_flag(name, value)


def check_count(name: str, value: Any, least: int = 0, *, optional: bool = False) -> None:
    """Require an integer that is not too small.

    Args:
        name: What the caller calls it.
        value: What was given.
        least: The smallest value.
        optional: Whether it may be None.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is smaller than ``least``.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(
            f"{name} must be an integer{' or None' if optional else ''}, not {value!r}"
        )
    if value < least:
        raise ValueError(f"{name} must be >= {least}, not {value!r}")


def check_word(name: str, value: object, words: Sequence[str | None]) -> None:
    """Require one of several words.

    Raises:
        ValueError: ``value`` is not among ``words``; the message lists them.
    """
    if value not in words:
        *first, last = (f'"{word}"' if word else "None" for word in words)
        raise ValueError(f"{name} must be {', '.join(first)} or {last}, not {value!r}")


def check_name(what: str, name: object) -> None:
    """Require a name that can be shown wherever there are names: in one line, as it is.

    Raises:
        TypeError: It is neither a string nor None.
        ValueError: It would end the line, or command the terminal on which it is shown.
    """
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string or None, not {name!r:.60}")
    if not name.isprintable():
        raise ValueError(
            f"{what} must have no line breaks, control characters or others that cannot be "
            f"printed, as logs and ps show it: {name!r:.60}"
        )


def check_options(options: Iterable[str], valid: Sequence[str]) -> None:
    """Require names of options that exist.

    Raises:
        TypeError: There is no such option; the message lists those that there are.
    """
    for name in options:
        if name not in valid:
            raise TypeError(f"unknown option {name!r}; valid options: {', '.join(valid)}")


def check_callable(call: str, fn: object, also: str = "") -> None:
    """Require a function.

    Args:
        call: The name of the method that takes it.
        fn: What was given.
        also: What the method takes besides functions.

    Raises:
        TypeError: It cannot be called, as the result of ``f(x)`` in ``submit(f(x))`` cannot.
    """
    if callable(fn):
        return
    how = "" if isinstance(fn, str) else f": write {call}(f, x), not {call}(f(x))"
    raise TypeError(f"{call}() takes a function and its arguments{also}{how}; got {fn!r:.60}")


def raise_if_misuse(error: BaseException) -> None:
    """Raise a TypeError at the call if that could not be pickled since an argument is a future.

    Only then does anybody look: futures of some libraries travel, and other calls pay nothing.
    """
    if isinstance(error, PayloadError) and error._is_for_the_call:  # noqa: SLF001 - one of ours
        # Only once: inline, it may be what the task of another call ends in.
        error._is_for_the_call = False  # noqa: SLF001 - likewise
        misuse: Any = TypeError(*error.args)
        misuse._refusal = error  # noqa: SLF001 - for maps, where it is the error of an element
        try:
            raise misuse from None
        finally:
            del misuse  # else it would hold this frame, and the caller's arguments, and be held


def check_callback(fn: object, call: str = "add_done_callback", told: str = "the future") -> None:
    """Require what a future can call, at its end or before.

    Args:
        fn: What was given.
        call: The name of the method that takes it.
        told: What it is called with.

    Raises:
        TypeError: It cannot be called, as the result of ``print(x)`` cannot.
    """
    if not callable(fn):
        raise TypeError(
            f"{call}() takes a function, which is called with {told}: write {call}(f), not "
            f"{call}(f(x)); got {fn!r:.60}"
        )


def check_launcher(remote: object) -> None:
    """Require what :func:`ssh_config` and the like return, or None.

    Raises:
        TypeError: It cannot plan how to start daemons.
    """
    if remote is not None and not hasattr(remote, "plan"):
        raise TypeError(
            "remote must come from ssh_config(), cluster_config(), dask_config() or the like, "
            f"not be {remote!r:.60}"
        )


def check_pool(
    max_workers: int | None,
    initializer: object,
    initargs: object,
    max_tasks: int | None,
) -> None:
    """Require what a ``ProcessPoolExecutor`` takes, with its messages.

    Raises:
        TypeError: One of them has the wrong type.
        ValueError: A number is too small.
    """
    if isinstance(max_workers, str):
        hint = "; did you mean url=?" if "://" in max_workers else ""
        raise TypeError(f"max_workers must be an integer or None, not {max_workers!r}{hint}")
    if hasattr(type(max_workers), "__index__") and max_workers <= 0:  # type: ignore[operator]
        raise ValueError("max_workers must be greater than 0")
    check_count("max_workers", max_workers, optional=True)
    if isinstance(initializer, str):
        hint = "; code as a string goes to everywhere()"
        raise TypeError(f"initializer must be a callable, not {initializer!r:.60}{hint}")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if isinstance(initargs, (str, bytes, dict, set)) or not hasattr(initargs, "__iter__"):
        raise TypeError(f"initargs must be a tuple of arguments, not {initargs!r:.60}")
    check_count("max_tasks_per_child", max_tasks, 1, optional=True)


def check_map(
    fn: object,
    iterables: Iterable[object],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> None:
    """Require what ``map`` takes, with the messages of the standard library.

    Raises:
        TypeError: One of them has the wrong type.
        ValueError: A size is smaller than 1.
    """
    check_callable("map", fn)
    for it in iterables:
        if not (hasattr(type(it), "__iter__") or hasattr(type(it), "__getitem__")):
            raise TypeError(
                "map() takes iterables of arguments: write map(f, [x]), not map(f, x); "
                f"{it!r:.60} is not iterable"
            )
    check_wait(timeout)
    check_count("chunksize", chunksize, 1)
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
    if buffersize is not None and buffersize < 1:
        raise ValueError(f"buffersize must be None or > 0, not {buffersize!r}")


def check_sources(sources: Iterable[object]) -> None:
    """Require what ``stream_map`` pulls arguments from.

    Raises:
        TypeError: One of them is not iterable.
    """
    for it in sources:
        if not any(hasattr(type(it), f"__{how}__") for how in ("aiter", "iter", "getitem")):
            raise TypeError(
                "stream_map() takes iterables, asynchronous or not: write stream_map(f, [x]), "
                f"not stream_map(f, x); {it!r:.60} is not iterable"
            )


def check_times(
    idle_time: float | None, start_timeout: float, cancel_grace: float, heartbeat: float
) -> None:
    """Require the seconds that an executor can work with.

    Raises:
        TypeError: One of them is not a number.
        ValueError: One of them is out of range.
    """
    check_seconds("idle_time", idle_time, optional=True)
    check_seconds("start_timeout", start_timeout)
    check_seconds("cancel_grace", cancel_grace, zero=True)
    check_seconds("heartbeat", heartbeat)


def check_launching(launch_timeout: float, tolerate: int | None) -> None:
    """Require a time for launchers, and how many of them may fail.

    Raises:
        TypeError: One of them is no number.
        ValueError: One is out of range.
    """
    check_seconds("launch_timeout", launch_timeout)
    check_count("tolerate", tolerate, optional=True)


def check_ways(
    ordering: object,
    mode: object,
    logging: object,
    output: object,
    elsewhere: tuple[object, object],
    name: object = None,
) -> None:
    """Require one of the orders of tasks, of the ways to run them, of where they print; a name.

    Args:
        ordering: How strictly tasks come first in, first out.
        mode: Where they run.
        logging: Whether they log here.
        output: Whether, and how, what they print appears here.
        elsewhere: What only daemons from elsewhere have a use for.
        name: What threads, titles of processes and logs call all this.
    """
    check_name("name", name)
    check_word("ordering", ordering, ("bounded", "strict"))
    check_logging(logging)
    check_mode(mode, *elsewhere)
    check_output(output, is_open=elsewhere != (None, None))


def check_mode(mode: object, url: object, remote: object) -> None:
    """Require one of the ways to run tasks.

    Raises:
        ValueError: There is no such mode, or it has no use for daemons from elsewhere.
    """
    check_word("mode", mode, ("daemons", "inline"))
    if mode == "inline" and not (url is None and remote is None):
        raise ValueError(
            'mode="inline" (and sync=True) runs tasks in this process, without daemons: leave out '
            "url and remote"
        )


def check_logging(logging: object) -> None:
    """Require a choice of whether tasks log here.

    Raises:
        TypeError: ``logging`` is not True, False or None.
    """
    if not (logging is None or isinstance(logging, bool)):
        raise TypeError(f"logging must be True, False or None, not {logging!r}")


def check_output(output: object, *, is_open: bool) -> None:
    """Require a choice of where what tasks print appears.

    Args:
        output: What was given.
        is_open: Whether daemons connect to the executor, which print where they were started.

    Raises:
        TypeError: ``output`` is neither a boolean nor text.
        ValueError: There is no such word, or it has no use for such daemons.
    """
    if isinstance(output, bool):
        return
    wanted = f'output must be True, False, "inherit", "relay" or "tagged", not {output!r:.60}'
    if not isinstance(output, str):
        raise TypeError(wanted)
    if output not in ("inherit", "relay", "tagged"):
        raise ValueError(wanted)
    if is_open:
        raise ValueError(
            f"with a url or remote, output must be True or False, not {output!r}: what tasks "
            "print appears where their daemons were started"
        )


def check_elsewhere(
    max_workers: int | None,
    url: object,
    remote: object,
    tls: tuple[object, object, str],
    advertise: object,
    compression: object = None,
) -> None:
    """Require arguments that agree on whether daemons connect by themselves.

    Args:
        max_workers: How many daemons may run, or are to be requested.
        url: Where they connect.
        remote: What requests them.
        tls: The values of ``tls``, ``tls_cert`` and ``tls_minimum``.
        advertise: What they dial instead.
        compression: How what they are sent becomes shorter.

    Raises:
        TypeError: ``remote`` is no launcher.
        ValueError: The arguments contradict each other.
    """
    check_launcher(remote)
    if url is not None and max_workers is not None and remote is None:
        raise ValueError(
            "an executor with a url but without remote starts no daemons by itself: leave "
            "out max_workers, and call launch_local(n) or launch_remote(n, remote)"
        )
    if url is None and remote is None and tls != (None, None, "1.3"):
        raise ValueError("tls, tls_cert and tls_minimum need a url such as host_url(tls=True)")
    if url is None and remote is None and advertise is not None:
        raise ValueError("advertise needs a url at which to listen, such as host_url(tls=True)")
    check_word("compression", compression, ("auto", None))
    if url is None and remote is None and compression is not None:
        raise ValueError("compression needs a url or remote: nothing here has a slow line")
