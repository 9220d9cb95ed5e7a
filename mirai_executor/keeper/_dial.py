"""Finds the host at one of its addresses, and proves itself to it."""

import random
import ssl
import time
from collections.abc import Sequence

from mirai_executor._transport import (
    FarLink,
    Link,
    LinkClosedError,
    TlsSocket,
    client_context,
    dial,
)
from mirai_executor._waiting import Deadline
from mirai_executor.credentials import (
    LARGEST_FRAME,
    DaemonCredentials,
    DaemonHandshake,
    Opener,
    ProtocolError,
    Sealer,
    VersionMismatchError,
    WrongSecretError,
)
from mirai_executor.urls import Url

from ._options import ExitCode

__all__ = ["NotConnectedError", "connect"]

_PATIENCE = 10.0  # seconds for one address to answer
_OUT_OF_TIME = (9, 10)  # OpenSSL's codes: not valid yet, expired
_PAUSE, _LONGEST_PAUSE = 0.5, 15.0  # seconds between two rounds


class NotConnectedError(Exception):
    """The host could not be reached, refused us, or is not the right one.

    Attributes:
        code: The exit code that says which.
    """

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


# What an address can answer that no second try will change, what it means, and in whose words.
_FINAL: tuple[tuple[type[Exception], ExitCode, str], ...] = (
    (VersionMismatchError, ExitCode.WRONG_VERSION, "host and daemon are not compatible"),
    (
        WrongSecretError,
        ExitCode.WRONG_SECRET,
        "this is not the host that the daemon was started for",
    ),
    (
        ssl.SSLCertVerificationError,
        ExitCode.UNTRUSTED,
        "this is not the host that the daemon was started for",
    ),
)


def connect(urls: Sequence[Url], credentials: DaemonCredentials, retry: float) -> FarLink:
    """Return a link to the host, which has proved itself and admitted us.

    Tries each address in turn, then all of them again after ever longer pauses, a random part of
    each left out, so that daemons that started together do not come together.

    Args:
        urls: The addresses of the host, best first.
        credentials: What proves who is who.
        retry: For how many seconds to go on when nobody answers.

    Raises:
        NotConnectedError: No host answered in time, or only wrong ones did.
    """
    deadline = Deadline(retry)
    pause = _PAUSE
    while True:
        failures: dict[Url, Exception] = {}
        for url in urls:
            try:
                return _connect(url, credentials)
            except OSError as error:
                failures[url] = error
        text = "; ".join(f"{url}: {_describe(error)}" for url, error in failures.items())
        for kind, code, what in _FINAL:
            if any(isinstance(error, kind) for error in failures.values()):
                raise NotConnectedError(code, f"{what}: {text}")
        rest = deadline.left
        if not rest:
            raise NotConnectedError(ExitCode.UNREACHABLE, f"cannot reach the host: {text}")
        time.sleep(min(rest, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - to spread, not to hide
        pause = min(2 * pause, _LONGEST_PAUSE)


def _connect(url: Url, credentials: DaemonCredentials) -> FarLink:
    trust, name = credentials.certificate, credentials.server_name
    connection = dial(url, _PATIENCE, trust, name, credentials.tls_minimum)
    link = None
    try:
        tls = None
        if url.scheme == "tls+tcp":  # wss has done it already
            context = client_context(trust, credentials.tls_minimum, name)
            tls = TlsSocket(connection, context, name or url.host)
            tls.shake_hands()
        link = Link(tls or connection, blocking=True)
        (tls or connection).settimeout(_PATIENCE)
        return _prove(link, credentials, sealed=not url.is_tls and url.scheme != "ipc")
    except BaseException:
        (link or connection).close()
        raise


def _prove(link: Link, credentials: DaemonCredentials, *, sealed: bool) -> FarLink:
    """Go through the handshake; return what goes on from there.

    Raises:
        OSError: It has failed.
    """
    handshake = DaemonHandshake(credentials.secret)
    link.largest = LARGEST_FRAME
    try:
        link.send(handshake.hello())
        while not handshake.is_done:
            frame = link.receive()
            if frame is None:
                raise LinkClosedError("no answer in time")
            if (answer := handshake.receive(bytes(frame))) is not None:
                link.send(answer)
    except ProtocolError as error:
        if error.reply is not None:
            link.send(error.reply)
        raise
    keys = handshake.keys
    seals = (Sealer(keys.to_host), Opener(keys.to_daemon)) if sealed and keys is not None else ()
    return FarLink(link, *seals)


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate is not trusted: {error.verify_message}"
        if error.verify_code in _OUT_OF_TIME:
            text += time.strftime(" (the clock here says %Y-%m-%d %H:%M UTC)", time.gmtime())
        return text
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
