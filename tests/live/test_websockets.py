"""WebSockets: bytes arrive whole and in order, and either end notices the end of the other."""

import contextlib
import gc
import hashlib
import os
import resource
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

pytest.importorskip("pynng", reason="WebSockets need pynng, which has no wheel for Python 3.15")

from live.hosts import run, script
from live.mischief import Bell, crash, default_timeout, ring
from mirai_executor import DaemonLostError, MiraiExecutor
from mirai_executor._host import _acceptor
from mirai_executor._transport import Listener, dial, listen
from mirai_executor._transport import _pump as pump
from mirai_executor._transport import _strangers as strangers
from mirai_executor._transport import _tunnel as tunnel
from mirai_executor.credentials import Certificate, TlsVersion, make_certificate
from mirai_executor.urls import Url

pytestmark = [pytest.mark.transports, pytest.mark.own_url]

SCHEMES = ["ws", "wss"]
SECONDS = 20.0
SIZES = [0, 1, 2, 125, 126, 65_535, 65_536, 65_537, 200_000, 5_000_000]
Ends = tuple[socket.socket, socket.socket]  # the host's, and the daemon's

CERTIFICATE = make_certificate()


@contextlib.contextmanager
def listening(scheme: str, certificate: Certificate = CERTIFICATE) -> Iterator[Listener]:
    (listener,) = listen([Url.parse(f"{scheme}://127.0.0.1:0/mirai")], certificate)
    try:
        yield listener
    finally:
        listener.close()


def dial_in(url: Url) -> socket.socket:
    return dial(url, SECONDS, CERTIFICATE.authority, CERTIFICATE.server_name)


def fetch(listener: Listener) -> socket.socket:
    while True:
        assert select.select([listener], [], [], SECONDS)[0], "nobody has come"
        if (found := listener.accept()) is not None:
            found[0].settimeout(SECONDS)
            return found[0]


@pytest.fixture(params=SCHEMES)
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    with listening(request.param) as made:
        yield made


@pytest.fixture
def ends(listener: Listener) -> Iterator[Ends]:
    with dial_in(listener.url) as daemon, fetch(listener) as host:
        daemon.settimeout(SECONDS)
        yield host, daemon


def content(size: int) -> bytes:
    return os.urandom(size)


def receive_all(end: socket.socket) -> bytes:
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := end.recv(1 << 16):
            data += piece
    return bytes(data)


def send_and_close(end: socket.socket, data: bytes) -> None:
    end.sendall(data)
    end.close()


def receive(end: socket.socket, count: int) -> bytes:
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
    with contextlib.ExitStack() as stack:
        slow, quick = (
            (stack.enter_context(dial_in(listener.url)), stack.enter_context(fetch(listener)))
            for _ in range(2)
        )
        slow[1].setblocking(False)
        data, sent = content(1 << 16), 0
        seen = hashlib.sha256()
        while select.select([], [slow[1]], [], 1)[1]:
            count = slow[1].send(data)
            seen.update(data[:count])
            sent += count
            assert sent < 100_000_000, "nothing holds the sender up"
        quick[1].sendall(b"quick")
        assert receive(quick[0], 5) == b"quick"
        slow[0].settimeout(SECONDS)
        assert hashlib.sha256(receive(slow[0], sent)).digest() == seen.digest()


# Ends


@pytest.mark.parametrize("closer", [0, 1])
def test_the_end_of_one_side_is_that_of_the_other(ends: Ends, closer: int) -> None:
    ends[closer].close()
    assert receive_all(ends[1 - closer]) == b""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("closer", [0, 1])
def test_an_end_right_after_a_message_is_always_noticed(scheme: str, closer: int) -> None:
    with listening(scheme) as listener:
        for _ in range(100):
            with dial_in(listener.url) as daemon, fetch(listener) as host:
                daemon.settimeout(SECONDS)
                send_and_close((host, daemon)[closer], b"the last word")
                assert receive_all((daemon, host)[closer]) == b"the last word"


def test_a_side_that_is_killed_is_gone(listener: Listener) -> None:
    with elsewhere(listener.url) as daemon, fetch(listener) as host:
        assert receive(host, 4) == b"here"
        daemon.kill()
        assert receive_all(host) == b""


def elsewhere(url: Url, *, later: bool = False) -> "subprocess.Popen[bytes]":
    """Dial in from another process, at once or when it is told; it says "here" and stays."""
    code = (
        "import sys; from mirai_executor._transport import dial\n"
        "from mirai_executor.urls import Url\n"
        f"{later} and sys.stdin.buffer.read(1)\n"
        "end = dial(Url.parse(sys.argv[1]), 20, sys.argv[2], sys.argv[3])\n"
        "end.sendall(b'here'); sys.stdin.read()"
    )
    words = [str(url), CERTIFICATE.authority, CERTIFICATE.server_name]
    return subprocess.Popen([sys.executable, "-c", code, *words], stdin=subprocess.PIPE)


def test_who_sends_to_nobody_for_nobody_is_given_up(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "_STUCK", 0.2)
    monkeypatch.setattr(pump, "_ROUND", 0.1)
    with dial_in(listener.url) as daemon:  # it reads nothing
        host = fetch(listener)
        host.setblocking(False)
        while select.select([], [host], [], 0.5)[1]:
            host.send(bytes(1 << 16))
        host.close()
        daemon.settimeout(SECONDS)
        receive_all(daemon)  # comes to an end


