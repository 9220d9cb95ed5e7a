"""Describes what starts a remote daemon, as data: its command, its script, its environment.

::

    DaemonCommand ── plan(daemon, count) of a launcher ──► [Submission] ── launch() ──► daemons

No command line contains the secret: it travels in the environment of a process, or in a script on
standard input. So do certificates and names, which keeps command lines short.
"""

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import urlsplit

from mirai_executor.urls import Url

from ._jobs import JobRequest
from ._queue import Queue
from ._script import words_of
from ._seats import Booking

if TYPE_CHECKING:
    from mirai_executor.credentials import DaemonCredentials

# Variables for each of several daemons that share a machine: its place among them, counted from 1,
# and how many they are. By these, they divide its GPUs and processors.
NUMBER, DAEMONS = "MIRAI_EXECUTOR_NUMBER", "MIRAI_EXECUTOR_DAEMONS"
# And for each daemon whose number is to be that of its successor: what it tells its host of it.
SEAT = "MIRAI_EXECUTOR_SEAT"
STARTED = "mirai-executor: daemons started"
# What this process has of these, if it is a daemon itself, says nothing of those that it starts.
# The last two: whether a daemon is on the machine of its host, and where that is.
_OF_THIS_PROCESS = (NUMBER, DAEMONS, SEAT, "MIRAI_EXECUTOR_HERE", "MIRAI_EXECUTOR_HOST")


