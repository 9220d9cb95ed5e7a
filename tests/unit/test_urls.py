"""Addresses: what is read, what is refused with which advice, and what this machine offers."""

import os
import socket
import stat
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirai_executor import host_url, local_url
from mirai_executor.urls import Url, _own
from mirai_executor.urls._interfaces import (
    Address,
    _from_names,
    _version_6,
    default_sources,
    own_addresses,
)
from mirai_executor.urls._own import _best_first

GOOD = {
    "tcp://10.75.32.70:5555": Url("tcp", "10.75.32.70", 5555),
    "tcp://[::ffff:a6f:50d]:5555": Url("tcp", str(ip_address("::ffff:a6f:50d")), 5555),
    "tls+tcp://node7.example.org:0": Url("tls+tcp", "node7.example.org", 0),
    "ws://[::1]:80/a/b": Url("ws", "::1", 80, "/a/b"),
    "wss://node_7:65535": Url("wss", "node_7", 65535),
    "ws://node:1/a%20b/~c@d": Url("ws", "node", 1, "/a%20b/~c@d"),
    "tcp://0xcafe-7.example:1": Url("tcp", "0xcafe-7.example", 1),
    "tcp://node.7:1": Url("tcp", "node.7", 1),
    "ipc:///tmp/a b": Url("ipc", path="/tmp/a b"),
    "tcp://*:0": Url("tcp", "*", 0),
    "tcp://:0": Url("tcp", "*", 0),
    "TCP://Node:1": Url("tcp", "Node", 1),
    "tcp://node:1/": Url("tcp", "node", 1),
}
BAD = {
    "10.0.0.1:5555": "no scheme",
    "abstract://x": "any user of the machine could connect",
    "tls://a:1": "write tls[+]tcp://",
    "http://a:1": "write ws://",
    "tcp6://a:1": "use one of tcp, ",
    "tcp://node": "no port; write tcp://node:0 to use a free one",
    "tcp://node:": "1 to 65535",
    "tcp://node:65536": "1 to 65535",
    "tcp://node:-1": "1 to 65535",
    "tcp://node:٣": "1 to 65535",
    "tcp://::1:5555": "brackets",
    "tcp://[::1:5555": "expected host and port",
    "tcp://[10.0.0.1]:1": "not an IPv6 address",
    "tcp://[fe80::1%eth0]:1": "zone",
    "tcp://300.1.1.1:1": "not an IPv4 address",
    "tcp://0x7f000001:1": "not an IPv4 address",
    "tcp://0x7F.1:1": "not an IPv4 address",
    "tcp://2130706433:1": "not an IPv4 address",
    "tcp://0177.0.0.1:1": "not an IPv4 address",
    "tcp://127.1:1": "not an IPv4 address",
    "tcp://me@node:1": "contains a user name",
    "tcp://-node:1": "neither",
    "tcp://no de:1": "neither",
    "tcp://$(id):1": "neither",
    "tcp://node:1/path": "only ws",
    "ws://node:1/a\nb": "expected host and port",
    "ws://node:1/a?b": "not allowed there",
    "ws://node:1/$(id)": "not allowed there",
    "ws://node:1/a;b": "not allowed there",
    "ws://node:1/%0": "not allowed there",
    "ws://node:1/a\x1b": "not allowed there",
    "tcp://no\tde:1": "neither",
    "tcp://node`id`:1": "neither",
    "ipc:///tmp/a\x1b[2J": "not allowed in a file name",
    "ipc://relative": "absolute path",
    "ipc:///tmp/" + "x" * 104: "107 bytes",
    "ipc:///tmp/\0": "not allowed in a file name",
    "": "no scheme",
}


@pytest.mark.parametrize("text", GOOD)
def test_an_address_is_read_and_printed(text: str) -> None:
    url = Url.parse(text)
    assert url == GOOD[text]
    assert Url.parse(str(url)) == url


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match=BAD[text]):
        Url.parse(text)


