"""What the host's encoder sends, refuses and forgets."""

import copy
import datetime
import functools
import gc
import importlib
import math
import multiprocessing
import pickle
import select
import socket
import sys
import threading
import time
import timeit
import weakref
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from mirai_executor._payload.common import hooks
from mirai_executor._payload.common import importable as payload_importable
from mirai_executor._payload.common.entries import AROUND
from mirai_executor._payload.common.importable import Travel, travel_of
from mirai_executor._payload.daemon import decode_plain
from mirai_executor._payload.host import CallEncoder, Preparation, encode_plain
from mirai_executor._payload.host import table as table_module
from mirai_executor.errors import PayloadError
from unit.test_payload_driver import run_host


def encode(fn: Any, *args: Any, **kwargs: Any) -> Any:
    return CallEncoder().encode(fn, args, kwargs)


def test_an_importable_function_of_numbers_is_a_plain_pickle() -> None:
    call = encode(math.hypot, 3, 4.0)
    assert call.names == ()
    assert pickle.loads(call.blob) == (math.hypot, (3, 4.0), {})
    assert call.blob == pickle.dumps((math.hypot, (3, 4.0), {}), 5)


def test_an_importable_function_of_numbers_costs_a_few_microseconds() -> None:
    encoder = CallEncoder()
    fn = importlib.import_module("shutil").copyfileobj
    timer = timeit.Timer(lambda: encoder.encode(fn, (1, 2), {}), timer=time.process_time)
    seconds = min(timer.repeat(number=1000, repeat=20))
    assert seconds / 1000 < 20e-6  # about three, on a quiet machine


