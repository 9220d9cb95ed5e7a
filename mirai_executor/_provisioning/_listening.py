"""Where daemons of other machines connect: addresses, and what those daemons must know."""

import errno
import os
import socket
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from mirai_executor._daemon_options import DaemonKeywords, words_for
from mirai_executor._host import ListenConfig
from mirai_executor._nameless import occupy_streams
from mirai_executor._transport import listen, rehearse
from mirai_executor.credentials import (
    Certificate,
    DaemonCredentials,
    Password,
    Secret,
    Source,
    TlsVersion,
    given_secret,
    load_certificate,
    make_certificate,
    new_secret,
)
from mirai_executor.launchers import (
    Booking,
    Command,
    DaemonCommand,
    Launcher,
    PrivateFiles,
    Submission,
    Until,
    shell_command,
)
from mirai_executor.urls import Url, host_url

from ._submissions import files_of

_THIS_MACHINE = ""  # among those where daemons have seats

# As a daemon of this machine is started otherwise: a working directory must not get in the way.
# Its token comes by standard input, and stays neither there nor in what the kernel shows of it.
_PROGRAM = """\
import os, sys
os.environ[{name!r}] = os.read(0, 4096).decode()
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.close(nothing)
sys.path.append({home!r})
from mirai_executor.cli import main
sys.exit(main())
"""
_HOME = str(Path(__file__).resolve().parents[1])


class Listening:
    """Listens on addresses, and knows what a daemon needs in order to connect.

    Args:
        urls: The addresses; port 0 for a free one.
        tls: Certificate, signed by an authority, and key; None to make some for this executor.
        tls_password: The password of the key.
        tls_cert: What daemons trust, if it is not in ``tls``.
        tls_minimum: The oldest version of TLS that host and daemons speak.
        advertise: What daemons dial instead of the addresses; port 0 for the one that was found.
        compresses: Whether what is long is compressed on slow lines.

    Attributes:
        urls: What they dial.

    Raises:
        ValueError: An address or the certificate is invalid.
        OSError: Listening on an address failed.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        tls: Source | tuple[Source, Source] | None = None,
        tls_password: Password | None = None,
        tls_cert: Source | None = None,
        tls_minimum: str = "1.3",
        advertise: str | Sequence[str] | None = None,
        compresses: bool = False,
    ) -> None:
        occupy_streams()
        wanted = _parsed(urls)
        if not wanted:
            raise ValueError(
                "url must be at least one address to listen on, such as host_url(tls=True)"
            )
        elsewhere = [] if advertise is None else _checked(_parsed(advertise), wanted)
        oldest = TlsVersion(tls_minimum)
        certificate = _certificate(wanted, tls, tls_password, tls_cert, oldest)
        secret = _given() or new_secret()
        self._files = PrivateFiles()
        self.listen_config: ListenConfig = ListenConfig(
            listen(wanted), secret, certificate, self._files, compresses
        )
        try:
            self._own_urls = tuple(str(url) for url in self._dialable())
        except OSError:
            self.listen_config.close()
            raise
        self.urls: tuple[str, ...] = (
            tuple(str(self._with_port(url)) for url in elsewhere) or self._own_urls
        )
        self.listen_config = self.listen_config.changed(urls=self.urls)
        self.credentials: DaemonCredentials = DaemonCredentials(
            secret,
            "" if certificate is None else certificate.authority,
            "" if certificate is None else certificate.server_name,
            oldest,
        )
        self._warn()

    def _dialable(self) -> list[Url]:
        """Return the addresses as daemons dial them: "*" stands for each of this machine."""
        urls: list[Url] = []
        for listener in self.listen_config.listeners:
            url = listener.url
            if not url.is_wildcard:
                urls.append(url)
                continue
            # What an IPv4 socket has not heard cannot be dialled.
            hosts = [Url.parse(own).host for own in host_url()]
            here = [url.with_host(host) for host in hosts if listener.covers(host)]
            if not here:
                raise OSError(
                    errno.EADDRNOTAVAIL,
                    f"cannot listen on {url}: this machine has no address of that version; use "
                    f"{url.with_host('*')}",
                )
            urls += here
        return urls

    def _with_port(self, url: Url) -> Url:
        """Return what is advertised, with the port that was found if it has none of its own."""
        if url.scheme == "ipc" or url.port:
            return url
        ports = [
            one.url.port for one in self.listen_config.listeners if one.url.scheme == url.scheme
        ]
        return url.with_port(ports[0])

    def _warn(self) -> None:
        if self.urls == self._own_urls:
            for listener in self.listen_config.listeners:
                _warn_of_a_private_name(listener.url)
        open_ones = [url for url in self.urls if not _is_private(Url.parse(url))]
        if open_ones:
            warnings.warn(
                f"connections to {open_ones[0]} are authenticated but not encrypted: others on "
                "the network can read functions, arguments and results; use tls+tcp://",
                stacklevel=5,
            )

    def command(self, **options: Unpack[DaemonKeywords]) -> DaemonCommand:
        """Return what a daemon must know.

        Raises:
            TypeError: There is no such option, or a value has the wrong type.
            ValueError: A value is out of range.
        """
        return self._command(self.urls, options)

    def _command(self, urls: tuple[str, ...], options: DaemonKeywords) -> DaemonCommand:
        token = self.listen_config.secret.new_token()
        return DaemonCommand(urls, replace(self.credentials, secret=token), words_for(options))

    def plan(
        self,
        launcher: Launcher,
        count: int,
        request: str,
        booking: Booking | None = None,
        *,
        is_replaced: bool = False,
        **options: Unpack[DaemonKeywords],
    ) -> list[Submission]:
        """Return what has to be run for so many daemons; files are removed at the end.

        Args:
            launcher: Plans it.
            count: How many.
            request: The name by which they tell what they were started for.
            booking: The seats on machines that are free; None if all are.
            is_replaced: Whether others are requested in the place of those that are lost.
            **options: Those of the daemons.
        """
        urls = self._own_urls if isinstance(launcher, Here) else self.urls
        command = self._command(urls, options)
        named = replace(command, request=request, booking=booking, is_replaced=is_replaced)
        submissions = launcher.plan(named, count)
        for path in files_of(submissions):
            self._files.keep(path)
        return submissions

    def release(self, paths: Iterable[Path]) -> None:
        """Remove files that nobody reads any more."""
        self._files.release(paths)

    def shell_commands(
        self, python: str | None, count: int, **options: Unpack[DaemonKeywords]
    ) -> list[str]:
        """Return what starts so many daemons when it is pasted into shells elsewhere."""
        return [shell_command(self.command(**options), python or sys.executable)] * count


@dataclass(frozen=True)
class Here:
    """Starts daemons on this machine that connect as those on others do.

    Args:
        python: The interpreter that runs them.
    """

    python: str

    def rooms(self, count: int) -> dict[str, int]:
        """Return how many of so many daemons are for this machine: all."""
        return {_THIS_MACHINE: count}

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return a command for each daemon."""
        numbers, sharing = daemon.take(_THIS_MACHINE, count)
        each = zip(daemon.each(count), numbers, strict=True)
        return [self._command(one, number, sharing) for one, number in each]

    def _command(self, daemon: DaemonCommand, number: int, count: int) -> Command:
        name, environment = daemon.apart()
        program = _PROGRAM.format(home=_HOME, name=name)
        _, _, _, _, *words = daemon.argv((self.python,))
        own = {
            "MIRAI_EXECUTOR_HERE": "1",
            "MIRAI_EXECUTOR_DAEMONS": str(count),
            "MIRAI_EXECUTOR_NUMBER": str(number),
            "MIRAI_EXECUTOR_SEAT": f"{_THIS_MACHINE}/{number}",
        }
        return Command(
            (self.python, "-P", "-c", program, *words),
            stdin=daemon.secret.encode(),
            environment=(*environment.items(), *own.items()),
            until=Until.START,
            secret=daemon.secret,
        )


