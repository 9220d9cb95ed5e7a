"""Large buffers travel beside a payload's bytes, small ones in them; both arrive as they were."""

import gc
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from pickle import PickleBuffer
from types import FrameType
from typing import Any

import numpy as np
import pytest

from mirai_executor._payload.common import fast_pickle
from mirai_executor._payload.common import fast_pickle as buffers_module
from mirai_executor._payload.common.fast_pickle import OUT_OF_BAND, Large
from mirai_executor._payload.daemon import encode_value
from mirai_executor._payload.host import Call, CallEncoder, decode_value
from unit.test_payload_driver import run_host

SIZE = OUT_OF_BAND // 8  # numbers
LARGE = np.arange(float(SIZE))


def carried(buffers: tuple[Large, ...]) -> list[Any]:
    """Copy buffers as a transport does, into memory that is as writable as theirs was."""
    return [
        b"".join(b)
        if isinstance(b, list)
        else (bytes(b) if b.readonly else memoryview(bytearray(b)))
        for b in buffers
    ]


def back(value: Any, count: int) -> Any:
    """Send a value as a result, and check how many buffers travel beside it."""
    blob, buffers = encode_value(value, out_of_band=True)
    assert len(buffers) == count
    for buffer in buffers:
        assert isinstance(buffer, memoryview)
        assert buffer.contiguous
        assert buffer.format == "B"
        assert buffer.ndim == 1
    if count:
        assert len(blob) < 1000
    return decode_value(blob, carried(buffers))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("writable", [True, False])
def test_an_array_arrives_as_writable_as_it_was(order: Any, writable: bool) -> None:
    array = np.array(LARGE.reshape(2, -1), order=order)
    array.flags.writeable = writable
    found = back(array, 1)
    assert np.array_equal(found, array)
    assert found.flags.f_contiguous == array.flags.f_contiguous
    assert found.flags.writeable == writable


def test_the_threshold_is_where_buffers_go_beside() -> None:
    for size, count in ((OUT_OF_BAND - 1, 0), (OUT_OF_BAND, 1)):
        blob, buffers = encode_value(np.zeros(size, np.uint8), out_of_band=True)
        assert len(buffers) == count
        found = decode_value(blob, carried(buffers))
        assert found.nbytes == size
        assert found.flags.writeable


def test_nothing_goes_beside_unless_asked_for() -> None:
    assert encode_value(LARGE).buffers == ()
    assert CallEncoder().encode(len, (LARGE,), {}).buffers == ()


def test_nested_arrays_come_back_in_their_places() -> None:
    small, empty = np.arange(3), np.zeros((0, 4))
    value = {"a": [LARGE, small], "b": (empty, LARGE * 2), "c": LARGE}
    found = back(value, 2)
    assert np.array_equal(found["a"][0], LARGE)
    assert found["a"][0] is found["c"]
    assert np.array_equal(found["b"][1], LARGE * 2)
    assert np.array_equal(found["a"][1], small)
    assert found["b"][0].shape == (0, 4)


def test_many_small_arrays_stay_in_band() -> None:
    arrays = [np.full(10, n) for n in range(1000)]
    blob, buffers = encode_value(arrays, out_of_band=True)
    assert buffers == ()
    assert np.array_equal(decode_value(blob), arrays)


def test_an_array_that_is_not_contiguous_arrives_whole() -> None:
    array = np.arange(4.0 * SIZE).reshape(2, -1)[:, ::2]
    blob, buffers = encode_value(array, out_of_band=True)
    assert np.array_equal(decode_value(blob, carried(buffers)), array)


def test_a_buffer_that_is_not_contiguous_is_refused_by_its_name() -> None:
    with pytest.raises(Exception, match="non-contiguous"):
        encode_value(PickleBuffer(memoryview(bytearray(OUT_OF_BAND * 2))[::2]), out_of_band=True)


def test_raw_buffers_arrive_as_bytes() -> None:
    data = bytearray(b"ab" * OUT_OF_BAND)
    found = back([PickleBuffer(data), PickleBuffer(bytes(data))], 2)
    assert [bytes(each) for each in found] == [data, data]
    assert back(PickleBuffer(b"small"), 0) == b"small"


def test_arrays_of_objects_and_of_text_arrive() -> None:
    objects = np.array([{"a": 1}, None, LARGE], dtype=object)
    found = back(objects, 1)
    assert found[0] == {"a": 1}
    assert np.array_equal(found[2], LARGE)
    texts = np.array(["a" * 100] * 1000)
    assert np.array_equal(back(texts, 1), texts)


def arguments(call: Call) -> Any:
    return pickle.loads(call.blob, buffers=carried(call.buffers))[1]


def test_arguments_go_beside_on_the_plain_way_and_on_the_careful_one() -> None:
    class Nameless:
        array = None

    nameless: Any = Nameless()
    nameless.array = LARGE
    encoder = CallEncoder()
    for fn in (len, lambda *_: 0):
        for _ in range(3):
            call = encoder.encode(fn, (LARGE, LARGE * 2), {}, out_of_band=True)
            assert [len(data) for data in carried(call.buffers)] == [LARGE.nbytes] * 2
            found = arguments(call)
            assert np.array_equal(found[0], LARGE)
            assert np.array_equal(found[1], LARGE * 2)
            call = encoder.encode(fn, (LARGE, nameless), {}, out_of_band=True)
            assert len(call.buffers) == 1
            found = arguments(call)
            assert found[1].array is found[0]


