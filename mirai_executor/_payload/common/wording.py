"""Says in few words what an error of somebody else's was."""

from mirai_executor._typing import NoReturn
from mirai_executor.errors import PayloadError

# An attribute: which hook of the user's has raised an exception, in words.
OF_A_HOOK = "_mirai_hook"

_LONGEST = 200  # characters of a foreign text in a message of ours


def describe(error: BaseException) -> str:
    """Return the class and text of an error, never too long, never failing."""
    try:
        text = str(error)
    except Exception:  # a user's __str__
        text = "<its text cannot be shown>"
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def is_of_a_hook(error: BaseException) -> bool:
    """Tell whether a function that the user has for a class raised this: it stays as it is."""
    return OF_A_HOOK in error.__dict__


def fail_to_load(what: str, error: Exception) -> NoReturn:
    """Raise that something cannot be unpickled, because of an error."""
    if isinstance(error, PayloadError) or is_of_a_hook(error):
        raise error
    raise PayloadError(f"cannot unpickle {what}: {describe(error)}") from error
