"""Turns exceptions into bytes at a daemon so that they come back as themselves, or nearly.

A daemon answers only with bytes that it has loaded itself. It goes down these steps until some
do::

    1  as it is: class, arguments, attributes, causes, contexts, notes, groups, tracebacks
    2  without the arguments and attributes that cannot be pickled, and not asking its __reduce__;
       it says what the whole one said, whatever its __str__ needs
    3  that, without its cause and context
    4  RemoteError: the name of its class, its text, its traceback as text
"""

import contextlib
import functools
import pickle
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, cast

import tblib

from mirai_executor._payload.common import exceptions, rebuild, rebuild_errors
from mirai_executor._payload.common.fast_pickle import PROTOCOL
from mirai_executor._payload.common.pickler import dump
from mirai_executor._payload.daemon import namespace
from mirai_executor._payload.daemon.careful import OutcomePickler

_PACKAGE = Path(__file__).resolve().parents[2]
# Where calls pass through. Other rooms of ours may be a task's own code, as the demo's is.
_PARTS = (
    "daemon/",
    "_payload/",
    "futures.py",
    "_event_loop.py",
    "_messages.py",
    "_random_streams.py",
)
_OURS = tuple(str(_PACKAGE / part) for part in _PARTS)
_FIRST = "first line"
_ENDS = 50  # frames kept at each end of a long traceback
_LONGEST_TEXT = 20_000  # characters, at each end of a traceback's text


def encode_error(error: BaseException) -> bytes:
    """Turn what a task raised into bytes that load. Raises no Exception, whatever the error is."""
    _hint_at_missing_name(error)
    _trim_ours(error)
    variables: str = error.__dict__.pop(exceptions.POST_MORTEM, "")
    text = _formatted(error)
    if variables:
        with contextlib.suppress(TypeError):  # its __notes__ are something else
            BaseException.add_note(error, variables)
    for steps in _STEPS:
        inner = _loadable(error, steps)
        if inner is not None:
            break
    else:
        inner = b""
        text += variables
    return pickle.dumps((inner, _name(error), _shown(error), text), PROTOCOL)


class _Steps:
    """How much of an exception is kept."""

    def __init__(self, *, whole: bool, chain: bool) -> None:
        self.whole = whole
        self.chain = chain


_STEPS = (
    _Steps(whole=True, chain=True),
    _Steps(whole=False, chain=True),
    _Steps(whole=False, chain=False),
)


class _ErrorPickler(OutcomePickler):
    """Pickles exceptions with their tracebacks and the exceptions behind them."""

    def __init__(self, file: Any, steps: _Steps) -> None:
        super().__init__(file, serial=rebuild.serial)
        self._steps = steps

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is TracebackType:
            return rebuild_errors.make_traceback, (_frames(obj),)
        return super().reducer_override(obj)

    def lend(self, _: int) -> Any:
        # Nobody would expect an error to keep a socket open, or to need its daemon.
        raise TypeError("cannot pickle a file descriptor: it does not travel with an error")

    def reduce_exception(self, error: BaseException) -> Any:
        make, arguments, state = self._own_reduction(error) or self._parts(error)
        behind = (error.__cause__, error.__context__) if self._steps.chain else (None, None)
        extras = (*behind, error.__suppress_context__, error.__traceback__)
        return make, arguments, (state, extras), None, None, rebuild_errors.fill_error

    def _parts(self, error: BaseException) -> tuple[Any, Any, exceptions.State]:
        """Take an exception apart without asking it."""
        make: Any = exceptions.make_exception
        arguments: tuple[Any, ...] = (type(error), *exceptions.making(error))
        state = exceptions.State(error.args, exceptions.slots(error), dict(error.__dict__))
        if self._steps.whole:
            return make, arguments, state
        state = _picklable_parts(state, error)
        words = exceptions.own_words(error)
        if words is not None:
            remade = make(*arguments)
            exceptions.fill_exception(remade, state)
            if exceptions.own_words(remade) != words:
                make = exceptions.make_spoken_for
                arguments = (type(error), words, None, *exceptions.making(error))
        return make, arguments, state

    def _own_reduction(self, error: BaseException) -> tuple[Any, Any, Any] | None:
        """Ask an exception that says itself how it is pickled."""
        if not self._steps.whole or not exceptions.reduces_itself(type(error)):
            return None
        reduced = error.__reduce_ex__(PROTOCOL)
        if not isinstance(reduced, tuple) or len(reduced) > 3:
            return None
        make, arguments, *state = reduced
        own = (state[0] if state else None, error.__dict__.get("__notes__"))
        if exceptions.own_words(error) is not None:
            remade = make(*arguments)
            rebuild_errors.fill_as_asked(remade, *own)
            if exceptions.own_words(remade) is None:  # it has lost what its text needs
                return None
        return make, arguments, own


