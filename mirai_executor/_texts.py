"""Makes what others say fit to be shown: in a line of a log, and without what is confidential."""

from collections.abc import Iterable


def printable(text: str, limit: int = 255, *, keep: str = "") -> str:
    r"""Return text of a peer that neither ends the line nor commands the terminal it is shown on.

    Args:
        text: What the peer has said.
        limit: How many characters of it are shown.
        keep: Characters that stay although they cannot be printed.

    Example:
        >>> printable("node7\n2026-01-01 CRITICAL forged")
        'node7\\n2026-01-01 CRITICAL forged'
    """
    shown = "".join(
        character if character.isprintable() or character in keep else _escaped(character)
        for character in text[:limit]
    )
    return shown if len(text) <= limit and len(shown) <= limit else f"{shown[:limit]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def hide(text: str, confidential: Iterable[str]) -> str:
    """Return a text in which whatever is confidential is three stars."""
    for known in sorted(confidential, key=len, reverse=True):  # one may be a part of another
        if known:
            text = text.replace(known, "***")
    return text
