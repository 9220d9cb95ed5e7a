"""Finds the host at one of its addresses, and proves itself to it."""

import random
import selectors
import ssl
import time
from collections.abc import Collection, Sequence

from mirai_executor._transport import FarLink, Link, LinkClosedError, dial
from mirai_executor._waiting import Deadline
from mirai_executor.credentials import (
    LARGEST_FRAME,
    NO_CERTIFICATE,
    DaemonCredentials,
    DaemonHandshake,
    Opener,
    ProtocolError,
    Sealer,
    VersionMismatchError,
    WrongCertificateError,
    WrongSecretError,
)
from mirai_executor.errors import LaunchError
from mirai_executor.urls import Url

from ._options import ExitCode

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
    (WrongCertificateError, ExitCode.UNTRUSTED, "somebody stands between daemon and host"),
    (LaunchError, ExitCode.BROKEN, "something is not installed here"),
)
_BY_ANYBODY = (WrongSecretError, ssl.SSLCertVerificationError)  # who needs no secret to say so


def connect(
    urls: Sequence[Url], credentials: DaemonCredentials, retry: float, *, stays: bool = False
) -> FarLink:
    """Return a link to the host, which has proved itself and admitted us.

    Tries each address in turn, then all of them again after ever longer pauses, a random part of
    each left out, so that daemons that started together do not come together.

    Args:
        urls: The addresses of the host, best first.
        credentials: What proves who is who.
        retry: For how many seconds to go on when nobody answers.
        stays: Whether to go on, too, when a stranger answers, whose place the host may take.

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
            except (OSError, LaunchError) as error:
                failures[url] = error
        text = "; ".join(f"{url}: {_describe(error)}" for url, error in failures.items())
        rest = deadline.left
        if not rest or _is_final(failures.values(), stays=stays):
            raise _not_connected(failures.values(), text)
        time.sleep(min(rest, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - to spread, not to hide
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_final(failures: Collection[Exception], *, stays: bool) -> bool:
    """Tell whether no further round will change anything."""
    kinds = tuple(kind for kind, _, _ in _FINAL)
    final = [error for error in failures if isinstance(error, kinds)]
    if any(not isinstance(error, (*_BY_ANYBODY, LaunchError)) for error in final):
        return True
    if all(isinstance(error, LaunchError) for error in failures):
        return True
    # The host may still be behind another address, or come back to this one.
    return bool(final) and not stays and len(final) == len(failures)


def _not_connected(failures: Collection[Exception], text: str) -> NotConnectedError:
    for kind, code, what in _FINAL:
        if any(isinstance(error, kind) for error in failures):
            return NotConnectedError(code, f"{what}: {text}")
    return NotConnectedError(ExitCode.UNREACHABLE, f"cannot reach the host: {text}")


def _connect(url: Url, credentials: DaemonCredentials) -> FarLink:
    trust, name = credentials.certificate, credentials.server_name
    deadline = Deadline(_PATIENCE)
    stream = dial(url, _PATIENCE, trust, name, credentials.tls_minimum)
    shown = getattr(stream, "certificate", None) or NO_CERTIFICATE
    handshake = DaemonHandshake(credentials.secret, certificate=shown)
    link = Link(stream, blocking=False)
    try:
        return _prove(link, handshake, deadline, sealed=not url.is_tls and url.scheme != "ipc")
    except BaseException:
        link.close()
        raise


def _prove(link: Link, handshake: DaemonHandshake, deadline: Deadline, *, sealed: bool) -> FarLink:
    """Go through the handshake; return what goes on from there.

    Raises:
        OSError: It has failed.
    """
    link.largest = LARGEST_FRAME
    try:
        link.send(handshake.hello())
        while not handshake.is_done:
            frame = link.receive()
            if frame is None:
                _await(link, deadline)
            elif (answer := handshake.receive(bytes(frame))) is not None:
                link.send(answer)
    except ProtocolError as error:
        if error.reply is not None:
            link.send(error.reply)
        raise
    keys = handshake.keys
    seals = (Sealer(keys.to_host), Opener(keys.to_daemon)) if sealed and keys is not None else ()
    return FarLink(link, *seals)


def _await(link: Link, deadline: Deadline) -> None:
    """Wait until there is more to read, or to send; the deadline is for all that comes."""
    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.has_more_to_send else 0)
    if not deadline.left or not deadline.wait_for(link.fileno(), events):
        raise LinkClosedError("no answer in time")
    link.flush()


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate is not trusted: {error.verify_message}"
        if error.verify_code in _OUT_OF_TIME:
            text += time.strftime(" (the clock here says %Y-%m-%d %H:%M UTC)", time.gmtime())
        return text
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
