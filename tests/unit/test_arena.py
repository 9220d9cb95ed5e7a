"""What a pool, a sender and a receiver promise each other, in one process over a real socket."""

import contextlib
import errno
import fcntl
import gc
import mmap
import os
import pickle
import resource
import socket
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mirai_executor import _arena
from mirai_executor._arena import (
    ArenaError,
    Channel,
    Exchange,
    Place,
    Pool,
    Receiver,
    Sender,
    _late,
    _memory,
)

pytestmark = pytest.mark.skipif(not _arena.available(), reason="no memfd here")

KB = 1 << 10
MB = 1 << 20


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - one descriptor either way


@dataclass
class Two:
    """Both ends in one process."""

    limit: int = 64 * MB
    count: int = 32
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = Pool(limit=self.limit, count=self.count)
        self.here, fd = Channel.create()
        self.there = Channel(fd)
        self.sender = Sender(self.pool, self.here)
        self.receiver = Receiver(self.there)

    def send(self, *buffers: object) -> tuple[memoryview, ...]:
        """Place, lend and view; the caller's own hold is given back."""
        places = self.pool.place(buffers)
        assert places is not None
        return self.deliver(places)

    def deliver(self, places: tuple[Place, ...]) -> tuple[memoryview, ...]:
        assert self.sender.lend(places)
        self.pool.release({place.arena for place in places})
        return self.receiver.views(places)

    def answer(self) -> tuple[int, ...]:
        released = self.receiver.take_released()
        self.sender.release(released)
        return released

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()
        self.pool.close()
        self.here.close()
        self.there.close()


@pytest.fixture
def two() -> Iterator[Two]:
    before = open_fds()
    pair = Two()
    yield pair
    pair.close()
    del pair
    gc.collect()
    assert open_fds() == before


def test_buffers_arrive_equal_writable_aligned_and_in_one_arena(two: Two) -> None:
    buffers: list[Any] = [
        np.arange(1000.0),
        b"x" * 100_001,
        bytearray(b"yz"),
        memoryview(b"w" * 65),
    ]
    places = two.pool.place(buffers)
    assert places is not None
    assert len({place.arena for place in places}) == 1
    views = two.deliver(places)
    assert [bytes(view) for view in views] == [bytes(memoryview(b)) for b in buffers]
    assert not any(view.readonly for view in views)
    assert [np.frombuffer(view, "B").ctypes.data % 64 for view in views] == [0] * 4


def test_empty_buffers_take_no_arena(two: Two) -> None:
    places = two.pool.place([b"", np.empty((0, 3))])
    assert places == (Place(0, 0, 0),) * 2
    assert [bytes(view) for view in two.deliver(places)] == [b"", b""]
    assert two.pool.place([]) == ()
    views = two.send(b"", b"full", b"")
    assert [bytes(view) for view in views] == [b"", b"full", b""]
    assert two.pool.size == 64 * KB


def test_a_buffer_that_is_not_contiguous_is_refused_and_takes_nothing(two: Two) -> None:
    with pytest.raises(TypeError):
        two.pool.place([b"x" * 100, np.arange(100)[::2]])
    assert not two.pool.held


def test_an_arena_is_filled_again_when_its_last_view_is_gone(two: Two) -> None:
    first, second = two.send(b"a" * 100, b"b" * 100)
    (arena,) = two.pool.held
    del first
    assert two.answer() == ()
    piece = second[50:60]
    del second
    assert two.answer() == ()
    assert bytes(piece) == b"b" * 10
    del piece
    assert two.answer() == (arena,)
    assert two.answer() == ()
    assert not two.pool.held
    places = two.pool.place([b"c"])
    assert places == (Place(arena, 0, 1),)


def _array(view: memoryview) -> object:
    return np.frombuffer(view, dtype="<f8")


def _sliced_array(view: memoryview) -> object:
    return np.frombuffer(view, dtype="<f8").reshape(5, -1)[1:3, ::2].T


