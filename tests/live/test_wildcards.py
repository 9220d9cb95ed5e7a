"""Addresses for every interface, where there is less of the network than they stand for."""

import errno
import socket
import warnings
from pathlib import Path

import pytest

from live import lacking
from live.hosts import run
from live.mischief import SOON
from mirai_executor import MiraiExecutor
from mirai_executor._provisioning import _listening
from mirai_executor._transport import _listening as sockets

pytestmark = [pytest.mark.live, pytest.mark.transports, pytest.mark.own_url, pytest.mark.once]

SCHEMES = ("tcp", "tls+tcp", "ws", "wss")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_address_works_where_neither_host_nor_daemon_has_ipv6(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scheme in ("ws", "wss"):
        pytest.importorskip("pynng", reason="Python 3.15 has no wheel of it")
    lacking.take_ipv6_away(tmp_path, monkeypatch)
    code = f"""
    import socket
    warnings.simplefilter("ignore")  # that it is not encrypted
    try:
        socket.socket(socket.AF_INET6)
    except OSError:
        say("no IPv6")
    for host in ("*", "0.0.0.0", "localhost", "[::ffff:127.0.0.1]"):
        with MiraiExecutor(url=f"{scheme}://{{host}}:0") as executor:
            executor.launch_local(1)
            say(host, executor.submit(abs, -3).result(30))
    """
    ended = run(code)
    assert ended.out.splitlines() == [
        "no IPv6",
        *("* 3", "0.0.0.0 3", "localhost 3", "[::ffff:127.0.0.1] 3"),
    ], ended.err


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "[::]"])
def test_what_listens_at_every_address_says_only_addresses_at_which_it_is_heard(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listening, "host_url", lambda: ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not encrypted
        executor = MiraiExecutor(url=f"tcp://{host}:0")
    with executor:
        executor.launch_local(1)
        assert executor.submit(abs, -3).result(SOON) == 3
        assert len(executor.urls) == (2 if host == "*" else 1)
        for url in executor.urls:
            host, port = url.removeprefix("tcp://").rsplit(":", 1)
            with socket.create_connection((host.strip("[]"), int(port)), SOON):
                pass


@pytest.mark.parametrize(
    ("own", "host"), [("tcp://10.7.5.13:0", "[::]"), ("tcp://[fd00::7]:0", "0.0.0.0")]
)
def test_an_address_of_a_version_that_this_machine_has_none_of_is_refused_with_what_to_write(
    own: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listening, "host_url", lambda: [own])
    with pytest.raises(OSError, match=r"no address of that version; use tcp://\*:"):
        MiraiExecutor(url=f"tcp://{host}:0")


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_name_of_which_one_address_cannot_be_used_here_stands_for_the_next(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``::1 localhost`` in the /etc/hosts of a container without IPv6."""
    resolve = socket.getaddrinfo
    serve = sockets._server

    def as_listed(host: str, port: int, *args: object, **kwargs: object) -> object:
        found = resolve("127.0.0.1", port, *args, **kwargs)  # type: ignore[arg-type]
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        return [six, *found] if host == "box" else resolve(host, port, *args, **kwargs)  # type: ignore[arg-type]

    def without_6(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, "not here")
        return serve(family, host, port)

    monkeypatch.setattr(socket, "getaddrinfo", as_listed)
    monkeypatch.setattr(sockets, "_server", without_6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not encrypted
        executor = MiraiExecutor(url="tcp://box:0")
    with executor:
        port = int(executor.urls[0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), SOON):
            pass
