"""Makes files and pipes without a name: they end with the last process that has them open.

Two pipes are one connection, for a link between two local processes. The kernel lets whoever reads
a pipe run where the writer runs, as that one is about to wait; the reader of a socket often wakes
up another processor first. Between two processes that only read and write, a round trip of 300
bytes takes 8 µs through pipes, and 12 to 24 through a socket pair.

What is read and written here, and wherever else something must not wait, is so by ``posix``: a
library that replaces ``os.read`` (eventlet) has it wait.

The place of a file is in memory (``memfd``) where Python, the C library or the kernel knows a way
there and no sandbox forbids it; else in the shared memory of POSIX, or in the temporary folder.
"""

import contextlib
import errno
import os
import posix
import select
import sys
from collections.abc import Callable, Sequence
from functools import cache

from mirai_executor._typing import Any

ALLOW_SEALING = 2  # MFD_ALLOW_SEALING, and MFD_CLOEXEC: Linux; not every Python has their names
_CLOEXEC = 1
_STDERR = 2
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - no name is made there
_MOST = 1024  # pieces that Linux and macOS take at once
_NONE_FREE = (errno.EMFILE, errno.ENFILE)


def create_in_memory(name: str, flags: int = 0, into: "list[int] | None" = None) -> int:
    """Return the descriptor of an empty file in memory; it is closed on exec.

    Args:
        name: Is shown to who looks at the descriptor.
        flags: Of ``memfd_create(2)``.
        into: Where it is put as well, in one go: whoever may be interrupted finds it there.

    Raises:
        OSError: This system has no such files, or forbids them.
    """
    into = [] if into is None else into
    into.extend(map(_memfd_create(), (name,), (flags | _CLOEXEC,)))
    return into[-1]


def create(name: str, data: bytes = b"") -> int:
    """Return the descriptor of a file that holds some data; it is closed on exec.

    Raises:
        OSError: No descriptor is free, or no place can hold it: it says why.
    """
    reasons = []
    places = (create_in_memory, _create_in_shared_memory, _create_in_temporary_folder)
    for create_there in places:
        try:
            return _filled(create_there(name), data)
        except OSError as error:
            if is_none_free(error):
                raise
            reasons.append(str(error))
    raise OSError(
        f"a file of {len(data)} bytes can lie neither in memory ({reasons[0]}), nor in "
        f"{_SHARED_MEMORY} ({reasons[1]}), nor in the temporary folder ({reasons[2]})"
    )


def create_pipe() -> tuple[int, int, int]:
    """Make a pipe whose writer is never ended by SIGPIPE, as it keeps the other end open, too.

    Returns:
        Its read end, to be handed over; and what this process keeps to write to it, and to read
        from it: the same descriptor where Linux allows that.
    """
    reads, writes = os.pipe()
    try:
        try:
            both = reopen(writes, os.O_RDWR)
        except OSError as error:
            if is_none_free(error):
                raise
            return reads, writes, os.dup(reads)
        os.close(writes)
    except OSError:
        os.close(reads)
        os.close(writes)
        raise
    return reads, both, both


def occupy_streams() -> None:
    """Have descriptors 0, 1 and 2 lead nowhere if they lead to nothing.

    Programs are started without them (``>&-``). What is opened next would have their numbers, and
    whoever prints would write into a link, or into a page.
    """
    with contextlib.suppress(OSError):  # none is free: then these are not either
        while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
            os.set_inheritable(fd, True)
        os.close(fd)


def flush_streams() -> None:
    """Hand on what has been printed in this process, whatever its streams are now."""
    # Some code has closed or replaced one, or its reader is gone. To suppress that, or to loop
    # over the two, takes longer than to flush.
    try:  # noqa: SIM105
        sys.stdout.flush()
    except Exception:  # noqa: S110
        pass
    try:  # noqa: SIM105
        sys.stderr.flush()
    except Exception:  # noqa: S110
        pass


