"""Strangers who connect: nothing of theirs is run, nothing is learned, and nobody is disturbed."""

import contextlib
import os
import pickle
import resource
import select
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from mirai_executor import MiraiExecutor, __version__, _wire, ssh_config
from mirai_executor._host import _acceptor, _guests
from mirai_executor._transport import FarLink, Link, LinkClosedError
from mirai_executor.credentials import (
    NO_CERTIFICATE,
    DaemonHandshake,
    Opener,
    Sealer,
    Secret,
    WrongCertificateError,
)
from mirai_executor.urls import Url

pytestmark = [pytest.mark.own_url, pytest.mark.once]

SCHEMES = ["tcp", "tls+tcp", "ipc"]
LENGTH = struct.Struct("<Q")
SECONDS = 10.0


@pytest.fixture(scope="module", params=SCHEMES)
def executor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MiraiExecutor]:
    with with_a_daemon(request.param, tmp_path_factory.mktemp("door")) as made:
        yield made


@pytest.fixture(params=SCHEMES)
def executor_of_its_own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MiraiExecutor]:
    with with_a_daemon(request.param, tmp_path) as made:
        yield made


@contextlib.contextmanager
def with_a_daemon(scheme: str, folder: Path) -> Iterator[MiraiExecutor]:
    url = f"ipc://{folder}/door" if scheme == "ipc" else f"{scheme}://127.0.0.1:0"
    with MiraiExecutor(url=url) as made:
        made.launch_local(1)
        made.wait_ready(30, count=1)
        made.submit(int).result(SECONDS)
        yield made


def dial(executor: MiraiExecutor, *, greet: bool = True) -> socket.socket:
    """Connect as a stranger does, who believes any certificate."""
    assert executor.url is not None
    url = Url.parse(executor.url)
    if url.scheme == "ipc":
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(url.path)
    else:
        raw = socket.create_connection((url.host, url.port))
    raw.settimeout(SECONDS)
    if url.is_tls and greet:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(raw)
    return raw


