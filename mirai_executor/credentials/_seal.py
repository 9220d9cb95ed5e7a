"""Proves of all that is sent that it comes from the other side, unchanged and in its turn.

A sealed piece is the piece and an HMAC-SHA256 over its number and its bytes, under a key that is
used in one direction of one connection only. The number does not travel: both sides count.
"""

import hmac
import struct

from ._handshake import ProtocolError

Bytes = bytes | bytearray | memoryview

_NUMBER = struct.Struct("<Q")
_TAG_SIZE = 32


class _Counting:
    """Counts the pieces of one direction, and computes the tag of the next."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod="sha256")
        self._number = 0

    def _tag(self, *pieces: Bytes) -> bytes:
        mac = self._keyed.copy()  # cheaper than to begin with the key each time
        mac.update(_NUMBER.pack(self._number))
        for piece in pieces:
            mac.update(piece)
        return mac.digest()


class Sealer(_Counting):
    """Seals the pieces of one direction, in the order in which they are sent.

    Args:
        key: The key of this direction, from :class:`SessionKeys`.
    """

    def seal(self, *pieces: Bytes) -> bytes:
        """Return the tag that travels behind some bytes.

        Each call counts: send the bytes and what it returns, and once.
        """
        tag = self._tag(*pieces)
        self._number += 1
        return tag


class Opener(_Counting):
    """Opens the sealed pieces of one direction, in the order in which they come.

    Args:
        key: The key of this direction, from :class:`SessionKeys`.
    """

    def open(self, sealed: Bytes) -> memoryview:
        """Return the piece, as a view into ``sealed``.

        Raises:
            ProtocolError: It was changed, repeated, put out of order or injected, or one before
                it is missing. Drop the connection: nothing that comes after can be told apart.
        """
        piece = memoryview(sealed)[:-_TAG_SIZE]
        if not hmac.compare_digest(self._tag(piece), memoryview(sealed)[-_TAG_SIZE:]):
            raise ProtocolError(
                f"frame {self._number} of this connection is not what the other side sent: "
                "something between host and daemon has changed, dropped or added to it"
            )
        self._number += 1
        return piece