@dataclass(frozen=True)
class DaemonCommand:
    """What a daemon must know, wherever it is started.

    Args:
        urls: The addresses of the host, in the order in which it tries them.
        credentials: How it authenticates, and recognises the host.
        options: More words of its command line.
        request: What it says when it comes, for the host to know what it was started for.
        booking: The seats on machines that are free; None if all are.
        is_replaced: Whether the host asks for another one when it is lost: a scheduler that runs
            its job again would bring one too many.

    Raises:
        ValueError: Daemons cannot connect to an address, or a word cannot be part of a command.

    Example:
        >>> from mirai_executor.credentials import DaemonCredentials, new_secret
        >>> from mirai_executor.launchers import DaemonCommand
        >>> daemon = DaemonCommand(("tcp://10.0.0.1:5555",), DaemonCredentials(new_secret()))
        >>> daemon.argv(["python3"])
        ('python3', '-P', '-m', 'mirai_executor', 'daemon', 'tcp://10.0.0.1:5555')
        >>> list(daemon.environment)
        ['MIRAI_EXECUTOR_SECRET']
    """

    urls: tuple[str, ...]
    credentials: "DaemonCredentials"
    options: tuple[str, ...] = ()
    request: str = ""
    booking: Booking | None = field(default=None, repr=False, compare=False)
    is_replaced: bool = False

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("a daemon needs at least one address of the host")
        for url in map(Url.parse, self.urls):
            if url.is_wildcard or (url.scheme != "ipc" and url.port == 0):
                raise ValueError(
                    f"daemons cannot connect to {url}: it names no single host and port, and is "
                    "only an address to listen on"
                )
        words_of([*self.options, *self._request_words])

    @property
    def _request_words(self) -> tuple[str, ...]:
        return ("--request", self.request) if self.request else ()

    def each(self, count: int) -> list[Self]:
        """Return what each of some daemons must know that are started one by one.

        Each has a token of its own: it cannot pose as the host to the others, and does not come
        back once the host has let it go. Daemons that are started by one command share a token.
        Each also has a name of its own, by which the host knows whose job it is.

        Args:
            count: How many there are.

        Raises:
            ValueError: The number is negative.

        Example:
            >>> from mirai_executor.credentials import DaemonCredentials, new_secret
            >>> from mirai_executor.launchers import DaemonCommand
            >>> token = new_secret().new_token()
            >>> daemon = DaemonCommand(("tcp://10.0.0.1:5555",), DaemonCredentials(token))
            >>> one, other = daemon.each(2)
            >>> one.urls == other.urls, one.secret == other.secret
            (True, False)
        """
        from mirai_executor.credentials import Token  # which local daemons do without

        found = [
            replace(self, request=self.request and f"{self.request}.{secrets.token_hex(4)}")
            for _ in range(checked_count(count))
        ]
        launch = self.credentials.secret
        if not isinstance(launch, Token):
            return found
        return [
            replace(one, credentials=replace(self.credentials, secret=launch.new_member()))
            for one in found
        ]

    def take(self, machine: str, count: int) -> tuple[tuple[int, ...], int]:
        """Take seats on a machine that daemons share, such as its GPUs.

        The successor of a lost daemon gets its number. For that, each must find its seat in
        its environment: ``MIRAI_EXECUTOR_SEAT``, the name of the machine, "/" and the number.

        Args:
            machine: What it is called, here and by other launches.
            count: How many daemons are to start there.

        Returns:
            Their numbers, counted from 1, and how many daemons share the machine in all.

        Example:
            >>> from mirai_executor.credentials import DaemonCredentials, new_secret
            >>> from mirai_executor.launchers import DaemonCommand
            >>> daemon = DaemonCommand(("tcp://10.0.0.1:5555",), DaemonCredentials(new_secret()))
            >>> daemon.take("node7", 2)
            ((1, 2), 2)
        """
        booking = Booking({}) if self.booking is None else self.booking
        return booking.take(machine, count)

    def argv(self, python: Sequence[str]) -> tuple[str, ...]:
        """Return the command line, without anything that others must not see."""
        # -P: what lies in the folder where it starts must not be imported, as a random.py there.
        return (
            *python,
            "-P",
            "-m",
            "mirai_executor",
            "daemon",
            *self.urls,
            *self.options,
            *self._request_words,
        )

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that the daemon must find in its environment."""
        return self.credentials.environment

    @property
    def secret(self) -> str:
        """Return the text that no message may show."""
        return self.credentials.secret.text

    def apart(self) -> tuple[str, dict[str, str]]:
        """Return the variable that holds the secret, and the others, which others may see.

        For launchers that have a better way for the secret, such as standard input or a file.

        Returns:
            The name of the variable, and the variables of :attr:`environment` without it.

        Example:
            >>> from mirai_executor.credentials import DaemonCredentials, new_secret
            >>> from mirai_executor.launchers import DaemonCommand
            >>> daemon = DaemonCommand(("tcp://10.0.0.1:5555",), DaemonCredentials(new_secret()))
            >>> daemon.apart()
            ('MIRAI_EXECUTOR_SECRET', {})
        """
        variables = self.environment
        (name,) = (name for name, value in variables.items() if value == self.secret)
        del variables[name]
        return name, variables


class Until(Enum):
    """When a command has done what it was run for.

    ``EXIT`` when it has ended with status 0, ``STARTED_LINE`` when it has written
    ``mirai-executor: daemons started`` to its standard error, ``START`` as soon as it runs. A
    command of the last two kinds runs as long as its daemons, and is ended with the executor.

    Example:
        >>> from mirai_executor.launchers import Command, Until
        >>> Command(("sbatch",)).until is Until.EXIT
        True
    """

    EXIT = "it has ended well, as one that hands a job to a queue"
    STARTED_LINE = "it has written STARTED; it runs as long as its daemons"
    START = "it runs; it does so as long as its daemon"


@dataclass(frozen=True)
class PrivateFile:
    """A file to write before a command runs, readable only by this user.

    Args:
        path: Where; a file that is there already is replaced. Others must not be able to write to
            the folder.
        text: What; it is not part of the ``repr``.
        makes_folder: Whether to make the folder if it is missing.

    Example:
        >>> from pathlib import Path
        >>> from mirai_executor.launchers import PrivateFile
        >>> PrivateFile(Path("/shared/secret.sh"), "export TOKEN=17")
        PrivateFile(path=PosixPath('/shared/secret.sh'))
    """

    path: Path
    text: str = field(repr=False)
    makes_folder: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Command:
    """A command to run on this machine, which starts one or more daemons.

    Args:
        argv: The command line.
        stdin: Its standard input.
        environment: Variables added to its environment, as pairs of name and value.
        files: Files to write before it runs.
        until: When the launch is complete.
        secret: A text that messages must not show.
        refusal: What its standard error says if no daemons will come although it goes on; only
            with ``Until.STARTED_LINE``.
        queue: Where it puts a job, of which it prints the id; None if it does nothing like that.

    Example:
        >>> from mirai_executor.launchers import Command, Until
        >>> command = Command(("srun", "job.sh"), until=Until.START, secret="1701")
        >>> command.argv, "1701" in repr(command)
        (('srun', 'job.sh'), False)
    """

    argv: tuple[str, ...]
    stdin: bytes = field(default=b"", repr=False)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    files: tuple[PrivateFile, ...] = ()
    until: Until = Until.EXIT
    secret: str = field(default="", repr=False)
    refusal: str = ""
    queue: Queue | None = field(default=None, repr=False)


@dataclass(frozen=True)
class HttpRequest:
    """A request to a service that starts one daemon.

    Args:
        method: The method, such as ``"POST"``.
        url: Where to send it, ``http://`` or ``https://``. Redirects are not followed. Messages
            and the ``repr`` leave its query out.
        headers: Pairs of name and value; values are not part of messages or of the ``repr``.
        body: What to send.
        secret: A text that messages must not show.

    Example:
        >>> from mirai_executor.launchers import HttpRequest
        >>> HttpRequest("POST", "https://hub/api/jobs", body=b"{}")
        HttpRequest(method='POST', url='https://hub/api/jobs')
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    secret: str = field(default="", repr=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(method={self.method!r}, url={self.place!r})"

    @property
    def place(self) -> str:
        """Return the address without the part that may hold a key."""
        return without_query(self.url)


Submission = Command | HttpRequest | JobRequest


class Launcher(Protocol):
    """A way to start daemons elsewhere: plain data, which can be printed and used again.

    Any object with such a method ``plan`` is one, and can be passed as ``remote=``.

    Example:
        >>> import sys
        >>> from mirai_executor.launchers import Command, Until
        >>> class Nice:
        ...     def plan(self, daemon, count):
        ...         return [self.command(each) for each in daemon.each(count)]
        ...     def command(self, daemon):
        ...         words = ("nice", *daemon.argv([sys.executable]))
        ...         secret = tuple(daemon.environment.items())
        ...         return Command(words, environment=secret, until=Until.START)
        >>> with MiraiExecutor(1, url=local_url(), remote=Nice()) as executor:
        ...     executor.submit(abs, -1).result()
        1
    """

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return what to run, or to request, for ``count`` daemons. Does nothing yet."""


def shell_command(daemon: DaemonCommand, python: str | Sequence[str] = "python3") -> str:
    """Return the text that starts a daemon when it is pasted into a shell elsewhere.

    It contains a token: anyone who reads it can run code as its owner, until the executor ends.
    A blank before it keeps it out of the history of most shells.

    Args:
        daemon: What the daemon must know.
        python: The Python interpreter there, or the words of a command that runs it.

    Example:
        >>> from mirai_executor.credentials import DaemonCredentials, new_secret
        >>> from mirai_executor.launchers import DaemonCommand, shell_command
        >>> daemon = DaemonCommand(("tcp://10.0.0.1:5555",), DaemonCredentials(new_secret()))
        >>> shell_command(daemon).lstrip().partition(" ")[2]
        'python3 -P -m mirai_executor daemon tcp://10.0.0.1:5555'
    """
    words = shlex.join(daemon.argv(words_of(python)))
    # Bash (with HISTCONTROL=ignorespace or ignoreboth, as Debian has it), zsh and fish forget what
    # begins with a blank.
    return " ".join(["", *_assignments(daemon.environment), words])


def exports(daemon: DaemonCommand, secret_file: Path | None = None) -> list[str]:
    """Return the lines of a shell script that set the daemon's environment.

    A script may have been told to print what it runs; that stops before the secret.

    Args:
        daemon: What the daemon must know.
        secret_file: Where the script finds the secret; None to write it into the script.
    """
    environment = daemon.environment
    lines = ["{ set +xv; } 2>/dev/null"]
    if secret_file is not None:
        name, environment = daemon.apart()
        lines.append(_reading(name, secret_file))
    return [*lines, *_assignments(environment), f"export {' '.join(daemon.environment)}"]


def _reading(name: str, file: Path) -> str:
    """Return a line that reads a variable from a file of this user, and runs none of it."""
    path = shlex.quote(str(file))
    why = shlex.quote(
        f"mirai-executor: cannot read the secret in {file}: the executor has ended, or does not "
        "need this job any more, or this machine does not share that folder, see secret_folder="
    )
    return f"[ -O {path} ] && IFS= read -r {name} <{path} || {{ echo {why} >&2; exit 2; }}"


def environment_for(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command that starts daemons: this process's, and variables."""
    found = {name: value for name, value in os.environ.items() if name not in _OF_THIS_PROCESS}
    return {**found, **variables}


def without_query(url: str) -> str:
    """Return an address as messages may show it: services are given keys behind the "?"."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def checked_count(count: int) -> int:
    """Return a number of daemons, which must not be negative."""
    if count < 0:
        raise ValueError(f"the number of daemons must be >= 0, not {count}")
    return count


def _assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
