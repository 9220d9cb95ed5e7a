"""Ends a run if an answer is wrong."""


class WrongAnswerError(AssertionError):
    """A measured executor returned something else than it should."""


def check(condition: bool) -> None:
    """End the run if an answer is wrong."""
    if not condition:
        raise WrongAnswerError
