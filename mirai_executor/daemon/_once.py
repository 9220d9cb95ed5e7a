"""Decides by its source whether a module may be run once for several processes.

One that asks for its process id or for another name of its own, makes a temporary folder, has
something done ``atexit``, or seeds a generator by the time, wants a value for each process. What
counts is what runs when it is imported, functions that are named then included.
"""

import ast
import re
from collections.abc import Iterable, Iterator

from mirai_executor._payload.common.guards import divide

_OF_ONE_PROCESS = frozenset(
    (
        *("getpid", "getppid", "get_ident", "get_native_id", "current_process"),
        *("uuid1", "uuid4", "urandom", "token_bytes", "token_hex", "token_urlsafe"),
        *("mkdtemp", "mkstemp", "mktemp", "NamedTemporaryFile", "SpooledTemporaryFile"),
        *("TemporaryDirectory", "TemporaryFile", "atexit", "finalize"),
    )
)
_SEEDING = frozenset({"seed", "manual_seed", "Random", "RandomState", "default_rng"})
_UNSEEDED = frozenset({"seed", "Random"})  # without a number, nobody can tell later on
_SUSPECT = re.compile("|".join(sorted(_OF_ONE_PROCESS | _SEEDING)))
_CLOCKS = frozenset({"time", "time_ns", "monotonic", "perf_counter", "now"})


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
    if found := sorted(_OF_ONE_PROCESS & reader.names):
        return f"it uses {', '.join(found)}"
    return "it seeds a generator with another number in each process" if reader.seeds else ""


class _SourceReader(ast.NodeVisitor):
    """Reads what runs when a module is imported.

    Attributes:
        names: What that refers to.
        seeds: Whether a seed differs.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.seeds = False
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

    def visit_Call(self, node: ast.Call) -> None:
        name, inside = _last(node.func), set(_names_of_arguments(node))
        is_new = name in _UNSEEDED and (not (node.args or node.keywords) or "None" in inside)
        self.seeds = self.seeds or is_new or (name in _SEEDING and not _CLOCKS.isdisjoint(inside))
        self.generic_visit(node)


def _names_of_arguments(call: ast.Call) -> Iterator[str]:
    for value in (*call.args, *(each.value for each in call.keywords)):
        yield from map(_last, ast.walk(value))


def _last(node: ast.AST) -> str:
    match node:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
        case ast.Constant(None):
            return "None"
        case _:
            return ""