_remembered: Secret | None = None  # what the environment of this process had for its hosts


def _given() -> Secret | None:
    """Return the secret that the user has given, as where daemons outlive their host.

    It is taken out of the environment, so that neither tasks nor other children get it.
    """
    global _remembered  # for later executors of this process, as an environment would have it
    _remembered = given_secret(os.environ) or _remembered
    return _remembered


def _parsed(urls: str | Sequence[str]) -> list[Url]:
    several = not isinstance(urls, str) and hasattr(urls, "__iter__")
    return [Url.parse(url) for url in (urls if several else [urls])]  # type: ignore[arg-type]  # parse() checks


def _checked(advertised: Sequence[Url], wanted: Sequence[Url]) -> list[Url]:
    """Return addresses that are advertised, if daemons can dial them and speak as we listen."""
    schemes = {url.scheme for url in wanted}
    for url in advertised:
        if url.is_wildcard:
            raise ValueError(f"advertise must be an address that daemons can dial, not {url}")
        if url.scheme not in schemes:
            raise ValueError(
                f"advertise has {url}, but no address of url begins with {url.scheme}://: what "
                "stands in between passes on bytes, and does not translate them"
            )
    if not advertised:
        raise ValueError("advertise must be at least one address, or None")
    return list(advertised)


def _warn_of_a_private_name(url: Url) -> None:
    """Debian has a machine's own name stand for 127.0.1.1: nobody else can connect there."""
    if url.scheme == "ipc" or url.is_loopback or url.is_wildcard:
        return
    try:
        address = socket.gethostbyname(url.socket_host)
    except OSError:
        return
    if url.with_host(address).is_loopback:
        warnings.warn(
            f"only daemons of this machine can connect to {url}, since {url.host} stands for "
            f"{address} here (see /etc/hosts): use host_url(), or {url.scheme}://*:{url.port} "
            "with advertise=",
            stacklevel=6,
        )


def _certificate(
    urls: Sequence[Url],
    tls: Source | tuple[Source, Source] | None,
    password: Password | None,
    authority: Source | None,
    oldest: TlsVersion,
) -> Certificate | None:
    if not any(url.is_tls for url in urls):
        if tls is not None or authority is not None:
            raise ValueError(f"tls needs an encrypted address such as tls+tcp://, not {urls[0]}")
        if oldest is not TlsVersion.TLS_1_3:
            raise ValueError(
                f"tls_minimum needs an encrypted address such as tls+tcp://, not {urls[0]}"
            )
        return None
    if tls is None:
        return replace(make_certificate(), tls_minimum=oldest)
    found = replace(load_certificate(tls, password, authority), tls_minimum=oldest)
    if (
        found.authority
    ):  # else daemons trust what their machine does, which may differ from this one
        _check_trust(found)
    return found


def _check_trust(certificate: Certificate) -> None:
    """Try out here what daemons would only complain of where they run."""
    import ssl

    try:
        rehearse(certificate)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason or str(error)
        raise ValueError(
            f"daemons would not trust the certificate in tls, by the name that it bears, "
            f"{certificate.server_name!r}, and with what they are given to trust: {why}"
        ) from error


def _is_private(url: Url) -> bool:
    return url.is_tls or url.is_loopback
