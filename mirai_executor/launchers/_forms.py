"""What schedulers are handed that do not read the script of a job from standard input."""

import shlex
from collections.abc import Sequence
from pathlib import Path

# The script travels with the job, as a machine need not see the folder where it is.
_CONDOR = """\
universe = vanilla
executable = /bin/sh
transfer_executable = false
should_transfer_files = YES
transfer_input_files = {path}
arguments = {name}
"""
# Jobs of a cluster count from 0, as $(Process); functions of macros such as $INT take no sums.
_NUMBERED = "MiraiNumber = $(Process) + 1"


def description(script: Path, options: Sequence[str], n: int) -> bytes:
    """Return a submit description of HTCondor; what the user says of the same is said later.

    Each of several jobs is told its number as an argument.
    """
    lines = _CONDOR.format(path=script, name=script.name).splitlines()
    if n > 1:
        lines[-1] += " $INT(MiraiNumber)"
        lines.insert(-1, _NUMBERED)
    return "\n".join([*lines, *options, f"queue {n}", ""]).encode()


def command_line(script: Path, prefix: str, options: Sequence[str], array: str) -> list[str]:
    """Return the words that OAR gets: options, and a command for the shell of the node."""
    words = shlex.split(array)
    for option in options:
        words += shlex.split(option.removeprefix(prefix))
    return [*words, f"/bin/sh {shlex.quote(str(script))}"]
