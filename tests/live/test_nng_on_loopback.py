"""Other users of this machine can connect to the loopback interface, but not with our NNG."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("pynng", reason="there is no wheel of it for Python 3.15")
from mirai_executor._transport import Pump, _nng, _opening
from mirai_executor._transport._opening import ClientOpening, Opening, ServerOpening
from mirai_executor._transport._upgrade import request_for
from mirai_executor.urls import Url

pytestmark = [pytest.mark.live, pytest.mark.transports, pytest.mark.own_url]

SECONDS = 20.0
LOCAL = "127.0.0.1"


@pytest.fixture
def pump() -> Iterator[Pump]:
    made = Pump()
    yield made
    made.stop(SECONDS)


class Result:
    """What has become of an opening."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.error: OSError | None = None
        self.port = 0

    def on_open(self, side: Any, pointer: Any) -> None:
        side.close()
        _nng.free_stream(pointer)
        self.came.set()

    def on_failure(self, error: OSError) -> None:
        self.error = error
        self.came.set()


def opened(pump: Pump, kind: type[Opening]) -> Result:
    result = Result()
    pump.put(kind(pump, result.on_open, result.on_failure).start)
    assert result.came.wait(SECONDS)
    return result


def ask(port: int, path: str) -> bytes:
    """Connect as a stranger and ask for a path; return the answer."""
    with socket.create_connection((LOCAL, port), SECONDS) as stranger:
        stranger.sendall(request_for(Url("ws", LOCAL, port, path), bytes(16)))
        return stranger.recv(1000)


class WithStrangers:
    """Makes what NNG needs, where strangers come before we do."""

    def __init__(self, kind: Any, strangers: contextlib.ExitStack) -> None:
        self._kind, self._strangers = kind, strangers
        self.answers: list[bytes] = []
        self.port = 0

    def __call__(self, first: Any, *rest: Any) -> Any:
        made = self._kind(first, *rest) if self._kind is _nng.Accept else None
        self.port = first if made is None else made.port
        for _ in range(20):
            connection = socket.create_connection((LOCAL, self.port), SECONDS)
            self._strangers.enter_context(connection)  # and says nothing
        if made is not None:
            self.answers = [ask(self.port, "/"), ask(self.port, "/other")]
        return made or self._kind(first, *rest)


@pytest.mark.parametrize(("opening", "name"), [(ServerOpening, "Accept"), (ClientOpening, "Dial")])
def test_strangers_neither_get_in_nor_keep_us_out(
    pump: Pump, opening: type[Opening], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as strangers:
        crowd = WithStrangers(getattr(_nng, name), strangers)
        monkeypatch.setattr(_opening, name, crowd)
        assert opened(pump, opening).error is None
        assert all(b" 404 " in answer for answer in crowd.answers)
        with pytest.raises(ConnectionRefusedError):  # nobody listens there any more
            socket.create_connection((LOCAL, crowd.port), SECONDS)


def test_who_knows_the_path_and_comes_from_another_port_is_not_taken() -> None:
    came = threading.Event()
    nng = _nng.Accept("/secret", came.set)
    try:
        answer = ask(nng.port, "/secret")
        assert answer.startswith(b"HTTP/1.1 101")
        assert came.wait(SECONDS)
        assert nng.output(1) is None
    finally:
        nng.free()


def test_an_nng_that_nobody_connects_with_is_given_up(pump: Pump) -> None:
    came = threading.Event()

    def begin() -> None:
        opening = ClientOpening(pump, lambda *_: None, lambda _: None)
        opening.start()
        opening.close()
        other = _nng.Accept("/secret", lambda: None)
        other.free()
        came.set()

    pump.put(begin)
    assert came.wait(SECONDS)
