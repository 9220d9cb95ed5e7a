"""Decides by its source whether a module may be run once for several processes.

One that asks for its process id, for a name or secret of its own or for the terminal, makes a
temporary folder, has something done ``atexit``, or draws or seeds random numbers may want a value
for each process. What counts is what runs when it is imported, functions that are named then
included.
"""

import ast
import re
from collections.abc import Iterable

from mirai_executor._payload.common.guards import divide

_OF_ONE_PROCESS = frozenset(
    (
        *("getpid", "getppid", "get_ident", "get_native_id", "current_process"),
        *("uuid1", "uuid4", "urandom", "getrandom", "token_bytes", "token_hex", "token_urlsafe"),
        *("randbelow", "randbits", "SystemRandom", "manual_seed", "set_seed", "seed"),
        *("random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform"),
        *("gauss", "normal", "normalvariate", "rand", "randn", "permutation", "getrandbits"),
        *("Random", "RandomState", "default_rng", "SeedSequence", "MT19937", "PCG64"),
        *("isatty", "get_terminal_size", "ttyname"),
        *("mkdtemp", "mkstemp", "mktemp", "NamedTemporaryFile", "SpooledTemporaryFile"),
        *("TemporaryDirectory", "TemporaryFile", "atexit", "finalize"),
    )
)
_SUSPECT = re.compile("|".join(sorted(_OF_ONE_PROCESS)))


def flaw_of(text: str) -> str:
    """Return why a module has to be imported by each process for itself; empty if it need not.

    Args:
        text: Its source.
    """
    if not _SUSPECT.search(text):  # at a hundredth of the cost
        return ""
    rest = [each for statement in ast.parse(text).body for each in divide(statement)[1]]
    reader = _SourceReader()
    reader.read(rest)
    found = sorted(_OF_ONE_PROCESS & reader.names)
    return f"it uses {', '.join(found)}" if found else ""


class _SourceReader(ast.NodeVisitor):
    """Reads what runs when a module is imported.

    Attributes:
        names: What that refers to.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._functions: dict[str, list[ast.stmt]] = {}  # not named so far

    def read(self, statements: Iterable[ast.AST]) -> None:
        """Read them, and the functions that they name."""
        for statement in statements:
            self.visit(statement)
        while named := self.names & self._functions.keys():
            for name in named:
                self.read(self._functions.pop(name))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.names.add(node.attr)
        self.visit(node.value)

    def visit_alias(self, node: ast.alias) -> None:
        if node.asname:
            self.names.add(node.name)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.setdefault(node.name, []).extend(node.body)
        for each in (*node.decorator_list, node.args):
            self.visit(each)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - as above

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
