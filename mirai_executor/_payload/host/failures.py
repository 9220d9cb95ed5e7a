"""Turns the errors that daemons have pickled into exceptions again."""

from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common.rebuild_errors import load_error
from mirai_executor._private import optional
from mirai_executor.errors import RemoteError


def decode_error(blob: bytes | memoryview) -> BaseException:
    """Return the exception that a daemon's task raised, for ``Future.set_exception``."""
    inner, name, shown, text = pickle.loads(blob)
    error = load_error(inner) if inner else None
    try:
        if error is None:
            message = f"{name}: {shown}" if shown else name
            error = RemoteError(message, type_name=name, text=shown, traceback=text)
        if error.__cause__ is None:
            suppressed = error.__suppress_context__
            error.__cause__ = _remote_traceback(text)
            error.__suppress_context__ = suppressed
        return error
    finally:
        # Its traceback was made in here, and holds this frame: which must not hold it in turn.
        del error


class _ShownTraceback(Exception):  # noqa: N818 - it stands for _RemoteTraceback
    """A traceback as text, where the standard library has no such class."""


def _remote_traceback(text: str) -> BaseException:
    # Its class is what existing code looks for: ProcessPoolExecutor's.
    loss = "the traceback of a daemon is shown by a class of mirai_executor's."
    found: BaseException = optional(
        "concurrent.futures.process", "_RemoteTraceback", _ShownTraceback, loss
    )(f'\n"""\n{text}"""')
    return found
