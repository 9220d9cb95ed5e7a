"""Frames and bytes: what goes in comes out, and what is no frame is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirai_executor import _wire
from mirai_executor._wire import Frame, Name, OutcomeStatus, WireError, WireOutcome, WireTask
from mirai_executor._wire._fields import Reader

ids = st.integers(0, 2**64 - 1)
payloads = st.binary(max_size=200)
texts = st.text(max_size=20).map(lambda text: text.replace(",", ""))
joint = st.lists(st.tuples(texts, st.binary(min_size=16, max_size=16)), min_size=1, max_size=3)
names = st.lists(
    st.builds(
        lambda parts, blob: Name(
            ",".join(t for t, _ in parts), b"".join(d for _, d in parts), blob
        ),
        joint,
        st.none() | payloads,
    ),
    max_size=4,
).map(tuple)
places = st.tuples(st.integers(1, 2**64 - 1), ids, ids)
buffers = st.lists(places | payloads, max_size=3).map(tuple)
released = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(tuple)
statuses = st.sampled_from(OutcomeStatus)
small = st.integers(0, 255)
tasks = st.builds(WireTask, ids, st.none() | names, payloads, buffers)
outcomes = st.builds(WireOutcome, ids, statuses, st.booleans(), payloads, ids, buffers)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        _wire.Hello,
        st.integers(0, 2**32 - 1),
        st.tuples(small, small, small),
        st.text(max_size=20),
        st.integers(0, 2**16 - 1),
    ),
    st.builds(_wire.Init, payloads),
    st.builds(_wire.InitFailed, payloads),
    st.just(_wire.Ready()),
    st.just(_wire.Leave()),
    st.just(_wire.Leaving()),
    st.builds(_wire.Tasks, st.lists(tasks, max_size=5).map(tuple), released),
    st.builds(_wire.Broadcast, ids, names, payloads),
    st.builds(_wire.Outcomes, st.lists(outcomes, max_size=5).map(tuple), released),
    st.builds(_wire.BroadcastOutcome, ids, statuses, payloads),
    st.builds(_wire.LogPiece, ids, ids, st.booleans(), payloads),
    st.builds(_wire.Report, ids, ids, *[st.booleans()] * 3, payloads),
    st.builds(_wire.Items, st.lists(outcomes, max_size=1).map(tuple), released),
    st.builds(_wire.Credit, ids, st.integers(0, 2**32 - 1)),
    st.builds(
        _wire.Joined,
        st.integers(0, 2**32 - 1),
        st.text(max_size=20),
        st.none() | st.booleans(),
        st.none() | st.integers(1, 2**64 - 1),
        st.none() | st.floats(0, allow_nan=False),
        st.text(max_size=20),
        st.text(max_size=20),
    ),
    st.builds(_wire.Attend, st.floats(allow_nan=False), st.booleans()),
    st.just(_wire.Beat()),
    st.builds(_wire.Stop, ids),
    st.just(_wire.Recall()),
    st.builds(_wire.Kill, small, st.booleans()),
    st.builds(_wire.Parting, st.text(max_size=9)),
    st.builds(_wire.Returned, st.lists(ids, max_size=5).map(tuple)),
    st.builds(
        _wire.Ended,
        st.integers(-(2**31), 2**31 - 1),
        ids,
        st.lists(ids, max_size=5).map(tuple),
        st.text(max_size=20),
    ),
)


@given(frames)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert _wire.decode(_wire.encode(frame)) == frame


@given(frames)
def test_the_pieces_of_a_frame_are_its_bytes(frame: Frame) -> None:
    assert b"".join(_wire.pieces(frame)) == _wire.encode(frame)


LENGTHS = st.sampled_from([0, 1, 4095, 4096, 1 << 17])


@given(tasks, LENGTHS)
def test_a_frame_of_one_task_is_read_as_any_other(task: WireTask, more: int) -> None:
    frame = _wire.Tasks((task._replace(payload=bytes(task.payload) + bytes(more)),))
    encoded = _wire.encode(frame)
    read = _wire.decode(encoded)
    assert isinstance(read, _wire.Tasks)
    by_rows = _wire.Tasks.read(Reader(encoded))
    assert read == by_rows == frame
    assert type(read.tasks[0].payload) is type(by_rows.tasks[0].payload)


@given(outcomes, LENGTHS)
def test_a_frame_of_one_outcome_is_read_as_any_other(outcome: WireOutcome, more: int) -> None:
    frame = _wire.Outcomes((outcome._replace(payload=bytes(outcome.payload) + bytes(more)),))
    encoded = _wire.encode(frame)
    read = _wire.decode(encoded)
    assert isinstance(read, _wire.Outcomes)
    by_rows = _wire.Outcomes.read(Reader(encoded))
    assert read == by_rows == frame
    assert type(read.outcomes[0].payload) is type(by_rows.outcomes[0].payload)


@given(frames, st.data())
def test_a_frame_that_was_cut_is_refused(frame: Frame, data: st.DataObject) -> None:
    encoded = _wire.encode(frame)
    length = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(WireError):
        _wire.decode(encoded[:length])


@given(frames, st.binary(min_size=1, max_size=8))
def test_bytes_after_a_frame_are_refused(frame: Frame, rest: bytes) -> None:
    with pytest.raises(WireError):
        _wire.decode(_wire.encode(frame) + rest)


@given(frames)
def test_a_keeper_can_tell_frames_apart_by_their_first_byte(frame: Frame) -> None:
    encoded = _wire.encode(frame)
    keepers = (
        _wire.Joined,
        _wire.Attend,
        _wire.Beat,
        _wire.Stop,
        _wire.Recall,
        _wire.Kill,
        _wire.Returned,
        _wire.Ended,
        _wire.Parting,
    )
    assert _wire.is_for_keeper(encoded) == isinstance(frame, keepers)
    assert _wire.is_tasks(encoded) == isinstance(frame, _wire.Tasks)
    assert _wire.is_leave(encoded) == isinstance(frame, _wire.Leave)
    outcomes = (
        frame.outcomes if type(frame) is _wire.Outcomes else ()
    )  # values of streams end none
    assert _wire.ended_tasks(encoded) == [outcome.task for outcome in outcomes]


@given(st.binary(max_size=300))
def test_garbage_is_a_frame_or_refused_but_never_another_error(data: bytes) -> None:
    try:
        frame = _wire.decode(data)
    except WireError:
        return
    assert _wire.decode(_wire.encode(frame)) == frame


def test_a_length_beyond_the_frame_is_refused_without_an_allocation() -> None:
    with pytest.raises(WireError):
        _wire.decode(bytes([_wire.Init.KIND]) + (2**63).to_bytes(8, "little") + b"x")


def test_a_count_beyond_the_frame_is_refused() -> None:
    with pytest.raises(WireError):
        _wire.decode(bytes([_wire.Tasks.KIND]) + (2**32 - 1).to_bytes(4, "little"))


def test_a_task_without_a_table_differs_from_one_with_an_empty_table() -> None:
    frame = _wire.Tasks((WireTask(1, None, b"as before"), WireTask(2, (), b"none")))
    assert _wire.decode(_wire.encode(frame)) == frame


def test_payloads_are_views_and_not_copies() -> None:
    encoded = _wire.encode(_wire.Init(b"x" * 1000))
    frame = _wire.decode(encoded)
    assert isinstance(frame, _wire.Init)
    assert isinstance(frame.payload, memoryview)
    assert frame.payload.obj is encoded


def test_the_pieces_of_a_frame_are_its_bytes_and_what_is_large_is_not_copied() -> None:
    large = memoryview(bytes(1 << 20))
    small = WireTask(1, (), b"small")
    frame = _wire.Tasks((small, small, WireTask(2, (), b"", (large,)), small))
    pieces = _wire.pieces(frame)
    assert b"".join(pieces) == _wire.encode(frame)
    assert [memoryview(piece).obj is large.obj for piece in pieces] == [False, True, False]
    assert len(_wire.pieces(_wire.Tasks((small,) * 100))) == 1
