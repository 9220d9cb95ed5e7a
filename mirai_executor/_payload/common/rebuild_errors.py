"""Puts exceptions together again, with their tracebacks and what stands behind them.

These functions are named in what a daemon pickles: it tries them itself, and then the host does.
"""

from types import SimpleNamespace, TracebackType
from typing import Any, TypeAlias

import tblib

from mirai_executor._payload.common import exceptions
from mirai_executor._payload.common import fast_pickle as pickle

# File, name, the line where its code begins, the line that ran, and names among its globals.
Frame: TypeAlias = tuple[str, str, int, int, dict[str, Any]]

__all__ = ["Frame", "fill_as_asked", "fill_error", "load_error", "make_traceback"]


def fill_error(error: BaseException, state: tuple[Any, tuple[Any, ...]]) -> None:
    """Give an exception its state, and what stands behind it."""
    own, (cause, context, suppress, trace) = state
    if isinstance(own, exceptions.State):
        exceptions.fill_exception(error, own)
    else:
        fill_as_asked(error, *own)
    error.__cause__ = cause
    error.__context__ = context
    error.__suppress_context__ = suppress
    error.__traceback__ = trace


def fill_as_asked(error: BaseException, state: Any, notes: list[str] | None) -> None:
    """Give an exception the state that it has asked for."""
    if state is not None:
        error.__setstate__(state)
    if notes:
        error.__notes__ = notes


def make_traceback(frames: list[Frame]) -> TracebackType | None:
    """Make a traceback out of its frames."""
    trace = None
    for filename, name, first, line, names in reversed(frames):
        # IPython, pdb and inspect look for the source of a frame where its code begins.
        begin = min(first, line)
        code = SimpleNamespace(co_filename=filename, co_name=name)
        frame = SimpleNamespace(f_code=code, f_globals=names, f_lineno=begin)
        trace = SimpleNamespace(tb_frame=frame, tb_lineno=begin, tb_next=trace)
    parts: list[TracebackType] = []
    part: TracebackType | None = tblib.Traceback(trace).as_traceback() if trace else None
    while part is not None:
        parts.append(part)
        part = part.tb_next
    made = None
    for part, (_, _, _, line, _) in zip(reversed(parts), reversed(frames), strict=True):
        # Of no instruction: its columns would be those of a stand-in, and be underlined.
        made = TracebackType(made, part.tb_frame, -1, line)
    return made


def load_error(blob: bytes) -> BaseException | None:
    """Return a pickled exception; None if it cannot be unpickled, or is none."""
    try:
        loaded = pickle.loads(blob)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's code may raise anything
        return None
    try:
        return loaded if isinstance(loaded, BaseException) else None
    finally:
        # Its traceback holds this frame: which must not hold it in turn.
        del loaded
