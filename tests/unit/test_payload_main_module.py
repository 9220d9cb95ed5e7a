"""Main modules that daemons import: what they find there, and what follows by value."""

import warnings
from pathlib import Path

import pytest

from mirai_executor._payload.host import mainfile
from unit.test_payload_driver import (  # type: ignore[import-not-found,unused-ignore]  # tests/ is on the path
    run_host,
)


def imported(script: str, last: str) -> str:
    """Run definitions, and lines under a guard with a daemon ``d`` that imports the script."""
    body = "\n".join("        " + line for line in last.strip("\n").splitlines())
    guarded = f'\nif __name__ == "__main__":\n    with Daemon(main="auto") as d:\n{body}\n'
    return run_host(script + guarded)


OWN_AND_CHANGED = """
import threading
events = []
LOCK = threading.Lock()
number, items, nothing = 1, [1], None
def plain(): return LOCK is not None, number
def redefined(): return "as it was"
def patched(x=1): return x
class Kept:
    n = 1
    gone = True
class Patched:
    def method(self): return 1
kept = Kept()
class Unpicklable:
    lock = threading.Lock()
    n = 1
def look():
    return (plain(), redefined(), patched(), Kept.n, hasattr(Kept, "gone"), type(kept) is Kept,
            Patched().method(), number, tuple(items), nothing, Unpicklable.n)
def own(): return look() and LOCK.locked()
def other(): return "other", number
"""


def test_what_the_host_has_changed_since_the_import_is_the_hosts() -> None:
    last = """
Patched.method = lambda self: 2
patched.__defaults__ = (2,)
number, items = 2, items + [2]
def redefined(): return "as it is"
print(d.call(look) == look(), look())
Kept.n, nothing = 3, "something"
del Kept.gone
print(d.call(look) == look(), look())
Kept.n, number = 1, 1
redefined = other
print(d.call(look) == look(), look())
print(d.call(redefined), d.call(other))
"""
    assert imported(OWN_AND_CHANGED, last).splitlines() == [
        "True ((True, 2), 'as it is', 2, 1, True, True, 2, 2, (1, 2), None, 1)",
        "True ((True, 2), 'as it is', 2, 3, False, True, 2, 2, (1, 2), 'something', 1)",
        "True ((True, 1), ('other', 1), 2, 1, False, True, 2, 1, (1, 2), 'something', 1)",
        "('other', 1) ('other', 1)",
    ]


def test_what_cannot_travel_is_the_daemons_own_unless_the_host_has_changed_it() -> None:
    last = """
print(d.call(own))
Unpicklable.n = 2
print(d.call(look)[-1])
Unpicklable.method = lambda self: None
print(type(d.error(look)).__name__)
LOCK = open(__file__)
print(type(d.error(plain)).__name__)
LOCK.close()
"""
    assert imported(OWN_AND_CHANGED, last) == "False\n1\nNameError\nNameError\n"


def test_what_a_function_or_class_that_cannot_travel_holds_does_not_make_it_another() -> None:
    script = """
import threading
class Model:
    lock, cache, made, only = threading.Lock(), {}, 0, None
    def __init__(self): Model.made += 1
    def name(self): return "as it was"
def counted():
    lock, seen, count = threading.Lock(), [], 0
    def call():
        nonlocal count
        with lock: seen.append(1)
        count += 1
        return len(seen) + count
    call.notes = []
    return call
call = counted()
def look(): return Model().name(), len(Model.cache), Model.made, Model.only, call()
"""
    last = """
print(look(), look())
Model.cache["of the host"] = Model.configured = Model.only = object()
call.notes.append(Model)
print(d.call(look))
Model.name = lambda self: "as it is"
print(type(d.error(look)).__name__)
"""
    assert imported(script, last).splitlines() == [
        "('as it was', 0, 1, None, 2) ('as it was', 0, 2, None, 4)",
        "('as it was', 0, 1, None, 2)",
        "NameError",
    ]


