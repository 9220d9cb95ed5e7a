"""A descriptor that cannot be fetched says so, and one is lent as often as was promised."""

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import resource_sharer
from typing import Any

import pytest

from mirai_executor._payload.common.descriptors import Lender
from mirai_executor._payload.daemon import encode_value
from mirai_executor._payload.host import decode_value
from mirai_executor.errors import PayloadError


@pytest.fixture(autouse=True)
def nothing_is_left_lent() -> Iterator[None]:
    yield
    assert not resource_sharer._resource_sharer._cache  # type: ignore[attr-defined]
    resource_sharer.stop()


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
            resource_sharer._resource_sharer,  # type: ignore[attr-defined]
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
