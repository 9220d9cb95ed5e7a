"""Passes on what daemons print to where this process prints at that moment.

::

    descriptor 1 is where this process prints      daemons inherit it: nothing of this is imported
    it prints elsewhere, as in pytest's captures   each daemon has a pipe, which a thread reads,
    and some notebooks, or lines are to be tagged  and writes to sys.stdout

What a task has printed is passed on before its future is done, unless ``sys.stdout`` is slow.
"""

import codecs
import contextlib
import os
import posix
import select
import sys

from mirai_executor._nameless import new_poll
from mirai_executor._typing import Any
from mirai_executor._waiting import OneShotEvent

from ._relay import Relay, RelayedStream, Write, write_to_stderr

_STDOUT = 1
_PATIENCE = 0.05  # seconds that futures wait for what their tasks have printed
_LONGEST = 1 << 16  # bytes of a line that is tagged once more


class OutputRelay(Relay):
    """Reads what all daemons of an executor print, and prints it here.

    Args:
        tagged: Whether each line begins with the pid of its daemon.

    Attributes:
        write_stderr: Passes on what daemons write to standard error in the same way.
    """

    def __init__(self, *, tagged: bool) -> None:
        self._is_busy = False  # with what has been read, and not written yet
        self._late: OneShotEvent | None = None  # comes when all is written that was not in time
        self.write_stderr: Write = Tags(write_to_stderr) if tagged else write_to_stderr
        printing = Printing()
        super().__init__(Tags(printing) if tagged else printing, "mirai-output")

    @property
    def has_thread(self) -> bool:
        return self._thread is not None

    def drain(self, stream: RelayedStream) -> None:
        """Wait a little until all has been written; not again before what was late has been."""
        if not (_is_readable(stream.fd) or self._is_busy):
            return
        if not (self._late is None or self._late.has_come):
            return
        drained = OneShotEvent()
        self._reactor.put(lambda: self._catch_up(stream, drained))
        self._late = None if drained.wait(_PATIENCE) else drained

    # The thread

    def _catch_up(self, stream: RelayedStream, drained: OneShotEvent) -> None:
        while _is_readable(stream.fd) and (data := stream.read()):
            self._say(stream, data)
        drained.come()

    def _hear(self, stream: RelayedStream) -> None:
        self._is_busy = True  # before it is not in the pipe any more
        super()._hear(stream)
        self._is_busy = False


class Printing:
    """Writes to what ``print`` writes to."""

    def __init__(self) -> None:
        self._decoders: dict[RelayedStream, codecs.IncrementalDecoder] = {}

    def __call__(self, stream: RelayedStream, data: bytes) -> None:
        """Write what a daemon has written; b"" tells that nothing more will come."""
        # Whatever sys.stdout is by now, and raises: it is the user's.
        with contextlib.suppress(Exception):
            if data and _prints_to_descriptor(sys.stdout):
                while data:
                    data = data[posix.write(_STDOUT, data) :]
            elif sys.stdout is not None and (text := self._decode(stream, data)):
                sys.stdout.write(text)
                sys.stdout.flush()

    def _decode(self, stream: RelayedStream, data: bytes) -> str:
        if (decoder := self._decoders.get(stream)) is None:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._decoders[stream] = decoder
        if not data:
            del self._decoders[stream]
        return decoder.decode(data, final=not data)


class Tags:
    """Puts the pid of its daemon before each line.

    Args:
        write: Writes lines.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._begun: dict[RelayedStream, bytes] = {}  # lines that are not whole yet

    def __call__(self, stream: RelayedStream, data: bytes) -> None:
        """Write the lines that are whole; all, if nothing more will come."""
        *lines, begun = (self._begun.pop(stream, b"") + data).split(b"\n")
        if begun and (not data or len(begun) > _LONGEST):
            lines.append(begun)
        elif begun:
            self._begun[stream] = begun
        if lines:
            self._write(stream, b"".join(b"(pid=%d) %s\n" % (stream.pid, line) for line in lines))
        if not data:
            self._write(stream, b"")


def relay_for(output: object) -> OutputRelay | None:
    """Return what passes on what daemons print; None where nothing can.

    Args:
        output: What the user has asked for, or True.
    """
    relay = OutputRelay(tagged=output == "tagged")
    if relay.has_thread:
        return relay
    # Nobody would read what daemons print before they end: they would wait for that.
    relay.close()
    return None


def _is_readable(fd: int) -> bool:
    poll = new_poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _prints_to_descriptor(stdout: Any) -> bool:
    """Tell whether what is written to descriptor 1 arrives where ``print`` writes to."""
    try:
        fd = stdout.fileno()
        return fd == _STDOUT or os.path.sameopenfile(fd, _STDOUT)
    except (AttributeError, OSError, ValueError):
        return False
