"""A function is pickled once, and never stale: whatever it captures, and whoever changes that."""

import builtins
import gc
import importlib
import math
import pickle
import random
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirai_executor._payload.common import entries as entries_module
from mirai_executor._payload.common import fast_pickle as plain_module
from mirai_executor._payload.common.entries import FUNCTION, NAMED, find_named
from mirai_executor._payload.daemon import encode_value
from mirai_executor._payload.host import Call, CallEncoder, Sent, decode_value
from mirai_executor._payload.host import functions as functions_module
from mirai_executor._payload.host import validity as validity_module
from mirai_executor._payload.host.functions import pickle_function
from mirai_executor._payload.host.validity import Proof, prove
from unit.test_payload_driver import run_host

NUMBER = 7
BEGUN, GO_ON = threading.Event(), threading.Event()


def adder(n: Any) -> Callable[[int], Any]:
    return lambda x: x + n


def proof_of(fn: Any) -> Proof | None:
    return prove(fn)


def result_of(call: Call) -> Any:
    """Run a call as a daemon would, in this process."""
    fn, args, kwargs = pickle.loads(call.blob)
    if call.names and call.names[-1].name == FUNCTION:
        fn = pickle.loads(call.names[-1].blob)
    elif call.names and call.names[-1].name == NAMED:
        module, _, name = call.names[-1].blob.decode().partition(":")
        fn = getattr(sys.modules[module], name)
    return fn(*args, **kwargs)


# Proofs

CHANGES = """
import builtins, collections, math, os, posixpath, sys, types
from hypothesis import HealthCheck, given, settings, strategies as st

def make(cell):
    inner = lambda: cell
    def get(): return cell, inner()
    def put(value):
        nonlocal cell
        cell = value
    def drop():
        nonlocal cell
        del cell
    return get, put, drop

number, pair, alias, package = 0, (0, "a"), math.floor, os
get, put, drop = make(0)
def even(n): return True if n == 0 else odd(n - 1)
def odd(n): return False if n == 0 else even(n - 1)
def helper(): return 0
def default(x=0, *, k=0): return x, k
def annotated(x: int) -> None: "doc"
def counter():
    counter.count = getattr(counter, "count", 0) + 1
    return counter.count
def wrapped():
    try: return get()
    except NameError: return "empty"

def read():
    def inner(): return number, len("abc")
    class Body: value = number
    try: found = sometimes
    except NameError: found = None
    return (number, pair, alias(2.5), inner(), found, wrapped(), helper(), default(), even(3),
            default.__dict__.get("mark"), annotated.__annotations__.get("x"), annotated.__doc__,
            annotated.__name__, Body.value, package.path.join("a", "b"), list(several))
several = (0,)
def read_fields(f): return f()
def closure(n):
    def g(): return n, number, helper()
    return g
kept = closure(1)

def set_global(n): globals().update(number=n)
def set_to_list(n): globals().update(several=[n])
def append(n):
    if type(several) is list: several.append(n)
def set_to_tuple(n): globals().update(several=(n,))
def set_equal(n): globals().update(pair=((True, 1.0, 1, 0)[n], "a"))
def set_alias(n): globals().update(alias=(math.floor, math.ceil, int, round)[n])
def set_cell(n): put(n)
def empty_cell(n):
    try: drop()
    except NameError: pass
def come(n): globals().update(sometimes=n)
def shadow(n): globals().update(len=lambda x: n)
def redefine(n): exec(f"def helper(): return {n}", globals())
def set_code(n): helper.__code__ = (lambda: n, lambda: 5, lambda: number, lambda: "x")[n].__code__ if n else helper.__code__
def set_default(n): default.__defaults__ = (n,)
def set_list_default(n): default.__defaults__ = ([n],)
def set_keyword(n): default.__kwdefaults__["k"] = n
def new_keyword(n): default.__kwdefaults__ = {"k": n}
def mark(n): default.mark = n
def unmark(n): default.__dict__.pop("mark", None)
def annotate(n): annotated.__annotations__ = {"x": (int, str, "int", None)[n]}
def document(n): annotated.__doc__ = str(n)
def rename(n): annotated.__name__ = f"name{n}"
def rebind_odd(n): globals().update(odd=(lambda m: n))
def mutual(n): exec("def odd(n): return False if n == 0 else even(n - 1)", globals())
def set_package(n): globals().update(package=(os, types.SimpleNamespace(path=posixpath))[n % 2])
STEPS = [f for name, f in list(globals().items()) if type(f) is types.FunctionType
         and f.__code__.co_varnames[:1] == ("n",) and name not in ("even", "odd", "closure")]
count = len(STEPS)

steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=4)

if __name__ == "__main__":
    with Daemon() as d:
        d.encoder._functions._meet = lambda fn: 2  # it looks for a proof at each call
        hits = 0
        def seen(fn):
            global hits
            d.encoder.encode(fn, (), {})
            hits += fn in d.encoder._functions._known
            return d.call(fn)
        def check(changes):
            for change, n in changes:
                change(n)
            for fn in (read, kept, closure(2), wrapped, lambda: read()):
                there, here = seen(fn), fn()
                assert repr(there) == repr(here), (changes, there, here)
        for change in STEPS:
            for n in (1, 2, 3, 0):
                check([(change, n)])
        @settings(max_examples=EXAMPLES, deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))
        @given(st.lists(steps, min_size=1, max_size=5))
        def never_stale(rounds):
            for changes in rounds:
                check(changes)
        never_stale()
        print("never", hits > 100, count)
"""  # noqa: E501 - a list reads best in few lines


