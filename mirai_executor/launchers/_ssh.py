"""Starts daemons over SSH: one connection for each machine, which lasts as long as they do."""

import dataclasses
import re
import secrets
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import add
from typing import TypedDict

from mirai_executor._arguments import check_count, check_options
from mirai_executor.urls import Url

from ._daemon import (
    DAEMONS,
    NUMBER,
    SEAT,
    STARTED,
    Command,
    DaemonCommand,
    Submission,
    Until,
    checked_count,
    exports,
)
from ._script import guarded, lines_of, shell_words, words_of
from ._seats import seat_of

# Letters, digits and a few signs: a name reaches ssh, its ProxyCommand, and the shell of that.
_REMOTE = re.compile(
    r"(ssh://)?((?P<user>[\w.%@-]+)@)?(?P<host>\[[0-9A-Fa-f:.]+(%\w+)?\]|[\w.-]+)(:(?P<port>\d{1,5}))?/?",
    re.ASCII,
)
# What the user's configuration may hold for logins of their own, and would break this one. Older
# clients do not know all of it.
_OURS = (
    *("IgnoreUnknown=*", "RemoteCommand=none", "SessionType=default", "StdinNull=no"),
    *("ForkAfterAuthentication=no", "ControlMaster=no"),
)
# Seconds after which SSH asks whether the other side lives, three times at most: where a cable is
# cut, it would run for ever. Its daemons wait as long for their host.
_ALIVE = 20
# Below the ports that systems give to whoever connects.
_FIRST_PORT, _PORTS = 20_000, 12_000


class Machine(TypedDict, total=False):
    """What is different on one machine: the keywords of ``ssh_config``, and how many daemons."""

    python: str | Sequence[str]
    prologue: str | Sequence[str]
    daemons: int