def _unpickled(view: memoryview) -> object:
    data = pickle.dumps(np.empty(len(view) // 8), protocol=5, buffer_callback=lambda _: None)
    return pickle.loads(data, buffers=[view])


def _cast(view: memoryview) -> object:
    return view.cast("d")[3:]


def _object_behind(view: memoryview) -> object:
    return view.obj


def _in_a_cycle(view: memoryview) -> object:
    loop: list[object] = [view]
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "use", [_array, _sliced_array, _unpickled, _cast, _object_behind, _in_a_cycle]
)
def test_whatever_is_made_of_a_view_keeps_its_arena(two: Two, use: object) -> None:
    assert callable(use)
    kept = use(two.send(np.arange(1000.0))[0])
    gc.collect()
    assert two.answer() == ()
    del kept
    gc.collect()
    assert len(two.answer()) == 1


def test_a_view_revived_by_a_dying_cycle_keeps_its_arena(two: Two) -> None:
    revived: list[object] = []

    class Phoenix:
        def __init__(self, view: memoryview) -> None:
            self.view = view
            self.self = self

        def __del__(self) -> None:
            revived.append(self.view)

    Phoenix(two.send(b"still here")[0])
    gc.collect()
    assert two.answer() == ()
    assert bytes(revived.pop()) == b"still here"  # type: ignore[call-overload]  # a view
    assert len(two.answer()) == 1


def test_views_may_die_in_any_thread(two: Two) -> None:
    box = [two.send(b"x" * 1000)]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert len(two.answer()) == 1


def test_a_view_that_was_never_looked_at_releases_its_arena_too(two: Two) -> None:
    two.send(b"x")
    assert len(two.answer()) == 1


def test_an_arena_is_kept_while_whoever_placed_it_holds_it(two: Two) -> None:
    places = two.pool.place([b"again and again"])
    assert places is not None
    for _ in range(3):
        assert two.sender.lend(places)
        assert bytes(two.receiver.views(places)[0]) == b"again and again"
        assert two.answer() == (places[0].arena,)
        assert two.pool.held == (places[0].arena,)
    two.pool.release((places[0].arena,))
    assert not two.pool.held


def test_an_arena_lent_twice_is_released_twice_and_only_when_all_views_are_gone(two: Two) -> None:
    places = two.pool.place([b"twice"])
    assert places is not None
    assert two.sender.lend(places)
    assert two.sender.lend(places)
    first = two.receiver.views(places)
    second = two.receiver.views(places)
    two.pool.release((places[0].arena,))
    del first
    assert two.answer() == ()
    del second
    assert two.answer() == (places[0].arena,) * 2
    assert not two.pool.held


def test_one_arena_can_be_lent_to_two_peers_and_waits_for_both() -> None:
    one = Two()
    here, fd = Channel.create()
    other, receiver = Sender(one.pool, here), Receiver(there := Channel(fd))
    places = one.pool.place([b"both"])
    assert places is not None
    assert other.lend(places)
    (view,) = receiver.views(places)
    assert [bytes(v) for v in one.deliver(places)] == [b"both"]
    one.answer()
    assert len(one.pool.held) == 1
    assert bytes(view) == b"both"
    del view
    other.release(receiver.take_released())
    assert not one.pool.held
    one.pool.trim()
    other.flush()
    receiver.refresh()
    assert not receiver._idle
    for end in (one, here, there):
        end.close()


def test_a_release_of_what_was_not_lent_counts_for_nothing(two: Two) -> None:
    views = two.send(b"x")
    (arena,) = two.pool.held
    two.sender.release([0, -1, 99, ~99, arena + 1])
    two.pool.release([0, 99])
    assert two.pool.held == (arena,)
    two.sender.release([arena])
    places = two.pool.place([b"y"])
    two.sender.release([arena])  # said once too often
    assert places is not None
    assert two.pool.held == (arena,)
    del views


def test_a_pool_that_is_full_says_so_and_has_room_again_later(two: Two) -> None:
    small = Two(limit=256 * KB)
    views = [small.send(b"x" * 100 * KB) for _ in range(2)]
    assert small.pool.place([b"x" * 100 * KB]) is None
    assert small.pool.place([b"x" * MB]) is None
    views.pop()
    small.answer()
    assert small.pool.place([b"x" * 100 * KB]) is not None
    del views
    small.close()


def test_a_payload_beyond_the_limit_costs_no_warm_arena(two: Two) -> None:
    two.send(b"x" * MB)
    two.answer()
    size = two.pool.size
    assert two.pool.place([bytes(65 * MB)]) is None
    assert two.pool.size == size > 0


def test_the_arena_used_longest_ago_makes_room_and_the_peer_unmaps_it() -> None:
    pair = Two(count=3)
    for power in range(3):  # each too large for the one before
        pair.send(bytes(100 * KB << 2 * power))
        pair.answer()
    assert list(pair.receiver._idle) == [1, 2, 3]
    pair.send(bytes(30 * MB))
    assert pair.answer() == (5,)  # 4 was counted before it was known that there is no room
    pair.sender.flush()
    pair.receiver.refresh()
    assert list(pair.receiver._idle) == [2, 3, 5]
    pair.pool.trim()
    pair.sender.flush()
    pair.receiver.refresh()
    assert not pair.receiver._idle
    assert pair.pool.size == 0
    pair.close()


def test_trimming_frees_the_pages_though_the_peer_still_maps_them(two: Two) -> None:
    two.send(b"x" * (4 * MB))
    two.answer()
    fd = os.dup(two.pool.find(1).fd)
    assert os.fstat(fd).st_blocks * 512 == 4 * MB
    two.pool.trim()
    assert list(two.receiver._idle) == [1]
    assert os.fstat(fd).st_blocks == 0
    os.close(fd)


def test_a_descriptor_travels_once_to_each_peer(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = Channel.send

    def counting(self: Channel, arena: int, size: int, fd: int, *, writable: bool) -> bool:
        sent.append(arena)
        return send(self, arena, size, fd, writable=writable)

    monkeypatch.setattr(Channel, "send", counting)
    for _ in range(5):
        two.send(b"x" * 1000)
        two.answer()
    assert sent == [1]


def test_views_stay_valid_after_both_sides_have_closed() -> None:
    pair = Two()
    (view,) = pair.send(b"for ever")
    array = np.frombuffer(view, "B")
    pair.close()
    del view, pair
    gc.collect()
    assert bytes(array) == b"for ever"
    array[0] = 70
    assert bytes(array) == b"For ever"


def test_what_a_peer_had_when_it_went_is_never_filled_again(two: Two) -> None:
    (view,) = two.send(b"orphaned")
    two.sender.close()
    assert not two.pool.held
    assert two.pool.size == 0
    assert two.pool.place([b"other"]) == (Place(2, 0, 5),)
    assert bytes(view) == b"orphaned"


def test_a_full_channel_lends_nothing_and_loses_nothing(two: Two) -> None:
    two.there._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    two.here._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sent: list[tuple[Place, ...]] = []
    while True:
        places = two.pool.place([b"%d" % len(sent)])
        assert places is not None
        if not two.sender.lend(places):
            break
        sent.append(places)
    held = two.pool.held
    two.pool.release((places[0].arena,))
    assert len(held) == len(two.pool.held) + 1  # nothing but the caller's hold was on it
    assert [bytes(two.receiver.views(p)[0]) for p in sent] == [b"%d" % i for i in range(len(sent))]
    places = two.pool.place([b"now"])
    assert places is not None
    assert bytes(two.deliver(places)[0]) == b"now"


@contextlib.contextmanager
def no_free_descriptor(spare: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = os.dup(0)
    os.close(top)
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, hard))
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        for fd in held[:spare]:
            os.close(fd)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held[spare:]:
            os.close(fd)


def test_a_receiver_without_a_free_descriptor_loses_nothing(two: Two) -> None:
    places = two.pool.place([b"patience"])
    assert places is not None
    assert two.sender.lend(places)
    with no_free_descriptor(0), pytest.raises(OSError, match="files") as caught:
        two.receiver.views(places)
    assert caught.value.errno == errno.EMFILE
    assert bytes(two.receiver.views(places)[0]) == b"patience"


def test_a_pool_without_a_free_descriptor_says_that_there_is_no_room(two: Two) -> None:
    with no_free_descriptor(0):
        assert two.pool.place([b"x"]) is None
    assert two.pool.size == 0
    assert two.pool.place([b"x"]) is not None


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_sharing_without_free_descriptors_fails_whole_or_not_at_all(two: Two, spare: int) -> None:
    with no_free_descriptor(spare), contextlib.suppress(OSError):
        shared = two.pool.share([b"x"])
        assert bytes(shared.views()[0]) == b"x"
    assert len(two.pool._constants) == len(two.pool._mappings)


def test_a_forked_child_that_closes_its_pool_takes_nothing_from_its_parent(two: Two) -> None:
    places = two.pool.place([b"ours"])
    assert places is not None
    (view,) = two.deliver(places)
    child = fork()
    if child == 0:
        two.pool.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(view) == b"ours"


def test_a_pool_beyond_the_file_size_limit_says_that_there_is_no_room(two: Two) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 * KB, hard))
    try:
        assert two.pool.place([bytes(MB)]) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert two.pool.size == 0


