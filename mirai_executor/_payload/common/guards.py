"""Finds what of a script is for the main program alone: what is below its guard."""

import ast
from collections.abc import Sequence

from mirai_executor._payload.common.importable import MAIN


def divide(statement: ast.stmt) -> tuple[Sequence[ast.stmt], Sequence[ast.stmt]]:
    """Return what of a statement is for the main program alone, and what is for daemons, too."""
    if isinstance(statement, ast.If):
        if _is_guard(statement.test):
            return statement.body, statement.orelse
        if _is_guard(statement.test, ast.NotEq):
            return statement.orelse, statement.body
    elif isinstance(statement, ast.Expr):  # the whole of it is below the guard
        test = statement.value
        if isinstance(test, ast.IfExp):
            test = test.test
        if isinstance(test, ast.Compare | ast.BoolOp) and _is_guard(test):
            return [statement], []
    return [], [statement]


def _is_guard(test: ast.expr, operator: type[ast.cmpop] = ast.Eq) -> bool:
    """Tell whether this is ``__name__ == "__main__"``, in either order, perhaps ``and`` more.

    It may also be ``current_process().name == "MainProcess"``.
    """
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) and operator is ast.Eq:
        return any(map(_is_guard, test.values))
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], operator):
        return False
    sides = [test.left, *test.comparators]
    texts = [side.value for side in sides if isinstance(side, ast.Constant)]
    names = [ast.unparse(side) for side in sides if not isinstance(side, ast.Constant)]
    if len(names) != 1 or len(texts) != 1:
        return False
    if names[0].endswith("current_process().name"):
        return texts == ["MainProcess"]
    return (names, texts) == (["__name__"], [MAIN])
