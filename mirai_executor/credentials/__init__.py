"""Decides who may talk to whom: TLS certificates, the secret of an executor, and what proves it.

::

    new_secret ──► HostHandshake ⇄ DaemonHandshake ──► SessionKeys ──► Sealer ─ frames ─► Opener
    make_certificate, load_certificate ──► TLS

Nothing here touches a socket, pickles, or writes a secret anywhere.
"""

from ._handshake import (
    LARGEST_FRAME,
    NO_CERTIFICATE,
    DaemonHandshake,
    HostHandshake,
    ProtocolError,
    SessionKeys,
    VersionMismatchError,
    WrongCertificateError,
    WrongSecretError,
)
from ._peers import Peer
from ._seal import Opener, Sealer
from ._secret import DaemonCredentials, Secret, Token, TokenId, given_secret, new_secret
from ._tls import Certificate, TlsVersion, is_made_here, load_certificate, make_certificate

__all__ = [
    "LARGEST_FRAME",
    "NO_CERTIFICATE",
    "Certificate",
    "DaemonCredentials",
    "DaemonHandshake",
    "HostHandshake",
    "Opener",
    "Peer",
    "ProtocolError",
    "Sealer",
    "Secret",
    "SessionKeys",
    "TlsVersion",
    "Token",
    "TokenId",
    "VersionMismatchError",
    "WrongCertificateError",
    "WrongSecretError",
    "given_secret",
    "is_made_here",
    "load_certificate",
    "make_certificate",
    "new_secret",
]