def _picklable_parts(state: exceptions.State, error: BaseException) -> exceptions.State:
    """Leave out, one by one, what cannot be pickled, and say so in a note."""
    args = tuple(value if _travels(value) else _shown_value(value) for value in state.args)
    slots = {name: value for name, value in state.slots.items() if _travels(value)}
    attributes = {name: value for name, value in state.attributes.items() if _travels(value)}
    left_out = [
        name for name in {**state.slots, **state.attributes} if name not in {**slots, **attributes}
    ]
    if left_out:
        notes = attributes.get("__notes__")
        note = f"Attributes left out because they cannot be pickled: {', '.join(left_out)}"
        attributes["__notes__"] = [*(notes if isinstance(notes, list) else ()), note]
    return exceptions.State(args, slots, attributes)


def _travels(value: object) -> bool:
    try:
        pickle.loads(dump(functools.partial(_ErrorPickler, steps=_STEPS[0]), value))
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's code may raise anything: then it does not
        return False
    return True


def _loadable(error: BaseException, steps: _Steps) -> bytes | None:
    try:
        blob = dump(functools.partial(_ErrorPickler, steps=steps), error)
    except KeyboardInterrupt:
        raise  # a cancel: of the daemon's loop, not of this error
    except BaseException:  # the user's code may raise anything: then the next step
        return None
    loaded = rebuild_errors.load_error(blob)
    return blob if isinstance(loaded, type(error)) else None


def _frames(trace: TracebackType) -> list[rebuild_errors.Frame]:
    """Flatten a traceback: nested as it is, a deep one could not be pickled."""
    frames: list[rebuild_errors.Frame] = []
    found = tblib.Traceback(_with_lines(trace), get_locals=_first_line)
    while found is not None:
        code, names = found.tb_frame.f_code, found.tb_frame.f_globals
        own = {name: value for name, value in names.items() if isinstance(value, str)}
        first = found.tb_frame.f_locals[_FIRST]
        frames.append((code.co_filename, code.co_name, first, found.tb_lineno, own))
        found = found.tb_next
    if len(frames) > 2 * _ENDS:
        gap = f"<{len(frames) - 2 * _ENDS} more frames>"
        frames[_ENDS:-_ENDS] = [(gap, "...", 1, 1, {})]
    return frames


def _first_line(frame: FrameType) -> dict[str, int]:
    """Return what tblib is to keep of a frame: none of its variables, but where it begins."""
    return {_FIRST: max(1, frame.f_code.co_firstlineno)}


def _with_lines(trace: TracebackType) -> TracebackType:
    """Return a traceback with a line for each frame: that of its beginning, if it has none.

    Some instructions belong to no line; an interrupt may strike there.
    """
    parts = []
    found: TracebackType | None = trace
    while found is not None:
        parts.append(found)
        found = found.tb_next
    if all(part.tb_lineno for part in parts):
        return trace
    for part in reversed(parts):
        frame, line = part.tb_frame, cast("int | None", part.tb_lineno)
        line = line or _first_line(frame)[_FIRST]
        found = TracebackType(found, frame, part.tb_lasti, line)
    assert found is not None  # noqa: S101 - for the type checker: there is one at least
    return found


def _trim_ours(error: BaseException) -> None:
    """Take the daemon's own frames off the beginning of the traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    error.__traceback__ = trace


def _hint_at_missing_name(error: BaseException) -> None:
    daemon = namespace.current
    if not isinstance(error, NameError) or daemon is None:
        return
    reason = daemon.missing_because.get(error.name or "")
    if reason:
        error.add_note(
            f"{error.name!r} is in the host's __main__, but cannot be pickled: {reason}"
        )


def _formatted(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's code may raise anything
        return f"{_name(error)}: <its traceback cannot be shown>\n"
    return _shortened(text, _LONGEST_TEXT)


def _shortened(text: str, ends: int) -> str:
    if len(text) <= 2 * ends:
        return text
    return f"{text[:ends]}\n[{len(text) - 2 * ends} characters left out]\n{text[-ends:]}"


def _name(error: BaseException) -> str:
    cls = type(error)
    return (
        cls.__qualname__
        if cls.__module__ == "builtins"
        else f"{cls.__module__}.{cls.__qualname__}"
    )


def _shown(error: BaseException) -> str:
    try:
        return _shortened(str(error), 1_000)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's code may raise anything
        return "<its text cannot be shown>"


def _shown_value(value: object) -> str:
    try:
        return _shortened(repr(value), 1_000)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's code may raise anything
        return f"<a {type(value).__qualname__} object>"
