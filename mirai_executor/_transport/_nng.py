"""Carries frames over NNG; the only room that knows pynng.

A local link is one end of a ``socketpair``, adopted by NNG's ``socket://`` transport: it has no
address, so nobody else can connect to it, and nothing is left to clean up.

pynng's objects are kept for their life cycle only; frames go through its C library directly
(pynng's own ``recv`` copies twice and raises where "nothing there" is the usual answer).
"""

import atexit
import contextlib
import errno
import os
import socket
import time
import weakref
from collections.abc import Callable
from typing import Any

import pynng
import pynng.nng
from pynng import ffi, lib

# A host is never more than one task frame and a few control frames ahead of a daemon.
_HOST_BUFFER = 64
_GREETING = 1.0  # seconds for two sides to greet each other, before a link is closed all the same

_owner: int | None = None  # the process in which NNG was started; it works in no other
_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


class LinkClosedError(ConnectionError):
    """The other side is gone, or this side has been closed."""


class Link:
    """One connection to one peer. One thread uses and closes it; NNG aborts the process otherwise.

    Args:
        fd: A connected stream socket; NNG owns it from now on, unless this raises.
        buffered: Whether :meth:`send` leaves frames in a queue of this process, and never waits.
            A daemon must not: what is queued dies with it.
        on_closed: Called from a thread of NNG when the peer is gone. All that it had sent can
            still be received then.

    Raises:
        OSError: NNG cannot; ``errno`` is EMFILE if there are no descriptors left for it.
    """

    def __init__(self, fd: int, *, buffered: bool, on_closed: Callable[[], None]) -> None:
        self._fd = fd
        self._inode = os.fstat(fd).st_ino
        self._send_flags = lib.NNG_FLAG_NONBLOCK if buffered else 0
        self._message = ffi.new("nng_msg **")
        self._met: list[bool] = []  # not empty once both sides have greeted each other
        try:
            self._open(_HOST_BUFFER if buffered else 0, on_closed)
        except pynng.NNGException as error:
            code = errno.EMFILE if isinstance(error, pynng.exceptions.OutOfFiles) else errno.EIO
            raise OSError(code, f"NNG: {error}") from error
        _links.add(self)

    def _open(self, send_buffer: int, on_closed: Callable[[], None]) -> None:
        global _owner  # there is one NNG in a process
        _owner = _owner or os.getpid()
        if _owner != os.getpid():
            # NNG would wait for its threads, which were not forked, for ever.
            raise OSError(
                errno.ENOTSUP, f"this process was forked from {_owner}, in which NNG had started"
            )
        self._socket = pynng.Pair1(
            polyamorous=False,
            send_buffer_size=send_buffer,
            recv_buffer_size=_HOST_BUFFER,
            recv_max_size=0,  # no limit: a local peer is our own process
        )
        self._id = self._socket.socket
        try:
            # A bound method of ours in the socket would be a cycle, and sockets must not wait for
            # the garbage collector: a collection inside an NNG callback hangs the exit.
            self._socket.add_post_pipe_remove_cb(lambda _: on_closed())
            met = self._met
            self._socket.add_post_pipe_connect_cb(lambda _: met.append(True))
            self._recv_fd: int = self._socket.recv_fd
            _adopt(self._id, self._fd)  # last: from now on, closing the socket closes it
        except BaseException:
            _close(self._socket)
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable while a frame can be received."""
        return self._recv_fd

    def send(self, data: bytes) -> None:
        """Send a frame.

        Raises:
            LinkClosedError: It could not be sent; nothing of it has left.
        """
        if self._id is None:
            raise LinkClosedError("this process was forked from the one that owns the link")
        if (code := lib.nng_send(self._id, data, len(data), self._send_flags)) != 0:
            raise LinkClosedError(_reason(code))

    def receive(self) -> bytes | None:
        """Return the next frame, or None if none has come. Never waits."""
        code = lib.nng_recvmsg(self._id, self._message, lib.NNG_FLAG_NONBLOCK)
        if code == lib.NNG_EAGAIN:
            return None
        if code != 0:
            raise LinkClosedError(_reason(code))
        message = self._message[0]
        data = bytes(ffi.buffer(lib.nng_msg_body(message), lib.nng_msg_len(message)))
        lib.nng_msg_free(message)
        return data

    def close(self) -> None:
        """Close the link, and drop what has not been sent."""
        _links.discard(self)
        if not self._met:
            self._end_greeting()
        _close(self._socket)

    def _end_greeting(self) -> None:
        """Let the two sides finish greeting each other, or fail to.

        NNG 1.11 never closes the descriptor of a socket that is closed in the midst of that:
        9 of 10 times if it comes within 0.1 ms of the other side's first bytes.
        """
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._fd)) as same:
            if os.fstat(same.fileno()).st_ino != self._inode:
                return  # NNG has closed it, and the number is another file
            same.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _GREETING
        while not self._met and self._is_open() and time.monotonic() < deadline:
            time.sleep(0.0002)

    def _is_open(self) -> bool:
        try:
            return os.fstat(self._fd).st_ino == self._inode
        except OSError:
            return False

    def forget(self) -> None:
        """In a forked child: let go of the link without NNG, whose threads are not here."""
        self._id = None
        _disarm(self._socket)
        # NNG closes it as soon as the peer is gone: the number may be another file by now.
        if self._is_open():
            os.close(self._fd)


def save_threads() -> None:
    """Have NNG start as few threads as it can; call it before the first link (for daemons)."""
    for parameter in (
        lib.NNG_INIT_NUM_TASK_THREADS,
        lib.NNG_INIT_NUM_EXPIRE_THREADS,
        lib.NNG_INIT_NUM_POLLER_THREADS,
        lib.NNG_INIT_NUM_RESOLVER_THREADS,
    ):
        lib.nng_init_set_parameter(parameter, 1)


def _adopt(id_: Any, fd: int) -> None:
    listener = ffi.new("nng_listener *")
    pynng.check_err(lib.nng_listener_create(listener, id_, b"socket://"))
    pynng.check_err(lib.nng_listener_start(listener[0], 0))
    pynng.check_err(lib.nng_listener_set_int(listener[0], b"socket:fd", fd))


def _close(pair: pynng.Socket) -> None:
    pair.close()
    _disarm(pair)


def _disarm(pair: pynng.Socket) -> None:
    # pynng's sockets are cycles, and close themselves, once more, when they are collected. In a
    # forked child NNG aborts the process for that.
    del pair._socket  # noqa: SLF001 - there is no other way


def _reason(code: int) -> str:
    return str(ffi.string(lib.nng_strerror(code)), "utf-8")


def _forget_all() -> None:
    """In a forked child NNG has no threads: its exit hook would wait for them for ever."""
    atexit.unregister(pynng.nng._pynng_atexit)  # noqa: SLF001 - there is no public way
    for link in list(_links):
        link.forget()


os.register_at_fork(after_in_child=_forget_all)