def test_descriptors_that_arrive_are_not_inherited(two: Two) -> None:
    places = two.pool.place([b"x"])
    assert places is not None
    assert two.sender.lend(places)
    message = next(two.there.receive())
    assert not os.get_inheritable(message.fd)  # type: ignore[union-attr]  # memory
    os.close(message.fd)  # type: ignore[union-attr]


def test_memory_cannot_shrink_and_takes_no_further_seal(two: Two) -> None:
    two.send(b"x")
    fd = two.pool.find(1).fd
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


@pytest.mark.parametrize("flaw", ["short", "unsealed", "a pipe"])
def test_memory_that_could_fail_under_its_reader_is_refused(two: Two, flaw: str) -> None:
    with contextlib.ExitStack() as stack:
        if flaw == "a pipe":
            fds = os.pipe()
        elif flaw == "short":
            fds = (_late.create(4096),) * 1 + (os.dup(0),)
        else:
            fds = (os.memfd_create("x"), os.dup(0))
            os.ftruncate(fds[0], 8192)
        for fd in fds:
            stack.callback(os.close, fd)
        assert two.here.send(7, 8192, fds[0], writable=True)
        with pytest.raises(ArenaError, match="7"):
            two.receiver.views([Place(7, 0, 1)])


@pytest.mark.parametrize(
    "place", [(1, 0, 65537), (1, -1, 5), (1, 65530, 7), (1, 5, -1), (2, 0, 1)]
)
def test_a_place_outside_of_what_was_sent_is_refused(
    two: Two, place: tuple[int, int, int]
) -> None:
    two.send(b"x")
    with pytest.raises(ArenaError):
        two.receiver.views([Place(*place)])


