"""The ``__main__`` of a host and those of its daemons: what follows, and what stays."""

from pathlib import Path

import pytest

from mirai_executor._payload.host import CallEncoder
from unit.test_payload_driver import (  # type: ignore[import-not-found,unused-ignore]  # tests/ is on the path
    host_environment,
    run_host,
    run_python,
)


def in_main(script: str, last: str) -> str:
    """Run definitions, and lines under a guard with a daemon ``d``; return what was printed."""
    body = "\n".join("        " + line for line in last.strip("\n").splitlines())
    guarded = f'\nif __name__ == "__main__":\n    with Daemon() as d:\n{body}\n'
    return run_host(script + guarded)


def test_a_task_sees_the_global_that_an_initializer_set() -> None:
    script = """
DATA = None
def initialize(value):
    global DATA
    DATA = value
def read():
    return DATA
"""
    assert in_main(script, "d.call(initialize, 5)\nprint(d.call(read), d.call(read), DATA)") == (
        "5 5 None\n"
    )


def test_a_global_that_a_task_loaded_stays_loaded() -> None:
    script = """
model = None
loads = []
def predict():
    global model
    loads.append(1)
    model = model or [len(loads)]
    return model[0], len(loads)
"""
    assert in_main(script, "print(d.call(predict), d.call(predict), d.call(predict))") == (
        "(1, 1) (1, 2) (1, 3)\n"
    )


def test_a_value_that_was_set_before_the_host_named_it_stays() -> None:
    script = """
setting = "host's"
def read():
    return setting
"""
    last = """
d.source("setting = 'everywhere'", persist=True)
print(d.call(read))
setting = "rebound"
print(d.call(read))
"""
    assert in_main(script, last) == "everywhere\nrebound\n"


def test_what_the_host_rebinds_reaches_the_next_call() -> None:
    script = """
DATA = 1
def helper(): return 10
def read(): return DATA + helper()
"""
    last = """
print(d.call(read))
DATA = 2
print(d.call(read))
def helper(): return 20
print(d.call(read))
def read(): return -DATA
print(d.call(read))
DATA = 1
print(d.call(read))
"""
    assert in_main(script, last) == "11\n12\n22\n-2\n-1\n"


def test_what_the_host_mutates_reaches_the_next_call() -> None:
    script = "DATA = [1]\ndef read(): return sum(DATA)\nclass C:\n    n = 1\ndef n(): return C.n\n"
    last = (
        "print(d.call(read), d.call(n))\nDATA.append(4)\nC.n = 7\nprint(d.call(read), d.call(n))"
    )
    assert in_main(script, last) == "1 1\n5 7\n"


def test_a_value_that_can_no_longer_be_pickled_is_gone_at_the_daemon() -> None:
    script = "X = 1\ndef read():\n    return X\n"
    last = """
print(d.call(read))
X = open(__file__)
print(type(d.error(read)).__name__)
X.close()
X = 3
print(d.call(read))
"""
    assert in_main(script, last) == "1\nNameError\n3\n"


def test_what_refers_to_a_redefined_function_or_class_follows_it() -> None:
    script = """
def helper(): return 1
class C: n = 1
alias, table, made = helper, [helper], C()
class Holder: call = helper
def f(callback=helper):
    return callback(), alias(), table[0](), made.n, Holder.call(), type(made) is C
"""
    last = """
print(d.call(f))
def helper(): return 2
class C: n = 2
alias, table, made, Holder.call, f.__defaults__ = helper, [helper], C(), helper, (helper,)
print(d.call(f))
"""
    assert in_main(script, last) == "(1, 1, 1, 1, 1, True)\n(2, 2, 2, 2, 2, True)\n"


def test_an_attribute_that_a_class_lost_is_lost_at_the_daemon() -> None:
    script = "class C:\n    a = b = 1\ndef names(): return hasattr(C, 'a'), hasattr(C, 'b')\n"
    last = "print(d.call(names))\ndel C.a\nprint(d.call(names))"
    assert in_main(script, last) == "(True, True)\n(False, True)\n"


def test_functions_that_call_each_other_are_found() -> None:
    script = """
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
"""
    assert in_main(script, "print(d.call(even, 10), d.call(odd, 10))") == "True False\n"


