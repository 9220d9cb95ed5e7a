"""Imports the host's main module on a daemon, once, into the daemon's ``__main__``.

::

    before this process is forked     ──► MainImport.come_first  in a fork server, for all daemons
    a table that begins with the file ──► MainImport.carry_out   before all other names
    "__main__:job", and no such name  ──► MainImport.fill_gaps   as a last resort

The script runs as ``__mp_main__``, so that its ``if __name__ == "__main__":`` part does not. Its
functions get the daemon's real ``__main__`` as their globals. Names that are there already stay:
what the host sent, or an initializer set.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, ModuleType

from mirai_executor._payload.common import fast_pickle as pickle
from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.entries import Own, digest_of
from mirai_executor._payload.common.fingerprints import UNKNOWN, fingerprint_of, kind_fingerprint
from mirai_executor._payload.common.preparation import Preparation
from mirai_executor._payload.common.wording import describe
from mirai_executor._typing import Any
from mirai_executor.errors import PayloadError

_WHY_NOT = {
    "auto": (
        "daemons do not import the host's main module, as that has no "
        '`if __name__ == "__main__":`'
    ),
    "value": 'daemons do not import the host\'s main module, as main="value" says',
}
_PSEUDONYM = "__main_of_host__"  # by which the import system knows it, for a moment
_MISSING = object()
_running = False


def importing_main() -> bool:
    """Tell whether this daemon is importing the host's main module at this moment.

    An executor that is used now is one that the script starts without a guard.
    """
    return _running


class MainImport:
    """The import of the host's main module.

    Args:
        main: The daemon's ``__main__``.
        preparation: What the host said of itself.
    """

    def __init__(self, main: ModuleType, preparation: Preparation) -> None:
        self._main = main
        self._preparation = preparation
        self._is_done = False
        self._values: dict[str, object] = {}  # as the import has left them
        self._failed_with: BaseException | None = None
        self._is_refused = False

    @property
    def failure(self) -> str:
        """Why names are missing: what it has raised, or that it may not be; empty if neither."""
        if self._failed_with is not None:
            return f"importing the host's main module failed ({describe(self._failed_with)})"
        return _WHY_NOT[self._preparation.main] if self._is_refused else ""

    @property
    def names(self) -> frozenset[str]:
        """Those that the import has added, and that do not follow the host's yet."""
        return frozenset(self._values)

    def come_first(self, blob: bytes, examine: Callable[[bytes], str]) -> str:
        """Import the file that the host has, for the daemons that this process will be.

        Args:
            blob: As in :meth:`carry_out`.
            examine: Says why what a script says is not to be run once for all; empty if it may be.

        Returns:
            Why daemons have to do that for themselves; empty if they have it now.
        """
        path, digest = pickle.loads(blob)
        text = _text_of(path)
        if text is None or digest_of(text) != digest:
            return "its file says something else by now"
        if why := examine(text):
            return why
        self._run(compile(text, path, "exec", dont_inherit=True), {"__name__"})
        if not self.failure:
            rebuild.imported_first = self
        return self.failure

    def carry_out(self, blob: bytes) -> frozenset[str]:
        """Import the file that the host has; return the names that this has added.

        A file that is not there, or says something else, is not imported.

        Raises:
            PayloadError: The file has raised something.
        """
        path, digest = pickle.loads(blob)
        text = _text_of(path)
        if text is None or digest_of(text) != digest:
            return frozenset()
        added: frozenset[str] = frozenset()
        if not self._is_done:
            code = compile(text, path, "exec", dont_inherit=True)
            added = self._run(code, {"__name__"})
        if self._failed_with is not None:
            raise PayloadError(
                f"{self.failure}; move what only the "
                'host can do below `if __name__ == "__main__":`, or have daemons import nothing: '
                'MiraiExecutor(main="value")'
            ) from self._failed_with
        return added

    def fill_gaps(self) -> frozenset[str]:
        """Import the host's main module for a name that never came, if that is new."""
        if self._is_done or self._is_refused or _running:
            return frozenset()
        try:
            code = _code_of_main(self._preparation)
        except _NotToBeRunError:
            self._is_refused = True
            code = None
        except (Exception, SystemExit) as error:  # the user's package runs
            self._failed_with, self._is_done = error, True
            code = None
        return frozenset() if code is None else self._run(code, _Dunders())

    def keeps(self, name: str, own: Own | None, is_unavailable: bool) -> bool:
        """Tell whether the daemon's own value stays, now that the host first names it.

        Args:
            name: A name that the daemon's ``__main__`` has.
            own: What the host says of its value, if it has the module imported.
            is_unavailable: Whether that value cannot travel.
        """
        value = vars(self._main)[name]
        if own is None or not self.has_as_imported(name):
            return True  # an initializer's, or a task's
        if is_unavailable:
            return kind_fingerprint(value) == own.fingerprint
        if own.fingerprint == UNKNOWN or fingerprint_of(value) != own.fingerprint:
            return False
        if own.identity:
            rebuild.imported_classes[own.identity] = value
        return True

    def has_as_imported(self, name: str) -> bool:
        """Tell whether a name is bound to what the import has bound it to."""
        return self._values.get(name, _MISSING) is vars(self._main).get(name)

    def stands_in(self, names: Sequence[str], error: PayloadError) -> bool:
        """Tell whether what the import has made is taken for what fails to come; warn if so.

        Not for a function or class, which the host has defined anew, nor for None, which most
        often waits for a value; nor where memory, a file or a module is missing here.
        """
        own = [self._values.get(name) for name in names if self.has_as_imported(name)]
        is_lack = isinstance(error.__cause__, (MemoryError, OSError, ImportError))
        no_value = (FunctionType, type, type(None))
        if is_lack or len(own) < len(names) or any(isinstance(value, no_value) for value in own):
            return False
        import warnings  # hardly ever

        warnings.warn(f"{error}; tasks see what the script has set here", RuntimeWarning, 2)
        return True

    def forget(self, name: str) -> None:
        """Let go of what a name was bound to, now that it follows the host's."""
        self._values.pop(name, None)

    def _run(self, code: CodeType, own: Any) -> frozenset[str]:
        global _running  # a fact about this process
        namespace = vars(self._main)
        before = dict(namespace)
        finder = _Finder(code, namespace, own)
        sys.meta_path.insert(0, finder)
        end = rebuild.around_main() if rebuild.around_main is not None else bool
        _running = True
        try:
            importlib.import_module(_PSEUDONYM)
        except BaseException as error:
            for name in namespace.keys() - before.keys():
                del namespace[name]
            if not isinstance(error, (Exception, SystemExit)):
                raise
            self._failed_with = error.with_traceback(_from_the_file(error, code))
        finally:
            namespace.update(before)
            _running = False
            sys.meta_path.remove(finder)
            sys.modules.pop(_PSEUDONYM, None)
        self._is_done = True
        end()
        added = frozenset(namespace.keys() - before.keys())
        self._values = {name: namespace[name] for name in added}
        return added