def test_what_a_peer_sent_before_it_went_can_still_be_used() -> None:
    pair = Two()
    places = pair.pool.place([b"last words"])
    assert places is not None
    pair.there._socket.send(b"unread")  # so that the end closes with a reset, not in peace
    assert pair.sender.lend(places)
    pair.here.close()
    assert bytes(pair.receiver.views(places)[0]) == b"last words"
    pair.receiver.refresh()  # the end is no error
    assert not pair.there.send(1, 1, 0, writable=True)
    assert not pair.there.send_gone(1)
    pair.close()


# Forks


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        return os.fork()


def test_what_a_forked_child_can_see_is_never_filled_again(two: Two) -> None:
    views = two.send(b"inherited")
    two.send(b"looked at by nobody")
    go, went = os.pipe()
    child = fork()
    if child == 0:
        os.close(went)
        os.read(go, 1)  # until the test has done what follows, or has failed
        os._exit(0 if bytes(views[0]) == b"inherited" else 1)
    try:
        del views
        assert sorted(two.answer()) == [~2, ~1]
        assert two.pool.size == 0
        assert two.pool.place([b"something else"]) == (Place(3, 0, 14),)
    finally:
        os.close(went)
        os.close(go)
        status = os.waitpid(child, 0)[1]
    assert status == 0


def test_an_arena_lent_after_a_fork_is_filled_again(two: Two) -> None:
    views = two.send(b"x")
    child = fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    del views
    two.answer()
    views = two.send(b"y")
    arenas = two.pool.held
    assert arenas == (2,)
    del views
    assert two.answer() == arenas
    assert two.pool.size > 0


def test_nothing_is_released_while_a_fork_is_under_way(two: Two) -> None:
    two.receiver.before_fork()
    two.send(b"x")
    assert two.receiver.take_released() == ()
    two.receiver.after_fork()
    assert two.answer() == (~1,)


