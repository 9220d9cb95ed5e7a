"""Where a host listens, and what daemons dial: mostly the same."""

import socket
import warnings

import pytest

from mirai_executor import MiraiExecutor
from mirai_executor._provisioning._listening import Here, Listening
from mirai_executor.launchers import Command


def dialled_here(listening: Listening) -> str:
    (command,) = listening.plan(Here("python"), 1, "one")
    assert isinstance(command, Command)
    return " ".join(command.argv)


def test_daemons_elsewhere_dial_what_is_advertised_and_those_here_what_is_listened_on() -> None:
    listening = Listening(
        "tls+tcp://127.0.0.1:0", advertise=["tls+tcp://gate.example:7000", "tls+tcp://10.0.0.9:0"]
    )
    port = listening.listen_config.listeners[0].url.port
    listening.listen_config.close()
    assert listening.urls == ("tls+tcp://gate.example:7000", f"tls+tcp://10.0.0.9:{port}")
    (words,) = listening.shell_commands("python", 1)
    assert "gate.example" in words
    assert f"tls+tcp://127.0.0.1:{port}" in dialled_here(listening)
    assert "gate.example" not in dialled_here(listening)


@pytest.mark.parametrize(
    ("advertise", "text"),
    [
        ("tcp://*:7000", "an address that daemons can dial, not tcp://"),
        ("tls+tcp://gate.example:7000", "no address of url begins with tls"),
        ([], "at least one address"),
        ("gate.example:7000", "has no scheme"),
    ],
)
def test_what_cannot_be_dialled_is_not_advertised(advertise: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MiraiExecutor(url="tcp://127.0.0.1:0", advertise=advertise)


def test_nothing_is_advertised_where_nobody_listens() -> None:
    with pytest.raises(ValueError, match="advertise needs a url"):
        MiraiExecutor(1, advertise="tcp://gate.example:7000")


@pytest.mark.parametrize("advertise", [None, "tcp://127.0.0.1:7000"])
def test_a_name_that_stands_for_this_machine_alone_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, advertise: str | None
) -> None:
    resolve = socket.getaddrinfo

    def as_debian_does(host: str, *args: object, **kwargs: object) -> object:
        return resolve("127.0.0.1" if host == "box" else host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", as_debian_does)
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "127.0.1.1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MiraiExecutor(url="tcp://box:0", advertise=advertise).shutdown()
    told = [str(warning.message) for warning in caught]
    expected = "box stands for 127.0.1.1 here (see /etc/hosts): use host_url()"
    assert any(expected in text for text in told) is (advertise is None)
    assert all(warning.filename == __file__ for warning in caught)