def framed(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


def receive_frame(connection: socket.socket) -> bytes:
    (length,) = LENGTH.unpack(receive(connection, LENGTH.size))
    return receive(connection, length)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def is_cut_off(connection: socket.socket) -> bool:
    """Tell whether the other side ends the connection, within some time."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass  # reset: it had not read all that we sent
    return True


def refusals(executor: MiraiExecutor, at_least: int) -> int:
    deadline = time.monotonic() + SECONDS
    while (count := executor.status().refused) < at_least and time.monotonic() < deadline:
        executor.submit(int).result(SECONDS)  # takes its time, as the host thread does
    return count


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="http"),
        pytest.param(b"\0SP\0\0\x11\0\0", id="nng"),
        pytest.param(LENGTH.pack(8 << 30) + b"x" * 100, id="8 GiB"),
        pytest.param(LENGTH.pack(2**64 - 1), id="longest"),
        pytest.param(framed(b"x" * 513), id="too long"),
        pytest.param(framed(b""), id="empty"),
        pytest.param(framed(b"MIRA" + b"\x01" * 200), id="like ours"),
        pytest.param(framed(os.urandom(300)) * 50, id="noise"),
    ],
)
def test_garbage_is_cut_off_and_counted(executor: MiraiExecutor, garbage: bytes) -> None:
    before = executor.status().refused
    with dial(executor) as stranger:
        stranger.sendall(garbage)
        assert is_cut_off(stranger)
    assert refusals(executor, before + 1) == before + 1
    assert executor.submit(abs, -3).result(SECONDS) == 3


def test_nothing_is_unpickled_for_a_stranger(executor: MiraiExecutor, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    bomb = pickle.dumps(Bomb(trace))
    with dial(executor) as stranger:
        stranger.sendall(framed(bomb) + framed(b"\x10" + bomb))
        assert is_cut_off(stranger)
    assert not trace.exists()


def test_a_daemon_of_another_executor_is_told_so(executor: MiraiExecutor) -> None:
    handshake = DaemonHandshake(Secret(os.urandom(32)))
    with dial(executor) as stranger:
        stranger.sendall(framed(handshake.hello()))
        refusal = receive_frame(stranger)
        with pytest.raises(ConnectionError, match="secret"):
            handshake.receive(refusal)
        assert is_cut_off(stranger)


# Whoever stands between a daemon and its host


def secret_of(executor: MiraiExecutor) -> Secret:
    assert executor._launching is not None
    return executor._launching.listening.listen_config.secret


def join(executor: MiraiExecutor) -> tuple[socket.socket, DaemonHandshake, list[bytes]]:
    """Come in as a daemon does; return what was sent, too."""
    connection = dial(executor)
    shown = NO_CERTIFICATE
    if isinstance(connection, ssl.SSLSocket):
        shown = sha256(connection.getpeercert(binary_form=True) or b"").digest()
    handshake = DaemonHandshake(secret_of(executor), certificate=shown)
    sent = [handshake.hello()]
    connection.sendall(framed(sent[0]))
    while not handshake.is_done:
        answer = handshake.receive(receive_frame(connection))
        if answer is not None:
            sent.append(answer)
            connection.sendall(framed(answer))
    return connection, handshake, sent


def test_a_recorded_handshake_opens_nothing(executor: MiraiExecutor) -> None:
    first, _, sent = join(executor)
    with first, dial(executor) as stranger:
        for frame in sent:
            stranger.sendall(framed(frame))
        # The host answers the first frame: it is a true one, if an old one.
        assert receive_frame(stranger)
        assert is_cut_off(stranger)


@pytest.mark.parametrize("executor", ["tls+tcp"], indirect=True, scope="module")
def test_who_was_shown_another_certificate_is_told_so(executor: MiraiExecutor) -> None:
    handshake = DaemonHandshake(secret_of(executor), certificate=b"another".ljust(32))
    with dial(executor) as connection:
        connection.sendall(framed(handshake.hello()))
        with pytest.raises(WrongCertificateError) as found_out:
            handshake.receive(receive_frame(connection))
        connection.sendall(framed(found_out.value.reply or b""))
        assert is_cut_off(connection)


def hello() -> bytes:
    return _wire.encode(_wire.Joined(1, "elsewhere"))


@pytest.mark.parametrize("executor", ["tcp"], indirect=True, scope="module")
@pytest.mark.parametrize("change", ["flip", "drop", "repeat", "inject"])
def test_a_frame_that_was_changed_ends_the_connection(
    executor: MiraiExecutor, change: str
) -> None:
    connection, handshake, _ = join(executor)
    assert handshake.keys is not None
    sealer = Sealer(handshake.keys.to_host)
    first, second = (hello() + sealer.seal(hello()) for _ in range(2))
    frames = {
        "flip": [first[:5] + bytes([first[5] ^ 1]) + first[6:]],
        "drop": [second],
        "repeat": [first, first],
        "inject": [first, hello()],
    }[change]
    with connection:
        for frame in frames:
            connection.sendall(framed(frame))
        assert is_cut_off(connection)
    assert executor.submit(abs, -3).result(SECONDS) == 3


class Relay(threading.Thread):
    """Stands between one daemon and its host, and changes a byte of what one of them says."""

    def __init__(self, url: Url, victim: str, position: int) -> None:
        super().__init__()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._target = (url.host, url.port)
        self._victim = victim
        self._position = position  # of the byte, in all that the victim says
        self.has_changed = False

    def run(self) -> None:
        daemon, _ = self._listener.accept()
        self._listener.close()
        host = socket.create_connection(self._target)
        counts = {"daemon": 0, "host": 0}
        with daemon, host, selectors.DefaultSelector() as selector:
            selector.register(daemon, selectors.EVENT_READ, ("daemon", host))
            selector.register(host, selectors.EVENT_READ, ("host", daemon))
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in selector.select():
                        name, other = key.data
                        data = bytearray(key.fileobj.recv(65536))  # type: ignore[union-attr]
                        if not data:
                            return
                        place = self._position - counts[name]
                        if name == self._victim and 0 <= place < len(data):
                            data[place] ^= 0x40
                            self.has_changed = True
                        counts[name] += len(data)
                        other.sendall(data)


# The host's part of the handshake has 192 bytes, the daemon's 204; the first frames follow.
@pytest.mark.parametrize("victim", ["daemon", "host"])
@pytest.mark.parametrize("position", [60, 279, 344])
def test_a_relay_that_changes_a_byte_achieves_nothing(victim: str, position: int) -> None:
    with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
        assert executor._launching is not None
        assert executor.url is not None
        relay = Relay(Url.parse(executor.url), victim, position)
        relay.start()
        daemon = subprocess.Popen(
            [sys.executable, "-m", "mirai_executor", "daemon", relay.url, "--retry", "0"],
            env={**os.environ, **executor._launching.listening.credentials.environment},
            stderr=subprocess.PIPE,
        )
        daemon.communicate(timeout=30)
        relay.join()
        assert relay.has_changed
        assert executor.info().completed == 0
        executor.launch_local(1)
        assert executor.submit(abs, -3).result(30) == 3


# Crowds


def test_silent_strangers_are_sent_away_and_nobody_waits_for_them(
    executor: MiraiExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = executor.status().refused
    monkeypatch.setattr(_acceptor, "_PATIENCE", 0.3)
    with dial(executor, greet=False) as stranger:
        assert executor.submit(abs, -3).result(SECONDS) == 3
        assert is_cut_off(stranger)
    assert refusals(executor, before + 1) == before + 1


def test_two_thousand_silent_strangers_keep_no_daemon_out(
    executor_of_its_own: MiraiExecutor,
) -> None:
    executor = executor_of_its_own
    with contextlib.ExitStack() as crowd:
        for _ in range(2000):
            crowd.enter_context(dial(executor, greet=False))
        assert executor.submit(abs, -3).result(SECONDS) == 3
        executor.launch_local(1)
        executor.wait_ready(30, count=2)
    assert executor.status().refused >= 2000 - _guests.MOST


@pytest.mark.parametrize("executor_of_its_own", ["tcp"], indirect=True)
def test_a_host_without_descriptors_waits_for_some(executor_of_its_own: MiraiExecutor) -> None:
    executor = executor_of_its_own
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as crowd:
        strangers = [crowd.enter_context(socket.socket()) for _ in range(20)]
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())), hard)
        )
        try:
            assert executor.url is not None
            url = Url.parse(executor.url)
            for stranger in strangers:
                stranger.connect((url.host, url.port))
            assert executor.submit(abs, -3).result(SECONDS) == 3
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    executor.launch_local(1)
    executor.wait_ready(30, count=2)


# What may be listened at


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {url}"):
            MiraiExecutor(url=url)


def test_several_addresses_share_a_port() -> None:
    with MiraiExecutor(url=["tcp://127.0.0.1:0", "tcp://[::1]:0"]) as executor:
        assert len({Url.parse(url).port for url in executor.urls}) == 1
        executor.launch_local(1)
        assert executor.submit(abs, -3).result(30) == 3


@pytest.mark.parametrize("scheme", ["tcp", "tls+tcp", "ws", "wss"])
@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]"])
def test_an_address_may_be_written_in_the_way_of_ipv6(scheme: str, host: str) -> None:
    if scheme in ("ws", "wss"):
        pytest.importorskip("pynng", reason="Python 3.15 has no wheel of it")
    with MiraiExecutor(url=f"{scheme}://{host}:0") as executor:
        executor.launch_local(1)
        assert executor.submit(abs, -3).result(30) == 3


def test_what_is_not_encrypted_is_said_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MiraiExecutor(url="tcp://*:0").shutdown()
        MiraiExecutor(url="tcp://127.0.0.1:0").shutdown()
        MiraiExecutor(url="tls+tcp://*:0").shutdown()
    (warning,) = caught
    assert "not encrypted" in str(warning.message)
    assert warning.filename == __file__


def test_the_file_of_an_address_is_this_users_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "door"
    with MiraiExecutor(url=f"ipc://{path}"):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="cannot listen"):
            MiraiExecutor(url=f"ipc://{path}")
    assert not path.exists()


def test_the_file_of_an_address_is_this_users_without_a_umask_that_other_threads_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "door", list[int]()
    before = os.umask(0)
    try:
        monkeypatch.setattr(os, "umask", asked.append)
        with MiraiExecutor(url=f"ipc://{path}"):
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert asked == []


def test_a_file_that_a_killed_host_has_left_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with MiraiExecutor(url=f"ipc://{path}") as executor:
        executor.launch_local(1)
        assert executor.submit(abs, -3).result(30) == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": "tcp://127.0.0.1:0", "max_workers": 2}, "launch_local"),
        ({"url": "tcp://127.0.0.1:0", "tls": "cert.pem"}, "tls"),
        ({"url": "tls+tcp://127.0.0.1:0", "tls_minimum": "1.1"}, '"1.2" or "1.3", not \'1.1\''),
        ({"url": "tcp://127.0.0.1:0", "tls_minimum": "1.2"}, r"tls\+tcp"),
        ({"url": []}, "at least one"),
        ({"url": "http://localhost"}, "ws://"),
        ({"url": "tcp://127.0.0.1:0", "heartbeat": 0}, "heartbeat"),
        ({"max_workers": 2, "tls": "cert.pem"}, "url"),
        ({"max_workers": 2, "tls_minimum": "1.2"}, "url"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        MiraiExecutor(**options)  # type: ignore[arg-type]  # that is the point


def test_daemons_are_told_which_version_of_tls_they_may_speak() -> None:
    with MiraiExecutor(url="tls+tcp://127.0.0.1:0", tls_minimum="1.2") as executor:
        assert "MIRAI_EXECUTOR_TLS_MINIMUM=1.2 " in executor.launch_remote(1)[0]
        executor.launch_local(1)
        assert executor.submit(abs, -3).result(30) == 3


def test_a_launcher_that_does_not_fit_the_address_is_refused_at_once() -> None:
    tunnel = ssh_config("nowhere", tunnel=True)
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        MiraiExecutor(1, url="tls+tcp://*:0", remote=tunnel)
    executor = MiraiExecutor(url="tls+tcp://*:0")
    with executor, pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        executor.adapt(0, 1, remote=tunnel)


class Impostor:
    """Knows the secret, and says what it likes."""

    def __init__(self, executor: MiraiExecutor) -> None:
        connection, handshake, _ = join(executor)
        assert handshake.keys is not None
        seals = Sealer(handshake.keys.to_host), Opener(handshake.keys.to_daemon)
        self._link = FarLink(Link(connection, blocking=False), *seals)

    def __enter__(self) -> "Impostor":
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def say(self, *frames: _wire.Frame) -> None:
        for frame in frames:
            self._link.send(_wire.encode(frame))

    def hear(self) -> _wire.Frame:
        """Return the next frame that is more than a beat."""
        while True:
            if (data := self._link.receive()) is None:
                if not select.select([self._link], [], [], SECONDS)[0]:
                    raise TimeoutError("the host says nothing")
                self._link.flush()
            elif not isinstance(frame := _wire.decode(data), _wire.Beat):
                return frame

    def is_cut_off(self) -> bool:
        try:
            while True:
                self.hear()
        except LinkClosedError:
            return True
        except TimeoutError:
            return False

    def greet(self, host: str = "elsewhere", version: str = __version__) -> list[_wire.Frame]:
        """Come in as keepers do; return what the host says."""
        self.say(_wire.Joined(1, host), _wire.Hello(1, sys.version_info[:3], version))
        return [self.hear(), self.hear()]


@pytest.mark.parametrize("executor", ["tcp"], indirect=True, scope="module")
def test_a_daemon_of_another_patch_version_is_welcome(executor: MiraiExecutor) -> None:
    with Impostor(executor) as daemon:
        received = daemon.greet(version=f"{__version__}.post1")
    assert [type(frame) for frame in received] == [_wire.Attend, _wire.Init]


FORGED = "node7\n2026-01-01 CRITICAL forged\x1b[2J" + "x" * 40_000


@pytest.mark.parametrize("executor", ["tcp"], indirect=True, scope="module")
def test_what_a_daemon_says_forges_no_line_of_the_log(
    executor: MiraiExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    with Impostor(executor) as daemon:
        daemon.greet(host=FORGED)
        (host,) = {row.host for row in executor.status().rows} - {socket.gethostname()}
        assert host.startswith("node7\\n2026-01-01 CRITICAL forged\\x1b[2Jxxx")
        assert len(host) == 256
    with Impostor(executor) as daemon:
        daemon.say(_wire.Joined(1, "a"), _wire.Hello(1, (3, 11, 0), FORGED, protocol=99))
        assert daemon.is_cut_off()
    assert "daemon 1 was disconnected" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert max(len(record.getMessage()) for record in caplog.records) < 1000


UNASKED: dict[str, Callable[[bytes], _wire.Frame]] = {
    "initializer": _wire.InitFailed,
    "broadcast": lambda payload: _wire.BroadcastOutcome(1, _wire.OutcomeStatus.ERROR, payload),
    "task": lambda payload: _wire.Outcomes(
        (_wire.WireOutcome(1, _wire.OutcomeStatus.ERROR, False, payload),)
    ),
}


@pytest.mark.parametrize("executor", ["tcp"], indirect=True, scope="module")
@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("kind", UNASKED)
def test_what_no_daemon_was_asked_for_is_not_unpickled_and_breaks_nothing(
    executor: MiraiExecutor, kind: str, ready: bool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    with Impostor(executor) as daemon:
        daemon.greet()
        if ready:
            daemon.say(_wire.Ready())
        daemon.say(UNASKED[kind](pickle.dumps(Bomb(trace))))
        if kind == "task":  # it may have been taken back, so it is no offence
            daemon.say(_wire.Stop(1))  # but this is, which only hosts say
        assert daemon.is_cut_off()
    # A task may be on its way to the impostor while the host notices its end.
    assert executor.with_options(retries=1).submit(abs, -3).result(SECONDS) == 3
    assert not trace.exists()