def test_what_dies_while_another_thread_forks_is_never_filled_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [two.send(b"x")]

    def meanwhile(mappings: dict[int, mmap.mmap]) -> list[int]:
        two.receiver.before_fork()  # the child is made now, and has the views
        views.clear()
        return _memory.unused(mappings)

    monkeypatch.setattr("mirai_executor._arena._receiver.unused", meanwhile)
    assert two.answer() == (~1,)
    two.receiver.after_fork()
    assert two.pool.size == 0


# Constants


def test_a_constant_is_sent_once_and_nobody_can_write_to_it(two: Two) -> None:
    shared = two.pool.share([np.arange(1000.0), b"tail"])
    array = np.empty(0)
    for _ in range(3):
        first, tail = two.deliver(shared.places)
        array = np.frombuffer(first)
        assert not array.flags.writeable
        assert array.sum() == 499500
        assert bytes(tail) == b"tail"
        assert two.answer() == ()
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(PermissionError):
        os.pwrite(two.pool.find(shared.places[0].arena).fd, b"x", 0)
    assert bytes(shared.views()[1]) == b"tail"
    assert all(view.readonly for view in shared.views())


def test_a_constant_is_let_go_with_its_last_reference_at_the_host(two: Two) -> None:
    shared = two.pool.share([b"x" * 1000])
    (there,) = two.deliver(shared.places)
    (here,) = shared.views()
    places = shared.places
    del shared
    two.pool.sweep()
    assert two.sender.lend(places)
    del here
    two.pool.sweep()
    with pytest.raises(ArenaError):
        two.sender.lend(places)
    two.receiver.refresh()
    assert not two.receiver._constants
    assert bytes(there) == b"x" * 1000  # its pages live on while it does


def test_constants_do_not_count_towards_the_limit_of_a_pool() -> None:
    pair = Two(limit=64 * KB)
    shared = pair.pool.share([bytes(MB)])
    assert pair.pool.size == 0
    assert pair.pool.place([b"x"]) is not None
    assert shared.places[0].length == MB
    pair.close()


# Buffers in pieces


def test_what_nobody_can_change_is_not_copied() -> None:
    data = b"x" * 100
    assert _arena.whole(data) is data
    assert _arena.whole(memoryview(data)) is data
    assert _arena.whole([data]) is data
    assert _arena.whole(memoryview(data)[1:]) == data[1:]
    assert _arena.whole([data, b"y"]) == data + b"y"
    changing = bytearray(data)
    copy = _arena.whole(memoryview(changing))
    changing[0] = 0
    assert copy == data


def test_a_buffer_in_another_order_is_copied_as_it_lies() -> None:
    array: Any = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert _arena.whole(pickle.PickleBuffer(array).raw()) == array.tobytes(order="A")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    "sizes", [[], [0], [1, 2, 3], [MB, MB - 1, 1, 2, MB, 5 * MB], [70_000] * 50, [0, 3 * MB, 0, 7]]
)
def test_a_buffer_in_pieces_lies_in_one_piece(two: Two, sizes: list[int], again: bool) -> None:
    pieces = [os.urandom(size) for size in sizes]
    for _ in range(1 + again):  # into new memory, and into warm one
        views = two.send(b"before", pieces, b"after")
        assert list(map(bytes, views)) == [b"before", b"".join(pieces), b"after"]
        del views
        two.answer()


def test_a_pool_that_is_full_takes_no_pieces_either() -> None:
    small = Two(limit=256 * KB)
    assert small.pool.place([[b"x" * 100 * KB] * 4]) is None
    assert not small.pool.held
    small.close()


# Threads