def test_an_interrupt_before_there_is_a_pickler_is_no_error_of_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(table_module, "CallPickler", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(lambda: None)


LOCK = threading.Lock()


def iter_nothing() -> Iterator[None]:
    yield None


class Holder:
    def __init__(self, inner: object) -> None:
        self.inner = inner

    def get(self) -> object:
        return self.inner


class Fresh:
    """Its state is made anew whenever it is pickled."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __getstate__(self) -> object:
        return {"parts": self.parts, "made": [Holder(threading.Lock())]}


ZEROS: dict[Any, Any] = dict.fromkeys(range(500), 0)


def deep(depth: int, obj: object) -> object:
    for _ in range(depth):
        obj = [list(range(100)), obj]
    return obj


def looped(obj: object) -> object:
    loop: list[object] = [[7], {"k": (1, obj)}]
    loop.insert(0, loop)
    return loop


@pytest.mark.parametrize(
    ("arg", "path"),
    [
        ([*range(1000), LOCK, *range(1000)], "args[0][1000]"),
        (
            [[[i] for i in range(1000)], [[i, (i, [LOCK] * (i == 700))] for i in range(1000)]],
            "args[0][1][700][1][1][0]",
        ),
        (deep(20, LOCK), "args[0]" + "[1]" * 20),
        ([Holder(i) for i in range(500)] + [Holder({"k": LOCK})], "args[0][500].inner['k']"),
        (looped(LOCK), "args[0][2]['k'][1]"),
        ({"a": {1, LOCK}}, "a member of args[0]['a']"),
        (Holder(functools.partial(print, LOCK)), "args[0].inner.args[0]"),
        ([*range(1000), [1], [LOCK], *range(1000)], "args[0][1001][0]"),
        ([[n] for n in range(500)] + [LOCK], "args[0][500]"),
        ({**ZEROS, "z": LOCK}, "args[0]['z']"),
        ({**ZEROS, LOCK: 0}, "key <unlocked _thread.lock object at"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_culprit_is_found_wherever_it_is_without_pickling_anything_again(
    arg: object, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirai_executor._payload.common.search.fails", None)
    monkeypatch.setattr("mirai_executor._payload.common.diagnosis.fails", None)
    with pytest.raises(PayloadError) as caught:
        CallEncoder().encode(len, (arg,), {})
    text = str(caught.value)
    assert text.startswith(f"cannot pickle {path}")
    assert " (a _thread.lock object): " in text


def test_an_element_of_an_array_of_objects_is_named() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.array([[1, "x"], [LOCK, 2]], object)
    with pytest.raises(PayloadError, match=r"cannot pickle args\[0\]\['k'\]\.flat\[2\] \(a _thr"):
        CallEncoder().encode(len, ({"k": array},), {})


def test_a_culprit_that_the_garbage_collector_does_not_track_is_found() -> None:
    culprit = select.poll()
    assert not gc.is_tracked(culprit)
    pair = (0, culprit)
    gc.collect()  # from then on, it does not track the pair, either
    with pytest.raises(PayloadError, match=r"args\[0\]\['k'\]\[1\] \(a select.poll object\)"):
        CallEncoder().encode(len, ({"k": pair},), {})


KEYS: dict[Any, Any] = {n: [n] for n in range(20_000)} | {LOCK: 1}


@pytest.mark.parametrize(
    "arg",
    [
        [*range(20_000), [LOCK], *range(20_000)],
        [[*range(20_000)], {n: str(n) for n in range(10_000)}, [LOCK]],
        ({*range(20_000)}, (*map(float, range(20_000)), LOCK)),
        {**{f"k{n}": n for n in range(20_000)}, "z": LOCK},
        KEYS,
        {*range(20_000), LOCK},
    ],
    ids=["list", "several", "tuple", "values", "keys", "set"],
)
def test_no_code_runs_for_each_number_that_lies_beside_a_culprit(arg: object) -> None:
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(PayloadError, match="lock object"):
            CallEncoder().encode(len, (arg,), {})
    finally:
        sys.settrace(before)
    assert count < 20_000


@pytest.mark.parametrize("lot", [[datetime.date(1, 1, 1)], [Decimal(1)], [defaultdict(list)]])
def test_each_type_beside_a_culprit_is_looked_at_once(
    lot: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[object] = []

    def look(module: str) -> Travel:
        looked_at.append(module)
        return travel_of(module)

    monkeypatch.setattr("mirai_executor._payload.common.pickler.travel_of", look)
    many = [copy.copy(lot[0]) for _ in range(1000)]
    with pytest.raises(PayloadError, match=r"args\[0\]\[1000\]"):
        CallEncoder().encode(len, ([*many, LOCK],), {})
    assert len(looked_at) < 10


def test_what_makes_a_culprit_while_it_is_pickled_is_named() -> None:
    with pytest.raises(PayloadError, match=r"cannot pickle args\[1\]\[1\] \(a \S+Fresh object\)"):
        CallEncoder().encode(print, (1, [Holder(1), Fresh(Holder(2)), Holder(3)]), {})


def test_of_arguments_that_are_nested_too_deeply_the_right_one_is_named() -> None:
    with pytest.raises(
        PayloadError, match=r"cannot pickle args\[1\] \(a list object\): Recursion"
    ):
        CallEncoder().encode(print, ([1], deep(100_000, 1)), {})


class OwnSocket(socket.socket):
    """Not of the class that multiprocessing knows how to send."""


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "path"),
    [
        (len, (LOCK,), {}, r"args\[0\] \(a _thread.lock object\)"),
        (len, (1, [{"k": (LOCK,)}]), {}, r"args\[1\]\[0\]\['k'\]\[0\]"),
        (len, (), {"name": Holder(Holder(LOCK))}, r"kwargs\['name'\].inner.inner"),
        (len, ({1, LOCK},), {}, r"a member of args\[0\]"),
        (functools.partial(print, LOCK), (), {}, r"the function.args\[0\]"),
        (Holder(LOCK).get, (), {}, r"the function.__self__.inner"),
        (lambda: LOCK, (OwnSocket(),), {}, r"args\[0\] \(a \S+OwnSocket object\)"),
        (len, (iter_nothing(),), {}, r"args\[0\] \(a generator object\)"),
    ],
)
def test_what_cannot_be_pickled_is_named(fn: Any, args: Any, kwargs: Any, path: str) -> None:
    with pytest.raises(PayloadError, match=f"cannot pickle {path}") as caught:
        encode(fn, *args, **kwargs)
    assert isinstance(caught.value.__cause__, TypeError)
    for arg in args:
        if isinstance(arg, socket.socket):
            arg.close()


def test_a_captured_variable_that_cannot_be_pickled_is_named() -> None:
    captured = threading.RLock()
    with pytest.raises(PayloadError, match="'captured' captured by the function"):
        encode(lambda: captured)


def test_an_open_file_is_not_read_but_refused() -> None:
    with Path(__file__).open() as file, pytest.raises(PayloadError, match="TextIOWrapper"):
        encode(len, file)


def test_too_deep_a_value_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PayloadError, match="RecursionError"):
        encode(len, deep)
    while deep:  # or the interpreter's own destructor has a long way to go
        deep = deep.pop()


class Raises:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getstate__(self) -> NoReturn:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        pickle.PicklingError("x"),
        ValueError("x"),
        TypeError("x"),
        AttributeError("x"),
        SystemExit(1),
        KeyboardInterrupt(),
    ],
)
def test_what_user_code_raises_comes_out_as_itself(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        encode(len, Raises(error))
    assert caught.value is error


def test_the_encoder_keeps_nothing_of_a_call_alive() -> None:
    class Thing:
        def method(self) -> None: ...

    # The default captures the class: annotations alone do not, where 3.14 leaves them for later.
    def fn(thing: Thing, kind: type = Thing) -> Thing:
        return thing

    encoder = CallEncoder()
    thing = Thing()
    seen: list[weakref.ref[Any]] = [weakref.ref(fn), weakref.ref(thing), weakref.ref(Thing)]
    encoder.encode(fn, (thing, [thing]), {"k": thing.method})
    with pytest.raises(PayloadError):
        encoder.encode(fn, (thing, LOCK), {})
    del fn, thing, Thing
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3


def test_many_threads_may_encode_at_once() -> None:
    encoder = CallEncoder()
    failures: list[BaseException] = []

    def work(n: int) -> None:
        def local(x: int) -> int:
            return x + n

        class Local:
            value = n

        try:
            for i in range(50):
                encoder.encode(local, (i, Local()), {})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_code_that_is_not_python_fails_at_once() -> None:
    with pytest.raises(SyntaxError):
        CallEncoder().encode_source("a b", {})
    with pytest.raises(PayloadError, match=r"\['x'\] \(a _thread.lock"):
        CallEncoder().encode_source("x", {"x": LOCK})


def test_a_lock_of_multiprocessing_becomes_one_of_each_daemon() -> None:
    encoder = CallEncoder()
    fork = multiprocessing.get_context("fork")
    with pytest.raises((RuntimeError, PayloadError), match="fork context"):
        encoder.encode(len, (fork.RLock(),), {})
    args = (fork.RLock(), fork.Lock())
    with pytest.warns(RuntimeWarning, match="each daemon gets a lock of its own") as caught:
        call = encoder.encode(print, args, {}, local_locks=True)
    assert len(caught) == 1
    _, (first, second), _ = pickle.loads(call.blob)
    assert type(first) is type(multiprocessing.RLock())
    assert type(second) is type(multiprocessing.Lock())
    with first, second:
        pass


def test_the_import_path_is_sent_once_it_differs_and_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = CallEncoder()
    before = sys.path.copy()
    assert encoder.encode(len, ("",), {}).names == ()
    monkeypatch.setattr(sys, "path", [*before, "/elsewhere"])
    (entry,) = encoder.encode(len, ("",), {}).names
    assert entry.name == "sys.path"
    assert pickle.loads(entry.blob)[-1] == "/elsewhere"
    monkeypatch.setattr(sys, "path", before)
    (entry,) = encoder.encode(len, ("",), {}).names
    assert "/elsewhere" not in pickle.loads(entry.blob)
    assert CallEncoder(["/other"]).encode(len, ("",), {}).names[0].name == "sys.path"


def test_a_preparation_is_plain_data() -> None:
    preparation = Preparation.of_this_process()
    assert decode_plain(encode_plain(preparation)) == preparation
    assert "" not in preparation.sys_path
    assert preparation.main_path is None  # pytest is no script of the user's


def test_the_hooks_refuse_a_cloudpickle_that_lacks_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from cloudpickle import cloudpickle

    monkeypatch.delattr(cloudpickle, "_make_typevar")
    with pytest.raises(ImportError, match=r"_make_typevar, .* install cloudpickle=="):
        importlib.reload(hooks)
    monkeypatch.undo()
    importlib.reload(hooks)


def test_a_file_on_the_path_is_importable_and_one_elsewhere_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "on").mkdir()
    (tmp_path / "off").mkdir()
    for folder in ("on", "off"):
        (tmp_path / folder / "some_module_xyz.py").write_text("def f(): return 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "on"), *sys.path])
    monkeypatch.delitem(sys.modules, "some_module_xyz", raising=False)
    module = importlib.import_module("some_module_xyz")
    assert payload_importable.is_importable("some_module_xyz")
    module.__file__ = str(tmp_path / "off" / "some_module_xyz.py")
    assert not payload_importable.is_importable("some_module_xyz")
    module.__file__ = str(tmp_path / "on" / "some_module_xyz.py")
    monkeypatch.setattr(sys, "path", sys.path[1:])
    assert not payload_importable.is_importable("some_module_xyz")
    monkeypatch.delitem(sys.modules, "some_module_xyz")


@pytest.mark.parametrize(
    "name",
    ["os", "sys", "builtins", "posixpath", "math", "xml.dom.minidom", "numpy", "numpy.random"],
)
def test_standard_and_installed_modules_are_importable(name: str) -> None:
    pytest.importorskip(name)
    assert payload_importable.is_importable(name)


HELD = """
import sys, types, importlib.util, pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "held_module.py").write_text('''
DATA = None
lock = __import__("threading").Lock()
def initialize(value):
    global DATA
    DATA = value
def read(): return DATA
class Thing:
    def __init__(self, n): self.n = n
    def up(self): return Thing(self.n + 1)
class Sub(Thing):
    known = []
''')
spec = importlib.util.spec_from_file_location("held_module", folder / "held_module.py")
module = importlib.util.module_from_spec(spec)
sys.modules["held_module"] = module
spec.loader.exec_module(module)
def captured(): return module.read(), module.Thing(3).up().n
"""


def test_a_module_that_only_this_process_holds_behaves_as_main_does() -> None:
    script = (
        HELD
        + """
