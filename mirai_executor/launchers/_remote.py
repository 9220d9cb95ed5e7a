"""Starts daemons with any command, for machines and schedulers that have no launcher."""

import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ._daemon import SEAT, Command, DaemonCommand, Submission, Until, exports
from ._script import asks_for_number, filled, guarded, lines_of, shell_words, words_of
from ._seats import JOBS, seat_of


@dataclass(frozen=True)
class RemoteConfig:
    """How to start daemons with a command; made by :func:`remote_config`."""

    command: tuple[str, ...]
    args: tuple[str, ...]
    python: tuple[str, ...] = (sys.executable,)
    quote: bool = False
    stdin: bool = False
    stays: bool = False
    prologue: tuple[str, ...] = ()
    shell: tuple[str, ...] = ("/bin/sh",)

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return the command, once for each of ``count`` daemons."""
        asks = any(map(asks_for_number, self.args))
        # What stays may stay in the place of one that is lost, and has its number then.
        numbers = daemon.take(JOBS, count)[0] if asks else range(1, count + 1)
        each = zip(daemon.each(count), numbers, strict=True)
        return [
            self._command(one, number, {SEAT: seat_of(JOBS, number)} if asks else {})
            for one, number in each
        ]

    def _command(self, daemon: DaemonCommand, number: int, seat: Mapping[str, str]) -> Command:
        argv = daemon.argv(self.python)
        script = "\n".join(
            [
                *guarded(self.prologue),
                *exports(daemon),
                *(f"export {name}={value}" for name, value in seat.items()),
                f"exec {shlex.join(argv)}",
                "",
            ]
        )
        inserted = self.shell if self.stdin else argv
        if self.quote:
            inserted = (shlex.join(inserted),)
        words = list(self.command)
        own = {"number": str(number), "name": f"mirai-{secrets.token_hex(4)}-{number}"}
        for word in self.args:
            words += inserted if word == "." else (filled(word, own),)
        return Command(
            tuple(words),
            stdin=script.encode() if self.stdin else b"",
            environment=() if self.stdin else (*daemon.environment.items(), *seat.items()),
            until=Until.START if self.stays else Until.EXIT,
            secret=daemon.secret,
        )


def remote_config(
    command: str | Sequence[str],
    args: Sequence[str] = (".",),
    *,
    python: str | Sequence[str] | None = None,
    quote: bool = False,
    stdin: bool = False,
    stays: bool = False,
    prologue: str | Sequence[str] = (),
    shell: str | Sequence[str] = "/bin/sh",
) -> RemoteConfig:
    """Describe how to start daemons with a command of your own. Runs nothing yet.

    The command is run once for each daemon.

    Args:
        command: The command, or its words.
        args: Its arguments. The one that equals ``"."`` is replaced by the daemon's command. In
            the others, ``{number}`` is the number of the daemon, from 1; one that comes for a lost
            one gets its number. ``{name}`` is a name that no other daemon has, such as
            ``mirai-5f1d8c2e-1``.
        python: The Python interpreter where the daemon runs, or the words of a command that runs
            it; by default, the path of the current one.
        quote: Whether to pass the daemon's command as one argument, quoted for a shell, as
            ``sbatch --wrap`` needs it; otherwise each of its words is an argument.
        stdin: How the secret gets there. By default it is in the environment of the command, which
            must pass it on. If True, ``"."`` is replaced by the shell, and the daemon's command
            and the secret are sent to its standard input, as for ``docker run -i``.
        stays: Whether the command runs as long as its daemon, as ``srun`` does; otherwise it must
            end at once with status 0, as ``sbatch`` does.
        prologue: Lines of shell that prepare the environment; only with ``stdin=True``. A line
            that fails ends the script; they have no standard input.
        shell: What runs the script of ``stdin=True``, such as ``"bash -l"``.

    Returns:
        A launcher for ``remote=``, as plain, immutable data that can be printed and used again.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: No argument equals ``"."``, or a word is empty or contains control characters.

    Example:
        >>> launcher = remote_config("sbatch", ["--mem=1G", "--wrap", "."], quote=True)
        >>> launcher.args
        ('--mem=1G', '--wrap', '.')
    """
    if isinstance(args, str) or not hasattr(args, "__iter__") or "." not in args:
        raise ValueError(
            f"args must be a list of strings, one of them '.' for the daemon's command, "
            f"not {args!r}"
        )
    if prologue and not stdin:
        raise ValueError("prologue= needs stdin=True: without it, no shell runs the command")
    return RemoteConfig(
        words_of(command),
        words_of(args),
        words_of(python or sys.executable),
        quote,
        stdin,
        stays,
        lines_of(prologue),
        shell_words(shell),
    )
