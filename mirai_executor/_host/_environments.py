"""Says what each daemon finds in its environment: variables of the user's, and its GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mirai_executor._arguments import check_count
from mirai_executor._devices import share_of_gpus, visible_gpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirai_executor._payload.host import Preparation

    Variables = Mapping[str, str] | Callable[[int], Mapping[str, str]]


class Environments:
    """What the daemons of one executor find in their environment.

    Args:
        variables: Those of the user, or a function that returns them for the number of a daemon.
        gpus: How many GPUs each daemon has; None leaves them all to all.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A variable has an impossible name, or ``gpus`` is below 1.
    """

    def __init__(self, variables: Variables | None, gpus: int | None) -> None:
        check_count("gpus_per_daemon", gpus, 1, optional=True)
        self._variables: Variables = {} if variables is None else variables
        self._gpus = gpus
        if not callable(self._variables):
            self._variables = dict(_checked(self._variables))  # the user may change theirs

    def default_workers(self, cpus: int) -> int:
        """Return how many daemons this machine has room for."""
        if self._gpus is None:
            return cpus
        return max(1, len(visible_gpus(os.environ)) // self._gpus)

    def check(self, count: int) -> None:
        """Require that so many daemons have room on this machine, and variables each.

        Raises:
            TypeError, ValueError: One has not.
        """
        for number in range(1, count + 1):
            self._of(number)
            if self._gpus is not None:
                share_of_gpus(os.environ, number, self._gpus)

    def put_into(self, preparation: Preparation, number: int) -> Preparation:
        """Add to what a daemon takes over from this process what is its own.

        Raises:
            Exception: The user's function has raised it, or has returned something else.
        """
        variables = self._of(number)
        if self._gpus is None or preparation.is_elsewhere:  # there, it looks by itself
            return preparation._replace(variables=variables, gpus=self._gpus or 0)
        gpus = share_of_gpus(os.environ, number, self._gpus)
        return preparation._replace(variables=(*gpus.items(), *variables))

    def _of(self, number: int) -> tuple[tuple[str, str], ...]:
        if callable(self._variables):
            return _checked(self._variables(number))
        return tuple(self._variables.items())


def _checked(variables: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(variables, Mapping):
        raise TypeError(
            "env must be a dict of names and values, or a function that returns one for the "
            f"number of a daemon, not {variables!r:.60}"
        )
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"env must have strings as names and values, not {name!r}: {value!r:.60}"
            )
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"env has an impossible variable: {name!r}: {value!r:.60}")
    return tuple(variables.items())
