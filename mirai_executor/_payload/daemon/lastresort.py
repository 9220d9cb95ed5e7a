"""Imports the host's main module on a daemon, as a last resort for a name that never arrived.

A text such as ``"__main__:job"`` names a function that no payload carried. As a last resort the
script runs once, as ``__mp_main__``, so that its ``if __name__ == "__main__":`` part does not. Its
functions get the daemon's real ``__main__`` as their globals, and its names only fill gaps: what
the host sent, or an initializer set, stays.
"""

from types import CodeType

from mirai_executor._payload.common.preparation import Preparation
from mirai_executor._typing import Any

__all__ = ["fill_gaps", "importing_main"]

_running = False


def importing_main() -> bool:
    """Tell whether this daemon is importing the host's main module at this moment.

    An executor that is used now is one that the script starts without a guard.
    """
    return _running


class _Script(dict[str, Any]):
    """The locals with which the script runs: dunders of its own, all else is in its globals."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__(__name__="__mp_main__")
        self._namespace = namespace

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("__") and name.endswith("__"):
            super().__setitem__(name, value)
        else:
            self._namespace[name] = value

    def __delitem__(self, name: str) -> None:
        if name in self:
            super().__delitem__(name)
        else:
            del self._namespace[name]


def fill_gaps(namespace: dict[str, Any], preparation: Preparation) -> frozenset[str]:
    """Run the host's main module; return the names that it added to the namespace.

    Whatever the script raises comes out, and then no name has been added.
    """
    global _running  # a fact about this process
    code = _code_of_main(preparation)
    if code is None:
        return frozenset()
    before = dict(namespace)
    _running = True
    try:
        exec(code, namespace, _Script(namespace))  # noqa: S102 - this is an import
    except BaseException:
        for name in namespace.keys() - before.keys():
            del namespace[name]
        raise
    finally:
        namespace.update(before)
        _running = False
    return frozenset(namespace.keys() - before.keys())


def _code_of_main(preparation: Preparation) -> CodeType | None:
    if preparation.main_name is not None:
        import importlib.util  # for once: every daemon would import it at its start
        from importlib.abc import InspectLoader

        spec = importlib.util.find_spec(preparation.main_name)
        loader = spec.loader if spec is not None else None
        return (
            loader.get_code(preparation.main_name) if isinstance(loader, InspectLoader) else None
        )
    from pathlib import Path  # as above

    if preparation.main_path is None or not Path(preparation.main_path).is_file():
        return None
    text = Path(preparation.main_path).read_bytes()
    return compile(text, preparation.main_path, "exec", dont_inherit=True)
