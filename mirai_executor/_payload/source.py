"""Runs code that came as a string."""

import sys
from collections.abc import Mapping

from mirai_executor._payload.places import MAIN
from mirai_executor._typing import Any

__all__ = ["SOURCE_NAME", "run_source"]

SOURCE_NAME = "<mirai>"  # the file name in tracebacks


class _Task(dict[str, Any]):
    """The globals of a task: its own names before those of ``__main__``."""

    def __missing__(self, name: str) -> Any:
        return vars(sys.modules[MAIN])[name]


def run_source(source: str, variables: Mapping[str, Any], *, persist: bool = False) -> object:
    """Run code in a string, and return the value of its last line if that is an expression.

    Args:
        source: The code.
        variables: Names that it sees.
        persist: Leave what it binds in ``__main__``; otherwise it ends with the code.
    """
    import ast  # only here, in a task that is code
    import linecache

    main = sys.modules[MAIN]
    namespace = vars(main) if persist else _Task(__name__=main.__name__)
    namespace.update(variables)
    tree = ast.parse(source, SOURCE_NAME)
    # So that the lines appear in tracebacks: linecache cannot read this "file".
    linecache.cache[SOURCE_NAME] = (len(source), None, source.splitlines(True), SOURCE_NAME)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, SOURCE_NAME, "exec", dont_inherit=True), namespace)  # noqa: S102 - that is what was asked
    if not isinstance(last, ast.Expr):
        return None
    final = compile(ast.Expression(last.value), SOURCE_NAME, "eval", dont_inherit=True)
    return eval(final, namespace)  # noqa: S307 - that is what was asked
