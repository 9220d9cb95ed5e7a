"""Makes a TLS connection behave like a plain non-blocking socket.

OpenSSL says "I want to read" where a socket says "it would block", and may want the one while it
is asked for the other. Here both become ``BlockingIOError``.
"""

import contextlib
import os
import socket
import ssl
import tempfile
from hashlib import sha256

from mirai_executor import _nameless
from mirai_executor.credentials import Certificate, TlsVersion, is_made_here

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # of OpenSSL; Python has no name for it
_RECORD = 1 << 14  # bytes: the longest piece that TLS sends at once
_VERSIONS = {
    TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2,
    TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3,
}


class _Connected(ssl.SSLSocket):
    """A socket of which ssl need not find out whether it is connected.

    Of one that was reset meanwhile, it would take its descriptor, and raise without closing it.
    """

    def getpeername(self) -> tuple[()]:
        """Return something: only whether this raises counts."""
        return ()


class TlsSocket:
    """One end of a TLS connection.

    Args:
        connection: A connected socket; owned from now on.
        context: Of :func:`server_context` or :func:`client_context`.
        server_name: What the certificate of the other side has to bear; None at a server.
    """

    def __init__(
        self, connection: socket.socket, context: ssl.SSLContext, server_name: str | None = None
    ) -> None:
        self._tls = context.wrap_socket(
            connection,
            server_side=server_name is None,
            server_hostname=server_name,
            do_handshake_on_connect=False,
        )

    def shake_hands(self) -> None:
        """Go on with the handshake of TLS until it is done.

        Raises:
            ssl.SSLWantReadError: It goes on once something has come.
            ssl.SSLWantWriteError: It goes on once something can be sent.
            OSError: It has failed.
        """
        self._tls.do_handshake()

    @property
    def certificate(self) -> bytes:
        """The SHA-256 of the certificate that the other side has shown; at a daemon."""
        return sha256(self._tls.getpeercert(binary_form=True) or b"").digest()

    @property
    def family(self) -> int:
        """The family of its addresses."""
        return self._tls.family

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option of the socket below."""
        self._tls.setsockopt(level, option, value)

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        return self._tls.fileno()

    def settimeout(self, seconds: float) -> None:
        """Wait for so long in each call."""
        self._tls.settimeout(seconds)

    def setblocking(self, blocking: bool, /) -> None:
        """Wait in calls, or do not."""
        self._tls.setblocking(blocking)

    def recv(self, size: int, _flags: int = 0, /) -> bytes:
        """Receive up to ``size`` bytes: all that OpenSSL has read, or nobody would come for it."""
        data = self._receive(size)
        while len(data) < size and self._tls.pending():
            data += self._receive(size - len(data))
        return data

    def _receive(self, size: int) -> bytes:
        try:
            return self._tls.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def recv_into(self, buffer: memoryview, _size: int = 0, _flags: int = 0, /) -> int:
        """Receive into a buffer; return how many bytes."""
        try:
            return self._tls.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def send(self, data: memoryview, _flags: int = 0, /) -> int:
        """Send the beginning of some data; return how much. Who has to wait, sends it again."""
        try:
            return self._tls.send(data[:_RECORD])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def sendall(self, data: bytes | bytearray | memoryview, _flags: int = 0, /) -> None:
        """Send all of it; for one that blocks."""
        self._tls.sendall(data)

    def close(self) -> None:
        """Close the connection, without a word."""
        self._tls.close()


def rehearse(certificate: Certificate) -> None:
    """Have a host and a daemon shake hands over a certificate, here and now, without a network.

    Raises:
        ssl.SSLError: It cannot work.
    """
    to_host, to_daemon = ssl.MemoryBIO(), ssl.MemoryBIO()
    host = server_context(certificate).wrap_bio(to_host, to_daemon, server_side=True)
    name = certificate.server_name
    trust = client_context(certificate.authority, certificate.tls_minimum, name)
    daemon = trust.wrap_bio(to_daemon, to_host, server_hostname=name)
    for _ in range(3):  # TLS 1.2 needs as many turns
        for side in (daemon, host):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Return what a listener needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _Connected
    context.minimum_version = _VERSIONS[certificate.tls_minimum]
    # A daemon connects once: tickets to come back faster with would be for nothing.
    context.num_tickets = 0  # of TLS 1.3
    context.options |= ssl.OP_NO_TICKET  # of TLS 1.2
    # In TLS 1.2, either side could begin the handshake anew: what sends would have to read first.
    context.options |= ssl.OP_NO_RENEGOTIATION
    pem = (certificate.certificate + certificate.key).encode()
    # OpenSSL reads keys from files only, by their name: that of a descriptor, where it has one.
    with contextlib.suppress(OSError):
        fd = _nameless.create("mirai-key", pem)
        try:
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return context
    with tempfile.NamedTemporaryFile(prefix="mirai-") as file:  # readable to this user alone
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def client_context(
    authority: str, tls_minimum: TlsVersion = TlsVersion.TLS_1_3, server_name: str = ""
) -> ssl.SSLContext:
    """Return what a daemon needs to recognise its host.

    Args:
        authority: The certificates that it trusts, as PEM; empty for those of the system.
        tls_minimum: The oldest version of TLS that it speaks.
        server_name: The name that the certificate of the host will bear, if that is known.

    Raises:
        ssl.SSLError: They are not certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _Connected
    context.minimum_version = _VERSIONS[tls_minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION
    # What was given is what is trusted, though it may have an issuer of its own.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if is_made_here(server_name):
        context.verify_flags |= _NO_CHECK_TIME
    if authority:
        context.load_verify_locations(cadata=authority)
    else:
        context.load_default_certs()
    return context