class _Dunders:
    """Those that a module has of its own, and any that its author adds."""

    def __contains__(self, name: str) -> bool:
        return name.startswith("__") and name.endswith("__")


class _Script(dict[str, Any]):
    """The locals with which the script runs: a few of its own; all else is in its globals."""

    def __init__(self, namespace: dict[str, Any], own: Any) -> None:
        super().__init__(__name__="__mp_main__")
        self._namespace = namespace
        self._own = own

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self._own:
            super().__setitem__(name, value)
        else:
            self._namespace[name] = value

    def __delitem__(self, name: str) -> None:
        if name in self:
            super().__delitem__(name)
        else:
            del self._namespace[name]


class _Finder:
    """Has the import system run the script, so that all that watch imports see one."""

    def __init__(self, code: CodeType, namespace: dict[str, Any], own: Any) -> None:
        self._code = code
        self._namespace = namespace
        self._own = own

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == _PSEUDONYM else None  # type: ignore[arg-type]  # as a loader is

    def create_module(self, _: ModuleSpec) -> None:
        return None

    def exec_module(self, _: ModuleType) -> None:
        exec(self._code, self._namespace, _Script(self._namespace, self._own))  # noqa: S102 - this is an import


def _from_the_file(error: BaseException, code: CodeType) -> Any:
    """Return the traceback from the script's own frame on."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    return traceback


def _text_of(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - importing pathlib takes milliseconds
            return file.read()
    except OSError:  # another machine
        return None


def _may_run(path: str, preparation: Preparation) -> bool:
    """Tell whether a file that nobody has compared with the host's is to be run."""
    if not preparation.is_elsewhere:
        return True
    from mirai_executor._payload.common.folders import may_take

    return may_take(path)


class _NotToBeRunError(Exception):
    """The main module would do what only the host is to do."""


def _code_of_main(preparation: Preparation) -> CodeType | None:
    if preparation.main == "value":
        raise _NotToBeRunError
    if preparation.main_name is not None:
        import importlib.util  # for once: every daemon would import it at its start
        from importlib.abc import InspectLoader

        spec = importlib.util.find_spec(preparation.main_name)
        loader = spec.loader if spec is not None else None
        if not isinstance(loader, InspectLoader):
            return None
        _check_guard(loader.get_source(preparation.main_name) or "", preparation)
        return loader.get_code(preparation.main_name)
    path = preparation.main_path
    if path is None or not _may_run(path, preparation) or (text := _text_of(path)) is None:
        return None
    _check_guard(text, preparation)
    return compile(text, path, "exec", dont_inherit=True)


def _check_guard(text: str | bytes, preparation: Preparation) -> None:
    """Require a guard: without one, the program itself would start once more.

    Raises:
        _NotToBeRunError: There is none, and nobody has asked for it.
    """
    import ast  # as above

    from mirai_executor._payload.common.guards import divide

    if preparation.main == "import":
        return
    if not any(divide(statement)[0] for statement in ast.parse(text).body):
        raise _NotToBeRunError
