"""Raises KeyboardInterrupt at one opcode after the other of what a test calls."""

import concurrent.futures._base
import dis
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import mirai_executor

TRACED = (
    str(Path(mirai_executor.__file__).parent),
    concurrent.futures._base.__file__,
    threading.__file__,
)


def is_branch(instruction: dis.Instruction) -> bool:
    name = instruction.opname
    return sys.version_info >= (3, 14) and (name.startswith("POP_JUMP_IF") or name == "NOT_TAKEN")


@functools.cache
def sheltered(code: CodeType) -> frozenset[int]:
    """Find the opcodes between the end of a with block and the call of its ``__exit__``.

    The interpreter never looks for signals there (it does after calls, at jumps back and at the
    start of a function), and whatever is raised there by a tracer leaves the lock locked. Nor does
    it at a branch, which since 3.14 no handler of an exception covers any more.
    """
    found: set[int] = set()
    instructions = list(dis.get_instructions(code))
    for i, instruction in enumerate(instructions):
        if instruction.opname in ("PUSH_EXC_INFO", "WITH_EXCEPT_START") or is_branch(instruction):
            found.add(instruction.offset)
        *nones, call = window = instructions[i : i + 4]
        is_exit = len(window) == 4 and call.opname in ("PRECALL", "CALL")
        if is_exit and all((each.opname, each.argval) == ("LOAD_CONST", None) for each in nones):
            found |= {each.offset for each in instructions[i : i + 5]}
    return frozenset(found)


def is_finalizing(frame: FrameType | None) -> bool:
    """Tell whether a finalizer runs: Python itself swallows what is raised there."""
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code is weakref.finalize.__call__.__code__:
            return True
        frame = frame.f_back
    return False


class Strike:
    """Calls a function, and raises KeyboardInterrupt at its n-th traced opcode."""

    def __init__(self, n: int, function: Callable[[], object]) -> None:
        self._left = n
        self.where = ""
        self.error: BaseException | None = None
        outer = sys.gettrace()  # coverage's
        # Since 3.12, opcodes are traced from the next settrace on after a frame has asked for it.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._on_call)
        try:
            function()
        except BaseException as error:
            self.error = error
        finally:
            sys.settrace(outer)

    def _on_call(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._on_opcode

    def _on_opcode(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode" and frame.f_lasti not in sheltered(frame.f_code):
            self._left -= 1
            if self._left <= 0 and not is_finalizing(frame):
                self._left = sys.maxsize
                self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                raise KeyboardInterrupt
        return self._on_opcode

    def was_heard(self) -> bool:
        """Tell whether the caller got to know of it."""
        return isinstance(self.error, KeyboardInterrupt)


def strikes(function: Callable[[], object], first: int = 1, step: int = 1) -> Iterator[Strike]:
    """Strike a function at one opcode after the other, until it comes to its end."""
    misses = 0
    while misses < 5:
        strike = Strike(first, function)
        first += step
        if strike.where:
            assert strike.was_heard(), (strike.where, strike.error)
            yield strike
        # 3.13 traces the opcodes of a function only from its next call on: not hit is not the end.
        misses = 0 if strike.where else misses + 1
