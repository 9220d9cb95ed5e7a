"""Whatever the values are, and whatever is rebound between calls: nothing lost, nothing stale."""

import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirai_executor._payload.daemon import encode_value
from mirai_executor._payload.host import NO_NUMBER, CallEncoder, decode_number, decode_value
from unit.test_payload_driver import run_host

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.sampled_from([int, len, math.sqrt, ..., range(3)])
)
hashable = st.recursive(atoms, lambda inner: st.tuples(inner, inner), max_leaves=3)
values = st.recursive(
    hashable,
    lambda inner: st.lists(inner) | st.dictionaries(hashable, inner) | st.tuples(inner),
    max_leaves=6,
)


@given(values)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    assert decode_value(encode_value(value).blob) == value


@given(values)
def test_a_number_is_decoded_at_once_and_anything_else_is_not(value: Any) -> None:
    blob, _ = encode_value(value)
    decoded = decode_number(blob)
    if type(value) in (bool, float, type(None)):
        assert repr(decoded) == repr(value)
    elif type(value) is int and abs(value) < 1 << 31:
        assert decoded == value
        assert type(decoded) is int
    elif type(value) is not int:  # those of more than four bytes may go either way
        assert decoded is NO_NUMBER


@given(st.binary(), st.binary(max_size=25))
def test_what_only_looks_like_a_number_is_none(head: bytes, tail: bytes) -> None:
    for blob in (head, b"\x80\x05" + head, b"\x80\x05" + tail[:9] + b"G" + tail, tail + b"."):
        decoded = decode_number(blob)  # and nothing is raised, nor called
        assert decoded is NO_NUMBER or type(decoded) in (int, float, bool, type(None))


def test_no_function_can_pass_for_a_number() -> None:
    assert decode_number(b"csys\nexit\nVM\n\x85R") is NO_NUMBER
    assert decode_number(b"\x8c\x0c" + b"a" * 9 + b"Maa.") is NO_NUMBER


@given(st.lists(values, max_size=3), st.dictionaries(st.text(), values, max_size=3))
def test_any_arguments_arrive_as_they_were(args: list[Any], kwargs: dict[str, Any]) -> None:
    call = CallEncoder().encode(print, tuple(args), kwargs)
    assert pickle.loads(call.blob) == (print, tuple(args), kwargs)
    assert call.names == ()


@given(st.lists(values, min_size=1, max_size=3))
def test_any_captured_values_arrive_as_they_were(captured: list[Any]) -> None:
    def fn(default: Any = captured) -> Any:
        return default, captured, fn.__dict__

    fn.__dict__["attribute"] = captured
    call = CallEncoder().encode(fn, (), {})
    again, args, kwargs = pickle.loads(call.blob)
    assert again(*args, **kwargs) == (captured, captured, {"attribute": captured})


REBINDS = """
import sys
from hypothesis import HealthCheck, given, settings, strategies as st

class Target:
    attribute = 0
    inner = [0]
    def method(self): return 0
def make(cell):
    def get(): return cell
    def put(value):
        nonlocal cell
        cell = value
    return get, put

number, items, table, target = 0, [0], {"k": 0}, Target()
get, put = make(0)
def helper(): return 0
def default(x=0): return x
helper.attribute = 0

def read():
    return (number, tuple(items), table["k"], target.value, Target.attribute, Target.inner[-1],
            Target().method(), get(), helper(), default(), helper.attribute, type(target) is Target)
def read_by_cell(): return (lambda: read())()

def set_global(n): globals().update(number=n)
def append(n): items.append(n); del items[:-3]
def set_key(n): table["k"] = n
def set_instance(n): target.value = n
def set_class(n): Target.attribute = n
def set_inner(n): Target.inner = [n]
def set_method(n): Target.method = lambda self: n
def redefine_class(n):
    exec(f"class Target:\\n attribute = {n}\\n inner = [{n}]\\n def method(self): return {n}", globals())
    globals()["target"] = Target()
    target.value = n
def set_cell(n): put(n)
def redefine(n):
    exec(f"def helper(): return {n}", globals())
    helper.attribute = n
def set_default(n): default.__defaults__ = (n,)
def set_attribute(n): helper.attribute = n
target.value = 0
STEPS = [set_global, append, set_key, set_instance, set_class, set_inner, set_method,
         redefine_class, set_cell, redefine, set_default, set_attribute]

steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=5)

if __name__ == "__main__":
    with Daemon() as d:
        @settings(max_examples=EXAMPLES, deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))
        @given(st.lists(steps, min_size=1, max_size=4))
        def never_stale(rounds):
            for changes in rounds:
                for change, n in changes:
                    change(n)
                assert d.call(read) == read(), (changes, d.call(read), read())
                assert d.call(read_by_cell) == read()
                assert d.call(lambda: read()) == read()
        never_stale()
        print("never")
"""  # noqa: E501 - a list reads best in few lines


@pytest.mark.parametrize("main", ["value", "auto"])
@pytest.mark.parametrize("examples", [15, pytest.param(60, marks=pytest.mark.chaos)])
def test_no_call_ever_sees_a_stale_value(main: str, examples: int) -> None:
    script = REBINDS.replace("Daemon()", f"Daemon(main={main!r})")
    assert run_host(f"EXAMPLES = {examples}\n{script}") == "never\n"