def test_names_are_found_through_nested_code_classes_and_containers() -> None:
    script = """
A, B, C, D, E = 1, 10, 100, 1000, 10000
def in_lambda(): return (lambda: A)()
def in_comprehension(): return sum(B for _ in range(2))
def in_class_body():
    class K:
        value = C
    return K.value
class WithMethod:
    def method(self): return D
    @property
    def prop(self): return E
    @classmethod
    def cls(cls): return A + B
    @staticmethod
    def static(): return C + D
table = {"f": [lambda: A + E]}
def from_table(): return table["f"][0]()
"""
    last = """
print(d.call(in_lambda), d.call(in_comprehension), d.call(in_class_body))
print(d.call(WithMethod().method), d.call(lambda: WithMethod().prop))
print(d.call(WithMethod.cls), d.call(WithMethod.static), d.call(from_table))
"""
    assert in_main(script, last) == "1 20 100\n1000 10000\n11 1100 10001\n"


def test_a_base_class_arrives_before_its_subclass() -> None:
    script = """
class Sub: pass          # so that the name comes first in __main__
class Base:
    def who(self): return "base"
class Sub(Base):
    def who(self): return "sub of " + super().who()
"""
    assert in_main(script, "print(d.call(Sub().who))") == "sub of base\n"


def test_a_registry_that_holds_its_own_subclasses_arrives() -> None:
    script = """
class Plugin:
    known = []
    def __init_subclass__(cls): Plugin.known.append(cls)
class A(Plugin): pass
class B(Plugin): pass
def names(): return [p.__name__ for p in Plugin.known]
"""
    last = "print(d.call(names), d.call(A).__class__ is A, Plugin.known == [A, B])"
    assert in_main(script, last) == "['A', 'B'] True True\n"


def test_an_entry_that_needs_another_finds_it_whatever_the_order() -> None:
    script = """
import functools
def f(x=None): return x
class Marker:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return isinstance(other, Marker) and self.n == other.n
    __hash__ = None
def f(x=Marker(3)): return x == Marker(3)
class traced:
    def __init__(self, fn): self.fn = fn
    def __call__(self, *args): return "traced", self.fn(*args)
@traced
def g(x): return x + 1
def h(): return g(1), isinstance(g, traced)
"""
    assert in_main(script, "print(d.call(f), d.call(h))") == "True (('traced', 2), True)\n"


def test_instances_and_classes_come_back_as_the_hosts() -> None:
    script = """
import dataclasses, enum, typing
class Plain:
    class Inner: pass
class Colour(enum.Enum):
    RED = 1
class Bits(enum.Flag):
    A = 1
    B = 2
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
class Pair(typing.NamedTuple):
    a: int
def all_of_them():
    return Plain(), Plain.Inner(), Plain, Colour.RED, Bits.A | Bits.B, Point(1), Pair(2)
"""
    last = """
plain, inner, cls, red, both, point, pair = d.call(all_of_them)
print(type(plain) is Plain, type(inner) is Plain.Inner, cls is Plain, red is Colour.RED)
print(both is (Bits.A | Bits.B), point == Point(1), pair == Pair(2), type(pair) is Pair)
"""
    assert in_main(script, last) == "True True True True\nTrue True True True\n"


def test_a_result_never_changes_a_class_of_the_host() -> None:
    script = """
class Main:
    n = "host"
def local():
    class Local:
        n = "host"
    return Local
def spoil(cls):
    cls.n = "daemon"
    return cls()
"""
    last = """
Local = local()
print(type(d.call(spoil, Main)) is Main, Main.n)
print(type(d.call(spoil, Local)) is Local, Local.n)
print(d.call(lambda o: type(o).n, Local()))
"""
    assert in_main(script, last) == "True host\nTrue host\nhost\n"


def test_a_local_class_that_the_host_lets_go_comes_back_by_value() -> None:
    script = """
import gc
def make():
    class Local:
        def __init__(self, n): self.n = n
        def double(self): return Local(2 * self.n)
    return Local(4)
"""
    last = "call = d.encoder.encode(make().double, (), {})\ngc.collect()\nprint(d.finish(call).n)"
    assert in_main(script, last) == "8\n"


def test_a_redefined_class_reaches_the_daemon() -> None:
    script = "class C:\n    def who(self): return 1\n"
    last = """
old = C()
print(d.call(lambda: C().who()))
class C:
    def who(self): return 2
print(d.call(lambda: C().who()), d.call(old.who), type(d.call(lambda o: o, old)) is type(old))
"""
    assert in_main(script, last) == "1\n2 1 True\n"