def test_connections_outlive_their_listener(listener: Listener) -> None:
    with dial_in(listener.url) as daemon, fetch(listener) as host:
        listener.close()
        daemon.sendall(b"still here")
        assert receive(host, 10) == b"still here"
        with pytest.raises(OSError, match="refused"):
            dial_in(listener.url)


def test_a_port_that_is_taken_is_named() -> None:
    with listening("ws") as first:
        for url in (first.url, Url.parse(str(first.url) + "/other")):
            with pytest.raises(OSError, match=f"cannot listen on {url}: .*in use"):
                listen([url])


def test_two_listeners_at_any_port_have_one_each() -> None:
    with listening("ws") as first, listening("ws") as second:
        assert first.url.port != second.url.port
        assert 0 not in (first.url.port, second.url.port)


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


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="http"),
        pytest.param(b"GET /mirai HTTP/1.1\r\nHost: localhost\r\n", id="half"),
        pytest.param(b"\xff" * 1000, id="noise"),
        pytest.param(b"\x16\x03\x01\x00", id="half of TLS"),
    ],
)
def test_who_becomes_no_websocket_is_cut_off(
    listener: Listener, garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "_PATIENCE", 0.2)
    monkeypatch.setattr(pump, "_ROUND", 0.1)
    with connect(listener.url) as stranger, dial_in(listener.url) as daemon:
        stranger.sendall(garbage)
        with fetch(listener) as host:
            assert is_cut_off(stranger)
            daemon.sendall(b"undisturbed")
            assert receive(host, 11) == b"undisturbed"


def test_a_message_that_is_announced_too_long_is_cut_off() -> None:
    with listening("ws") as listener, connect(listener.url) as stranger:
        upgrade(stranger)
        with fetch(listener) as host:
            stranger.sendall(b"\x82\xff" + (8 << 30).to_bytes(8, "big") + bytes(100))
            assert receive_all(host) == b""
            assert is_cut_off(stranger)


def upgrade(stranger: socket.socket) -> None:
    stranger.sendall(
        b"GET /mirai HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert stranger.recv(1000).startswith(b"HTTP/1.1 101")


def test_who_is_not_fetched_makes_room_for_others() -> None:
    with listening("ws") as listener, contextlib.ExitStack() as stack:
        first = connect(listener.url)
        stack.enter_context(first)
        upgrade(first)
        # The answer goes out a moment before the listener hears of it: others could overtake.
        assert select.select([listener], [], [], SECONDS)[0]
        # One after the other: too many at once that are no WebSockets yet are cut off for that.
        for _ in range(tunnel._WAITING):
            upgrade(stack.enter_context(connect(listener.url)))
        assert is_cut_off(first)


def fetch_in_a_crowd(listener: Listener) -> socket.socket:
    """Fetch who comes once the crowd has been cut off, and descriptors are free again."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return fetch(listener)
        except OSError:
            assert time.monotonic() < deadline, "there is no room"
            time.sleep(0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_crowd_that_takes_all_descriptors_keeps_nobody_out(scheme: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        "import socket, sys\n"
        "crowd = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(600)]\n"
        "print('here', flush=True); sys.stdin.read()"
    )
    with listening(scheme) as listener:
        words = [listener.url.host, str(listener.url.port)]
        daemon = elsewhere(listener.url, later=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        try:
            crowd = subprocess.Popen(
                [sys.executable, "-c", code, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
            )
            with crowd, daemon:
                assert crowd.stdout is not None
                assert crowd.stdout.readline() == b"here\n"
                assert daemon.stdin is not None
                daemon.stdin.write(b"!")
                daemon.stdin.flush()
                with fetch_in_a_crowd(listener) as host:
                    assert receive(host, 4) == b"here"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Certificates


def test_only_the_authority_that_was_named_is_trusted() -> None:
    other = make_certificate()
    with listening("wss") as listener:
        for authority, name in [
            (other.authority, CERTIFICATE.server_name),
            (CERTIFICATE.authority, other.server_name),
            ("", CERTIFICATE.server_name),
        ]:
            with pytest.raises(OSError, match="certificate verify failed"):
                dial(listener.url, SECONDS, authority, name)


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
    with listening("wss") as listener, pytest.raises(OSError, match=r"alert|reset|EOF"):
        speak_tls_1_2(listener.url)
    with listening("wss", replace(CERTIFICATE, tls_minimum=TlsVersion.TLS_1_2)) as listener:
        assert speak_tls_1_2(listener.url) == "TLSv1.2"


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


@pytest.mark.parametrize("executor", ["ws"], indirect=True)
def test_a_websocket_that_proves_nothing_is_dropped_and_counted(
    executor: MiraiExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_acceptor, "_PATIENCE", 0.3)
    assert executor.url is not None
    with connect(Url.parse(executor.url)) as stranger:
        upgrade(stranger)
        assert is_cut_off(stranger)
    deadline = time.monotonic() + SECONDS
    while not (refused := executor.status().refused) and time.monotonic() < deadline:
        executor.submit(int).result(SECONDS)
    assert refused == 1


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


def test_nothing_is_left_of_what_was_refused() -> None:
    with listening("ws") as first, pytest.raises(OSError, match="in use"):
        listen([first.url])
    gc.collect()  # what cycles hold would be found as left behind