@given(st.text() | st.from_regex(r"(tcp|wss|ipc)://\S*"))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        url = Url.parse(text)
    except ValueError:
        return
    assert Url.parse(str(url)) == url
    assert str(url).isprintable()


def test_what_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="such as 'tcp://"):
        Url.parse(5555)  # type: ignore[arg-type] # as a careless caller would


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://127.8.0.1:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://[::ffff:127.0.0.1]:1", True),
        ("ws://LocalHost:1", True),
        ("ipc:///tmp/x", True),
        ("tcp://10.0.0.1:1", False),
        ("tcp://*:1", False),
        ("tcp://node:1", False),
    ],
)
def test_loopback_is_what_only_this_machine_can_reach(text: str, expected: bool) -> None:
    assert Url.parse(text).is_loopback is expected


def test_an_address_knows_whether_it_is_tls_and_whether_it_is_a_wildcard() -> None:
    schemes = ("tcp", "tls+tcp", "ws", "wss")
    assert [Url(scheme, "a").is_tls for scheme in schemes] == [False, True, False, True]
    hosts = ("*", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "10.0.0.1", "[::1]")
    found = [Url.parse(f"tcp://{host}:1").is_wildcard for host in hosts]
    assert found == [True, True, True, True, False, False]


def test_sockets_get_an_ipv4_address_as_such_however_it_is_written() -> None:
    hosts = ("[::ffff:10.7.5.13]", "10.7.5.13", "[::1]", "node", "*")
    found = [Url.parse(f"tcp://{host}:1").socket_host for host in hosts]
    assert found == ["10.7.5.13", "10.7.5.13", "::1", "node", "*"]


def test_port_and_host_of_an_address_can_be_replaced() -> None:
    url = Url.parse("wss://*:0/x")
    assert str(url.with_port(5).with_host("::1")) == "wss://[::1]:5/x"
    with pytest.raises(ValueError, match="1 to 65535"):
        url.with_port(70000)
    with pytest.raises(ValueError, match="neither"):
        url.with_host("a b")
    with pytest.raises(ValueError, match="has no port"):
        Url.parse("ipc:///tmp/x").with_port(1)


def test_the_interface_of_the_default_route_comes_first_and_loopback_only_alone() -> None:
    found = [
        Address("lo", "127.0.0.1"),
        Address("docker0", "172.17.0.1"),
        Address("eth0", "10.0.0.9"),
        Address("eth0", "10.0.0.5"),
        Address("lo", "::1"),
        Address("eth0", "fe80::1"),
        Address("eth0", "2001:db8::5"),
        Address("docker0", "169.254.0.7"),
    ]
    expected = ["10.0.0.5", "2001:db8::5", "172.17.0.1"]
    assert _best_first(found, ["10.0.0.5", "2001:db8::5"]) == expected
    assert _best_first(found, []) == ["172.17.0.1", "10.0.0.9", "2001:db8::5"]
    assert _best_first(found[:1], []) == ["127.0.0.1"]
    assert _best_first(found[5:6], []) == ["127.0.0.1"]
    assert _best_first([], []) == ["127.0.0.1"]


def test_an_ipv6_address_that_may_go_is_not_offered(tmp_path: Path) -> None:
    table = tmp_path / "if_inet6"
    table.write_text(
        "20010db8000000000000000000000002 03 40 00 80     eth1\n"
        "20010db8000000000000000000000001 02 40 00 80     eth0\n"
        "20010db80000000000000000000000ff 02 40 00 01     eth0\n"
        "20010db80000000000000000000000fe 02 40 00 60     eth0\n"
    )
    expected = [Address("eth0", "2001:db8::1"), Address("eth1", "2001:db8::2")]
    assert list(_version_6(table)) == expected
    assert list(_version_6(tmp_path / "none")) == []


def test_this_machine_can_listen_at_each_address_that_it_offers() -> None:
    urls = host_url()
    assert urls
    for url in map(Url.parse, urls):
        family = socket.AF_INET6 if ":" in url.host else socket.AF_INET
        with socket.socket(family) as listener:
            listener.bind((url.host, 0))


