"""Takes back what code for ``everywhere`` has set in the ``__main__`` of the program itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mirai_executor._payload.common.entries import Brought

if TYPE_CHECKING:
    from collections.abc import Callable

_ABSENT = object()


class _SetNames(Brought):
    """Is told each name that code sets, as one that is no longer brought by calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[object] = set()

    def discard(self, name: object) -> None:
        self.names.add(name)


class LentNames:
    """The names that a host without daemons has in the ``__main__`` of its program."""

    def __init__(self) -> None:
        self._former: dict[str, object] = {}
        self._ours: dict[str, object] = {}

    def call(self, run: Callable[[Brought], object]) -> object:
        """Run code that sets names, and remember what they were before."""
        main = _main()
        before, told = dict(main), _SetNames()
        try:
            return run(told)
        finally:
            for name in main.keys() & told.names:
                self._former.setdefault(name, before.get(name, _ABSENT))
                self._ours[name] = main[name]

    def give_back(self) -> None:
        """Have ``__main__`` as it was; what the program has set since then stays."""
        main = _main()
        while self._former:
            name, former = self._former.popitem()
            if main.get(name, _ABSENT) is not self._ours.pop(name):
                continue
            if former is _ABSENT:
                del main[name]
            else:
                main[name] = former


def _main() -> dict[str, object]:
    return vars(sys.modules["__main__"])
