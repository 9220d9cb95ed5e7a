"""Runs a host script and the daemon end of its payloads, each in an interpreter of its own.

Both ends have a ``__main__`` that payloads are about, so neither can be pytest's process. A test
gives the text of a host script; in it ``Daemon()`` starts the other end, over pipes::

    with Daemon() as d:
        print(d.call(f, 1))
"""

import contextlib
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def send(stream: IO[bytes], message: object) -> None:
    blob = pickle.dumps(message)
    stream.write(struct.pack("!I", len(blob)) + blob)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    header = stream.read(4)
    return pickle.loads(stream.read(struct.unpack("!I", header)[0])) if header else None


class Daemon:
    """The other end of the payloads, for a host script."""

    def __init__(self, **encoder_options: Any) -> None:
        from mirai_executor._payload import daemon, host

        if daemon.importing_main():
            raise RuntimeError('this script starts a daemon without if __name__ == "__main__":')
        self.payload = host
        preparation = host.Preparation.of_this_process()
        self.encoder = host.CallEncoder(**encoder_options)
        self.sent: dict[str, bytes] = {}
        command = [sys.executable, str(HERE / "test_payload_driver.py")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd="/"
        )
        self.ask("prepare", host.encode_plain(preparation))

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def ask(self, *message: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        send(self.process.stdin, message)
        return receive(self.process.stdout)

    def outcome(self, call: Any, *, persist: bool = False) -> tuple[bool, bytes]:
        new = [entry for entry in call.names if self.sent.get(entry.name) != entry.digest]
        self.sent.update((name, digest) for name, digest, _ in new)
        names = [(name, digest) for name, digest, _ in call.names]
        answer: tuple[bool, bytes] = self.ask(
            "run", [tuple(e) for e in new], call.blob, names, persist
        )
        return answer

    def finish(self, call: Any, *, persist: bool = False) -> Any:
        good, blob = self.outcome(call, persist=persist)
        if good:
            return self.payload.decode_value(blob)
        raise self.payload.decode_error(blob)

    def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.finish(self.encoder.encode(fn, args, kwargs))

    def source(self, source: str, *, persist: bool = False, **variables: Any) -> Any:
        return self.finish(self.encoder.encode_source(source, variables), persist=persist)

    def error(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseException:
        try:
            value = self.call(fn, *args, **kwargs)
        except BaseException as error:
            return error
        raise AssertionError(f"it returned {value!r}")


def run_host(script: str, *arguments: str, **options: Any) -> str:
    """Run the text of a host script as a file of its own, and return what it printed."""
    with script_file(script, **options) as (path, environment):
        return run_python([path, *arguments], environment)


@contextlib.contextmanager
def script_file(script: str, folder: Path | None = None) -> Iterator[tuple[str, dict[str, str]]]:
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        place = folder or Path(made)
        path = place / "host_script.py"
        text = "from test_payload_driver import *\n" + textwrap.dedent(script)
        path.write_text(text)
        yield str(path), host_environment()


def host_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}


def run_python(
    arguments: list[str], environment: Mapping[str, str], text: str | None = None, cwd: Any = None
) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=dict(environment),
        input=text,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout


def serve() -> None:
    """Be the daemon's end: answer until the host closes the pipe."""
    from mirai_executor._payload import daemon as payload

    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - for the rest of the process
    os.dup2(2, 1)
    namespace = None
    table: object = ()
    while (message := receive(incoming)) is not None:
        if message[0] == "prepare":
            namespace = payload.Namespace(payload.decode_plain(message[1]))
            send(outgoing, True)
        elif message[0] == "run":
            assert namespace is not None
            _, new, blob, names, persist = message
            # As within a frame: one object for the same table, as long as no other comes between.
            table = table if table == names else names
            send(outgoing, answer(payload, namespace, new, blob, table, persist))


def answer(
    payload: Any, namespace: Any, new: Any, blob: bytes, names: Any, persist: bool
) -> tuple[bool, bytes]:
    for entry in new:
        namespace.receive(*entry)
    try:
        return True, payload.encode_value(namespace.decode(blob, names, persist=persist)()).blob
    except BaseException as error:
        return False, payload.encode_error(error)


def test_a_call_reaches_the_other_interpreter() -> None:
    script = "import os\nwith Daemon() as d: print(d.call(os.getpid) != os.getpid())"
    assert run_host(script) == "True\n"


if __name__ == "__main__":
    serve()
