"""What users say of classes is asked for objects of these, and for nothing else."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mirai_executor import (
    MiraiExecutor,
    PayloadError,
    SerialConfig,
    register_serial,
    serial_config,
)
from mirai_executor._payload.common.fast_pickle import OUT_OF_BAND
from mirai_executor._payload.daemon import encode_value
from mirai_executor._payload.host import decode_value
from mirai_executor._serial import hooks_for


class Table:
    """Something that pickle refuses, beside its content."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.lock = threading.Lock()


class Pivot(Table):
    pass


def dumps(table: Table) -> Any:
    return table.content


def config(loads: Any = Table) -> SerialConfig:
    return serial_config(Table, dumps, loads)


def sent(value: Any, given: Any = None) -> Any:
    """Send a value there, with all that is large beside it."""
    serial = hooks_for(config() if given is None else given)
    blob, buffers = encode_value(value, out_of_band=True, serial=serial)
    return decode_value(blob, [bytes(view) for view in buffers if isinstance(view, memoryview)])


def test_an_object_is_found_in_whatever_holds_it() -> None:
    table = Table(b"rows")
    back = sent({"deep": [(table, {1: table})]})
    found, inside = back["deep"][0]
    assert found.content == b"rows"
    assert inside[1] is found  # it is one object, as it was


def test_an_object_is_found_beside_what_only_the_careful_pickler_gets_right() -> None:
    class Local:
        table = Table(b"rows")

    assert sent([Local, Table(b"more")])[0].table.content == b"rows"


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        (b"bytes", b"bytes"),
        (bytearray(b"some"), memoryview(b"some")),
        (np.arange(3, dtype=np.uint8), memoryview(bytes([0, 1, 2]))),
        (memoryview(b"view"), memoryview(b"view")),
        ([b"a", memoryview(b"b")], [b"a", memoryview(b"b")]),
        ((b"a", b"b"), [b"a", b"b"]),
        ([], []),
    ],
)
def test_loads_gets_what_dumps_has_returned(given: Any, arrives: Any) -> None:
    back = sent(Table(given)).content
    assert (type(back), back) == (type(arrives), arrives)


def test_large_buffers_travel_beside_the_pickle() -> None:
    views = [memoryview(bytes(OUT_OF_BAND)), memoryview(b"small"), bytearray(OUT_OF_BAND)]
    blob, buffers = encode_value(Table(views), out_of_band=True, serial=hooks_for(config()))
    assert len(blob) < 1000
    assert [len(each) for each in buffers] == [OUT_OF_BAND] * 2


@pytest.mark.parametrize("wrong", ["text", None, 3, [b"good", "text"]])
def test_dumps_has_to_return_buffers(wrong: Any) -> None:
    with pytest.raises(TypeError, match="dumps must return bytes, another buffer, or a list"):
        sent(Table(wrong))


def test_a_subclass_goes_to_the_nearest_of_its_classes() -> None:
    assert type(sent(Pivot(b"rows"))) is Table
    both = serial_config([Table, Pivot], [dumps, dumps], [Table, lambda rows: ("pivot", rows)])
    assert sent(Pivot(b"rows"), both) == ("pivot", b"rows")
    assert type(sent(Table(b"rows"), both)) is Table


def test_several_configurations_add_up_and_the_last_one_wins() -> None:
    first = serial_config([Table, Pivot], [dumps, dumps], [str, repr])
    assert sent(Pivot(b"1"), [first, config()]) == "b'1'"
    assert type(sent(Table(b"1"), [first, config()])) is Table


def test_a_hook_wins_over_the_way_in_which_the_class_itself_is_pickled() -> None:
    class Own:
        def __reduce__(self) -> Any:
            raise AssertionError("nobody asks")

    assert sent(Own(), serial_config(Own, lambda _: b"1", bytes)) == b"1"
    error = serial_config(ValueError, lambda error: repr(error).encode(), bytes.decode)
    assert sent([ValueError("x")], error) == ["ValueError('x')"]


