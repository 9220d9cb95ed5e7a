"""Checks the words and lines that users give, and makes them parts of shell scripts."""

import re
import shlex
from collections.abc import Mapping, Sequence

SH = ("/bin/sh",)  # what runs a script unless it is told otherwise
_ASKS = re.compile(r"(?<!\$)\{(number|name)\}")
_END = "END_OF_MIRAI_EXECUTOR"


def words_of(words: str | Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line; a string is one word.

    Raises:
        ValueError: A word is empty, or holds a control character: a scheduler that looks for its
            options in a script would find them behind a line break inside quotes.
    """
    if isinstance(words, str):
        words = (words,)
    if not hasattr(words, "__iter__") or not all(isinstance(word, str) for word in words):
        raise TypeError(f"expected a string or a list of strings, not {words!r}")
    found = tuple(words)
    for word in found:
        if not word or any(character < " " or character == "\x7f" for character in word):
            raise ValueError(
                f"invalid word {word!r} of a command line: it is empty or has a control character"
            )
    return found


def lines_of(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return lines without the blanks around them, and without empty ones."""
    if not hasattr(text, "__iter__"):
        raise TypeError(f"expected lines of shell, a string or a list of strings, not {text!r}")
    joined = text if isinstance(text, str) else "\n".join(text)
    return tuple(line.strip() for line in joined.splitlines() if line.strip())


def filled(text: str, own: Mapping[str, str]) -> str:
    """Replace placeholders such as ``{number}``; ``${number}`` is a variable of a shell."""
    for name, value in own.items():
        text = re.sub(rf"(?<!\$)\{{{name}\}}", value.replace("\\", r"\\"), text)
    return text


def asks_for_number(text: str) -> bool:
    """Tell whether a text has a placeholder for the number, or for the name that ends in it."""
    return bool(_ASKS.search(text))


def shell_words(shell: str | Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command that runs a script on its standard input.

    Raises:
        TypeError, ValueError: It is none.
    """
    words = words_of(shlex.split(shell) if isinstance(shell, str) else shell)
    if not words:
        raise ValueError('shell must be a command such as "bash -l"')
    return words


def run_by(shell: tuple[str, ...], lines: Sequence[str]) -> list[str]:
    """Return lines of a script of ``/bin/sh`` that has another shell run some, on its stdin.

    A script may say so itself in its first line; but some schedulers do not look there, and others
    take a path and no options.
    """
    if shell == SH:
        return list(lines)
    return [f"exec {shlex.join(shell)} <<'{_END}'", *lines, _END]


# What begins, ends or continues a command of several lines.
_COMPOUND = re.compile(
    r"(if|then|else|elif|fi|for|while|until|do|done|case|esac|function)\b|[{}()]|.*(<<|[|&({\\])$|.*<<"
)
_SOURCED = re.compile(r"(\.|source)\s+(?P<file>[^\s;&|#]+)")


def guarded(prologue: Sequence[str]) -> list[str]:
    """Return the lines of a script that runs a prologue: without input, and only if all is well.

    The script is the shell's own standard input, of which a command would take the rest.
    """
    if not prologue:
        return []
    if any(map(_COMPOUND.match, prologue)):
        return ["{", *prologue, "} </dev/null || exit"]
    return ["{", *(line for each in prologue for line in _guarded(each)), "} </dev/null"]


def _guarded(line: str) -> list[str]:
    if sourced := _SOURCED.fullmatch(line):
        # Its own last command may fail, as the last test in many a profile does.
        file = sourced["file"]
        return [f"[ -r {file} ] || {{ echo cannot read {file} >&2; exit 1; }}", line]
    return [line if line.startswith("#") or line.endswith((";", "&")) else f"{line} || exit"]