@dataclass(frozen=True)
class Remote:
    """A machine to reach over SSH; if user or port are None, SSH's configuration decides.

    What else is None is as for the other machines.
    """

    host: str
    port: int | None = None
    user: str | None = None
    python: tuple[str, ...] | None = None
    prologue: tuple[str, ...] | None = None
    daemons: int | None = None

    @property
    def machine(self) -> str:
        """What it is called where the seats of daemons are counted."""
        return self.host if self.port is None else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class SshConfig:
    """How to start daemons over SSH; made by :func:`ssh_config`."""

    remotes: tuple[Remote, ...]
    tunnel: bool | int = False
    timeout: int = 10
    command: tuple[str, ...] = ("ssh",)
    python: tuple[str, ...] = (sys.executable,)
    options: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    shell: tuple[str, ...] = ("/bin/sh",)

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one command for each machine; it starts ``count`` daemons there.

        Raises:
            ValueError: A tunnel needs a host that listens on the loopback address.
        """
        if checked_count(count) == 0:
            return []
        return [self._login(remote, daemon, count) for remote in self.remotes]

    def _login(self, remote: Remote, daemon: DaemonCommand, count: int) -> Command:
        forward: list[str] = []
        refusal = ""
        if self.tunnel is not False:
            daemon, port, forward = _through_tunnel(daemon, self.tunnel)
            refusal = f"remote port forwarding failed for listen port {port}"
        script = "\n".join([*self._script(remote, daemon, count), ""]).encode()
        return Command(
            (*self._connect(remote, forward), shlex.join(self.shell)),
            stdin=script,
            until=Until.STARTED_LINE,
            secret=daemon.secret,
            refusal=refusal,
        )

    def total(self, count: int) -> int:
        """Return how many daemons :meth:`plan` starts, on all machines together."""
        return sum(count if it.daemons is None else it.daemons for it in self.remotes)

    def rooms(self, count: int) -> dict[str, int]:
        """Return how many of so many daemons on all machines together are for each of them."""
        shares = self._in_turn(count, 0)
        found = dict.fromkeys((it.machine for it in self.remotes), 0)
        for remote, share in zip(self.remotes, shares, strict=True):
            found[remote.machine] += share
        return found

    def _in_turn(self, count: int, first: int) -> list[int]:
        turns = [one for one, it in enumerate(self.remotes) for _ in range(it.daemons or 1)]
        shares = [0] * len(self.remotes)
        for number in range(first, first + count):
            shares[turns[number % len(turns)]] += 1
        return shares

    def spread(
        self, daemon: DaemonCommand, count: int, first: int, avoid: Collection[str] = ()
    ) -> list[Submission]:
        """Return commands that start so many daemons on all machines together.

        They start where some are missing, and otherwise on all machines in turn.

        Args:
            daemon: What they must know.
            count: How many.
            first: The number of the turn of the first one. In each round, a machine has as many
                turns as it has daemons of its own, or one.
            avoid: Machines that are to come by their turn only.
        """
        shares, rest = [0] * len(self.remotes), checked_count(count)
        if daemon.booking is not None:
            machines = [it.machine for it in self.remotes]
            shares, rest = daemon.booking.share(machines, count, avoid)
        shares = list(map(add, shares, self._in_turn(rest, first)))
        return [
            self._login(replace(remote, daemons=None), daemon, share)
            for remote, share in zip(self.remotes, shares, strict=True)
            if share
        ]

    def _connect(self, remote: Remote, forward: Sequence[str]) -> list[str]:
        # SSH takes the first value that it is given: the user's options outrank ours.
        options = [*self.options, "BatchMode=yes", f"ConnectTimeout={self.timeout}"]
        options += [f"ServerAliveInterval={_ALIVE}", *_OURS]
        if forward:
            # A forward of the user's own may fail, as where they are logged in already: only ours
            # counts, of which SSH tells. In a shared connection, it would outlive this login.
            options += ["ExitOnForwardFailure=no", "LogLevel=INFO", "ControlPath=none"]
        else:
            options.append("ClearAllForwardings=yes")
        words = [*self.command, "-T"]
        for option in options:
            words += ["-o", option]
        words += forward
        if remote.port is not None:
            words += ["-p", str(remote.port)]
        if remote.user is not None:
            words += ["-l", remote.user]
        return [*words, "--", remote.host]

    def _script(self, remote: Remote, daemon: DaemonCommand, count: int) -> list[str]:
        """Return the lines for the shell there.

        What the login shell has printed before does not matter: only standard error is read.
        """
        words = self.python if remote.python is None else remote.python
        count = count if remote.daemons is None else remote.daemons
        python, argv = shlex.join(words), shlex.join(daemon.argv(words))
        numbers, sharing = daemon.take(remote.machine, count)
        seat = seat_of(shlex.quote(remote.machine), "$number")
        return [
            *guarded(self.prologue if remote.prologue is None else remote.prologue),
            *exports(daemon),
            # The status is that of Python, or 127 from the shell; it says why by itself.
            f"{python} -P -c 'import mirai_executor' </dev/null >&2 || exit",
            # First: a host that has given up hears nothing, and no daemon is to come to nobody.
            f"echo {shlex.quote(STARTED)} >&2 || exit",
            "pids=",
            f"for number in {' '.join(map(str, numbers))}; do",
            f"    {NUMBER}=$number {DAEMONS}={sharing} \\",
            f"        {SEAT}={seat} {argv} </dev/null >&2 &",
            '    pids="$pids $!"',
            "done",
            "status=0",
            'for pid in $pids; do wait "$pid" || status=$?; done',
            'exit "$status"',
        ]


def ssh_config(
    remotes: str | Sequence[str] | Mapping[str, Machine],
    *,
    tunnel: bool | int = False,
    timeout: int = 10,
    command: str | Sequence[str] = "ssh",
    python: str | Sequence[str] | None = None,
    options: Sequence[str] = (),
    prologue: str | Sequence[str] = (),
    shell: str | Sequence[str] = "/bin/sh",
) -> SshConfig:
    """Describe how to start daemons over SSH. Connects nowhere yet.

    SSH must be able to log in without asking for a password.

    Args:
        remotes: The machines, as ``"ssh://user@10.75.32.90:222"``, ``"user@node"``,
            ``"ssh://[2001:db8::7]"`` or a name from SSH's configuration. As many daemons as are
            requested start on each of them. Or a dict from machines to what is different there:
            ``{"node7": {"python": "/opt/bin/python3", "daemons": 2}, "node8": {}}``, with any of
            ``python``, ``prologue`` and ``daemons`` (how many, whatever is requested).
        tunnel: Whether daemons reach the host through the SSH connection. The host must listen on
            127.0.0.1, see :func:`local_url`. On the other machine, a port from 20000 on is used
            that is chosen for each login; a number instead of True names it.
        timeout: How long SSH may take to connect, in whole seconds.
        command: The SSH client, or the words of a command that runs it.
        python: The Python interpreter on the machines, or the words of a command that runs it; by
            default, the path of the current one.
        options: SSH options, such as ``"StrictHostKeyChecking=accept-new"``.
        prologue: Lines of shell that prepare the environment there, such as ``". ~/.profile"``. A
            line that fails ends the launch; they have no standard input.
        shell: What runs them, such as ``"bash -l"``.

    Returns:
        A launcher for ``remote=``, as plain, immutable data that can be printed and used again.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A machine is invalid, or a word is empty or contains control characters.

    Example:
        >>> launcher = ssh_config(["node7", "ssh://user@10.75.32.90:222"])
        >>> [(remote.host, remote.port) for remote in launcher.remotes]
        [('node7', None), ('10.75.32.90', 222)]
    """
    own: Mapping[str, Machine] = remotes if isinstance(remotes, Mapping) else {}
    names = words_of(tuple(own) if isinstance(remotes, Mapping) else remotes)
    if not names:
        raise ValueError("remotes must name at least one machine")
    check_count("timeout", timeout, 1)
    if not isinstance(tunnel, (bool, int)):
        raise TypeError(f"tunnel must be True, False or a port, not {tunnel!r:.60}")
    if not isinstance(tunnel, bool):
        check_count("tunnel", tunnel, 1)
    return SshConfig(
        tuple(_remote(name, own.get(name, {})) for name in names),
        tunnel,
        timeout,
        words_of(command),
        words_of(python or sys.executable),
        words_of(options),
        lines_of(prologue),
        shell_words(shell),
    )


def _remote(text: str, own: Machine) -> Remote:
    parts = _REMOTE.fullmatch(text)
    # A leading hyphen would be an option to SSH, and options can run commands.
    if parts is None or any((part or "").startswith("-") for part in parts.group("user", "host")):
        raise ValueError(
            f"invalid machine {text!r}: expected something like 'ssh://user@10.75.32.90:22'"
        )
    port = int(parts["port"]) if parts["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"invalid port in {text!r}: expected 1 to 65535")
    check_options(own, tuple(Machine.__annotations__))
    check_count("daemons", own.get("daemons"), 1, optional=True)
    return Remote(
        parts["host"].strip("[]"),
        port,
        parts["user"],
        words_of(own["python"]) if "python" in own else None,
        lines_of(own["prologue"]) if "prologue" in own else None,
        own.get("daemons"),
    )


def _through_tunnel(
    daemon: DaemonCommand, tunnel: bool | int
) -> tuple[DaemonCommand, int, list[str]]:
    """Return what a daemon dials on the other machine, at which port, and the words for SSH.

    Each login has a port of its own, so that several can lead to one machine.
    """
    for number, url in enumerate(map(Url.parse, daemon.urls)):
        if url.scheme != "ipc" and url.is_loopback:
            here = url.with_host(url.socket_host)
            port = _FIRST_PORT + secrets.randbelow(_PORTS) if tunnel is True else int(tunnel)
            if url.scheme in ("ws", "wss"):  # whose requests name the port
                port = here.port
            there = dataclasses.replace(here, port=port)
            urls = (*daemon.urls[:number], str(there), *daemon.urls[number + 1 :])
            words = ["-R", f"{there.authority}:{here.authority}"]
            return dataclasses.replace(daemon, urls=urls), port, words
    raise ValueError(
        f"tunnel=True needs an executor that listens on 127.0.0.1, but this one listens on "
        f"{', '.join(daemon.urls)}; create it with url=local_url(tcp=True)"
    )