def test_a_failing_dumps_is_asked_once_and_its_error_stays_what_it_is() -> None:
    asked = []

    def fails(table: Table) -> bytes:
        asked.append(table)
        raise TypeError("cannot pickle this today")

    with pytest.raises(TypeError, match="today") as caught:
        sent([Table(b"")], serial_config(Table, fails, bytes))
    assert len(asked) == 1
    ours, *of_pickle = caught.value.__notes__
    assert ours == "raised by dumps of Table, as registered for serialization"
    assert of_pickle in ([], ["when serializing list item 0"])  # since Python 3.14


def test_a_failing_loads_raises_its_own_error() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        sent([Table(b"")], config(lambda _: 1 / 0))
    assert caught.value.__notes__ == ["raised by loads of Table, as registered for serialization"]
    with pytest.raises(TypeError, match="__floor__"):  # from C, with no frame of the user's
        sent(Table(b""), config(int.__floor__))


def test_what_else_cannot_be_pickled_is_named_as_ever() -> None:
    with pytest.raises(PayloadError, match=r"result\[1\] \(a _thread.lock object\)"):
        sent([Table(b""), threading.Lock()])


def test_a_configuration_is_frozen_and_says_what_it_is_for() -> None:
    assert repr(config()).endswith("test_serial.Table>")
    with pytest.raises(AttributeError):
        config()._hooks = ()  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((Table(b""), dumps, Table), TypeError, "cls must be a class"),
        ((Table, None, Table), TypeError, "dumps must be a function"),
        ((Table, dumps, b"x"), TypeError, "loads must be a function"),
        (([Table], dumps, Table), TypeError, "lists of functions"),
        (([Table, Pivot], [dumps], [Table]), ValueError, "not 2, 1 and 1"),
        (([Table, Table], [dumps, dumps], [Table, Table]), ValueError, "same class twice"),
        ((dict, dumps, dict), ValueError, "always pickled in Python's own way"),
        ((object, dumps, dict), ValueError, "objects of object itself"),
        ((type, dumps, dict), ValueError, "objects of type itself"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    arguments: tuple[Any, ...], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        serial_config(*arguments)
    with pytest.raises(error, match=says):
        register_serial(*arguments)


def test_an_executor_refuses_what_it_cannot_use_before_it_listens() -> None:
    lock = threading.Lock()
    held = serial_config(Table, lambda _: lock, Table)
    with pytest.raises(
        PayloadError, match=r"serial for .*Table cannot be sent to daemons: .*lock"
    ):
        MiraiExecutor(serial=held, url="tcp://127.0.0.1:0")  # it would warn of an open socket
    with pytest.raises(TypeError, match="made by serial_config"):
        MiraiExecutor(1, serial=Table)  # type: ignore[arg-type]  # that is the point


@pytest.fixture
def registered() -> Iterator[None]:
    register_serial([Table, Pivot], [dumps, dumps], [Table, Pivot])
    yield
    register_serial([Table, Pivot], None)


@pytest.mark.usefixtures("registered")
def test_what_is_registered_is_for_all_executors_made_later() -> None:
    with MiraiExecutor(1, mode="inline") as executor:
        assert type(executor.submit(lambda x: x, Pivot(b"1")).result()) is Pivot
        register_serial(Pivot, dumps, lambda rows: "later")
        assert type(executor.submit(lambda x: x, Pivot(b"1")).result()) is Pivot
    with MiraiExecutor(1, mode="inline") as executor:
        found: object = executor.submit(lambda x: x, Pivot(b"1")).result()
        assert found == "later"
    with MiraiExecutor(1, mode="inline", serial=config(lambda rows: "own")) as executor:
        found = executor.submit(list[object], (Table(b"1"), Pivot(b"1"))).result()
        assert found == ["own", "later"]
    register_serial([Table, Pivot], None)
    with MiraiExecutor(1, mode="inline") as executor:
        assert isinstance(executor.submit(id, Table(b"1")).exception(), PayloadError)
