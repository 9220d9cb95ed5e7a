"""A descriptor that cannot be fetched says so, and one is lent as often as was promised."""

import multiprocessing
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor._payload.common import descriptors
from mirai_executor._payload.common.descriptors import Lender
from mirai_executor._payload.daemon import encode_value
from mirai_executor._payload.host import decode_value
from mirai_executor.errors import PayloadError


@pytest.fixture(autouse=True)
def nothing_is_left_lent() -> Iterator[None]:
    yield
    assert not descriptors._sharer._cache
    descriptors._sharer.stop()


@pytest.fixture
def pipe() -> Iterator[Any]:
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        yield reader


def test_a_descriptor_of_another_machine_says_what_is_wrong(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = encode_value(pipe).blob
    process = multiprocessing.current_process()
    with monkeypatch.context() as patch:
        patch.setattr(
            descriptors._sharer,
            "get_connection",
            lambda place: multiprocessing.connection.Client("/nowhere", authkey=process.authkey),
        )
        with pytest.raises(PayloadError, match=r"of a socket.*pid \d+.*on its own machine"):
            decode_value(blob)
    decode_value(blob).close()


def test_one_that_lasts_is_lent_until_the_end(pipe: Any) -> None:
    lender = Lender(lasting=True)
    descriptor = lender.lend(pipe.fileno())
    for _ in range(3):
        found = descriptor.detach()
        assert os.path.sameopenfile(found, pipe.fileno())
        os.close(found)
    lender.end()


@pytest.mark.parametrize("said", [None, (0, 1)], ids=["nothing", "what nobody lends"])
def test_who_ends_while_it_fetches_something_is_no_news_and_others_are_served(
    said: object, pipe: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    lender = Lender()
    descriptor = lender.lend(pipe.fileno())
    address, _ = descriptor._place  # type: ignore[misc]
    if said is None:  # it ends before it has proved who it is
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(address)
    else:
        descriptors._sharer.get_connection((address, said[0])).close()  # type: ignore[index]
    found = descriptor.detach()
    assert os.path.sameopenfile(found, pipe.fileno())
    os.close(found)
    assert capfd.readouterr().err == ""
