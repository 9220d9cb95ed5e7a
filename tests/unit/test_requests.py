"""Which daemons were asked for, have come, and will not: and which jobs nobody needs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mirai_executor._host._requests import (
    Awaited,
    Request,
    Requests,
    Superfluous,
    still_coming,
)
from mirai_executor._provisioning._launching import Launching
from mirai_executor.credentials import DaemonCredentials, Secret
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    JobRequest,
    Launched,
    Queue,
    QueuedJob,
    Submission,
)

WHOLE = Queue("", ("cancel",))
PARTLY = Queue("", ("cancel",), ("cancel", "--waiting"))


class AtEngine:
    def cancel(self) -> None: ...
    def failed(self) -> str | None: ...
    def add_done_callback(self, callback: Callable[[], object]) -> None: ...


def jobs(*ids: str, queue: Queue = WHOLE) -> Sequence[QueuedJob]:
    return [QueuedJob(queue, id_) for id_ in ids]


@pytest.fixture
def requests() -> Requests:
    return Requests()


def test_who_comes_is_no_longer_expected_even_if_that_was_before_anybody_knew(
    requests: Requests,
) -> None:
    requests.note_arrival("a")
    requests.add(Request("a", 3))
    requests.note_arrival("a")
    requests.note_arrival("of another executor")
    assert requests.left == 1
    requests.note_arrival("a")
    requests.note_arrival("a")  # a job that was requeued
    assert requests.left == 0


def test_a_command_that_ends_brings_nobody_any_more_and_the_others_may(
    requests: Requests,
) -> None:
    requests.add(Request("a", 6, commands=3))  # two by each
    requests.note_arrival("a")
    assert requests.note_end("a") == 1  # two may have one each, which makes four
    assert requests.note_end("a") == 2
    for _ in range(2):
        requests.note_arrival("a")
    assert requests.note_end("a") == 0
    assert requests.left == 0


def at_engines(requests: Requests, expected: int) -> int:
    in_queues, found = requests.unexpected(expected)
    assert in_queues == []
    return found


def test_what_an_engine_has_yet_to_run_is_pending_until_it_says_that_it_never_will(
    requests: Requests,
) -> None:
    requests.add(Request("a", 3, commands=1, at_engines=[AtEngine()]))
    requests.add(Request("b", 5, commands=1))  # a command, of which nobody knows
    assert [at_engines(requests, expected) for expected in (0, 1, 4)] == [3, 2, 0]
    requests.note_arrival("a")
    assert at_engines(requests, 0) == 2
    requests.note_end("a")
    assert at_engines(requests, 0) == 0


def test_what_was_said_last_is_told_and_a_failure_first(requests: Requests) -> None:
    for n in range(5):
        requests.add(Request(str(n), 1, [f"job {n}"]))
    assert requests.said == "job 2; job 3; job 4"
    requests.note_failure(OSError("queue is full"))
    assert requests.said == "queue is full"


def test_jobs_that_nobody_needs_are_the_last_ones_that_have_brought_nobody(
    requests: Requests,
) -> None:
    requests.add(Request("a", 2, jobs=jobs("1")))
    requests.add(Request("b", 2, jobs=jobs("2")))
    requests.add(Request("c", 1, jobs=jobs("3")))
    requests.add(Request("d", 1))  # nobody knows its job
    requests.note_arrival("b")
    assert requests.superfluous(2) == Superfluous(jobs("3"), [], [], 1)
    assert requests.superfluous(1) == Superfluous([], [], [], 0)
    assert requests.superfluous(2) == Superfluous(jobs("1"), [], [], 2)
    assert requests.left == 2


def test_what_is_left_of_an_array_is_cancelled_if_nobody_has_come_for_it(
    requests: Requests,
) -> None:
    requests.add(Request("a", 3, jobs=jobs("1")))
    requests.forget("a", 1)  # that job has died
    assert requests.superfluous(2) == Superfluous(jobs("1"), [], [], 2)
    requests.add(Request("b", 3, jobs=jobs("1")))
    requests.note_arrival("b")
    requests.note_loss("b")  # and its keeper may have another one by now
    assert requests.superfluous(2) == Superfluous([], [], [], 0)


def test_of_an_array_what_waits_is_cancelled_where_that_can_be_said(requests: Requests) -> None:
    requests.add(Request("a", 4, jobs=jobs("1", queue=PARTLY)))
    requests.note_arrival("a")
    assert requests.superfluous(3) == Superfluous([], jobs("1", queue=PARTLY), [], 3)


def test_of_the_daemons_of_an_engine_those_are_cancelled_that_have_not_come(
    requests: Requests,
) -> None:
    at = {name: AtEngine() for name in ("a.1", "a.2", "a.3")}
    requests.note_arrival("a.3")  # before anybody knew
    for name, job in at.items():
        requests.add(Request(name, 1, commands=1, at_engines=[job]))
    requests.note_arrival("a.2")
    assert requests.left == 1
    assert requests.superfluous(2) == Superfluous([], [], [at["a.1"]], 1)
    assert requests.left == 0


def test_daemons_of_an_engine_that_does_not_tell_them_apart_are_cancelled_before_one_has_come(
    requests: Requests,
) -> None:
    one, other, third = AtEngine(), AtEngine(), AtEngine()
    requests.add(Request("a", 2, commands=2, at_engines=[one, other]))
    requests.add(Request("b", 2, commands=1, at_engines=[third]))
    requests.add(Request("c", 2, commands=2, at_engines=[third]))  # and a command
    requests.note_arrival("b.1")
    assert requests.superfluous(5) == Superfluous([], [], [one, other], 2)
    assert requests.left == 3


def test_the_first_requests_are_overdue_as_far_as_more_wait_than_are_expected(
    requests: Requests,
) -> None:
    for name in "abc":
        requests.add(Request(name, 2, jobs=jobs(name)))
    assert requests.unexpected(6) == ([], 0)
    a, b = Awaited("a", 2, 2, 0, jobs("a"), 2), Awaited("b", 1, 2, 0, jobs("b"), 2)
    assert requests.unexpected(3) == ([a, b], 0)


def test_what_queues_and_engines_have_yet_to_run_is_expected_only_once(
    requests: Requests,
) -> None:
    requests.add(Request("a", 2, jobs=jobs("1")))
    requests.add(Request("b", 2, commands=1, at_engines=[AtEngine()]))
    requests.add(Request("c", 2, jobs=jobs("3")))
    assert requests.unexpected(6) == ([], 0)
    a = Awaited("a", 2, 2, 0, jobs("1"), 2)
    assert requests.unexpected(3) == ([a], 1)
    c = Awaited("c", 2, 2, 0, jobs("3"), 2)
    assert requests.unexpected(0) == ([a, c], 2)


# What they read


@pytest.fixture
def released() -> list[Sequence[Path]]:
    return []


@pytest.fixture
def reading(released: list[Sequence[Path]]) -> Requests:
    return Requests(released.append)


FILE = [Path("/home/token")]


@pytest.mark.parametrize(
    ("request_", "is_read"),
    [
        (Request("a", 2, is_kept=True, files=FILE), False),
        (Request("a", 2, is_scaled=True, files=FILE), False),
        (Request("a", 2, files=FILE), True),  # nobody but its scheduler replaces those
        (Request("a", 2, is_kept=True), True),
    ],
)
def test_files_are_read_no_more_once_all_have_come_whose_places_others_take(
    reading: Requests, released: list[Sequence[Path]], request_: Request, is_read: bool
) -> None:
    reading.note_arrival("a")
    reading.add(request_)
    assert released == []
    reading.note_arrival("a")
    assert released == ([] if is_read else [FILE])


def test_files_are_read_no_more_if_all_had_come_before_anybody_knew(
    reading: Requests, released: list[Sequence[Path]]
) -> None:
    reading.note_arrival("a")
    reading.add(Request("a", 1, is_kept=True, files=FILE))
    assert released == [FILE]


def test_files_are_read_no_more_if_nobody_comes(
    reading: Requests, released: list[Sequence[Path]]
) -> None:
    reading.add(Request("a", 1, jobs=jobs("1"), files=FILE))
    reading.forget("a")
    reading.add(Request("b", 1, jobs=jobs("1"), files=FILE))
    reading.superfluous(1)
    reading.add(Request("c", 2, commands=2, files=FILE))
    reading.note_end("c")
    assert released == [FILE, FILE]
    reading.note_end("c")
    assert released == [FILE, FILE, FILE]


def test_files_are_those_of_the_commands_and_of_no_job_of_an_engine() -> None:
    class Host:
        def expect_daemons(self, request: Request, *_: object, **__: object) -> None:
            told.append((request.count, request.files))

    told: list[tuple[int, Sequence[Path]]] = []
    daemon = DaemonCommand(("tcp://127.0.0.1:1",), DaemonCredentials(Secret(b"s" * 32)))
    launching = Launching.__new__(Launching)
    launching._host = Host()  # type: ignore[assignment]  # all that is asked of one here
    request = Request("a", 3, files=[Path("secret")])
    launched = [Launched(jobs=(AtEngine(), AtEngine())), Launched(output="17")]
    at_engine = JobRequest("engine", lambda _: AtEngine(), daemons=daemon.each(2))
    submissions: list[Submission] = [at_engine, Command(("qsub",))]
    launching._expect(request, launched, submissions, stay=False)
    assert told == [(1, ()), (1, ()), (1, [Path("secret")])]


# What schedulers say of jobs


def array(folder: Path, *states: str, tells_apart: bool = True) -> QueuedJob:
    """Return an array of jobs in these states."""
    shown = folder / "_".join(("job", *states))
    shown.write_text("".join(f"{state}\n" for state in states))
    queue = Queue("", ("true",), query=("cat",), present="PENDING|RUNNING", absent="No such")
    return QueuedJob(replace(queue, tells_apart=tells_apart), str(shown))


def test_one_of_two_jobs_that_has_died_is_not_awaited_while_the_other_waits(
    requests: Requests, tmp_path: Path
) -> None:
    requests.add(Request("a", 2, jobs=[array(tmp_path, "FAILED", "PENDING")]))
    assert still_coming(requests.unexpected(0)[0]) == (1, [("a", 1, (2, 0))])
    assert requests.forget("a", 1, (2, 0)) == 1
    assert requests.forget("a", 1, (2, 0)) == 0, "that was known before"
    assert requests.left == 1


def test_a_job_whose_daemon_is_here_brings_no_other(requests: Requests, tmp_path: Path) -> None:
    requests.note_arrival("a")  # before anybody knew
    requests.add(Request("a", 3, jobs=[array(tmp_path, "RUNNING", "RUNNING", "FAILED")]))
    requests.note_arrival("a")
    assert still_coming(requests.unexpected(0)[0]) == (0, [("a", 1, (1, 2))])
    requests.note_loss("a")  # so one of those that run is another's
    requests.note_loss("of another executor")
    assert still_coming(requests.unexpected(0)[0]) == (1, [])


def test_jobs_are_awaited_as_far_as_nobody_can_tell_that_they_are_gone(
    requests: Requests, tmp_path: Path
) -> None:
    whole = array(tmp_path, "RUNNING", tells_apart=False)
    requests.add(Request("a", 3, jobs=[whole]))
    assert still_coming(requests.unexpected(0)[0]) == (3, [])
    requests.forget("a")
    gone = array(tmp_path, "FAILED", tells_apart=False)
    requests.add(Request("b", 3, jobs=[whole, gone, whole]))  # a job for each daemon
    assert still_coming(requests.unexpected(0)[0]) == (2, [("b", 1, (3, 0))])
    # Who decides expects one of them: another one is due.
    assert still_coming(requests.unexpected(2)[0]) == (1, [("b", 1, (3, 0))])
