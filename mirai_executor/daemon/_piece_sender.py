"""Sends what tasks say beside their outcomes, as long as that takes no task any time.

::

    log records, reports ──► put ──► pieces ──► the link, if it has room
                                       └──────► the link, before the next other frame

A piece fits into a pipe in one step. So whatever strikes a task while it logs or reports, a
KeyboardInterrupt or an exception of a signal handler of its own, no frame is cut in two.
"""

from __future__ import annotations

import os
import select
from _thread import get_ident
from collections import deque
from itertools import count

from mirai_executor import _wire
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._transport import Link

    from ._interrupts import Interrupts

_PIECE = select.PIPE_BUF - 64  # bytes, with room for the head of a frame
_MOST = 1024  # pieces that wait for a host which is slow


class Piece:
    """A part of what a task says, and what its frame says of it."""

    def __init__(self, data: bytes, first: bool, more: bool, head: tuple[int, ...]) -> None:
        self.data = data
        self.first = first
        self.more = more
        self.head = head
        self.number = 0  # none yet


class PieceSender:
    """Keeps what tasks say until it is sent, in order.

    Args:
        link: Leads to the host. Only the main thread writes to it.
        interrupts: Knows which task runs, and whether that one may send.
    """

    def __init__(self, link: Link, interrupts: Interrupts) -> None:
        self._link = link
        self._interrupts = interrupts
        # Not this thread: a task may be the first to report something, from one of its own.
        self._pid, self._main = os.getpid(), interrupts.thread
        self._pieces: deque[Piece] = deque()
        self._numbers = count(1)
        self._lost = 0

    def _frame(self, piece: Piece) -> _wire.Frame:
        raise NotImplementedError

    @property
    def task(self) -> int:
        """The task that runs, or was the last one to do so."""
        company = self._interrupts.company
        return (0 if company is None else company.task_here()) or self._interrupts.task

    @property
    def is_of_this_process(self) -> bool:
        """False in a child that a task has forked."""
        return os.getpid() == self._pid

    def put(self, said: bytes, head: tuple[int, ...] = ()) -> None:
        """Send something now, if the host takes it, or else before the next outcome.

        Safe from any thread; those of other threads than the main one wait for that one.
        """
        size = len(said)
        pieces = [
            Piece(said[start : start + _PIECE], start == 0, start + _PIECE < size, head)
            for start in range(0, size, _PIECE)
        ]
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
            frame = _wire.encode(self._frame(piece))
            if wait:
                self._link.send(frame)
            elif not self._link.send_at_once(frame):
                return
            try:  # noqa: SIM105 - an object of contextlib's could be struck half made
                pieces.remove(piece)
            except ValueError:
                pass