@pytest.mark.parametrize("often", [1, 2, sys.maxsize], ids=["compiled", "later", "looked at"])
@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.chaos)])
def test_no_change_is_ever_missed(often: int, examples: int) -> None:
    compiled = f"from mirai_executor._payload.host import validity; validity._OFTEN = {often}\n"
    assert run_host(f"{compiled}EXAMPLES = {examples}\n{CHANGES}") == "never True 24\n"


@pytest.mark.parametrize("compiled", [True, False])
def test_a_proof_that_is_asked_often_is_compiled_if_that_can_be(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: object) -> None:
        raise RuntimeError("no compiling here")

    monkeypatch.setattr(validity_module, "_OFTEN", 5)
    if not compiled:
        monkeypatch.setattr(validity_module, "compile", forbid, raising=False)
    value: Any = 1

    def fn() -> Any:
        return value

    proof = proof_of(fn)
    assert proof is not None
    assert [proof.holds() for _ in range(10)] == [True] * 10
    assert ("holds" in vars(proof)) is compiled
    value = 2
    assert not proof.holds()
    value = 1
    assert proof.holds()
    fn.__doc__ = "changed"
    assert not proof.holds()


def test_a_proof_of_very_much_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validity_module, "_OFTEN", 1)
    proof = proof_of(adder(tuple(adder(n) for n in range(validity_module._FEW))))
    assert proof is not None
    assert proof.holds()
    assert "holds" not in vars(proof)


def test_what_cannot_change_is_proven() -> None:
    def typed(x: int | None, y: "list[int]", *, z: list[int] | None = None) -> tuple[float, ...]:
        return (math.sqrt(NUMBER),)

    text, many, later = "text", (1, (2.0, b"3", frozenset({None}))), adder(3)

    def closure() -> Any:
        return text, many, later, math, len, dict, threading.Lock

    for fn in (typed, closure, run_host, adder(1)):
        proof = proof_of(fn)
        assert proof is not None
        assert proof.holds()


@pytest.mark.parametrize("value", [[], {}, set(), bytearray(), object(), random.Random(), ([],)])
def test_what_may_change_without_a_trace_is_not_proven(value: Any) -> None:
    assert proof_of(adder(value)) is None


def test_a_submodule_imported_later_ends_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import xml

    def fn() -> Any:
        return xml.dom

    monkeypatch.delitem(sys.modules, "xml.dom", raising=False)
    proof = proof_of(fn)
    assert proof is not None
    assert proof.holds()
    import xml.dom

    assert not proof.holds()


def test_an_importable_function_that_was_replaced_ends_a_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proof = proof_of(adder(math.sqrt))
    assert proof is not None
    monkeypatch.setattr(math, "sqrt", len)
    assert not proof.holds()


def test_a_function_that_is_changed_and_changed_back_while_it_is_pickled_is_not_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flag, times, encoder = False, 0, CallEncoder()

    def get() -> bool:
        return flag

    def pickled_meanwhile(*args: Any) -> Any:
        nonlocal flag, times
        times += 1
        flag = times == 1
        try:
            return pickle_function(*args)
        finally:
            flag = False

    monkeypatch.setattr(functions_module, "pickle_function", pickled_meanwhile)
    for _ in range(5):
        assert result_of(encoder.encode(get, (), {})) is False
    assert times > 2