def test_buffers_are_the_users_own_memory_and_let_go_of_it() -> None:
    array = np.array(LARGE)
    call = CallEncoder().encode(len, (array,), {}, out_of_band=True)
    array[0] = 5
    (buffer,) = call.buffers
    assert isinstance(buffer, memoryview)
    assert buffer.cast("d")[0] == 5
    gone = weakref.ref(array)
    del array, call, buffer
    assert gone() is None


def test_a_daemon_decodes_buffers_without_a_copy() -> None:
    script = """
    import numpy as np
    from mirai_executor._payload import daemon, host
    with Daemon() as d:
        a = np.arange(100_000.0)
        call = d.encoder.encode(np.negative, (a,), {"out": a}, out_of_band=True)
    memory = [bytearray(view) for view in call.buffers]
    namespace = daemon.Namespace(host.Preparation.of_this_process())
    result = namespace.decode(call.blob, [], buffers=memory)()
    print(len(memory), np.array_equal(np.frombuffer(memory[0]), -a), np.shares_memory(result, np.frombuffer(memory[0])))
    value = daemon.encode_value(result, out_of_band=True)
    print(np.array_equal(host.decode_value(*value), -a))
    """  # noqa: E501 - a list reads best in few lines
    assert run_host(script) == "1 True True\nTrue\n"


# Pickles that are large themselves

