"""Decides whether the other end of a connection knows the secret, and is of a version that fits.

::

    daemon                                          host
      | -- Hello (versions, 32 random bytes, -------> |   proves the token, though not freshly
      |           which token it has)                 |
      | <-- Challenge (versions, 32 random bytes, --- |   proves it, for this Hello
      |                certificate that it shows)     |
      | -- Proof (certificate that it was shown) ---> |   proves it, for this Challenge
      | <-- Welcome --------------------------------- |   the daemon is admitted
      :                                               :
      | <-- Refused (why) --- or ------- Refused ---> |   instead of the next frame

A frame is a head (magic, kind, protocol), a body of fixed size, and an HMAC-SHA256 under a key
made from the token, over the name of the frame and all frames so far. So a frame means something
in one place of one conversation only: sent back, sent again or changed, it is worth nothing. That
both name the same certificate proves that nobody stands between them with another one.
Head and HMAC, Hello's and Refused's, are the same in every protocol to come.

Both are machines without a socket or a clock: frames go in, frames and errors come out. A frame
that raises leaves them as they were.
"""

import hmac
import re
import secrets
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import ClassVar, NamedTuple

from ._peers import PROTOCOL, PeerVersion, mismatch
from ._secret import Secret, Token, TokenId

NO_CERTIFICATE = bytes(32)  # in place of the SHA-256 of one, where there is no TLS
LARGEST_FRAME = 512  # bytes; before it is admitted, a peer has no reason to send more

_MAGIC = b"MIRA"
_HEAD = struct.Struct("<4sBH")
_VERSIONS = struct.Struct("<BB32s32s")  # Python's two numbers, version of the package, nonce
_TOKEN = struct.Struct("<QI")  # behind the versions of a Hello: launch and member
_NONCE_SIZE = 32
_MAC_SIZE = 32
_VERSION = re.compile(r"[0-9]+\.[0-9]+[0-9A-Za-z.+!-]{0,28}")


