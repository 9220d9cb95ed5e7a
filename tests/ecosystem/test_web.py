"""The application of the page about web servers, served by a real uvicorn."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from docs.test_examples import examples_of
from live.mischief import Bell

PAGE = Path(__file__).parents[2] / "docs/ecosystem/web.md"
MORE = """
@app.get("/hang/{path:path}")
async def hang(path: str, request: Request):
    future = request.app.state.executor.submit(ring_and_hang, path)
    return await result_for(request, future)


def ring_and_hang(path):
    with open("/" + path, "w") as bell:
        bell.write("rang\\n")
    time.sleep(3600)
"""


class Server:
    """``uvicorn main:app`` in a folder, at a port of the system's choice."""

    def __init__(self, folder: Path) -> None:
        # Without the lines that are about FastAPI's own client.
        code = [example.code.partition("with TestClient")[0] for example in examples_of(PAGE)]
        (folder / "main.py").write_text("\n".join([*code, MORE]))
        command = [sys.executable, "-m", "uvicorn", "main:app", "--port", "0", "--no-access-log"]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(said)

    def get(self, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=100) as answer:
            return str(answer.read().decode())

    def begin(self, path: str) -> socket.socket:
        """Send a request, and don't wait for its answer."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=100)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        return connection

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


def test_a_client_that_hangs_up_frees_the_daemon(server: Server, bell: Bell) -> None:
    for _ in range(2):  # as many as there are daemons
        with server.begin(f"/hang{bell.path}"):
            bell.wait()
    assert server.get("/patient/0") == "0.0"


def test_a_server_that_is_stopped_stops_what_runs(server: Server, bell: Bell) -> None:
    with server.begin(f"/hang{bell.path}"):
        bell.wait()
        daemons = psutil.Process(server.process.pid).children(recursive=True)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=30) in (0, -signal.SIGTERM)
    assert psutil.wait_procs(daemons, timeout=30)[1] == []