def reopen(fd: int, flags: int) -> int:
    """Open once more what a descriptor leads to; the new one stands where it likes.

    Args:
        fd: Leads to a pipe, or to a file with or without a name.
        flags: Of ``open(2)``: a pipe may be opened at its other end.

    Raises:
        OSError: No descriptor is free, or this system has no such way.
    """
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def is_none_free(error: OSError) -> bool:
    """Tell whether something could not be opened because no descriptor is free."""
    return error.errno in _NONE_FREE


def _create_in_shared_memory(_name: str) -> int:
    flags = getattr(os, "O_TMPFILE", None)
    if flags is None:  # not Linux
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.open(_SHARED_MEMORY, flags | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _create_in_temporary_folder(_name: str) -> int:
    import tempfile  # it imports a lot

    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def _filled(fd: int, data: bytes) -> int:
    # Written, not only made so long: where room is short, a mapping would end in SIGBUS.
    try:
        at = 0
        while at < len(data):
            at += os.pwrite(fd, data[at:], at)
    except BaseException:
        os.close(fd)
        raise
    return fd


@cache
def _memfd_create() -> Callable[[str, int], int]:
    if hasattr(os, "memfd_create"):
        return os.memfd_create
    # Pythons that run everywhere are built against a C library older than the call (2.27).
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).memfd_create
    except (ImportError, OSError, AttributeError):
        return _refuse

    def memfd_create(name: str, flags: int) -> int:
        fd: int = call(name.encode(), ctypes.c_uint(flags))
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return fd

    return memfd_create


def _refuse(_name: str, _flags: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def new_poll() -> "select.poll":
    """Return what ``select.poll()`` does, also where a library has taken that away.

    eventlet does so in a program that it patches, as it cannot have others run during a poll. Ours
    are answered at once, but for those of a daemon that has nothing else to do.
    """
    try:
        return select.poll()
    except AttributeError:
        made: select.poll = _select_of_the_system().poll()
        return made


@cache
def _select_of_the_system() -> Any:
    """Return the module as nobody has changed it."""
    from importlib.util import module_from_spec

    spec: Any = select.__spec__
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pipes:
    """One end of two pipes: what it reads, and what it writes. Not thread-safe.

    Args:
        reads: The descriptor that it reads; owned from now on, as the others are.
        writes: The one that it writes.
        spare: Where what it writes can be read, if writing must never raise SIGPIPE; the same
            descriptor, perhaps.
    """

    def __init__(self, reads: int, writes: int, spare: int | None = None) -> None:
        self._reads, self._writes = reads, writes
        self._room: select.poll | None = None  # tells whether there is some
        self._fds = {reads, writes} if spare is None else {reads, writes, spare}

    def fileno(self) -> int:
        """Return the descriptor that is readable when something has come."""
        return self._reads

    def fileno_to_write(self) -> int:
        """Return the descriptor that is writable when more can be sent."""
        return self._writes

    def setblocking(self, flag: bool) -> None:
        """Have both directions wait, or not; at this end only."""
        os.set_blocking(self._reads, flag)
        os.set_blocking(self._writes, flag)

    def recv(self, size: int) -> bytes:
        """Return what has come, at most so many bytes; none at the end."""
        return posix.read(self._reads, size)

    def recv_into(self, buffer: memoryview, _: int = 0) -> int:
        """Read what has come into a buffer; return how many bytes."""
        return os.readv(self._reads, [buffer])

    def send_all_of(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Send all of several pieces; at once, if there is room for them."""
        sent = os.writev(self._writes, pieces[:_MOST])
        if sent == sum(map(len, pieces)):
            return
        for piece in pieces:
            rest = memoryview(piece)[sent:]
            sent = max(0, sent - len(piece))
            while rest:
                rest = rest[posix.write(self._writes, rest) :]

    def send_at_once(self, data: bytes) -> bool:
        """Send up to PIPE_BUF bytes, in one step that cannot be interrupted, if there is room."""
        if self._room is None:
            self._room = new_poll()
            self._room.register(self._writes, select.POLLOUT)
        if not self._room.poll(0):
            return False
        posix.write(self._writes, data)
        return True

    def close(self) -> None:
        """Close this end. May be called again."""
        while self._fds:
            os.close(self._fds.pop())