def test_a_class_made_at_a_daemon_arrives_by_value() -> None:
    last = """
d.source("class K:\\n    n = 3\\n    def up(self): return self.n + 1", persist=True)
made = d.source("K()")
print(made.n, made.up(), d.call(lambda o: o.up(), made))
"""
    assert in_main("", last) == "3 4 4\n"


def test_what_cannot_be_pickled_but_may_not_be_needed_costs_nothing() -> None:
    script = """
import threading
lock = threading.Lock()
handle = open(__file__)
def careful(use):
    if use:
        with lock: pass
    return "fine"
def reads(): return handle
"""
    last = """
print(d.call(careful, False))
error = d.error(careful, True)
print(type(error).__name__, error.__notes__)
print(d.error(reads).__notes__[0][:60])
handle.close()
"""
    assert in_main(script, last) == (
        "fine\nNameError [\"'lock' is in the host's __main__, but cannot be pickled: "
        "TypeError: cannot pickle '_thread.lock' object\"]\n"
        "'handle' is in the host's __main__, but cannot be pickled: T\n"
    )


def test_what_is_called_must_be_picklable() -> None:
    script = """
import threading
def f(lock=threading.Lock()): pass
class Bad:
    lock = threading.Lock()
class Sub(Bad): pass
"""
    last = """
for fn, args in ((f, ()), (Sub, ()), (len, ([Sub()],))):
    try: d.encoder.encode(fn, args, {})
    except Exception as e: print(type(e).__name__, e, "|", type(e.__cause__).__name__)
"""
    lines = in_main(script, last).splitlines()
    assert lines == [
        "PayloadError cannot pickle the defaults of __main__.f[0] (a _thread.lock object): "
        "TypeError: cannot pickle '_thread.lock' object | TypeError",
        "PayloadError cannot pickle __main__.Bad.lock (a _thread.lock object): "
        "TypeError: cannot pickle '_thread.lock' object | TypeError",
        "PayloadError cannot pickle __main__.Bad.lock (a _thread.lock object): "
        "TypeError: cannot pickle '_thread.lock' object | TypeError",
    ]


def test_submodules_that_a_function_reaches_are_imported() -> None:
    script = "import xml.dom.minidom\ndef f(): return xml.dom.minidom.parseString('<a/>').nodeName"
    assert in_main(script, "print(d.call(f))") == "#document\n"


def test_a_name_that_was_never_sent_is_found_by_importing_the_main_file() -> None:
    script = """
import sys
DATA = "host"
runs = []
runs.append(__name__)
def job(): return DATA, runs
def by_text(text):
    module, _, name = text.partition(":")
    return getattr(__import__(module), name)()
def set_data():
    global DATA
    DATA = "initializer"
def by_pickle():
    import pickle
    return pickle.loads(b"c__main__\\njob\\n.")()
"""
    last = """
d.call(set_data)
print(d.call(by_text, "__main__:job"))
print(d.call(by_pickle))
print(d.error(by_text, "__main__:nothing"))
"""
    assert in_main(script, last) == (
        "('initializer', ['__mp_main__'])\n('initializer', ['__mp_main__'])\n"
        "module '__main__' has no attribute 'nothing'\n"
    )


def test_the_last_resort_fills_only_gaps() -> None:
    script = """
__version__ = "1"
kept = "host's"
def read(): return kept
def other(): return "other"
def look():
    import __main__
    return __main__.other(), kept, hasattr(__main__, "__version__")
"""
    last = "d.source('kept = 5', persist=True)\nprint(d.call(look))"
    assert in_main(script, last) == "('other', 5, False)\n"


def test_a_script_without_a_guard_is_told_so() -> None:
    script = """
with Daemon() as d:
    print(d.error(lambda: getattr(__import__("__main__"), "job")))
"""
    assert run_host(script) == (
        "module '__main__' has no attribute 'job' on this daemon, and importing the host's main "
        "module failed (RuntimeError: this script starts a daemon without if __name__ == "
        '"__main__":)\n'
    )


def test_a_script_without_a_guard_runs_its_own_functions() -> None:
    script = """
def f(x): return x + 1
with Daemon() as d:
    print(d.call(f, 1))
"""
    assert run_host(script) == "2\n"


def test_looking_for_a_source_is_no_wish_to_import_main() -> None:
    script = "import inspect\ndef look(): return inspect.getmodule(type('T', (), {})).__name__\n"
    assert run_host(script + "with Daemon() as d: print(d.call(look))") == "__main__\n"


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_code_without_a_file_is_sent(how: str) -> None:
    script = "from test_payload_driver import *\ndef f(x): return x + K\nK = 1\n"
    script += "with Daemon() as d: print(d.call(f, 1))\n"
    if how == "-c":
        assert run_python(["-c", script], host_environment()) == "2\n"
    else:
        assert run_python(["-"], host_environment(), text=script) == "2\n"


