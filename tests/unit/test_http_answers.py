"""What an HTTP service may answer: nothing that is no HTTP, late or confidential gets further."""

import logging
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from mirai_executor import MiraiExecutor, http_config
from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.errors import LaunchError
from mirai_executor.launchers import DaemonCommand, Submission, launch

SECRET = Secret(bytes(range(100, 132)))
DAEMON = DaemonCommand(("tcp://127.0.0.1:5555",), DaemonCredentials(SECRET))
TOKEN, KEY, COOKIE = "to-be-hidden-token", "to-be-hidden-key", "to-be-hidden-cookie"
CONFIDENTIAL = (SECRET.text, TOKEN, KEY, COOKIE)

OK = b"HTTP/1.1 200 OK\r\n"
BAD = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "half a line": b"HTTP/1.1",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a negative status": b"HTTP/1.1 -1 OK\r\n\r\n",
    "a huge status": b"HTTP/1.1 99999 OK\r\n\r\n",
    "another version": b"HTTP/9.9 200 OK\r\n\r\n",
    "a long line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": OK + b"A: b\r\n" * 200 + b"\r\n",
    "chunks without a size": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
    "a chunk that is cut off": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "binary": bytes(range(256)) * 20,
    "a refusal": b"HTTP/1.1 500 \x1b[2Jforged\r\n\r\n",
    "a redirect nowhere": b"HTTP/1.1 302 Found\r\nLocation: ://[\r\n\r\n",
    "a wish for a password": b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n\r\n",
}


@contextmanager
def service(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one connection after the other in this way; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def plan(url: str) -> list[Submission]:
    launcher = http_config(
        f"{url}/jobs?key={KEY}", headers={"X-Key": KEY}, token=TOKEN, cookie=f"id={COOKIE}; a=b"
    )
    return launcher.plan(DAEMON, 1)


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        receive_request(connection)
        connection.sendall(answer)

    return talk


def receive_request(connection: socket.socket) -> bytes:
    text = b""
    # To the last line of the script, or until who asks has given up.
    while b"exec " not in text and (more := connection.recv(65536)):
        text += more
    return text


def test_whatever_is_no_answer_is_a_launch_error() -> None:
    around = sys.exception()  # what whoever runs this test may be handling
    for name, answer in BAD.items():
        with service(answering(answer)) as url, pytest.raises(LaunchError) as failed:
            launch(plan(url))
        assert str(failed.value).startswith(f"POST {url}/jobs failed: "), name
        assert str(failed.value).isprintable(), name
        assert len(str(failed.value)) < 1200, name
        assert failed.value.__context__ is around, name


@pytest.mark.parametrize("status", ["200 OK", f"403 {TOKEN}", TOKEN])
def test_an_answer_that_repeats_the_request_shows_nothing_confidential(status: str) -> None:
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heard.append(receive_request(connection))
        connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode() + heard[-1])

    with service(talk) as url:
        try:
            (launched,) = launch(plan(url))
            said = launched.output
        except LaunchError as error:
            said = f"{error} {error.stderr} {error.command}"
    assert all(text.encode() in heard[0] for text in CONFIDENTIAL)
    assert not any(text in said for text in CONFIDENTIAL)
    assert "***" in said


def drip(connection: socket.socket, data: bytes, done: threading.Event) -> None:
    """Send a byte at a time, each well before a read would time out, for as long as it can."""
    at = 0
    while not done.wait(0.05):
        connection.sendall(data[at : at + 1] or b"x")
        at += 1


@pytest.mark.parametrize(
    "begin", [b"", OK + b"A: ", OK + b"\r\n", OK + b"Content-Length: 9000\r\n\r\n"]
)
def test_the_time_is_that_of_the_whole_request(begin: bytes) -> None:
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        receive_request(connection)
        connection.sendall(begin)
        drip(connection, b"HTTP/1.1", done)

    with service(talk) as url:
        with pytest.raises(LaunchError, match="no answer in time"):
            launch(plan(url), timeout=0.3)
        done.set()


def test_so_is_it_while_tls_is_agreed_on() -> None:
    done = threading.Event()
    hello = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"  # of a long message

    with service(lambda connection: drip(connection, hello, done)) as url:
        with pytest.raises(LaunchError, match="no answer in time"):
            launch(plan(url.replace("http:", "https:")), timeout=0.3)
        done.set()


def test_tasks_end_in_the_error_of_a_service_that_speaks_no_http() -> None:
    with service(answering(b"nonsense\r\n")) as url:
        launcher = http_config(url)
        with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
            error = executor.submit(abs, -1).exception(30)
        assert isinstance(error, LaunchError)
        assert "BadStatusLine: nonsense" in str(error)


def test_a_token_that_cannot_be_had_is_a_failed_launch_like_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens, said = iter(["one for the look at the arguments"]), queue.Queue[str]()

    def token() -> str:
        try:
            return next(tokens)
        except StopIteration:
            raise RuntimeError("no token today") from None

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.put(record.getMessage())

    monkeypatch.setattr(logging.getLogger("mirai_executor"), "handlers", [Listener()])
    with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
        executor.adapt(0, 1, remote=http_config("https://127.0.0.1:9", token=token))
        task = executor.submit(abs, -1)
        assert "will not start: cannot plan daemons: RuntimeError: no token" in said.get(
            timeout=30
        )
        task.cancel()