MIB = buffers_module.LARGE
BIG = bytes(range(256)) * (MIB // 256)


def nested() -> list[Any]:
    return [BIG, "between", [BIG, list(range(50_000))], LARGE]


def pieces_of(large: tuple[Large, ...]) -> list[bytes]:
    """Return the pieces of a pickle that travels beside."""
    assert isinstance(large[-1], list)
    return large[-1]


def test_large_bytes_are_not_copied_by_the_pickler() -> None:
    value = encode_value(nested(), out_of_band=True, apart=True)
    assert value.blob == b""
    assert len(value.buffers) == 2
    pieces = pieces_of(value.buffers)
    assert sum(piece is BIG for piece in pieces) == 1  # the second is the same object
    assert sum(map(len, pieces)) < MIB + 500_000
    found = decode_value(b"", carried(value.buffers))
    assert found[:3] == nested()[:3]
    assert np.array_equal(found[3], LARGE)


@pytest.mark.parametrize("fn", [len, carried])
@pytest.mark.parametrize("where", ["alone", "by keyword", "nested"])
def test_large_bytes_of_a_call_are_not_copied_by_the_pickler(fn: Any, where: str) -> None:
    args = {"alone": (BIG,), "by keyword": (), "nested": ([[BIG]],)}[where]
    kwargs = {"data": BIG} if where == "by keyword" else {}
    encoder = CallEncoder()
    for _ in range(3):
        call = encoder.encode(fn, args, kwargs, out_of_band=True, apart=True)
        assert call.blob == b""
        assert any(piece is BIG for piece in pieces_of(call.buffers))
        assert pickle.loads(carried(call.buffers)[0])[1:] == (args, kwargs)


def test_large_bytes_alone_are_not_copied_either() -> None:
    value = encode_value(BIG, out_of_band=True, apart=True)
    assert any(piece is BIG for piece in pieces_of(value.buffers))
    assert decode_value(value.blob, carried(value.buffers)) == BIG


@pytest.mark.parametrize("fn", [len, carried])
@pytest.mark.parametrize(
    "value", ["é" * MIB, "e" * (MIB // 3), "e" * MIB, pytest.param(1 << (8 * MIB), id="int")]
)
def test_whatever_is_large_alone_goes_beside(fn: Any, value: Any) -> None:
    is_large = type(value) is int or len(value) >= MIB
    result = encode_value(value, out_of_band=True, apart=True)
    assert (result.blob == b"") == is_large
    assert decode_value(result.blob, carried(result.buffers)) == value
    call = CallEncoder().encode(fn, (value,), {}, out_of_band=True, apart=True)
    assert (call.blob == b"") == is_large
    assert bool(call.buffers) == is_large


@pytest.mark.parametrize("asked", [{}, {"out_of_band": True}])
def test_a_large_pickle_stays_whole_unless_asked_for(asked: dict[str, Any]) -> None:
    for value in (BIG, [BIG]):
        dumped = encode_value(value, **asked)
        assert dumped.buffers == ()
        assert decode_value(dumped.blob) == value
        call = CallEncoder().encode(len, (value,), {}, **asked)
        assert call.buffers == ()
        assert pickle.loads(call.blob)[1] == (value,)


def test_the_threshold_is_where_a_pickle_goes_beside() -> None:
    overhead = len(encode_value([bytes(MIB)]).blob) - MIB
    for size, apart in ((MIB - overhead - 1, False), (MIB - overhead, True)):
        blob, buffers = encode_value([bytes(size)], out_of_band=True, apart=True)
        assert (blob == b"") == apart
        assert len(buffers) == apart
        assert decode_value(blob, carried(buffers)) == [bytes(size)]


def test_the_careful_way_puts_a_large_pickle_beside_too() -> None:
    nameless: Any = type("Nameless", (), {})()
    nameless.data = BIG
    value = encode_value([nameless], out_of_band=True, apart=True)
    assert value.blob == b""
    assert any(piece is BIG for piece in pieces_of(value.buffers))
    assert decode_value(b"", carried(value.buffers))[0].data == BIG
    for data in (BIG, bytearray(BIG)):
        nameless.data = data
        call = CallEncoder().encode(lambda it: it, (nameless,), {}, out_of_band=True, apart=True)
        assert call.blob == b""
        (pieces,) = call.buffers
        assert isinstance(pieces, list)
        assert any(piece is data for piece in pieces) == (data is BIG)


def test_what_can_change_is_pickled_as_it_was() -> None:
    data = bytearray(BIG)
    value = encode_value([data, BIG], out_of_band=True, apart=True)
    data[:] = bytes(len(data))
    data.append(1)
    assert decode_value(value.blob, carried(value.buffers)) == [BIG, BIG]


class Once:
    """Can be pickled once."""

    def __init__(self) -> None:
        self.numbers = iter(range(5))

    def __reduce__(self) -> Any:
        return list, (), None, self.numbers


@pytest.mark.parametrize("beside", [bytearray(70_000), np.zeros(70_000, np.uint8), bytearray(MIB)])
@pytest.mark.parametrize("again", [1, 20])
def test_nothing_is_pickled_twice(beside: Any, again: int) -> None:
    value = [Once(), *(beside.copy() for _ in range(again)), "end"]
    dumped = encode_value(value, out_of_band=True, apart=True)
    found = decode_value(dumped.blob, carried(dumped.buffers))
    assert found[0] == [0, 1, 2, 3, 4]
    assert all(bytes(each) == bytes(beside) for each in found[1:-1])


@pytest.mark.parametrize("rest", [b"", BIG])
@pytest.mark.parametrize("change", [lambda it: it.append(1), lambda it: it.clear()])
def test_what_changes_its_length_meanwhile_is_pickled_again(change: Any, rest: bytes) -> None:
    changing = bytearray(70_000)

    class Changes:
        def __reduce__(self) -> Any:
            if len(changing) in (70_000, 70_001):
                change(changing)
            return int, (3,)

    value = [changing, Changes(), rest]
    dumped = encode_value(value, out_of_band=True, apart=True)
    found = decode_value(dumped.blob, carried(dumped.buffers))
    assert found[1:] == [3, rest]
    assert len(changing) != 70_000


def test_what_another_thread_resizes_is_never_torn() -> None:
    arrays = [bytearray(70_000) for _ in range(50)]
    stop = threading.Event()

    def resize() -> None:
        while not stop.is_set():
            for array in arrays:
                array.append(1)
                del array[70_000:]

    thread = threading.Thread(target=resize)
    thread.start()
    try:
        for _ in range(200):
            dumped = encode_value(arrays, out_of_band=True, apart=True)
            found = decode_value(dumped.blob, carried(dumped.buffers))
            assert {len(each) for each in found} <= {70_000, 70_001}
    finally:
        stop.set()
        thread.join()


def test_arrays_of_middle_size_stay_in_a_large_pickle() -> None:
    arrays = [np.full(100_000, n, np.uint8) for n in range(20)]
    value = encode_value(arrays, out_of_band=True, apart=True)
    for array in arrays:
        array[:] = 255
    assert len(value.buffers) == 1
    found = decode_value(value.blob, carried(value.buffers))
    assert [int(each.sum()) for each in found] == [n * 100_000 for n in range(20)]
    assert all(each.flags.writeable for each in found)


def test_a_buffer_in_another_order_is_refused_on_either_way() -> None:
    array: Any = np.asfortranarray(np.zeros((300, 300), np.uint8))
    for apart in (False, True):
        with pytest.raises(Exception, match="not C-contiguous"):
            encode_value(PickleBuffer(array), out_of_band=True, apart=apart)


def calls_of_python(fn: Callable[[], object]) -> int:
    """Count the Python functions that run."""
    count = 0

    def see(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    gc.collect()  # finalizers of what other tests have left would count, too
    gc.disable()
    sys.setprofile(see)
    try:
        fn()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize("size", [1 << 10, 1 << 17])
def test_no_python_runs_for_each_object(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take time; and let other threads change what is pickled, when half of it is."""
    monkeypatch.setattr(fast_pickle, "_free", [])  # as many picklers are made for few as for many

    def encode(total: int) -> None:
        value = [os.urandom(4) * (size // 4) for _ in range(total // size)]
        assert len(encode_value(value, out_of_band=True, apart=True).buffers) == 1

    few, many = 2 * MIB, 32 * MIB
    assert calls_of_python(lambda: encode(few)) == calls_of_python(lambda: encode(many))