def test_a_module_run_with_m_keeps_its_relative_imports(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sister.py").write_text("value = 7\n")
    (package / "program.py").write_text(
        "from test_payload_driver import *\n"
        "from . import sister\n"
        "def f():\n"
        "    from .sister import value\n"
        "    return value + sister.value\n"
        "def job(): return f()\n"
        "def look(): return getattr(__import__('__main__'), 'job')()\n"
        "if __name__ == '__main__':\n"
        "    with Daemon() as d: print(d.call(f), d.call(look))\n"
    )
    assert run_python(["-m", "pack.program"], host_environment(), cwd=tmp_path) == "14 14\n"


def test_a_daemon_gets_path_arguments_and_directory() -> None:
    script = """
import sys, os
def look():
    import sys, os
    return sys.path[0], sys.argv, os.getcwd(), __file__
mine = look()
with Daemon() as d: print(d.call(look) == mine)
"""
    assert run_host(script, "an argument") == "True\n"


def test_a_change_of_the_import_path_follows(tmp_path: Path) -> None:
    (tmp_path / "late_module.py").write_text("def f(): return 'late'\n")
    script = f"""
import sys
def path():
    import sys
    return {str(tmp_path)!r} in sys.path
with Daemon() as d:
    print(d.call(path), d.encoder.encode(len, ("",), {{}}).names)
    sys.path.append({str(tmp_path)!r})
    import late_module
    print(d.call(late_module.f), d.call(path))
    sys.path.pop()
    print(d.call(path))
"""
    assert run_host(script) == "False ()\nlate True\nFalse\n"


def test_a_task_in_a_string_sees_its_variables_and_leaves_nothing() -> None:
    last = """
print(d.source("x = y + 1\\nx * 2", y=3))
print(d.source("def f(): return y\\nf()", y=4))
print(d.error(lambda: x).name, d.source("1; None"), d.source("pass"))
d.source("import math\\nz = y", y=5, persist=True)
print(d.source("math.floor(z + 0.5)"), d.source("z = 0"), d.source("z"), d.call(lambda: z))
print(d.source('''
    indented = 1
    indented
'''))
"""
    assert in_main("", last) == "8\n4\nx None None\n5 None 5 5\n1\n"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ('x = """a\n   \n b"""\nx', "a\n   \n b"),
        ('\n    x = """a\n   \n  b\n    c"""\n\n    x\n', "a\n   \n  b\n    c"),
        ("  x = [\n1,\n  2]\n  x", [1, 2]),
        ("\tif True:\n\t\tx = 1\n\tx", 1),
        ("   # nothing", None),
        ("  from __future__ import annotations\n  x: y = 1\n  x", 1),
    ],
)
def test_code_arrives_as_it_is_written(source: str, value: object) -> None:
    assert in_main("", f"print(d.source({source!r}) == {value!r})") == "True\n"


@pytest.mark.parametrize(
    "source",
    ["x = 1\n  y = 2", "  x = 1\ny = 2", "  x = 1\n y = 2", "  x = 1\nelse:\n  y = 2", "  x +"],
)
def test_code_that_is_badly_indented_fails_at_once(source: str) -> None:
    with pytest.raises(SyntaxError) as caught:
        CallEncoder().encode_source(source, {})
    assert caught.value.lineno in {1, 2}


def test_lines_of_indented_code_keep_their_numbers() -> None:
    last = """
try: d.source("\\n    x = 1\\n    x / 0")
except ZeroDivisionError as error:
    print('File "<mirai>", line 3, in <module>\\n    x / 0' in str(error.__cause__))
"""
    assert in_main("", last) == "True\n"


SEEN = """
G = 17
def f(): return G
def set_h():
    global H
    H = G
H = G + 1
def helped(): return f()
def seen(source, persist, **variables):
    try: return d.source(source, persist=persist, **variables)
    except NameError as error: return error.name
"""


