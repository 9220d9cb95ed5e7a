"""What a host and its fork server say to each other."""

import errno
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from mirai_executor._local._launcher import Asking
from mirai_executor._shared import FORK, IDENTITY, REAP, ServerLostError
from mirai_executor.daemon._child import Answering

Sides = tuple[Asking, Answering]


@pytest.fixture
def sides() -> Iterator[Sides]:
    asking, fd = Asking.create()
    answering = Answering(fd)
    yield asking, answering
    asking.close()
    answering.close()


def test_a_server_is_told_which_process_it_has_to_be(sides: Sides) -> None:
    asking, answering = sides
    asking.tell_identity(4711)
    assert answering.next() == (IDENTITY, 4711, [])


def test_the_first_daemon_can_be_ordered_long_before_it_is_there(sides: Sides) -> None:
    asking, answering = sides
    fds = os.pipe()
    asking.tell_identity(4711)
    asking.order(fds)  # returns, though nobody answers yet
    assert answering.next() == (IDENTITY, 4711, [])
    order = answering.next()
    assert order is not None
    assert (order.what, len(order.fds)) == (FORK, 2)
    answering.answer(4712)
    assert asking.first_daemon() == 4712
    for fd in (*fds, *order.fds):
        os.close(fd)


def test_a_fork_is_asked_for_with_copies_of_descriptors_that_no_program_inherits(
    sides: Sides,
) -> None:
    asking, answering = sides
    fds = os.pipe()
    answering.answer(4713)
    assert asking.fork(fds) == 4713
    question = answering.next()
    assert question is not None
    assert (question.what, len(question.fds)) == (FORK, 2)
    assert not any(os.get_inheritable(fd) for fd in question.fds)
    os.write(question.fds[1], b"x")
    assert os.read(fds[0], 9) == b"x"
    for fd in (*fds, *question.fds):
        os.close(fd)


def test_a_fork_that_failed_is_the_error_that_it_was(sides: Sides) -> None:
    asking, answering = sides
    answering.answer(-errno.EAGAIN)
    with pytest.raises(BlockingIOError) as error:
        asking.fork(())
    assert error.value.errno == errno.EAGAIN


@pytest.mark.parametrize("status", [0, 3, 255, -9])
def test_the_status_of_a_daemon_arrives_as_it_was(sides: Sides, status: int) -> None:
    asking, answering = sides
    answering.answer(status)
    assert asking.reap(4714) == status
    assert answering.next() == (REAP, 4714, [])


def test_the_end_of_the_host_is_the_end_of_all_questions(sides: Sides) -> None:
    asking, answering = sides
    asking.close()
    assert answering.next() is None


def test_a_default_timeout_for_sockets_is_kept_by_neither_end() -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        asking, fd = Asking.create()
        assert not os.get_blocking(fd)  # as the kernel knows it, for both processes
        answering = Answering(fd)
    finally:
        socket.setdefaulttimeout(before)
    assert os.get_blocking(fd)
    question: list[object] = []
    thread = threading.Thread(target=lambda: question.append(answering.next()))
    thread.start()
    asking.tell_identity(4711)
    thread.join()
    assert question == [(IDENTITY, 4711, [])]
    asking.close()
    answering.close()


def test_a_server_that_has_ended_is_said_to_be_lost(sides: Sides) -> None:
    asking, answering = sides
    answering.close()
    with pytest.raises(ServerLostError):
        asking.first_daemon()
    with pytest.raises(ServerLostError):
        asking.fork(())
    with pytest.raises(ServerLostError):
        asking.reap(4711)


def test_a_server_that_does_not_answer_is_said_to_be_lost() -> None:
    asking, fd = Asking.create(patience=0.01)
    with pytest.raises(ServerLostError):
        asking.fork(())
    asking.close()
    os.close(fd)