def test_threads_that_place_and_release_at_once_never_share_an_arena() -> None:
    pool = Pool(limit=2 * MB, count=8)
    wrong: list[object] = []

    def work(letter: int) -> None:
        data = bytes([letter]) * 70_000
        for _ in range(200):
            places = pool.place([data])
            if places is None:
                continue
            memory = pool.find(places[0].arena)
            if os.pread(memory.fd, 70_000, 0) != data:
                wrong.append(places)
            pool.release((places[0].arena,))

    threads = [threading.Thread(target=work, args=(letter,)) for letter in b"abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not pool.held
    assert pool.size <= 2 * MB
    pool.close()


def test_an_arena_that_another_thread_was_faster_to_take_is_not_taken(two: Two) -> None:
    class Slow(dict[int, Any]):
        """What is free, as it was when this thread looked, a moment ago."""

        def values(self) -> Any:
            seen = list(super().values())
            self.clear()  # by the other thread
            return seen

    two.send(b"x")
    two.answer()
    two.pool._free = Slow(two.pool._free)
    assert two.pool.place([b"y"]) == (Place(2, 0, 1),)


def test_mappings_report_their_use_exactly() -> None:
    mapping = mmap.mmap(-1, 4096)
    mappings = {1: mapping}
    del mapping
    assert _memory.unused(mappings) == [1]
    view = memoryview(mappings[1])
    assert _memory.unused(mappings) == []
    view.release()
    assert _memory.unused(mappings) == [1]
    array = np.frombuffer(mappings[1], "B")
    assert _memory.unused(mappings) == []
    del array
    assert _memory.unused(mappings) == [1]


class TestExchange:
    def test_what_is_lent_arrives_without_a_copy_in_the_frame(self) -> None:
        here, there = exchanges()
        lent = here.lend([memoryview(b"a" * 300_000)])
        assert isinstance(lent[0], Place)
        (view,) = there.views(lent)
        assert isinstance(view, memoryview)
        assert bytes(view) == b"a" * 300_000
        assert not view.readonly
        assert there.is_borrowing
        del view
        here.release(there.take_released())
        here.close()
        there.close()

    def test_what_the_pool_cannot_take_travels_in_the_frame(self) -> None:
        here, there = exchanges(limit=1 << 16)
        lent = here.lend([memoryview(bytearray(b"b" * 300_000))])
        assert lent == (b"b" * 300_000,)
        (copy,) = there.views(lent)
        assert isinstance(copy, bytearray)
        assert bytes(copy) == b"b" * 300_000
        here.close()
        there.close()

    def test_what_an_unreachable_peer_cannot_be_lent_travels_in_the_frame(self) -> None:
        pool = Pool(limit=1 << 24)
        channel, fd = Channel.create()
        os.close(fd)
        here = Exchange(pool, channel)
        places = pool.place([b"c" * 300_000, b"d" * 300_000])
        assert places is not None
        assert here.lend(places) == (b"c" * 300_000, b"d" * 300_000)
        assert here.lend([b"e" * 300_000]) == (b"e" * 300_000,)
        assert pool.held == (places[0].arena,)
        here.close()
        pool.close()

    def test_kinds_of_buffers_may_be_mixed(self) -> None:
        pool = Pool(limit=1 << 22)
        channel, fd = Channel.create()
        here, there = Exchange(pool, channel), Exchange(Pool(limit=1 << 20), Channel(fd))
        shared = pool.share([b"s" * 300_000])
        own = pool.place([b"o" * 300_000])
        assert own is not None
        large = b"x" * (1 << 23)
        lent = here.lend([shared.places[0], b"a" * 200_000, own[0]])
        assert [bytes(view[:1]) for view in there.views(lent)] == [b"s", b"a", b"o"]
        lent = here.lend([large, shared.places[0], large])
        assert lent == (large, shared.places[0], large)
        assert [bytes(view[:1]) for view in there.views(lent)] == [b"x", b"s", b"x"]
        here.close()
        there.close()
        pool.close()


def test_only_what_was_shared_as_a_whole_is_located() -> None:
    pool = Pool(limit=1 << 20)
    view = pool.share([np.arange(100_000)]).views()[0]
    array = np.frombuffer(view, dtype=np.int64)
    (place,) = [Place(1, 0, 800_000)]
    known: Any
    other: Any
    for known in (view, memoryview(view), array, array.reshape(100, 1000), array.view(np.int32)):
        assert pool.locate(pickle.PickleBuffer(known).raw()) == place
    for other in (view[8:], array[1:], array.copy(), bytearray(view), np.arange(5), b"x"):
        assert pool.locate(pickle.PickleBuffer(other).raw()) is None
    assert Pool(limit=1 << 20).locate(view) is None
    pool.close()


def exchanges(limit: int = 1 << 24) -> tuple[Exchange, Exchange]:
    channel, fd = Channel.create()
    return (
        Exchange(Pool(limit=limit), channel),
        Exchange(Pool(limit=limit), Channel(fd)),
    )