LAZY = """
import warnings
warnings.simplefilter("ignore", RuntimeWarning)
class Lazy:
    def __init__(self): self._inner = None
    def __getattr__(self, name):
        if self._inner is None: self._inner = {"name": "set up here"}
        return self._inner[name]
class Refusing:
    def __init__(self): self.n = 1
    def __setstate__(self, state): raise ValueError("refused")
settings, refusing = Lazy(), Refusing()
shared = [refusing]
index = {"refusing": shared[0]}
def look(): return settings.name, refusing.n, shared[0] is index["refusing"]
"""


def test_iterators_and_classes_of_iterators_are_globals_like_others() -> None:
    script = """
import collections, itertools
class Steps:
    def __init__(self): self.at = 0
    def __iter__(self): return self
    def __next__(self):
        self.at += 1
        return self.at
class Numbered:
    numbers = itertools.count(1)
steps, counter, rows = Steps(), itertools.count(5), collections.deque([Steps])
named = collections.OrderedDict(a=1)
def look():
    return next(steps), next(counter), rows[0] is Steps, next(Numbered.numbers), [*named]
"""
    last = """
print(d.call(look))
next(steps), next(counter), next(Numbered.numbers), named.update(b=2)
print(d.call(look))
"""
    assert imported(script, last).splitlines() == [
        "(1, 5, True, 1, ['a'])",
        "(2, 6, True, 2, ['a', 'b'])",
    ]


def test_what_fails_to_come_is_the_daemons_own_where_it_has_imported_the_script() -> None:
    last = """
assert settings.name and (refusing.__dict__.update(n=2) is None)
print(d.call(look), d.call(look))
class Refused:
    __reduce__ = lambda self: (int, ("no number",))
Lazy.inner = Refused()
print(type(d.error(look)).__name__)
"""
    assert imported(LAZY, last).splitlines() == [
        "('set up here', 1, True) ('set up here', 1, True)",
        "PayloadError",
    ]


def test_a_warning_says_that_tasks_see_the_daemons_own_value() -> None:
    strict = LAZY.replace('"ignore"', '"error"', 1)
    last = """
refusing.n = 2
print(d.error(look))
"""
    assert "tasks see what the script has set here" in imported(strict, last)


NEVER_STALE = """
class Lost:
    def __init__(self, error): self.error = error
    def __reduce__(self): return lose, (self.error,)
def lose(error): raise error("no room")
placeholder, ready = None, Lost(None)
def look(): return placeholder
def look_again(): return ready
"""


@pytest.mark.parametrize("error", ["MemoryError", "ModuleNotFoundError", "OSError"])
def test_no_task_sees_what_the_script_had_before_where_something_is_lacking(error: str) -> None:
    last = f"""
placeholder, ready = Lost(ValueError), Lost({error})
print(d.error(look)), print(d.error(look_again))
"""
    assert imported(NEVER_STALE, last).splitlines() == [
        "cannot unpickle 'placeholder' of the host's __main__: ValueError: no room",
        f"cannot unpickle 'ready' of the host's __main__: {error}: no room",
    ]


def test_what_was_set_at_the_daemon_stays_over_the_import_and_after_it() -> None:
    script = """
before = within = after = "of the script"
def initialize():
    global within
    within = "of the initializer"
def read(): return before, within, after
"""
    last = """
d.source("before = 'of everywhere'", persist=True)
d.call(initialize)
d.source("after = 'of everywhere'", persist=True)
print(d.call(read))
before = within = after = "of the host"
print(d.call(read))
"""
    assert imported(script, last).splitlines() == [
        "('of everywhere', 'of the initializer', 'of everywhere')",
        "('of the host', 'of the host', 'of the host')",
    ]


@pytest.mark.parametrize("change", ["write_text('1 / 0')", "unlink()"])
def test_a_file_that_is_another_one_now_is_not_imported(change: str) -> None:
    script = "import threading\nfrom pathlib import Path\nLOCK = threading.Lock()\n"
    script += "def f(x): return x + 1\ndef g(): return LOCK\n"
    last = f"call = d.encoder.encode(f, (1,), {{}})\nPath(__file__).{change}\n"
    last += "print(d.finish(call), type(d.error(g)).__name__)"
    assert imported(script, last) == "2 NameError\n"


