"""Starts daemons over SSH: one connection for each machine, which lasts as long as they do."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mirai_executor._arguments import check_count
from mirai_executor.urls import Url

from ._daemon import (
    STARTED,
    Command,
    DaemonCommand,
    Submission,
    Until,
    checked_count,
    exports,
    lines_of,
    words_of,
)

__all__ = ["Remote", "SshConfig", "ssh_config"]

_REMOTE = re.compile(
    r"(ssh://)?((?P<user>[^@\s]+)@)?(?P<host>\[[0-9A-Fa-f:.]+(%\w+)?\]|[^@:/\[\]\s]+)(:(?P<port>\d{1,5}))?/?"
)


@dataclass(frozen=True)
class Remote:
    """A machine to reach over SSH; if user or port are None, SSH's configuration decides."""

    host: str
    port: int | None = None
    user: str | None = None


@dataclass(frozen=True)
class SshConfig:
    """How to start daemons over SSH; made by :func:`ssh_config`."""

    remotes: tuple[Remote, ...]
    tunnel: bool = False
    timeout: int = 10
    command: tuple[str, ...] = ("ssh",)
    python: tuple[str, ...] = (sys.executable,)
    options: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one command for each machine; it starts ``count`` daemons there.

        Raises:
            ValueError: A tunnel needs a host that listens on the loopback address.
        """
        if checked_count(count) == 0:
            return []
        forward = _forward(daemon) if self.tunnel else []
        script = "\n".join([*self._script(daemon, count), ""]).encode()
        return [
            Command(
                (*self._connect(remote, forward), "/bin/sh"),
                stdin=script,
                until=Until.STARTED_LINE,
                secret=daemon.secret,
            )
            for remote in self.remotes
        ]

    def total(self, count: int) -> int:
        """Return how many daemons :meth:`plan` starts, on all machines together."""
        return count * len(self.remotes)

    def spread(self, daemon: DaemonCommand, count: int, first: int) -> list[Submission]:
        """Return commands that start so many daemons on all machines together.

        Args:
            daemon: What they must know.
            count: How many.
            first: The number of the machine that gets the first one; others follow in turn.
        """
        each = [0] * len(self.remotes)
        for number in range(first, first + checked_count(count)):
            each[number % len(each)] += 1
        return [
            command
            for remote, share in zip(self.remotes, each, strict=True)
            for command in replace(self, remotes=(remote,)).plan(daemon, share)
        ]

    def _connect(self, remote: Remote, forward: Sequence[str]) -> list[str]:
        # SSH takes the first value that it is given: the user's options outrank ours.
        options = [*self.options, "BatchMode=yes", f"ConnectTimeout={self.timeout}"]
        if forward:
            options.append("ExitOnForwardFailure=yes")
        words = [*self.command, "-T"]
        for option in options:
            words += ["-o", option]
        words += forward
        if remote.port is not None:
            words += ["-p", str(remote.port)]
        if remote.user is not None:
            words += ["-l", remote.user]
        return [*words, "--", remote.host]

    def _script(self, daemon: DaemonCommand, count: int) -> list[str]:
        """Return the lines for the shell there.

        What the login shell has printed before does not matter: only standard error is read.
        """
        python, argv = shlex.join(self.python), shlex.join(daemon.argv(self.python))
        numbers = " ".join(map(str, range(1, count + 1)))
        return [
            *self.prologue,
            *exports(daemon),
            # The status is that of Python, or 127 from the shell; it says why by itself.
            f"{python} -c 'import mirai_executor' </dev/null >&2 || exit",
            "pids=",
            f"for number in {numbers}; do",
            f"    {argv} </dev/null >&2 &",
            '    pids="$pids $!"',
            "done",
            f"echo {shlex.quote(STARTED)} >&2",
            "status=0",
            'for pid in $pids; do wait "$pid" || status=$?; done',
            'exit "$status"',
        ]


def ssh_config(
    remotes: str | Sequence[str],
    *,
    tunnel: bool = False,
    timeout: int = 10,
    command: str | Sequence[str] = "ssh",
    python: str | Sequence[str] | None = None,
    options: Sequence[str] = (),
    prologue: str | Sequence[str] = (),
) -> SshConfig:
    """Describe how to start daemons over SSH. Connects nowhere yet.

    SSH must be able to log in without asking for a password.

    Args:
        remotes: The machines, as ``"ssh://user@10.75.32.90:222"``, ``"user@node"``,
            ``"ssh://[2001:db8::7]"`` or a name from SSH's configuration. As many daemons as are
            requested start on each of them.
        tunnel: Whether daemons reach the host through the SSH connection. The host must listen on
            127.0.0.1, see :func:`local_url`; the same port is used on the other machine.
        timeout: How long SSH may take to connect, in whole seconds.
        command: The SSH client, or the words of a command that runs it.
        python: The Python interpreter on the machines, or the words of a command that runs it; by
            default, the path of the current one.
        options: SSH options, such as ``"StrictHostKeyChecking=accept-new"``.
        prologue: Lines of shell that prepare the environment there, such as ``". ~/.profile"``.

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
    names = words_of(remotes)
    if not names:
        raise ValueError("remotes must name at least one machine")
    check_count("timeout", timeout, 1)
    return SshConfig(
        tuple(map(_remote, names)),
        tunnel,
        timeout,
        words_of(command),
        words_of(python or sys.executable),
        words_of(options),
        lines_of(prologue),
    )


def _remote(text: str) -> Remote:
    parts = _REMOTE.fullmatch(text)
    # A leading hyphen would be an option to SSH, and options can run commands.
    if parts is None or any((part or "").startswith("-") for part in parts.group("user", "host")):
        raise ValueError(
            f"invalid machine {text!r}: expected something like 'ssh://user@10.75.32.90:22'"
        )
    port = int(parts["port"]) if parts["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"invalid port in {text!r}: expected 1 to 65535")
    return Remote(parts["host"].strip("[]"), port, parts["user"])


def _forward(daemon: DaemonCommand) -> list[str]:
    """Return the words that forward the host's port to the same one of the other machine."""
    for url in map(Url.parse, daemon.urls):
        if url.scheme != "ipc" and url.is_loopback:
            place = url.with_host(url.socket_host).authority
            return ["-R", f"{place}:{place}"]
    raise ValueError(
        f"tunnel=True needs an executor that listens on 127.0.0.1, but this one listens on "
        f"{', '.join(daemon.urls)}; create it with url=local_url(tcp=True)"
    )