class ProtocolError(ConnectionError):
    """The other end said what no daemon or host of ours would say; drop the connection.

    Attributes:
        reply: A last frame to send before that, so that the other side can say why; or None.
    """

    def __init__(self, message: str, reply: bytes | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class WrongSecretError(ProtocolError):
    """The other end does not know the secret of this executor."""


class VersionMismatchError(ProtocolError):
    """The other end knows the secret, but is of a version that does not fit."""


class WrongCertificateError(ProtocolError):
    """Somebody between host and daemon shows another certificate than the host's."""


class _Kind(IntEnum):
    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    REFUSED = 5


@dataclass(frozen=True)
class SessionKeys:
    """The keys of one connection, one for each direction."""

    to_daemon: bytes = field(repr=False)
    to_host: bytes = field(repr=False)


class _Frame(NamedTuple):
    kind: int
    protocol: int
    body: bytes
    mac: bytes


class _Handshake:
    """What both sides have in common: the conversation so far, and the key for its HMACs."""

    _ROLE: ClassVar[str]
    _OTHER: ClassVar[str]

    def __init__(self, me: PeerVersion | None, nonce: bytes | None, certificate: bytes) -> None:
        self._key = b""  # once it is known which token the daemon has
        self._certificate = certificate
        self._me = me or PeerVersion.this_process()
        self._nonce = nonce or secrets.token_bytes(_NONCE_SIZE)
        self._said = b""  # all frames so far, each of a known size
        self._expected: _Kind | None = None
        self.peer: PeerVersion | None = None
        self.keys: SessionKeys | None = None

    @property
    def is_done(self) -> bool:
        """Say whether the other side has proved the secret, and :attr:`keys` are there."""
        return self.keys is not None

    def _use(self, token: Token) -> None:
        self._key = hmac.digest(token.key, b"mirai-executor handshake", "sha256")

    def _mac(self, kind: int, role: str, head_and_body: bytes) -> bytes:
        context = b"%b %d " % (role.encode(), kind) + sha256(self._said).digest()
        return hmac.digest(self._key, context + head_and_body, "sha256")

    def _frame(self, kind: _Kind, body: bytes = b"") -> bytes:
        content = _HEAD.pack(_MAGIC, kind, self._me.protocol) + body
        return content + self._mac(kind, self._ROLE, content)

    def _read(self, data: bytes) -> _Frame:
        """Take a frame apart; trust nothing of it yet."""
        if len(data) > LARGEST_FRAME:
            raise ProtocolError(
                f"a frame of {len(data)} bytes from a {self._OTHER} that has not authenticated"
            )
        if len(data) < _HEAD.size + _MAC_SIZE or not data.startswith(_MAGIC):
            raise ProtocolError(f"the first bytes are not those of a {self._OTHER}")
        _, kind, protocol = _HEAD.unpack_from(data)
        frame = _Frame(kind, protocol, data[_HEAD.size : -_MAC_SIZE], data[-_MAC_SIZE:])
        if self._expected is None or kind not in (self._expected, _Kind.REFUSED):
            raise ProtocolError(f"a frame of kind {kind} out of turn from a {self._OTHER}")
        return frame

    def _is_proved(self, frame: _Frame, data: bytes) -> bool:
        expected = self._mac(frame.kind, self._OTHER, data[:-_MAC_SIZE])
        return hmac.compare_digest(expected, frame.mac)

    def _read_proved(self, data: bytes, size: int) -> _Frame:
        """Take a frame apart and check its HMAC and its size."""
        frame = self._read(data)
        if not self._is_proved(frame, data):
            raise self._wrong_secret()
        if frame.kind == _Kind.REFUSED:
            raise VersionMismatchError(frame.body.decode("ascii", "replace"))
        if frame.protocol == self._me.protocol and len(frame.body) != size:
            raise ProtocolError(f"a frame of kind {frame.kind} with {len(frame.body)} bytes")
        return frame

    def _wrong_secret(self) -> WrongSecretError:
        raise NotImplementedError

    def _versions(self) -> bytes:
        version = self._me.version.encode("ascii")[:32]
        return _VERSIONS.pack(*self._me.python, version, self._nonce)

    def _fitting_peer(self, frame: _Frame, data: bytes) -> PeerVersion:
        """Read the versions of a proved frame.

        Raises:
            VersionMismatchError: They do not fit; its reply tells the other side the same.
        """
        peer = _peer_of(frame)
        host, daemon = (self._me, peer) if self._ROLE == "host" else (peer, self._me)
        if (why := mismatch(host, daemon)) is None:
            return peer
        raise VersionMismatchError(why, self._refusal(data, why))

    def _refusal(self, data: bytes, why: str) -> bytes:
        """Return what answers a proved frame, and says why."""
        said, self._said = self._said, self._said + data
        reply = self._frame(_Kind.REFUSED, why.encode("ascii", "replace"))
        self._said = said
        return reply

    def _check_certificate(self, found: bytes, data: bytes) -> None:
        """Require that both sides speak of one certificate.

        Raises:
            WrongCertificateError: They do not; its reply tells the other side the same.
        """
        if not hmac.compare_digest(found, self._certificate):
            why = (
                "the certificate that the daemon was shown is not the host's: somebody between "
                "them has another one, and would read everything"
            )
            raise WrongCertificateError(why, self._refusal(data, why))

    def _agree(self) -> None:
        """Derive the keys from the whole conversation, both nonces in it."""
        root = hmac.digest(self._key, b"session " + sha256(self._said).digest(), "sha256")
        self.keys = SessionKeys(
            to_daemon=hmac.digest(root, b"host to daemon\x01", "sha256"),
            to_host=hmac.digest(root, b"daemon to host\x01", "sha256"),
        )
        self._expected = None


class HostHandshake(_Handshake):
    """The host's side. Feed it what the daemon sends; send what it returns.

    Args:
        secret: The secret of the executor.
        me: What this side is; by default what this process is.
        nonce: 32 bytes never used before; random by default.
        certificate: The SHA-256 of the certificate that it shows.
        revoked: Tokens of daemons that are not let in again.

    Attributes:
        token: Which token the daemon has, once it has proved it.
    """

    _ROLE, _OTHER = "host", "daemon"

    def __init__(
        self,
        secret: Secret,
        me: PeerVersion | None = None,
        nonce: bytes | None = None,
        certificate: bytes = NO_CERTIFICATE,
        revoked: Collection[TokenId] = (),
    ) -> None:
        super().__init__(me, nonce, certificate)
        self._secret = secret
        self._revoked = revoked
        self.token: TokenId = TokenId(0, 0)
        self._expected = _Kind.HELLO

    def receive(self, data: bytes) -> bytes:
        """Take a frame of the daemon; return the one to answer with.

        After it has returned with :attr:`is_done`, the daemon is admitted.

        Raises:
            ProtocolError: Drop the connection, after sending its ``reply`` if there is one.
        """
        if self._expected == _Kind.HELLO:
            return self._challenge(data)
        return self._welcome(data)

    def _challenge(self, data: bytes) -> bytes:
        token = self._token_of(data)
        self._use(self._secret.token(*token))
        frame = self._read_proved(data, _VERSIONS.size + _TOKEN.size)
        peer = self._fitting_peer(frame, data)
        if token in self._revoked:
            raise WrongSecretError("a daemon that was dismissed has come back", self._unproved())
        self.peer: PeerVersion | None = peer
        self.token = token
        self._said += data
        answer = self._frame(_Kind.CHALLENGE, self._versions() + self._certificate)
        self._said += answer
        self._expected = _Kind.PROOF
        return answer

    def _token_of(self, data: bytes) -> TokenId:
        """Return which token a Hello names, in any protocol; its sender has not proved it yet."""
        place = _HEAD.size + _VERSIONS.size
        if len(data) < place + _TOKEN.size + _MAC_SIZE:
            return TokenId(0, 0)
        return TokenId(*_TOKEN.unpack_from(data, place))

    def _welcome(self, data: bytes) -> bytes:
        frame = self._read_proved(data, len(NO_CERTIFICATE))
        self._check_certificate(frame.body, data)
        self._said += data
        answer = self._frame(_Kind.WELCOME)
        self._said += answer
        self._agree()
        return answer

    def _wrong_secret(self) -> WrongSecretError:
        return WrongSecretError(
            "the other side does not know this executor's secret: it is a daemon of another "
            "executor, or not a daemon at all",
            self._unproved(),
        )

    def _unproved(self) -> bytes:
        """Return a refusal without an HMAC: the daemon could not check it, and concludes the same.

        A stranger would get one by which to know this executor again, or to try out secrets.
        """
        head = _HEAD.pack(_MAGIC, _Kind.REFUSED, self._me.protocol)
        return head + b"wrong secret" + bytes(_MAC_SIZE)


class DaemonHandshake(_Handshake):
    """The daemon's side. Send :meth:`hello`, then feed it what the host sends.

    Args:
        secret: The token that the daemon was given; or the secret of the executor itself.
        me: What this side is; by default what this process is.
        nonce: 32 bytes never used before; random by default.
        certificate: The SHA-256 of the certificate that it was shown.
    """

    _ROLE, _OTHER = "daemon", "host"

    def __init__(
        self,
        secret: Secret | Token,
        me: PeerVersion | None = None,
        nonce: bytes | None = None,
        certificate: bytes = NO_CERTIFICATE,
    ) -> None:
        super().__init__(me, nonce, certificate)
        token = secret.token() if isinstance(secret, Secret) else secret
        self._use(token)
        self._hello = self._frame(_Kind.HELLO, self._versions() + _TOKEN.pack(*token.id))
        self._said = self._hello
        self._expected = _Kind.CHALLENGE

    def hello(self) -> bytes:
        """Return the first frame."""
        return self._hello

    def receive(self, data: bytes) -> bytes | None:
        """Take a frame of the host; return the one to answer with, or None after the last.

        After it has returned with :attr:`is_done`, the host has admitted this daemon.

        Raises:
            ProtocolError: Drop the connection, after sending its ``reply`` if there is one.
        """
        if self._expected != _Kind.WELCOME:
            return self._prove(data)
        self._read_proved(data, 0)
        self._said += data
        self._agree()
        return None

    def _prove(self, data: bytes) -> bytes:
        frame = self._read_proved(data, _VERSIONS.size + len(NO_CERTIFICATE))
        peer = self._fitting_peer(frame, data)
        self._check_certificate(frame.body[_VERSIONS.size :], data)
        self.peer: PeerVersion | None = peer
        self._said += data
        answer = self._frame(_Kind.PROOF, self._certificate)
        self._said += answer
        self._expected = _Kind.WELCOME
        return answer

    def _wrong_secret(self) -> WrongSecretError:
        return WrongSecretError(
            "the host does not know the secret that this daemon was given: the daemon was started "
            "for another executor, or another program listens there"
        )


def _peer_of(frame: _Frame) -> PeerVersion:
    """Read the versions; of another protocol, as far as its body still says them here."""
    if len(frame.body) >= _VERSIONS.size:
        major, minor, version, _ = _VERSIONS.unpack_from(frame.body)
        text = version.rstrip(b"\0").decode("ascii", "replace")
        if _VERSION.fullmatch(text):
            return PeerVersion((major, minor), text, frame.protocol)
    if frame.protocol == PROTOCOL:
        raise ProtocolError("the other side sent an invalid version")
    return PeerVersion((0, 0), "0.0", frame.protocol)
