"""Takes down, at a daemon, what the variables of a task held when it raised an exception."""

import itertools
import reprlib
from collections.abc import Callable
from types import CoroutineType, FrameType
from typing import Any

from mirai_executor._payload.common.exceptions import POST_MORTEM

_MOST_FRAMES = 20  # the innermost ones
_MOST_VARIABLES = 50  # of each frame
_LONGEST = 200  # characters of each value


class PostMortem:
    """A function; whatever it raises tells of the variables of its frames."""

    def __init__(self, fn: Callable[..., object]) -> None:
        self.__wrapped__ = fn

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        try:
            returned = self.__wrapped__(*args, **kwargs)
        except KeyboardInterrupt:  # nobody waits for this task any more
            raise
        except BaseException as error:
            error.__dict__[POST_MORTEM] = _variables_of(error)
            raise
        return _awaited(returned) if type(returned) is CoroutineType else returned


async def _awaited(coroutine: "CoroutineType[Any, Any, object]") -> object:
    try:
        return await coroutine
    except (KeyboardInterrupt, GeneratorExit):  # as above
        raise
    except BaseException as error:
        error.__dict__[POST_MORTEM] = _variables_of(error)
        raise


def _variables_of(error: BaseException) -> str:
    frames = []
    trace = error.__traceback__ and error.__traceback__.tb_next  # without this module's
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    lines = ["Variables of the task's frames, the innermost last:"]
    for frame, line in frames[-_MOST_FRAMES:]:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}')
        lines += _variables_in(frame)
    return "\n".join(lines)


def _variables_in(frame: FrameType) -> list[str]:
    names = frame.f_locals
    lines = [
        f"    {name} = {_brief.repr(value)}"
        for name, value in itertools.islice(list(names.items()), _MOST_VARIABLES)
    ]
    if len(names) > _MOST_VARIABLES:
        lines.append(f"    and {len(names) - _MOST_VARIABLES} more")
    return lines


class _Brief(reprlib.Repr):
    """Shows values in one line each, and looks at no more of them than it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _LONGEST

    def repr(self, x: Any) -> str:
        """Return the repr of a value, or what has become of the attempt."""
        try:
            shown = " ".join(super().repr(x).split("\n"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's code may raise anything
            return f"<its repr raised {type(error).__name__}>"
        return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."

    # The base class's sort all of a large set, or make the whole repr of large bytes.

    def repr_dict(self, x: Any, level: int) -> str:
        return super().repr_dict(dict(itertools.islice(x.items(), self.maxdict + 1)), level)

    def repr_set(self, x: Any, level: int) -> str:
        return super().repr_set(set(itertools.islice(x, self.maxset + 1)), level)

    def repr_frozenset(self, x: Any, level: int) -> str:
        few = frozenset(itertools.islice(x, self.maxfrozenset + 1))
        return super().repr_frozenset(few, level)

    def repr_bytes(self, x: Any, level: int) -> str:
        return repr(x[:_LONGEST])

    def repr_bytearray(self, x: Any, level: int) -> str:
        return repr(x[:_LONGEST])

    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x)  # what it raises is told


_brief = _Brief()