def test_a_host_url_carries_scheme_and_port() -> None:
    assert all(url.startswith("tls+tcp://") for url in host_url(tls=True, port=5555))
    assert all(url.endswith(":5555") for url in host_url(tls=True, port=5555))
    with pytest.raises(ValueError, match="1 to 65535"):
        host_url(port=-1)


def in_an_empty_network(script: str) -> str:
    """Run a script where there is only a loopback interface; return what it prints."""
    command = ["unshare", "--net", "--map-root-user", "/bin/sh", "-ec", script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no unshare command here")
    if done.returncode != 0 and "Traceback" not in done.stderr:
        pytest.skip(f"no network namespaces here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout


SHOW = f"{sys.executable} -c 'from mirai_executor import host_url; print(*host_url())'"


def test_a_machine_without_a_network_offers_its_loopback_address() -> None:
    assert in_an_empty_network(SHOW) == "tcp://127.0.0.1:0\n"
    assert in_an_empty_network(f"ip link set lo up; {SHOW}") == (
        "tcp://127.0.0.1:0 tcp://[::1]:0\n"
    )


def test_the_interfaces_of_a_real_machine_are_ranked() -> None:
    script = """
        for name in lo one two off; do
            [ $name = lo ] || ip link add $name type veth peer name $name-peer
            for end in $name $name-peer; do
                [ $name = off ] || [ $end = lo-peer ] || ip link set $end up
            done
        done
        ip address add 10.1.0.1/24 dev one
        ip address add 10.2.0.1/24 dev two
        ip address add 10.2.0.2/24 dev two
        ip address add 10.3.0.1/24 dev off
        ip address add 2001:db8:2::1/64 dev two nodad
        ip address add 169.254.9.9/16 dev one
        ip route add default via 10.2.0.9
        # The system notes a moment later that they are running.
        until [ "$(ip -o link | grep -c 'state UP')" = 4 ]; do sleep 0.01; done
    """
    assert in_an_empty_network(script + SHOW) == (
        "tcp://10.2.0.1:0 tcp://[2001:db8:2::1]:0 tcp://10.1.0.1:0\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the listing is that of Linux")
def test_the_loopback_address_is_among_the_machines_own() -> None:
    assert "127.0.0.1" in [address.host for address in own_addresses()]


def test_where_interfaces_cannot_be_listed_the_default_address_is_still_found() -> None:
    found = [address.host for address in _from_names()]
    assert found[: len(default_sources())] == default_sources()


def test_a_local_url_is_a_new_file_in_a_folder_of_this_user(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = tmp_path_factory.mktemp("run")  # the path of a socket must be short
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    one, other = Url.parse(local_url()), Url.parse(local_url())
    assert one != other
    folder = Path(one.path).parent
    assert folder == Path(other.path).parent == tmp_path / "mirai-executor"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("obstacle", ["open", "link", "file", "long"])
def test_a_folder_that_others_could_enter_is_not_used(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / ("long" * 25 if obstacle == "long" else "run")
    runtime.mkdir()
    if obstacle == "open":
        (runtime / "mirai-executor").mkdir()
        (runtime / "mirai-executor").chmod(0o777)
    elif obstacle == "link":
        (runtime / "mirai-executor").symlink_to(tmp_path)
    elif obstacle == "file":
        (runtime / "mirai-executor").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert not Url.parse(local_url()).path.startswith(str(runtime))


def test_where_no_folder_will_do_a_fresh_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own, "_make_private", lambda folder: False)
    folder = Path(Url.parse(local_url()).path).parent
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.getuid()
    finally:
        folder.rmdir()


def test_a_local_url_by_tcp_is_on_the_loopback_address() -> None:
    assert local_url(tcp=True) == "tcp://127.0.0.1:0"
    assert local_url(tcp=True, port=5555) == "tcp://127.0.0.1:5555"
    with pytest.raises(ValueError, match="tcp=True"):
        local_url(port=5555)
