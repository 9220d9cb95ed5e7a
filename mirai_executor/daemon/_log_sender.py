"""Sends what tasks log to the host, as long as that takes no task any time.

::

    logging ──► LogHandler ──► put ──► pieces ──► the link, if it has room
                                          └─────► the link, before the next other frame

A piece fits into a pipe in one step. So whatever strikes a task while it logs, a KeyboardInterrupt
or an exception of a signal handler of its own, no frame is cut in two.
"""

from __future__ import annotations

import os
import select
from _thread import get_ident
from collections import deque
from itertools import count

from mirai_executor import _wire
from mirai_executor._late_imports import when_imported
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._payload.daemon import LogLevels
    from mirai_executor._transport import Link

    from ._interrupts import Interrupts

__all__ = ["LogSender"]

_PIECE = select.PIPE_BUF - 64  # bytes of a record, with room for the head of a frame
_MOST = 1024  # pieces that wait for a host which is slow


class _Piece:
    def __init__(self, data: bytes, more: bool) -> None:
        self.data = data
        self.more = more
        self.number = 0  # none yet


class LogSender:
    """Keeps the log records of tasks until they are sent, in order.

    Args:
        link: Leads to the host. Only the main thread writes to it.
        interrupts: Knows which task runs, and whether that one may send.
        name: What records call this daemon.
    """

    def __init__(self, link: Link, interrupts: Interrupts, name: str) -> None:
        self.name = name
        self._link = link
        self._interrupts = interrupts
        self._pid, self._main = os.getpid(), get_ident()
        self._pieces: deque[_Piece] = deque()
        self._numbers = count(1)
        self._lost = 0

    def begin(self, levels: LogLevels) -> None:
        """Send what is logged from now on, without importing ``logging`` before a task does."""

        def step(_: object) -> None:
            from ._log_handler import install

            install(self, levels)

        when_imported({"logging": step})

    @property
    def task(self) -> int:
        """The task that runs, or was the last one to do so."""
        return self._interrupts.task

    @property
    def is_of_this_process(self) -> bool:
        """False in a child that a task has forked."""
        return os.getpid() == self._pid

    def put(self, record: bytes) -> None:
        """Send a record now, if the host takes it, or else before the next outcome.

        Safe from any thread; those of other threads than the main one wait for that one.
        """
        ends = range(_PIECE, len(record) + _PIECE, _PIECE)
        pieces = [_Piece(record[end - _PIECE : end], end < len(record)) for end in ends]
        if len(self._pieces) + len(pieces) > _MOST:
            self._lost += 1  # rather than to hold up the task
            return
        self._pieces.extend(pieces)
        if get_ident() == self._main and self._interrupts.may_send:
            self._send_pieces(wait=False)

    def flush(self) -> None:
        """Send all there is. For the main thread, where another frame may be sent as well."""
        if self._pieces:
            self._send_pieces(wait=True)

    def _send_pieces(self, *, wait: bool) -> None:
        # A signal handler may come in here at any point, and send them itself: a piece has the
        # same number whenever it is sent, and the host takes it once.
        pieces = self._pieces
        while pieces:
            try:
                piece = pieces[0]
            except IndexError:
                return
            piece.number = piece.number or next(self._numbers)
            frame = _wire.LogPiece(piece.number, self._lost, piece.more, piece.data)
            if wait:
                self._link.send(_wire.encode(frame))
            elif not self._link.send_at_once(_wire.encode(frame)):
                return
            try:  # noqa: SIM105 - an object of contextlib's could be struck half made
                pieces.remove(piece)
            except ValueError:
                pass
