"""Addresses that daemons of another machine dial: behind NAT, a name of one's own, no IPv6."""

import ast
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.afar import listening
from live.hosts import Script, script
from live.mischief import SOON
from live.slow import Line
from mirai_executor.urls import Url
from services.network import Cable, ip, second_host
from services.test_two_hosts import over_there

SECONDS = 30.0


@pytest.fixture(autouse=True)
def network() -> None:
    from services.conftest import require

    require("iproute2", "ip")


@pytest.fixture
def cable() -> Iterator[Cable]:
    with second_host() as made:
        ip("netns", "exec", made.far, "ip", "link", "set", "lo", "up")
        yield made


def inside(cable: Cable) -> list[str]:
    return ["ip", "netns", "exec", cable.far]


@contextlib.contextmanager
def daemon_here(command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run what a host says to paste into a shell of this machine, the host's other one."""
    words = ["/bin/sh", "-c", f"exec env {command} --retry 0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        yield process
        process.terminate()


@pytest.mark.filterwarnings("ignore:.*not encrypted")
@pytest.mark.parametrize("scheme", ["tcp", "tls+tcp", "ws"])
def test_daemons_dial_what_is_advertised_where_they_cannot_reach_what_is_listened_on(
    scheme: str, cable: Cable
) -> None:
    """As behind a router that passes a port on, or at the published port of a container."""
    with second_host() as inner:
        own = f"{scheme}://{inner.address}:0"
        with listening(own, advertise=f"{scheme}://{cable.address}:0") as executor:
            port = Url.parse(executor.url or "").port
            there = (inner.address, port)
            knock = f"import socket; socket.create_connection({there}, 2)"
            assert subprocess.run(
                [*inside(cable), sys.executable, "-c", knock], stderr=subprocess.DEVNULL
            ).returncode
            router = Line(port, host=inner.address, at=(cable.address, port))
            try:
                executor.launch_remote(1, over_there(cable))
                assert executor.submit(abs, -3).result(SECONDS) == 3
                executor.launch_local(1)  # past the router
                executor.wait_ready(SECONDS, count=2)
                executor.shutdown()
            finally:
                router.close()


@pytest.fixture
def names(cable: Cable) -> Iterator[str]:
    """Have the far host know its own name as Debian's installer writes it down."""
    folder = Path("/etc/netns") / cable.far  # from where `ip netns exec` takes files of /etc
    folder.mkdir(parents=True)
    try:
        (folder / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 box.example box\n")
        yield "box"
    finally:
        (folder / "hosts").unlink()
        folder.rmdir()
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


HOST = """
url = {url}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    executor = MiraiExecutor(url=url)
told = [str(warning.message) for warning in caught]
say([text for text in told if "not encrypted" not in text])
say(repr(executor.launch_remote(1)[0]))
executor.wait_ready()
say(executor.submit(abs, -3).result())
executor.shutdown()
say("end")
"""


def host_over_there(cable: Cable, url: str) -> contextlib.AbstractContextManager[Script]:
    return script(
        f"from mirai_executor import host_url\n{HOST.format(url=url)}", where=inside(cable)
    )


def test_a_name_that_means_this_machine_alone_is_warned_of_and_the_advice_helps(
    cable: Cable, names: str
) -> None:
    with host_over_there(cable, repr(f"tcp://{names}:0")) as host:
        told = host.line()
        assert "box stands for 127.0.1.1 here (see /etc/hosts): use host_url()" in told
        with daemon_here(ast.literal_eval(host.line())) as daemon:
            _, said = daemon.communicate(timeout=SOON)  # which does not know the name, or wrongly
            assert b"cannot reach the host" in said
    with host_over_there(cable, "host_url()") as host:
        assert host.line() == "[]"
        with daemon_here(ast.literal_eval(host.line())):
            assert host.line() == "3"
            assert host.line() == "end"


@pytest.mark.parametrize("scheme", ["tcp", "tls+tcp", "ws", "wss"])
def test_a_host_without_ipv6_listens_at_all_of_its_addresses(cable: Cable, scheme: str) -> None:
    off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"
    subprocess.run([*inside(cable), "sh", "-c", off], check=True)
    with host_over_there(cable, repr(f"{scheme}://*:0")) as host:
        assert host.line() == "[]"
        with daemon_here(ast.literal_eval(host.line())):
            assert host.line() == "3"
            assert host.line() == "end"
