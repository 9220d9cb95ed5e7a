"""Daemons that come in through nginx, which stands in front of their host."""

import os
from pathlib import Path

import pytest

from live.afar import listening, pids, python_words
from live.mischief import SOON
from mirai_executor import remote_config
from services import nginx
from services.conftest import require
from services.sshd import free_port


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [
        ("ws", "http"),
        ("ws", "stream"),
        ("wss", "stream"),
        ("tls+tcp", "stream"),
        ("tcp", "stream"),
    ],
)
def test_daemons_come_in_through_a_proxy_and_work_as_without(
    scheme: str, kind: str, tmp_path: Path
) -> None:
    require("nginx libnginx-mod-stream", "nginx")
    if not nginx.STREAM.exists():
        pytest.skip("there is no stream module of nginx here: install libnginx-mod-stream")
    front, back = free_port(), free_port()
    address = f"{scheme}://127.0.0.1:{front}"
    with (
        nginx.serve(tmp_path, kind, front, back),
        listening(f"{scheme}://127.0.0.1:{back}", advertise=address) as executor,
    ):
        assert executor.url == address
        command = remote_config("/usr/bin/env", python=python_words(), stays=True)
        executor.launch_remote(2, command)
        assert len(pids(executor, 2)) == 2
        assert list(executor.map(abs, range(-100, 0))) == list(range(100, 0, -1))
        data = os.urandom(10_000_000)
        assert executor.submit(bytes.upper, data).result(SOON) == data.upper()
