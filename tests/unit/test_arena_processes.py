"""Shared memory between real processes: killed at any moment, in other namespaces, very large.

Run as a script, this module is the processes themselves.
"""

import contextlib
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mirai_executor import _arena
from mirai_executor._arena import Channel, Place, Pool, Receiver, Sender

pytestmark = pytest.mark.skipif(not _arena.available(), reason="no memfd here")

GB = 1 << 30


# The processes


class End:
    """One of two processes: a channel, and a socket for what would be frames."""

    def __init__(self, channel: Channel, frames: socket.socket, limit: int = 1 << 28) -> None:
        self.channel = channel
        self.frames = frames
        self.pool = Pool(limit=limit)
        self.sender = Sender(self.pool, channel)
        self.receiver = Receiver(channel)

    def send(self, data: object) -> None:
        places = self.pool.place([data])
        assert places is not None
        if not self.sender.lend(places):
            raise GoneError
        self.pool.release({place.arena for place in places})
        self.frames.send(pickle.dumps((places, self.receiver.take_released())))

    def receive(self) -> memoryview | None:
        """Return what has come, None at the end."""
        try:
            frame = self.frames.recv(1 << 16)
        except ConnectionResetError:
            return None
        if not frame:
            return None
        places, released = pickle.loads(frame)
        self.sender.release(released)
        return self.receiver.views([Place(*place) for place in places])[0]

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()
        self.pool.close()
        self.channel.close()
        self.frames.close()


Side = tuple[Channel, socket.socket]


def pair() -> tuple[Side, Side]:
    channel, fd = Channel.create()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return (channel, here), (Channel(fd), there)


def close(side: Side) -> None:
    side[0].close()
    side[1].close()


def memory_fds() -> int:
    """How many descriptors of shared memory this process has."""
    links = []
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
    return sum("mirai-arena" in link for link in links)


class GoneError(Exception):
    """There is nobody at the other end."""


def answer(end: End) -> memoryview | None:
    """Send back twice of whatever comes while there is somebody; return what came last."""
    view = None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, GoneError):
        while (latest := end.receive()) is not None:
            view = latest
            array = np.frombuffer(view)
            array *= 2  # ours to write to
            end.send(array)
            del array, latest
    return view