@pytest.mark.parametrize("persist", [False, True])
def test_code_sees_the_same_globals_whatever_has_run_before(persist: bool) -> None:
    last = f"""
def look(*names): return [seen(name, {persist}) for name in names]
print(look("G", "H"), d.call(f), look("G", "f"))
d.source("G = 17", persist=True)
print(look("G"), d.call(f))
d.finish(d.encoder.encode(set_h, (), {{}}), persist=True)
print(look("H"), seen("h()", {persist}, h=helped), seen("id = 1; id", {persist}))
"""
    assert in_main(SEEN, last) == "['G', 'H'] 17 ['G', 'f']\n[17] 17\n[17] 17 1\n"


def test_a_sentinel_is_itself_at_both_ends() -> None:
    script = """
import dataclasses, functools
MISSING = object()
class Sentinel: pass
UNSET = Sentinel()
@dataclasses.dataclass
class D:
    a: int
    b: object = UNSET
    none: object = MISSING
def get(d, k, default=MISSING): return "KeyError" if default is MISSING else default
def look(x, y):
    fields = [f.name for f in dataclasses.fields(D) if f.default is dataclasses.MISSING]
    return x is MISSING, y is dataclasses.MISSING, D(1).b is UNSET, D(1).none is MISSING, fields
def give(): return MISSING, UNSET, [dataclasses.MISSING], Sentinel()
"""
    last = """
print(d.call(get, {}, "a"), d.call(get, {}, "a", None), d.call(functools.partial(get, {}), 1))
print(d.call(look, MISSING, dataclasses.MISSING))
a, b, (c,), new = d.call(give)
print(a is MISSING, b is UNSET, c is dataclasses.MISSING, new is UNSET)
print(d.call(lambda x, y: x is y, *[object()] * 2), type(d.call(object)))
"""
    assert in_main(script, last) == (
        "KeyError None KeyError\n(True, True, True, True, ['a'])\nTrue True True False\n"
        "True <class 'object'>\n"
    )


def test_an_interrupt_while_a_name_is_applied_leaves_it_for_the_next_call() -> None:
    script = """
class Once:
    def __reduce__(self): return (rebuild, ())
def rebuild():
    global tries
    tries = globals().get("tries", 0) + 1
    if tries == 1: raise KeyboardInterrupt
    if tries == 2: raise ValueError("second")
    return "third"
value = Once()
def read(): return value
"""
    last = """
print(type(d.error(read)).__name__)
print(d.error(read))
print(d.call(read), d.call(read))
"""
    assert in_main(script, last) == (
        "KeyboardInterrupt\ncannot unpickle 'value' of the host's __main__: ValueError: second\n"
        "third third\n"
    )


def test_bytes_that_a_daemon_lacks_are_named() -> None:
    script = "DATA = 1\ndef read(): return DATA\n"
    last = """
call = d.encoder.encode(read, (), {})
d.sent.update({"DATA": dict((n, g) for n, g, _ in call.names)["DATA"]})
print(d.error(read))
d.sent.clear()
print(d.call(read))
"""
    assert (
        in_main(script, last) == "the bytes of 'DATA' of the host's __main__ have not arrived\n1\n"
    )


SHARING = """
import functools
class Node:
    def __init__(self, name): self.name = name
class Missing:
    def __init__(self, text): self.text = text
NODES = [Node("a"), Node("b")]
BY_NAME = {n.name: n for n in NODES}
FIRST = BY_NAME["a"]
MISSING = Missing("missing")
MANY = [Node(str(i)) for i in range(10_000)]
LAST = MANY[-1]
BY_NUMBER = dict(enumerate(MANY))
TEXTS = [str(i) for i in range(50_000)]
ALL = {"texts": TEXTS}
KNOWN = []
def register(f):
    def wrapper(*args): return f(*args)
    KNOWN.append(wrapper)
    return wrapper
def counter():
    n = 0
    def count():
        nonlocal n
        n += 1
    def read(): return n
    return count, read
count, read = counter()

def index(): return FIRST is NODES[0] is BY_NAME["a"]
def default(missing=MISSING): return missing is MISSING
class C:
    nodes = NODES
    def method(self, missing=MISSING): return missing is MISSING and self.nodes is NODES
def attribute(): return C().method()
@register
def registered(): return KNOWN[0] is registered
def closures(): return (count(), read() == 1)[1]
def item_of_a_large_one(): return LAST is MANY[-1]
def two_large_ones(): return MANY[5] is BY_NUMBER[5] and TEXTS is ALL["texts"]
"""


@pytest.mark.parametrize(
    "name",
    [
        *("index", "default", "attribute", "registered", "closures"),
        *("item_of_a_large_one", "two_large_ones"),
    ],
)
def test_names_that_share_an_object_share_it_at_daemons(name: str) -> None:
    assert in_main(SHARING, f"print(d.call({name}))") == "True\n"


