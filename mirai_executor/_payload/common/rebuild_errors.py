"""Puts exceptions together again, with their tracebacks and what stands behind them.

These functions are named in what a daemon pickles: it tries them itself, and then the host does.
"""

import ast
from types import TracebackType
from typing import Any, TypeAlias, cast

from mirai_executor._payload.common import exceptions
from mirai_executor._payload.common import fast_pickle as pickle

# File, name, the line where its code begins, the line that ran, and names among its globals.
Frame: TypeAlias = tuple[str, str, int, int, dict[str, Any]]


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
    made = None
    for filename, name, first, line, names in reversed(frames):
        frame = _make_frame(filename, name, min(first, line), line, names)
        made = TracebackType(made, frame.tb_frame, frame.tb_lasti, line)
    return made


def _make_frame(
    filename: str, name: str, first: int, line: int, names: dict[str, Any]
) -> TracebackType:
    """Return where an exception strikes in a frame that has begun elsewhere."""
    tree = ast.parse("nowhere")
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno = node.end_lineno = line - first + 1
            node.col_offset = node.end_col_offset = -1  # else they would be underlined
    code = compile(tree, filename, "exec")
    # IPython, pdb and inspect look for the source of a frame where its code begins.
    code = code.replace(co_firstlineno=first, co_name=name, co_qualname=name)
    try:
        exec(code, dict(names))  # noqa: S102 - it is what has been compiled just now
    except NameError as error:
        struck = cast("TracebackType", error.__traceback__)
        return cast("TracebackType", struck.tb_next)
    raise AssertionError("unreachable")


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
