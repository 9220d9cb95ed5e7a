"""Runs code that came as a string."""

import builtins
import sys
from collections.abc import Iterator, Mapping, MutableMapping

from mirai_executor._payload.common.entries import Brought
from mirai_executor._payload.common.importable import MAIN
from mirai_executor._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

SOURCE_NAME = "<mirai>"  # the file name in tracebacks


class _Main(MutableMapping[str, Any]):
    """The locals of code that runs in ``__main__``: all of its names but those brought."""

    def __init__(self, brought: Brought) -> None:
        self._brought = brought
        self._names = vars(sys.modules[MAIN])

    def __getitem__(self, name: str) -> Any:
        if name not in self._brought:
            return self._names[name]
        try:
            return getattr(builtins, name)
        except AttributeError:  # no KeyError: then Python would look among the globals
            raise NameError(f"name {name!r} is not defined", name=name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        self._names[name] = value
        self._brought.discard(name)

    def __delitem__(self, name: str) -> None:
        if name in self._brought:
            raise KeyError(name)
        del self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in self._names if name not in self._brought])

    def __len__(self) -> int:
        return len(list(iter(self)))


class _Task(dict[str, Any]):
    """The globals of a task: its own names before those of ``__main__``."""

    def __init__(self, brought: Brought, name: str) -> None:
        super().__init__(__name__=name)
        self._brought = brought

    def __missing__(self, name: str) -> Any:
        if name in self._brought:
            raise KeyError(name)
        return vars(sys.modules[MAIN])[name]


def parse_source(source: str) -> "ast.Module":
    """Parse code in a string; all of it may be indented, as it is inside of a function.

    What stands inside of its own strings is left as it is written.

    Raises:
        SyntaxError: The string is not Python.
    """
    import ast

    try:
        return ast.parse(source, SOURCE_NAME)
    except IndentationError as error:
        try:
            tree = ast.parse(f"if 1:\n{source}", SOURCE_NAME)
        except SyntaxError:
            raise error from None
        block = tree.body[0]
        if len(tree.body) > 1 or not isinstance(block, ast.If) or block.orelse:
            raise
        ast.increment_lineno(block, -1)
        tree.body = block.body
        return tree


def run_source(
    source: str,
    variables: Mapping[str, Any],
    brought: Brought,
    *,
    persist: bool = False,
) -> object:
    """Run code in a string, and return the value of its last line if that is an expression.

    Args:
        source: The code.
        variables: Names that it sees.
        brought: Names of ``__main__`` that it does not see.
        persist: Leave what it binds in ``__main__``; otherwise it ends with the code.
    """
    import ast  # only in a task that is code
    import linecache

    main = sys.modules[MAIN]
    names = vars(main) if persist else _Task(brought, main.__name__)
    own: MutableMapping[str, Any] = _Main(brought) if persist else names
    own.update(variables)
    tree = parse_source(source)
    # So that the lines appear in tracebacks: linecache cannot read this "file".
    linecache.cache[SOURCE_NAME] = (len(source), None, source.splitlines(True), SOURCE_NAME)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, SOURCE_NAME, "exec", dont_inherit=True), names, own)  # noqa: S102 - that is what was asked
    if not isinstance(last, ast.Expr):
        return None
    final = compile(ast.Expression(last.value), SOURCE_NAME, "eval", dont_inherit=True)
    return eval(final, names, own)  # noqa: S307 - that is what was asked
