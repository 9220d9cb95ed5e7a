"""A daemon that dials meets strangers at an address: they neither hold it up nor end it."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from mirai_executor.credentials import (
    DaemonCredentials,
    HostHandshake,
    ProtocolError,
    Secret,
    new_secret,
)
from mirai_executor.keeper import ExitCode, _dial
from mirai_executor.urls import Url

SECRET = new_secret()
CREDENTIALS = DaemonCredentials(SECRET.new_token())
LENGTH = struct.Struct("<Q")
SECONDS = 20.0

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def answering(*answers: Answer) -> Iterator[Url]:
    """Listen, and answer one connection after the other."""

    def run() -> None:
        for answer in answers:
            connection, _ = server.accept()
            connection.settimeout(SECONDS)
            with connection, contextlib.suppress(OSError):
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        thread = threading.Thread(target=run)
        thread.start()
        yield Url.parse(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def receive_frame(connection: socket.socket) -> bytes:
    (length,) = LENGTH.unpack(receive(connection, LENGTH.size))
    return receive(connection, length)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := connection.recv(count - len(data))):
            raise ConnectionError("the daemon has left")
        data += piece
    return data


def drip(connection: socket.socket) -> None:
    connection.sendall(LENGTH.pack(500))
    pause = threading.Event()
    while not pause.wait(0.02):
        connection.sendall(b"x")


def speak_as_host(secret: Secret) -> Answer:
    def speak(connection: socket.socket) -> None:
        handshake = HostHandshake(secret)
        while not handshake.is_done:
            try:
                answer = handshake.receive(receive_frame(connection))
            except ProtocolError as error:
                answer = error.reply or b""
            connection.sendall(LENGTH.pack(len(answer)) + answer)

    return speak


refuse = speak_as_host(
    new_secret()
)  # the host of another executor, or a stranger that poses as one


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "_PAUSE", 0.01)


def test_who_drips_bytes_is_given_up_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "_PATIENCE", 0.3)
    with answering(drip) as stranger, answering(speak_as_host(SECRET)) as host:
        _dial.connect([stranger, host], CREDENTIALS, 0).close()


def test_a_refusal_ends_a_daemon_that_has_no_other_address() -> None:
    with answering(refuse) as stranger, pytest.raises(_dial.NotConnectedError) as ended:
        _dial.connect([stranger], CREDENTIALS, SECONDS)
    assert ended.value.code is ExitCode.WRONG_SECRET


def test_a_refusal_does_not_end_a_daemon_that_is_to_stay() -> None:
    with answering(refuse, speak_as_host(SECRET)) as place:
        _dial.connect([place], CREDENTIALS, SECONDS, stays=True).close()


def test_a_refusal_does_not_end_a_daemon_while_another_address_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        silent = Url.parse(f"tcp://127.0.0.1:{closed.getsockname()[1]}")
    with answering(refuse, speak_as_host(SECRET)) as place:
        _dial.connect([silent, place], CREDENTIALS, SECONDS).close()
    with answering(refuse) as place, pytest.raises(_dial.NotConnectedError) as ended:
        _dial.connect([silent, place], CREDENTIALS, 0)
    assert ended.value.code is ExitCode.WRONG_SECRET