@pytest.mark.parametrize(
    ("guard", "is_one"),
    [
        ("if __name__ == '__main__': pass", True),
        ("if '__main__' == __name__: pass", True),
        ("if __name__ == '__main__' and sys.argv: pass", True),
        ("if __name__ != '__main__':\n y = 1\nelse:\n y = 2", True),
        ("__name__ == '__main__' and print()", True),
        ("print() if __name__ == '__main__' else None", True),
        ("import multiprocessing as m\nif m.current_process().name == 'MainProcess': pass", True),
        ("if 'MainProcess' == sys.current_process().name: pass", True),
        ("if __name__ != '__main__': pass", False),
        ("if __name__ != '__main__' and sys.argv: pass\nelse: pass", False),
        ("__name__ == '__main__' or print()", False),
        ("y = 1 if __name__ == '__main__' else 2", False),
        ("if sys.current_process().name == 'Other': pass", False),
        ("if __name__ == '__main__' or sys.argv: pass", False),
        ("def f():\n if __name__ == '__main__': pass", False),
    ],
)
def test_a_guard_is_found_however_it_is_written(guard: str, is_one: bool) -> None:
    found = mainfile._parse(f"import sys\nx = 1\n{guard}\n".encode(), "script.py")
    assert bool(found.guards) is is_one
    assert {"sys", "x"} <= (found.bound or set())


def test_what_an_installer_has_made_to_start_a_package_is_imported_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    tool.write_text("from package import main\nif __name__ == '__main__':\n main()\n")
    monkeypatch.setattr(mainfile, "main_script", lambda: str(tool))
    assert mainfile.main_file("auto") is None
    found = mainfile.main_file("import")
    assert found is not None
    assert found.binds("main")


@pytest.mark.parametrize(
    ("statements", "names"),
    [
        ("import a.b, c as d\nfrom e import f as g", "a d g"),
        ("@(h := print)\ndef i(j=1):\n k = 1\n def l(): global m\nclass n: o = 1", "h i n"),
        ("p, *q = r.s, r[0] = 1, 2\nt += 1\nu: int\nv: int = 1", "p q t v"),
        ("for w in x:\n pass\nwith x as y: pass\ntry: pass\nexcept E as z: pass", "w y z"),
        ("def a(x=(b := 1), *, y, z=(c := 2)): d = 3\nlambda x=(e := 1): (f := 2)", "a b c e"),
        ("class A((b := object), metaclass=(c := type)): d = 4", "A b c"),
        ("[a for a in (b := [1])]\nc = lambda: (d := 1)\n{e: (f := e) for e in x}", "b c f"),
        (
            "match x:\n case [a, *b]: pass\n case {'c': 1, **d}: pass\n case int() as e: pass",
            "a b d e",
        ),
    ],
)
def test_the_names_that_a_script_binds_are_those_that_python_would(
    statements: str, names: str
) -> None:
    found = mainfile._parse(statements.encode(), "script.py")
    assert set(found.bound or ()) == {*names.split(), "__doc__"}


DOUBTFUL = r"""
PATTERN, RAW, BYTES = "\d\\", r'\'\e', b"\q"
NAMED, FIELD = f"\N{EM DASH}{1}\{2}", '\400'
first = PATTERN \
    is "s"
if __name__ == "__main__":
    last = "\
"
end = 1
"""


def test_a_script_is_read_without_warnings_and_without_a_change_of_their_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text(DOUBTFUL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Others than this thread may warn, or change the filters, meanwhile.
        for name in ("catch_warnings", "simplefilter", "filterwarnings"):
            monkeypatch.delattr(warnings, name)
        try:
            found = mainfile._read(str(script))
        finally:
            monkeypatch.undo()
    assert found.guards == [range(7, 9)]
    assert set(found.bound or ()) == {
        "PATTERN",
        "RAW",
        "BYTES",
        "NAMED",
        "FIELD",
        "first",
        "end",
        "__doc__",
    }


def test_a_script_in_which_a_backslash_is_part_of_a_letter_is_read(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_bytes("# coding: cp932\nname = '\u8868'\n".encode("cp932"))
    assert "name" in (mainfile._read(str(script)).bound or ())