# What travels


def test_a_closure_travels_once_for_as_long_as_it_stays_the_same() -> None:
    encoder, sent, fn = CallEncoder(), Sent(), adder(1)
    encoder.encode(fn, (1,), {})  # met for the first time: most closures are never met again
    first, second = encoder.encode(fn, (1,), {}), encoder.encode(fn, ([2],), {})
    assert [entry.name for entry in first.names] == [FUNCTION]
    assert first.names == second.names
    assert len(second.blob) < 40
    assert [sent.is_new(call.names[0]) for call in (first, second)] == [True, False]
    assert result_of(first) == 2


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with one function, ``job``, which returns 1 more than its argument."""
    name = "a_module_of_one_job"
    (tmp_path / f"{name}.py").write_text("def job(x): return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, name, None)  # so that it is gone after the test
    del sys.modules[name]
    return importlib.import_module(name)


def test_the_name_of_an_importable_function_travels_once(module: ModuleType) -> None:
    encoder, sent, job = CallEncoder(), Sent(), module.job
    calls = [encoder.encode(job, (x,), {}) for x in (1, 2)]
    assert [result_of(call) for call in calls] == [2, 3]
    assert calls[0].names is calls[1].names
    assert b"job" not in calls[0].blob
    assert [sent.is_new(call.names[0]) for call in calls] == [True, False]


@pytest.mark.parametrize("change", ["rebind", "delete", "unload", "hide", "rename", "by value"])
def test_a_name_that_no_longer_means_the_function_is_not_sent(
    module: ModuleType, change: str
) -> None:
    encoder, job = CallEncoder(), module.job
    before = encoder.encode(job, (1,), {})
    match change:
        case "rebind":
            module.job = len  # type: ignore[attr-defined]  # as a patch does
        case "delete":
            del module.job
        case "unload":
            del sys.modules[module.__name__]
        case "hide":
            sys.path.remove(str(Path(str(module.__file__)).parent))
        case "rename":
            job.__qualname__ = job.__name__ = "other"
        case _:
            cloudpickle.register_pickle_by_value(module)
    try:
        after = encoder.encode(job, (1,), {})
    finally:
        if change == "by value":
            cloudpickle.unregister_pickle_by_value(module)
    assert before.names[0] not in after.names


def test_a_name_is_found_in_a_module_that_has_to_be_imported(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"{module.__name__}:{module.job.__qualname__}".encode()
    monkeypatch.delitem(sys.modules, module.__name__)
    found = find_named(where)
    assert found is sys.modules[module.__name__].job
    assert find_named(where) is found
    del sys.modules[module.__name__].job
    with pytest.raises(AttributeError):
        find_named(where)


def test_a_name_is_waited_for_while_another_thread_imports_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
from {__name__} import BEGUN, GO_ON
def f(): return answer
BEGUN.set()
GO_ON.wait(30)
answer = 42
"""
    (tmp_path / "slow_to_come.py").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)
    importer = threading.Thread(target=importlib.import_module, args=("slow_to_come",))
    importer.start()
    assert BEGUN.wait(30)
    real_import = builtins.__import__

    def wait_for_import(name: str, *rest: Any) -> Any:
        if name == "slow_to_come":
            GO_ON.set()
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", wait_for_import)
    try:
        found: Any = find_named(b"slow_to_come:f")
        assert found() == 42
    finally:
        GO_ON.set()
        importer.join()
        del sys.modules["slow_to_come"]


def test_what_a_task_does_to_its_function_is_gone_with_the_task() -> None:
    script = """
    def counter():
        n = 0
        def count():
            nonlocal n
            n += 1
            count.calls = getattr(count, "calls", 0) + 1
            return n, count.calls
        return count
    with Daemon() as d:
        count = counter()
        print([d.call(count) for _ in range(4)])
    """
    assert run_host(script) == f"{[(1, 1)] * 4}\n"


