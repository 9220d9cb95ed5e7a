"""Finds what of a script is for the main program alone, below its guard, and what it binds."""

import ast
from collections.abc import Iterable, Iterator, Sequence

from mirai_executor._payload.common.importable import MAIN


def parse(text: bytes, path: str) -> ast.Module:
    """Parse a script that has run, in silence: Python has warned of what it says by then.

    No filter of warnings is set for that: filters belong to the whole process, in which other
    threads run. What Python warns of here is what a backslash means, which names do not depend on.

    Raises:
        SyntaxError: It is not Python.
    """
    try:
        return ast.parse(_without_escapes(text), path)
    except SyntaxError:  # an encoding in which a backslash is part of a letter
        return ast.parse(text, path)


def _without_escapes(text: bytes) -> bytes:
    """Return a script of as many lines without backslashes, but at their ends."""
    for escaped in (b"\\\\", b"\\'", b'\\"'):
        text = text.replace(escaped, b"__")
    first, *rest = text.split(b"\\")
    kept = (b"\n", b"\r", b"N{")  # names of characters have braces, as what f-strings evaluate
    return first + b"".join((b"\\" if it.startswith(kept) else b"_") + it for it in rest)


def bound_by(statements: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names that statements of a module bind; compiling them would warn again."""
    waiting = list(statements)
    while waiting:
        node = waiting.pop()
        if (name := _name_bound_by(node)) is not None:
            yield name
        waiting += _evaluated_with(node)


def _name_bound_by(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.MatchMapping(rest=name):
            return name
        case ast.alias():
            return node.asname or node.name.partition(".")[0]
        case _:  # a definition, an exception that is handled, or a pattern
            return getattr(node, "name", None) if isinstance(node, _NAMED) else None


_DEFINITIONS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
_NAMED = *_DEFINITIONS, ast.ExceptHandler, ast.MatchAs, ast.MatchStar
_COMPREHENSIONS = ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp


def _evaluated_with(node: ast.AST) -> Iterable[ast.AST]:
    """Return the parts of a node that may bind names of the module, too."""
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *(each.value for each in node.keywords)]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return [*node.decorator_list, *_defaults(node.args)]
    if isinstance(node, ast.Lambda):
        return _defaults(node.args)
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return ()
    if isinstance(node, _COMPREHENSIONS):  # what := binds in them
        return [it.target for it in ast.walk(node) if isinstance(it, ast.NamedExpr)]
    return ast.iter_child_nodes(node)


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *filter(None, arguments.kw_defaults)]


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
