"""WebSockets: bytes arrive whole and in order, and either end notices the end of the other."""

import contextlib
import hashlib
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from live.hosts import run, script
from live.mischief import Bell, crash, default_timeout, ring
from mirai_executor import DaemonLostError, MiraiExecutor
from mirai_executor._host import _acceptor, _guests
from mirai_executor._transport import Listener, TlsSocket, dial, listen, server_context
from mirai_executor.credentials import Certificate, TlsVersion, make_certificate
from mirai_executor.urls import Url

pytest.importorskip("pynng", reason="there is no wheel of it for Python 3.15")
from mirai_executor._transport import Pump, UpgradeRequest, WebSocket, _websocket
from mirai_executor._transport._upgrade import request_for

pytestmark = [pytest.mark.transports, pytest.mark.own_url]

SCHEMES = ["ws", "wss"]
SECONDS = 20.0
SIZES = [0, 1, 2, 125, 126, 65_535, 65_536, 65_537, 200_000, 5_000_000]
End = socket.socket | TlsSocket | WebSocket
Ends = tuple[End, End]  # the host's, and the daemon's

CERTIFICATE = make_certificate()


@contextlib.contextmanager
def listening(scheme: str) -> Iterator[Listener]:
    (listener,) = listen([Url.parse(f"{scheme}://127.0.0.1:0/mirai")])
    try:
        yield listener
    finally:
        listener.close()


class Host(threading.Thread):
    """Lets one daemon in, while another thread dials as that daemon."""

    def __init__(self, listener: Listener, certificate: Certificate = CERTIFICATE) -> None:
        super().__init__()
        self._listener = listener
        self._certificate = certificate
        self._end: WebSocket
        self._error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            assert select.select([self._listener], [], [], SECONDS)[0], "nobody has come"
            knock = self._listener.accept()
            assert knock is not None
            self._end = self._greet(knock[0])
        except OSError as error:
            self._error = error

    def _greet(self, connection: socket.socket) -> WebSocket:
        connection.settimeout(SECONDS)
        stream: socket.socket | TlsSocket = connection
        try:
            if self._listener.url.is_tls:
                stream = TlsSocket(connection, server_context(self._certificate))
                stream.shake_hands()
            request = UpgradeRequest(stream, self._listener.url.path)
            request.shake_hands()
        except OSError:
            stream.close()
            raise
        pump = Pump()
        end = WebSocket(pump, stream, request.begun, is_client=False)
        pump.finish()
        end.settimeout(SECONDS)
        return end

    def end(self) -> WebSocket:
        self.join()
        if self._error is not None:
            raise self._error
        return self._end


@contextlib.contextmanager
def connected(listener: Listener) -> Iterator[Ends]:
    host = Host(listener)
    daemon = dial(listener.url, SECONDS, CERTIFICATE.authority, CERTIFICATE.server_name)
    with contextlib.closing(daemon), contextlib.closing(host.end()) as end:
        daemon.settimeout(SECONDS)
        daemon.sendall(b"!")
        assert end.recv(1) == b"!"
        end.trust()
        end.sendall(b"?")
        assert daemon.recv(1) == b"?"
        yield end, daemon


@pytest.fixture(params=SCHEMES)
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    with listening(request.param) as made:
        yield made


@pytest.fixture
def ends(listener: Listener) -> Iterator[Ends]:
    with connected(listener) as found:
        yield found


def content(size: int) -> bytes:
    return os.urandom(size)


def receive_all(end: End) -> bytes:
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := end.recv(1 << 16):
            data += piece
    return bytes(data)


def send_and_close(end: End, data: bytes) -> None:
    end.sendall(data)
    end.close()