def test_a_taken_function_stays_as_it_was() -> None:
    script = """
    items, number = [1], 1
    class C: pass
    def f(x): return x, list(items), number
    with Daemon() as d:
        n = [1]
        taken = [d.encoder.take(fn) for fn in (f, lambda x: (x, n), C.__init__)]
        items.append(2); n.append(2); number = 2
        print([d.call(t, 3) for t in taken[:2]], d.call(f, 3), d.call(taken[0], C())[1:])
        print(taken[0](3), taken[0].__name__, d.call(lambda: taken[0](3)))
        print(d.encoder.take(len) is len, type(d.encoder.take((i for i in ()))).__name__)
    """
    assert run_host(script) == (
        "[(3, [1], 1), (3, [1])] (3, [1, 2], 2) ([1], 1)\n"
        "(3, [1, 2], 2) f (3, [1, 2], 2)\n"
        "True generator\n"
    )


def test_a_large_capture_that_may_change_is_warned_of_once() -> None:
    encoder, large = CallEncoder(), bytearray(2 << 20)

    def fn(x: int) -> int:
        return len(large)

    encoder.encode(fn, (1,), {})
    with pytest.warns(RuntimeWarning, match="fn.. is pickled again.*'large' captured by it"):
        encoder.encode(fn, (1,), {})
    encoder.encode(fn, (1,), {})
    other = adder([1])
    for _ in range(3):
        encoder.encode(other, (large,), {})  # it is the argument that is large


# Arguments and results

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(plain_values)
def test_containers_of_plain_values_meet_no_python(value: Any) -> None:
    met: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            plain_module.PlainPickler, "reducer_override", lambda _, obj: met.append(obj)
        )
        assert plain_module.dump_plainly(value) is not None
    assert met == []


class Local:
    pass


def test_what_is_not_found_by_its_name_takes_the_careful_way() -> None:
    nameless = type("Nameless", (), {})
    for value in (lambda: 0, nameless, nameless(), type(None), math, ValueError(), run_host):
        found = plain_module.dump_plainly([value])
        assert (found is None) == (value is not run_host)
    assert decode_value(encode_value([nameless()]).blob)


# Limits


def test_the_host_keeps_a_bounded_number_of_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "MOST_FUNCTIONS", 3)
    encoder = CallEncoder()
    functions = [adder(n) for n in range(10)]
    refs = [weakref.ref(fn) for fn in functions]
    for fn in functions * 2:
        encoder.encode(fn, (1,), {})
    assert len(encoder._functions._known) == 3
    monkeypatch.setattr(functions_module, "MOST_MET", 5)
    for n in range(20):
        encoder.encode(adder(n), (1,), {})
    assert len(encoder._functions._met) == 5
    for named in (math.gamma, random.seed, importlib.reload, gc.collect, pickle.dumps, run_host):
        encoder.encode(named, (1,), {})
    assert len(encoder._functions._named) <= 3
    del fn, functions
    gc.collect()
    assert [ref() is None for ref in refs] == [True] * 7 + [False] * 3


def test_large_functions_make_each_other_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "MOST_BYTES", 5000)
    encoder, functions = CallEncoder(), list[Any]()
    for size in (2000, 2000, 9000):
        functions.append(adder(bytes(size)))
        for _ in range(2):
            encoder.encode(functions[-1], (b"",), {})
    assert list(encoder._functions._known) == functions[-1:]


def test_nothing_without_a_proof_is_kept_alive() -> None:
    encoder, captured, argument = CallEncoder(), Local(), Local()
    fn = adder(captured)
    refs: list[Any] = [weakref.ref(fn), weakref.ref(captured), weakref.ref(argument)]
    for _ in range(4):
        encoder.encode(fn, (argument,), {})
        encoder.encode(adder(1), (argument,), {})
    del fn, captured, argument
    assert [ref() for ref in refs] == [None, None, None]


class Asking(threading.Thread):
    """Encodes a function that returns the count and its argument, again and again."""

    def __init__(self, encoder: CallEncoder, fn: Callable[[int], tuple[int, int]]) -> None:
        super().__init__()
        self.encoder, self.fn = encoder, fn
        self.wrong: list[object] = []

    def run(self) -> None:
        for x in range(2000):
            before, _ = self.fn(x)
            got, same = result_of(self.encoder.encode(self.fn, (x,), {}))
            after, _ = self.fn(x)
            if not (before <= got <= after and same == x):
                self.wrong.append((before, got, after, same, x))


def test_threads_may_encode_while_another_changes_what_is_captured() -> None:
    n, encoder = 0, CallEncoder()

    def get(x: int) -> tuple[int, int]:
        return n, x

    threads = [Asking(encoder, get) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        n += 1
        threads[0].join(0.001)
    assert [thread.wrong for thread in threads] == [[]] * 4