def ask(end: End, size: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    want = np.random.default_rng(size).random(size)
    end.send(want)
    view = end.receive()
    assert view is not None
    have = np.frombuffer(view)
    assert (have == 2 * want).all()
    return have


def start_child(mine: Side, other: Side, work: Callable[[End], object]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        close(other)
        work(End(*mine))
        status = 0
    finally:
        os._exit(status)


def spin(seconds: float) -> None:
    """Let some time pass at whose end anything may be under way."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def peers_are_killed(rounds: int) -> None:
    """Kill the peer of one pool again and again, at moments drawn by chance."""
    chance = random.Random(rounds)
    pool = Pool(limit=1 << 26)
    kept: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    for _ in range(rounds):
        ours, theirs = pair()
        child = start_child(theirs, ours, answer)
        close(theirs)
        end = End(*ours)
        end.pool, end.sender = pool, Sender(pool, ours[0])
        kept += [ask(end, chance.randrange(1, 50_000)) for _ in range(chance.randrange(3))]
        sums = [(array, array.sum()) for array in kept]
        end.send(np.ones(50_000))
        spin(chance.random() * 1e-3)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert all(array.sum() == before for array, before in sums)
        end.receiver.close()
        end.sender.close()
        assert not pool.held
        close(ours)
        del kept[:-2], sums, end
    kept.clear()
    pool.close()
    assert memory_fds() == 0


def hosts_are_killed(rounds: int) -> None:
    """Kill the other side instead, whose peer has to notice, and to keep what it has in use."""
    chance = random.Random(rounds)
    for _ in range(rounds):
        ours, theirs = pair()
        peer = start_child(theirs, ours, outlive)
        host = start_child(ours, theirs, ask_for_ever)
        close(ours)
        close(theirs)
        spin(chance.random() * 1e-2)
        os.kill(host, signal.SIGKILL)
        assert os.waitpid(host, 0)[1] == signal.SIGKILL
        assert os.waitpid(peer, 0)[1] == 0


def ask_for_ever(end: End) -> None:
    while True:
        ask(end, 40_000)


def outlive(end: End) -> None:
    view = answer(end)
    end.close()
    if view is not None:
        array = np.frombuffer(view)
        array[:] = 1.0
        assert array.sum() == len(array)
        del array, view
    assert memory_fds() == 0


def echo_100_mb() -> None:
    ours, theirs = pair()
    child = start_child(theirs, ours, answer)
    close(theirs)
    end = End(*ours)
    for _ in range(2):
        ask(end, 12_500_000)
    end.close()
    assert os.waitpid(child, 0)[1] == 0


# The tests


def run(*arguments: object, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, __file__, *map(str, arguments)]
    path = os.pathsep.join(
        [str(Path(_arena.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("victim", ["peers_are_killed", "hosts_are_killed"])
def test_nothing_is_left_behind_by_kills_at_any_moment(victim: str, kills: int) -> None:
    done = run(victim, kills)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_processes_send_arrays_back_and_forth_through_few_warm_arenas() -> None:
    ours, theirs = pair()
    command = [sys.executable, __file__, "peer", str(theirs[0].fileno()), str(theirs[1].fileno())]
    path = str(Path(_arena.__file__).parents[2])
    fds = (theirs[0].fileno(), theirs[1].fileno())
    with subprocess.Popen(command, pass_fds=fds, env={**os.environ, "PYTHONPATH": path}) as peer:
        close(theirs)
        end = End(*ours)
        for _ in range(20):
            ask(end, 50_000)
        assert end.pool.size < 2_000_000
        assert len(end.receiver._idle) + len(end.receiver._lent) <= 3
        end.close()
        assert peer.wait() == 0


def test_neither_proc_nor_dev_shm_nor_a_namespace_matters() -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare here")
    namespaces = (unshare, "--mount", "--ipc", "--net", "--uts")
    setup = "mount -t tmpfs -o size=64m tmpfs /dev/shm && mount -t tmpfs tmpfs /proc"
    if subprocess.run(
        [*namespaces, "sh", "-c", setup], capture_output=True, check=False
    ).returncode:
        pytest.skip("this user may not make namespaces")
    done = run("echo_100_mb", wrapper=(*namespaces, "sh", "-c", f'{setup} && exec "$@"', "sh"))
    assert (done.returncode, done.stderr) == (0, "")


def free_memory() -> int:
    """Bytes that can be used without swapping; 0 where that is not known."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    return (
        int(dict(line.split(":") for line in text.splitlines())["MemAvailable"].split()[0]) << 10
    )


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.skipif(
    not _arena.available() or free_memory() < 8 * GB, reason="needs 8 GB of memory"
)
def test_sizes_beyond_4_gb_pass() -> None:
    ours, theirs = pair()
    host, peer = End(*ours, limit=6 * GB), End(*theirs)
    length = 4 * GB + 4097
    here = np.zeros(length, "B")  # its pages do not exist until they are written to
    spots = [0, 2 * GB - 1, 2 * GB, 4 * GB - 1, 4 * GB, length - 1]
    for spot in spots:
        here[spot] = 1 + spot % 251
    places = host.pool.place([here])
    assert places is not None
    (place,) = places
    assert host.sender.lend([place])
    (there,) = peer.receiver.views([place])
    assert len(there) == length
    assert [there[spot] for spot in spots] == [1 + spot % 251 for spot in spots]
    array = np.frombuffer(there, "B")
    del there
    assert peer.receiver.take_released() == ()
    assert array[length - 1] == 1 + (length - 1) % 251
    del array
    assert peer.receiver.take_released() == (place.arena,)
    host.close()
    peer.close()


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.skipif(
    not _arena.available() or free_memory() < 8 * GB, reason="needs 8 GB of memory"
)
def test_a_buffer_beyond_2_gb_is_copied_whole() -> None:
    ours, theirs = pair()
    host, peer = End(*ours, limit=3 * GB), End(*theirs)
    buffer = np.zeros(2 * GB + 4097, "B")  # its pages do not exist until they are written to
    buffer[[0, 2 * GB - 1, 2 * GB, -1]] = [1, 2, 3, 4]
    places = host.pool.place([buffer])
    assert places is not None
    assert host.sender.lend(places)
    there = np.frombuffer(peer.receiver.views(places)[0], "B")
    assert len(there) == len(buffer)
    assert there[[0, 1, 2 * GB - 1, 2 * GB, -1]].tolist() == [1, 0, 2, 3, 4]
    host.close()
    peer.close()


def main(what: str, *arguments: str) -> None:
    if what == "peer":
        channel, frames = map(int, arguments)
        answer(End(Channel(channel), socket.socket(fileno=frames)))
    elif what == "echo_100_mb":
        echo_100_mb()
    else:
        {"peers_are_killed": peers_are_killed, "hosts_are_killed": hosts_are_killed}[what](
            int(arguments[0])
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