def receive(end: End, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = end.recv(count - len(data))
        assert piece, "the other side has closed the connection"
        data += piece
    return bytes(data)


# Bytes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sender", [0, 1])
def test_all_that_was_sent_arrives_before_the_end(ends: Ends, size: int, sender: int) -> None:
    data = content(size)
    thread = threading.Thread(target=send_and_close, args=(ends[sender], data))
    thread.start()
    assert receive_all(ends[1 - sender]) == data
    thread.join()


def test_bytes_go_both_ways_at_the_same_time(ends: Ends) -> None:
    sent = [content(4_000_000), content(4_000_000)]
    threads = [
        threading.Thread(target=end.sendall, args=(data,))
        for end, data in zip(ends, sent, strict=True)
    ]
    received: list[bytes] = [b"", b""]

    def receive_into(number: int) -> None:
        received[number] = receive(ends[number], 4_000_000)

    threads += [threading.Thread(target=receive_into, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert received == sent[::-1]


def test_many_small_messages_arrive_in_order(ends: Ends) -> None:
    host, daemon = ends
    for number in range(1000):
        sender, receiver = (host, daemon) if number % 2 else (daemon, host)
        sender.sendall(number.to_bytes(4, "little"))
        assert int.from_bytes(receive(receiver, 4), "little") == number


def test_who_does_not_read_holds_up_his_sender_and_nobody_else(listener: Listener) -> None:
    with connected(listener) as slow, connected(listener) as quick:
        slow[1].setblocking(False)
        data, sent = memoryview(content(1 << 16)), 0
        seen = hashlib.sha256()
        while select.select([], [slow[1]], [], 1)[1]:
            with contextlib.suppress(BlockingIOError):
                count = slow[1].send(data)
                seen.update(data[:count])
                sent += count
            assert sent < 100_000_000, "nothing holds the sender up"
        quick[1].sendall(b"quick")
        assert receive(quick[0], 5) == b"quick"
        assert hashlib.sha256(receive(slow[0], sent)).digest() == seen.digest()


# Ends


@pytest.mark.parametrize("closer", [0, 1])
def test_the_end_of_one_side_is_that_of_the_other(ends: Ends, closer: int) -> None:
    ends[closer].close()
    assert receive_all(ends[1 - closer]) == b""


@pytest.mark.parametrize("closer", [0, 1])
def test_an_end_right_after_a_message_is_always_noticed(listener: Listener, closer: int) -> None:
    for _ in range(20):
        with connected(listener) as ends:
            send_and_close(ends[closer], b"the last word")
            assert receive_all(ends[1 - closer]) == b"the last word"


def test_who_sends_to_nobody_for_nobody_is_given_up(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_websocket, "_STUCK", 0.2)
    host, daemon = ends  # the daemon reads nothing
    host.setblocking(False)
    while select.select([], [host], [], 0.5)[1]:
        host.send(memoryview(bytes(1 << 16)))
    host.close()
    receive_all(daemon)  # comes to an end


def test_connections_outlive_their_listener(listener: Listener) -> None:
    with connected(listener) as (host, daemon):
        listener.close()
        daemon.sendall(b"still here")
        assert receive(host, 10) == b"still here"
        with pytest.raises(OSError, match="refused"):
            dial(listener.url, SECONDS)


def test_a_port_that_is_taken_is_named() -> None:
    with listening("ws") as first:
        for url in (first.url, Url.parse(str(first.url) + "/other")):
            with pytest.raises(OSError, match=f"cannot listen on {url}: .*in use"):
                listen([url])


# Strangers


def connect(url: Url) -> socket.socket:
    return socket.create_connection((url.host, url.port), SECONDS)


def is_cut_off(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def upgrade(stranger: socket.socket) -> None:
    stranger.sendall(
        b"GET /mirai HTTP/1.1\r\nHost: proxy.example\r\nUpgrade: WebSocket\r\n"
        b"Connection: keep-alive, Upgrade\r\nX-Forwarded-For: 192.0.2.1\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = stranger.recv(1000)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # as RFC 6455 has it


# Certificates


def test_only_the_authority_that_was_named_is_trusted() -> None:
    other = make_certificate()
    with listening("wss") as listener:
        for authority, name in [
            (other.authority, CERTIFICATE.server_name),
            (CERTIFICATE.authority, other.server_name),
            ("", CERTIFICATE.server_name),
        ]:
            host = Host(listener)
            with pytest.raises(ssl.SSLCertVerificationError):
                dial(listener.url, SECONDS, authority, name)
            with pytest.raises(ssl.SSLError):
                host.end()


def speak_tls_1_2(url: Url) -> str | None:
    """Knock as one who speaks nothing newer; return the version that was agreed on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=CERTIFICATE.authority)
    with (
        socket.create_connection((url.host, url.port), SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=CERTIFICATE.server_name) as greeted,
    ):
        return greeted.version()


def test_who_speaks_tls_1_2_alone_gets_in_only_if_it_was_asked_for() -> None:
    with listening("wss") as listener:
        host = Host(listener)
        with pytest.raises(OSError, match=r"alert|reset|EOF"):
            speak_tls_1_2(listener.url)
        with pytest.raises(ssl.SSLError):
            host.end()
        host = Host(listener, replace(CERTIFICATE, tls_minimum=TlsVersion.TLS_1_2))
        assert speak_tls_1_2(listener.url) == "TLSv1.2"
        with pytest.raises(ConnectionError, match="asked for a WebSocket"):
            host.end()


def test_daemons_may_be_asked_to_speak_tls_1_2() -> None:
    with MiraiExecutor(url="wss://127.0.0.1:0", tls_minimum="1.2") as executor:
        executor.launch_local(1)
        assert executor.submit(abs, -1).result(SECONDS) == 1


def test_a_daemon_says_that_it_does_not_trust_the_certificate() -> None:
    with MiraiExecutor(url="wss://127.0.0.1:0") as executor:
        assert executor._launching is not None
        environment = executor._launching.listening.credentials.environment
        with MiraiExecutor(url="wss://127.0.0.1:0") as other:
            assert other.url is not None
            daemon = start_daemon(other.url, environment)
            _, stderr = daemon.communicate(timeout=SECONDS)
    assert daemon.returncode == 11, stderr


def start_daemon(url: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "mirai_executor", "daemon", url, "--retry", "0"]
    return subprocess.Popen(
        words, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )


# Executors


@pytest.fixture(params=SCHEMES)
def executor(request: pytest.FixtureRequest) -> Iterator[MiraiExecutor]:
    with MiraiExecutor(url=f"{request.param}://127.0.0.1:0/mirai") as made:
        made.launch_local(2)
        made.wait_ready(30, count=2)
        yield made


def test_an_executor_says_where_it_listens(executor: MiraiExecutor) -> None:
    assert executor.url is not None
    url = Url.parse(executor.url)
    assert url.scheme in SCHEMES
    assert url.port != 0
    assert url.path == "/mirai"


def test_tasks_run_and_large_results_arrive(executor: MiraiExecutor) -> None:
    assert list(executor.map(abs, range(-2000, 0))) == list(range(2000, 0, -1))
    data = content(50_000_000)
    assert executor.submit(bytes, data).result(60) == data


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_default_timeout_for_sockets_changes_nothing(scheme: str) -> None:
    with default_timeout(1e-6), MiraiExecutor(url=f"{scheme}://127.0.0.1:0") as executor:
        executor.launch_local(1)
        data = os.urandom(5_000_000)
        assert executor.submit(bytes, data).result(SECONDS) == data


def test_a_crash_costs_the_task_that_it_hit(executor: MiraiExecutor) -> None:
    with pytest.raises(DaemonLostError):
        executor.submit(crash).result(SECONDS)
    assert executor.submit(abs, -3).result(SECONDS) == 3


def test_a_task_that_runs_can_be_cancelled(executor: MiraiExecutor, tmp_path: Path) -> None:
    bell = Bell(tmp_path)
    task = executor.submit(start_and_sleep, bell.path)
    assert bell.wait() == "rang"
    assert task.cancel()
    assert bell.wait() == "interrupted"
    bell.close()
    assert executor.submit(abs, -3).result(SECONDS) == 3


def start_and_sleep(bell: Path) -> None:
    try:
        ring(bell)
        time.sleep(600)  # ended from outside
    finally:
        ring(bell, "interrupted")


def test_who_does_not_know_the_secret_is_told_so(executor: MiraiExecutor) -> None:
    assert executor._launching is not None
    assert executor.url is not None
    environment = executor._launching.listening.credentials.environment
    with MiraiExecutor(url="tcp://127.0.0.1:0") as other:
        assert other._launching is not None
        wrong = {**environment, **other._launching.listening.credentials.environment}
        daemon = start_daemon(executor.url, wrong)
        _, stderr = daemon.communicate(timeout=SECONDS)
    assert daemon.returncode == 12, stderr
    assert executor.submit(abs, -3).result(SECONDS) == 3


GARBAGE = {
    "silent": b"",
    "http": b"GET /mirai HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another path": b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half": b"GET /mirai HTTP/1.1\r\nHost: localhost\r\n",
    "endless": b"GET /mirai HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000,
    "noise": b"\xff" * 1000,
    "half of TLS": b"\x16\x03\x01\x00",
}


@pytest.fixture(scope="module", params=SCHEMES)
def besieged(request: pytest.FixtureRequest) -> Iterator[MiraiExecutor]:
    with MiraiExecutor(url=f"{request.param}://127.0.0.1:0/mirai") as made:
        made.launch_local(1)
        made.wait_ready(30, count=1)
        made.submit(int).result(SECONDS)
        yield made


@pytest.mark.parametrize("garbage", GARBAGE)
def test_who_becomes_no_websocket_is_cut_off_and_counted(
    besieged: MiraiExecutor, garbage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_acceptor, "_PATIENCE", 0.3)
    before = besieged.status().refused
    assert besieged.url is not None
    with connect(Url.parse(besieged.url)) as stranger:
        stranger.sendall(GARBAGE[garbage])
        assert is_cut_off(stranger)
    expect_refusals(besieged, before + 1)


# Frames of strangers, masked with zeros.
FRAMES = {
    "silent": b"",
    "an announced gigabyte": b"\x82\xff" + (1 << 30).to_bytes(8, "big") + bytes(100),
    "pings": b"\x89\x80\0\0\0\0" * 10_000,
    "nothing, again and again": b"\x82\x80\0\0\0\0" * 10_000,
}


@pytest.mark.parametrize("besieged", ["ws"], indirect=True, scope="module")
@pytest.mark.parametrize("frames", FRAMES)
def test_a_websocket_that_proves_nothing_is_cut_off_and_counted(
    besieged: MiraiExecutor, frames: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_acceptor, "_PATIENCE", 0.3)
    before = besieged.status().refused
    assert besieged.url is not None
    with connect(Url.parse(besieged.url)) as stranger:
        upgrade(stranger)
        with contextlib.suppress(ConnectionError):
            stranger.sendall(FRAMES[frames])
        assert is_cut_off(stranger)
    expect_refusals(besieged, before + 1)


def expect_refusals(executor: MiraiExecutor, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while executor.status().refused < count and time.monotonic() < deadline:
        executor.submit(int).result(SECONDS)
    assert executor.status().refused == count
    assert executor.submit(abs, -3).result(SECONDS) == 3


@pytest.mark.parametrize("besieged", ["ws"], indirect=True, scope="module")
def test_a_crowd_of_websockets_takes_no_more_descriptors_than_others(
    besieged: MiraiExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_guests, "_descriptors", lambda: 256)
    assert besieged.url is not None
    url = Url.parse(besieged.url)
    refused, before = besieged.status().refused, descriptors()
    with contextlib.ExitStack() as strangers:
        for number in range(20):
            stranger = strangers.enter_context(connect(url))
            stranger.sendall(request_for(url, b"the sample nonce"))
            assert b" 101 " in stranger.recv(1000)
            assert descriptors() - before - number - 1 <= 256 // 8
        assert besieged.status().refused - refused >= 20 - 256 // 8 // (2 * _guests.WEBSOCKET)
        with MiraiExecutor(url="tcp://127.0.0.1:0") as other:  # the program goes on
            other.launch_local(1)
            assert other.submit(abs, -3).result(SECONDS) == 3
    expect_refusals(besieged, refused + 20)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_connections_that_are_reset_half_way_leave_nothing(besieged: MiraiExecutor) -> None:
    assert besieged.url is not None
    url = Url.parse(besieged.url)
    refused = besieged.status().refused
    before = descriptors()
    for _ in range(50):
        with connect(url) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stranger.sendall(b"GET / HTTP/1.1")
    expect_refusals(besieged, refused + 50)
    assert descriptors() == before


# Forks, and the end of the process


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_forked_child_may_exit_and_holds_no_connection_open(scheme: str) -> None:
    ended = run(f"""
    if __name__ == "__main__":
        executor = MiraiExecutor(url="{scheme}://127.0.0.1:0/mirai")
        executor.launch_local(1)
        executor.wait_ready(30, count=1)
        first = os.fork()
        if not first:
            sys.exit(7)
        say(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
        second = os.fork()
        if not second:
            time.sleep(600)
        say(executor.submit(abs, -3).result(20))
        executor.shutdown()
        again = MiraiExecutor(url=executor.url)  # the port is free
        again.shutdown()
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)
        say("done")
    """)
    assert (ended.code, ended.out.split()) == (0, ["7", "3", "done"]), ended


@pytest.mark.parametrize("scheme", SCHEMES)
def test_daemons_end_with_a_host_that_is_killed_though_its_child_lives_on(scheme: str) -> None:
    with script(f"""
    if __name__ == "__main__":
        executor = MiraiExecutor(url="{scheme}://127.0.0.1:0/mirai")
        executor.launch_local(1)
        daemon = executor.submit(os.getppid).result(30)
        child = os.fork()
        if not child:
            time.sleep(600)
        say(daemon, child)
        wait_for_ever()
    """) as host:
        daemon, _ = map(int, host.line().split())
        host.kill()
        assert host.ends([daemon], 10.0)


def test_a_program_that_leaves_its_executor_open_ends() -> None:
    ended = run("""
    if __name__ == "__main__":
        executor = MiraiExecutor(url="ws://127.0.0.1:0/mirai")
        executor.launch_local(1)
        say(executor.submit(abs, -3).result(30))
    """)
    assert (ended.code, ended.out.split()) == (0, ["3"]), ended


def test_a_forked_child_cannot_listen_where_nng_has_started() -> None:
    ended = run("""
    if __name__ == "__main__":
        with MiraiExecutor(url="ws://127.0.0.1:0/mirai"):
            child = os.fork()
            if not child:
                try:
                    MiraiExecutor(url="ws://127.0.0.1:0/mirai")
                except OSError as error:
                    say("NNG had started" in str(error))
                os._exit(0)
            os.waitpid(child, 0)
    """)
    assert (ended.code, ended.out.split()) == (0, ["True"]), ended