def test_names_travel_alone_unless_they_share_what_is_more_than_its_value() -> None:
    script = """
import dataclasses, enum, logging, re, typing
class Color(enum.Enum): RED = 1
@dataclasses.dataclass
class C: a: int = 1; b: list = dataclasses.field(default_factory=list)
@dataclasses.dataclass
class D: a: int = 1; b: list = dataclasses.field(default_factory=list)
def helper(): return 1
TEXT, MISSING = "text" * 9, object()
A = [Color.RED, re.compile("a"), C, helper, TEXT, (1, TEXT), range(9), len, re, MISSING]
B = [*A]
def f(x=helper): return A, B, C, D, MISSING
"""
    last = "print(*sorted(e.name for e in d.encoder.encode(f, (), {}).names))"
    assert in_main(script, last) == "A B C Color D MISSING f helper\n"


def test_names_that_share_an_object_follow_the_host_together_and_stay_together() -> None:
    script = """
A = [[1]]
B = {"a": A[0]}
def see():
    A[0].append(2)
    return B["a"], A[0] is B["a"]
def alone(): return A
"""
    last = """
print(d.call(see), d.call(alone), d.call(see))
B["b"] = 0
print(d.call(see), d.call(alone))
A = [B["a"]]
A.append(3)
print(d.call(alone), d.call(see))
B["a"] = [0]
print(d.call(see), d.call(alone))
"""
    assert in_main(script, last) == (
        "([1, 2], True) [[1, 2]] ([1, 2, 2], True)\n"
        "([1, 2], True) [[1, 2]]\n"
        "[[1], 3] ([1, 2], True)\n"
        "([0], False) [[1, 2, 2], 3]\n"
    )


CARRIED = """
CACHE = {}
ALIAS = CACHE
INDEX = {"cache": CACHE}
ITEMS = [[1], [2]]
BY_NAME = {"one": ITEMS[0]}
class Node:
    def __init__(self): self.seen = []
NODE = Node()
NODES = {"node": NODE}
def default(c=CACHE): return dict(c)
def counter():
    n = [0]
    def count():
        n[0] += 1
        return n[0]
    return count
COUNT = counter()
COUNTERS = [COUNT]
def change():
    CACHE["x"] = 1
    ITEMS[0].append(9)
    NODE.seen.append(ITEMS[0])
    COUNT()
def alias(): return CACHE, ALIAS is CACHE
def index(): return CACHE, INDEX["cache"] is CACHE
def argument(): return CACHE, default()
def items(): return ITEMS, BY_NAME["one"] is ITEMS[0]
def attribute(): return NODE.seen, NODES["node"] is NODE
def closure(): return COUNTERS[0]() == COUNT() - 1 == 2
def several(): return CACHE, ALIAS, INDEX, ITEMS, BY_NAME
"""


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("alias", "({'x': 1}, True)"),
        ("index", "({'x': 1}, True)"),
        ("argument", "({'x': 1}, {'x': 1})"),
        ("items", "([[1, 9], [2]], True)"),
        ("attribute", "([[1, 9]], True)"),
        ("closure", "True"),
        ("several", "({'x': 1}, {'x': 1}, {'cache': {'x': 1}}, [[1, 9], [2]], {'one': [1, 9]})"),
    ],
)
def test_what_was_changed_in_place_stays_when_names_arrive_that_share_it(
    name: str, seen: str
) -> None:
    last = f"d.call(change)\nprint(d.call({name}))\nprint(d.call({name}))"
    lines = in_main(CARRIED, last).splitlines()
    assert lines[0] == seen
    assert lines[1] == seen or name == "closure"


def test_a_name_that_a_task_has_bound_anew_stays_when_names_arrive_that_share_it() -> None:
    script = """
A = B = {}
def change():
    global A
    A = {"mine": 1}
def see(): return A, B
"""
    assert in_main(script, "d.call(change)\nprint(d.call(see))") == "({'mine': 1}, {})\n"


def test_a_name_that_was_set_at_a_daemon_stays_and_those_that_share_with_it_arrive() -> None:
    script = "A = [1]\nB = {'a': A}\nC = [A]\ndef see(): return A, B, B['a'] is C[0]\n"
    last = "d.source('A = 5', persist=True)\nprint(d.call(see), d.call(see))"
    assert in_main(script, last) == "(5, {'a': [1]}, True) (5, {'a': [1]}, True)\n"
