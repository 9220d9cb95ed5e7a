"""The page of the architecture, and the rules of the house, say what the code does."""

import ast
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path

import pytest

from mirai_executor._core import _fleet, _tasks

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mirai_executor"
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")
FILES = sorted(PACKAGE.rglob("*.py"))
FOR_ALL = {"_lazily", "_typing", "_version", "errors"}  # as the page says below its table
# Rooms whose parts have rows of their own.
SIDES = {"_payload.host", "_payload.daemon", "_payload.common"}
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_FILES_ON_THE_WAY = 400, 45, 12

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d \| `", line)
]


def imports(file: Path) -> Iterator[str]:
    """Yield what of the package a file imports, now or in a function, types included."""
    inside = ".".join(file.relative_to(PACKAGE.parent).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            of = importlib.util.resolve_name("." * node.level + (node.module or ""), inside)
            for name in node.names:
                yield f"{of}.{name.name}"


def room(dotted: str) -> str:
    first, *rest = dotted.split(".")
    side = f"{first}.{rest[0]}" if rest else ""
    return side if side in SIDES else first


def rooms(names: Iterable[str]) -> set[str]:
    """Return the rooms of these modules, and of names of them."""
    package = "mirai_executor."
    found = {room(name.removeprefix(package)) for name in names if name.startswith(package)}
    return {each for each in found if (PACKAGE / each.replace(".", "/")).is_dir() or known(each)}


def known(module: str) -> bool:
    return (PACKAGE / f"{module}.py").is_file()


def room_of(file: Path) -> str:
    return room(".".join(file.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].partition(",")[0].strip("`"))
def test_the_page_lists_for_each_room_what_it_imports(row: list[str]) -> None:
    _, names, _, listed = row
    here = set(re.findall(r"`([\w.]+)`", names))
    found = {each for file in FILES if room_of(file) in here for each in rooms(imports(file))}
    said = set(re.findall(r"\b_?[a-z][\w.]*", listed)) - {"nothing"}
    assert said == found - here - FOR_ALL


def test_the_page_has_a_row_for_each_room() -> None:
    listed = {name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[1])}
    assert (
        listed | FOR_ALL == {room_of(file) for file in FILES} - {"__init__", "__main__"} | FOR_ALL
    )


def test_the_way_of_a_task_leads_through_few_files_that_exist() -> None:
    way = PAGE.partition("## From `submit`")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`", way, re.MULTILINE)
    assert len(steps) == len(set(steps)) <= MOST_FILES_ON_THE_WAY
    for name in re.findall(r"`([\w/]+\.py)`", way):
        assert (PACKAGE / name).is_file()
    for file, owner, function in re.findall(r"`([\w/]+\.py)`, `(?:(\w+)\.)?(\w+)`", way):
        tree = ast.parse((PACKAGE / file).read_text("utf-8"))
        classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not owner or owner in classes
        assert function in functions


@pytest.mark.parametrize(
    "table", [_tasks.TRANSITIONS, _fleet.TRANSITIONS], ids=["tasks", "daemons"]
)
def test_the_page_has_all_moves_between_states(table: Mapping[Enum, Mapping[Enum, str]]) -> None:
    moves = [
        (start.value, to.value, why) for start, row in table.items() for to, why in row.items()
    ]
    states = {start.value for start in table}
    found = re.findall(r"^\| (\w+) \| (\w+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [row for row in found if row[0] in states] == moves


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_and_no_function_is_long(file: Path) -> None:
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node) is not None
            text_lines = lines_of(node.body[0]) if documented else 0
            signature = node.body[0].lineno - node.lineno
            body = lines_of(node) - signature - text_lines
            assert signature + body <= MOST_LINES_OF_A_FUNCTION, node.name


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def test_no_two_classes_have_the_same_name() -> None:
    found = Counter(
        node.name
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, times in found.items() if times > 1] == []


def known_names() -> set[str]:
    found: set[str] = set()
    for file in FILES:
        found.update(file.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    found.add(name)
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                    found.add(name)
                case _:
                    pass
    return found


def test_where_in_the_code_a_decision_is_carried_out_is_in_the_code() -> None:
    known, tests = known_names(), {file.name for file in (ROOT / "tests").rglob("*.py")}
    for page in (ROOT / "docs/decisions").glob("*.md"):
        where = page.read_text("utf-8").partition("## Where in the code")[2]
        for name in re.findall(r"`([\w.]+)`", where):
            is_test = name in tests or f"{name.partition('.')[0]}.py" in tests
            assert is_test or name.rpartition(".")[2] in known, f"{page.name}: {name}"


def re_exports(node: ast.stmt) -> bool:
    """Tell whether a statement says which names of others are found in its module, and how."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="TYPE_CHECKING" | "__all__" | "_ROOMS")]):
            return True
        case ast.Assign(targets=[ast.Name(id="__getattr__")], value=ast.Call(func=made)):
            return ast.unparse(made) == "lazy_imports"
        case ast.FunctionDef(name="__dir__", body=[_]):  # what Python itself asks for late names
            return True
        case ast.If(test=test, body=body, orelse=orelse):
            about_types = ast.unparse(test) in ("TYPE_CHECKING", "not TYPE_CHECKING")
            return about_types and all(map(re_exports, [*body, *orelse]))
        case _:
            return False


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.name == "__init__.py"],
    ids=lambda file: str(file.parent.relative_to(PACKAGE.parent)),
)
def test_an_init_file_only_re_exports(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    assert [ast.unparse(node) for node in tree.body if not re_exports(node)] == []


def late_names(door: Path) -> Iterator[tuple[str, str]]:
    """Yield what a door imports when it is asked for: modules, each with its names."""
    for node in ast.walk(ast.parse(door.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_imports":
            for table in node.args[1:]:
                if isinstance(table, ast.Dict):
                    yield from ast.literal_eval(table).items()


def names_of(module: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update(each.asname or each.name for each in names)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case _:
                pass
    return found


DOORS = [file for file in FILES if list(late_names(file))]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: str(door.relative_to(PACKAGE)))
def test_a_door_finds_each_name_that_it_imports_late(door: Path) -> None:
    # Type checkers take all names of a module for the door's: a wrong word would be news to users.
    for module, names in late_names(door):
        assert set(names.split()) - names_of(door.parent / f"{module}.py") == set()