with Daemon() as d:
    d.call(module.initialize, 5)
    print(d.call(module.read), module.DATA)
    got = d.call(module.Sub(1).up)
    print(type(got) is module.Thing, got.n, type(d.call(module.Sub, 1)) is module.Sub)
    module.DATA = 6
    print(d.call(module.read), d.call(captured), d.call(lambda: module) is module)
"""
    )
    assert run_host(script) == "5 None\nTrue 2 True\n6 (6, 4) True\n"


def test_a_module_registered_by_value_is_sent_by_value(tmp_path: Path) -> None:
    (tmp_path / "registered_module.py").write_text("K = 1\ndef f(): return K\nclass C: pass\n")
    script = f"""
import sys, cloudpickle
sys.path.insert(0, {str(tmp_path)!r})
import registered_module as m
cloudpickle.register_pickle_by_value(m)
with Daemon() as d:
    print(d.call(m.f))
    m.K = 2
    print(d.call(m.f), type(d.call(m.C)) is m.C)
"""
    assert run_host(script) == "1\n2 True\n"


def test_a_local_function_of_an_importable_module_sees_that_module(tmp_path: Path) -> None:
    (tmp_path / "made_here.py").write_text(
        "STATE = []\ndef make():\n    def inner(x):\n        STATE.append(x)\n"
        "        return len(STATE)\n    return inner\n"
    )
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import made_here
with Daemon() as d:
    f = made_here.make()
    print(d.call(f, 1), d.call(f, 2), made_here.STATE)
"""
    assert run_host(script) == "1 2 []\n"


# What code of everywhere() sets


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", {"x"}),
        ("weights = x", {"weights", "x"}),
        ("weights = bias = x; flag = True", {"weights", "bias", "flag", "x"}),
        ("pair = x, [1, 'a']", {"pair", "x"}),
        ("weights = y", None),  # which is what it was
        ("weights = f(x)", None),
        ("weights += x", None),
        ("weights[0] = x", None),
        ("model.weights = x", None),
        ("a, b = x", None),  # which takes as many steps as x says
        ("weights: int = x", None),
        ("import math", None),
        ("x", None),
    ],
)
def test_names_are_known_to_be_set_only_where_code_does_nothing_else(
    source: str, names: set[str] | None
) -> None:
    assert CallEncoder().names_set_by(source, {"x": 1}) == names
    assert CallEncoder().names_set_by(source, {"x": 1, AROUND: []}) == names
