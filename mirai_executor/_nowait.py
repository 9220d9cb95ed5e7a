"""System calls that return at once, made without handing the GIL over.

Python lets other threads run during each system call, and where one of them computes, the caller
gets the GIL back only when that one has to yield it: after 5 ms (``sys.getswitchinterval``), for a
call of 2 µs. A host thread makes several calls for each frame. Here they keep the GIL, which
``ctypes.PyDLL`` can; so none of them may ever wait.

``ctypes`` takes some milliseconds to import, and a short script gains nothing from it. So until
:func:`load` is called, all of this does as ``socket`` and ``os`` do; or as ``posix`` does, since
eventlet puts calls into ``os`` that wait, also for descriptors that do not block.
"""

import os
import posix
import selectors
import socket
import struct
import sys
from errno import EAGAIN

from mirai_executor._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import _socket
    import ctypes

_is_loaded = _can_keep_gil = False
_recv: Any = None
_send: Any = None
_read: Any = None
_write: Any = None
_epoll_wait: Any = None
_new_buffer: Any = None
_errno: Any = None
_DONTWAIT = int(getattr(socket, "MSG_DONTWAIT", 0))  # a flag of an enum is combined by Python code

_MOST = 1 << 16  # bytes; to copy more takes long enough to let others run meanwhile
# Those that no call uses. Each takes one out: other threads may make theirs before it is copied.
_free: "list[tuple[ctypes.Array[ctypes.c_char], memoryview]]" = []

_Epoll = getattr(selectors, "EpollSelector", None)
# The kernel's epoll_event: what has happened, and 8 bytes of the caller's, where Python keeps the
# descriptor. On x86 ("x86_64", "i686", ...) they follow each other without a gap.
_EVENT = struct.Struct("=Ii4x" if "86" in os.uname().machine else "@I4xi4x")


def load() -> None:
    """Keep the GIL from now on, if this Python has one that can be kept."""
    global _is_loaded, _can_keep_gil, _recv, _send, _read, _write, _epoll_wait  # once
    global _new_buffer, _errno
    if _is_loaded:
        return
    _is_loaded = True
    # A free-threaded Python has none to keep, and no need to.
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or not _DONTWAIT:
        return
    try:
        import ctypes

        libc = ctypes.PyDLL(None, use_errno=True)
        _recv, _send, _read, _write = libc.recv, libc.send, libc.read, libc.write
    except (ImportError, OSError, AttributeError):  # pragma: no cover - a Python without them
        return
    for call in (_recv, _send, _read, _write):
        call.restype = ctypes.c_ssize_t
    _recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    _send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    _read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    _write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
    _epoll_wait = getattr(libc, "epoll_wait", None)  # Linux
    if _epoll_wait is not None:
        _epoll_wait.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    _new_buffer, _errno = ctypes.create_string_buffer, ctypes.get_errno
    _can_keep_gil = True  # last: other threads may be in here


def receive(sock: "_socket.socket", size: int) -> bytes:
    """Return what a socket has received, at most ``size`` bytes; none at its end.

    Raises:
        BlockingIOError: Nothing has come.
        OSError: The connection has failed, or the socket is closed.
    """
    if _can_keep_gil and size <= _MOST:
        buffer, view = _take()
        count = _recv(sock.fileno(), buffer, size, _DONTWAIT)
        data = bytes(view[: max(0, count)])
        _free.append((buffer, view))
        if count >= 0:
            return data
        _raise_if_it_would_wait()
    return sock.recv(size)


def send(sock: "_socket.socket", data: memoryview, flags: int = 0) -> int:
    """Send the beginning of some bytes; return how many were sent.

    Raises:
        BlockingIOError: The socket takes none now.
        OSError: The connection has failed, or the socket is closed.
    """
    if _can_keep_gil and (whole := _whole(data)) is not None:
        count = int(_send(sock.fileno(), whole, len(whole), flags | _DONTWAIT))
        if count >= 0:
            return count
        _raise_if_it_would_wait()
    return sock.send(data, flags)


def _whole(data: bytes | memoryview) -> bytes | None:
    """Return the bytes that a view shows, if they are all of an object and not too many."""
    if type(data) is bytes:
        return data if len(data) <= _MOST else None
    whole = data.obj  # type: ignore[union-attr]  # a memoryview: there are no others
    # The rest of something has no address here; that is rare.
    if type(whole) is bytes and data.nbytes == len(whole) <= _MOST:  # type: ignore[union-attr]  # as above
        return whole
    return None


def read(fd: int, size: int) -> bytes:
    """Read at most ``size`` bytes from a descriptor that does not block.

    Raises:
        BlockingIOError: There are none now.
        OSError: As from ``os.read``.
    """
    if _can_keep_gil and size <= _MOST:
        buffer, view = _take()
        count = _read(fd, buffer, size)
        data = bytes(view[: max(0, count)])
        _free.append((buffer, view))
        if count >= 0:
            return data
        _raise_if_it_would_wait()
    return posix.read(fd, size)


def write(fd: int, data: bytes | memoryview) -> int:
    """Write the beginning of some bytes to a descriptor that does not block; return how many.

    Raises:
        BlockingIOError: It takes none now.
        OSError: As from ``os.write``.
    """
    if _can_keep_gil and (whole := _whole(data)) is not None:
        count = int(_write(fd, whole, len(whole)))
        if count >= 0:
            return count
        _raise_if_it_would_wait()
    return posix.write(fd, data)


def ready(selector: selectors.BaseSelector) -> list[selectors.SelectorKey] | None:
    """Return what of a selector is ready; at most some thousands of it.

    Returns:
        None if only ``selector.select(0)`` can tell, which hands the GIL over.
    """
    if not (_can_keep_gil and _epoll_wait) or type(selector) is not _Epoll:
        return None
    buffer, view = _take()
    size = _EVENT.size
    fd = selector.fileno()  # type: ignore[attr-defined]  # that of epoll
    count = _epoll_wait(fd, buffer, _MOST // size, 0)
    fds = [_EVENT.unpack_from(view, i * size)[1] for i in range(count)]
    _free.append((buffer, view))
    if count < 0:
        return None
    keys = selector.get_map()
    return [keys[fd] for fd in fds if fd in keys]


def _take() -> "tuple[ctypes.Array[ctypes.c_char], memoryview]":
    try:
        return _free.pop()
    except IndexError:
        buffer = _new_buffer(_MOST)
        return buffer, memoryview(buffer).cast("B")


def _raise_if_it_would_wait() -> None:
    """Any other error is for the call that hands the GIL over: it says what is wrong."""
    if _errno() == EAGAIN:
        raise BlockingIOError(EAGAIN, os.strerror(EAGAIN))
