"""Which seat on which machine a daemon gets, and when that is free again."""

import re

from mirai_executor import cluster_config, remote_config, ssh_config
from mirai_executor.credentials import DaemonCredentials, new_secret
from mirai_executor.launchers import Booking, Command, DaemonCommand, Seats, Submission

TWO = ssh_config(["a", "b:22"])


def daemon(booking: Booking | None) -> DaemonCommand:
    return DaemonCommand(
        ("tcp://10.0.0.1:5555",), DaemonCredentials(new_secret()), booking=booking
    )


def logins(plan: list[Submission]) -> list[tuple[str, str, str]]:
    """Return for each login its machine, the numbers there, and how many share the machine."""
    found = []
    for one in plan:
        assert isinstance(one, Command)
        text = one.stdin.decode()
        (numbers,) = re.findall(r"^for number in ([\d ]+); do$", text, re.MULTILINE)
        (sharing,) = re.findall(r"MIRAI_EXECUTOR_DAEMONS=(\d+) ", text)
        (machine,) = re.findall(r"MIRAI_EXECUTOR_SEAT=(\S+)/\$number ", text)
        found.append((machine, numbers, sharing))
    return found


def next_on(machine: str, booking: Booking) -> tuple[tuple[int, ...], int]:
    """Return what would be taken, and leave it."""
    found = booking.take(machine, 1)
    booking.release(booking.made)
    return found


def test_a_plan_by_itself_counts_from_one_as_often_as_it_is_made() -> None:
    for _ in range(2):
        assert logins(TWO.plan(daemon(None), 2)) == [("a", "1 2", "2"), ("b:22", "1 2", "2")]


def test_who_comes_for_a_lost_daemon_gets_its_number_and_hears_how_many_share_the_machine() -> (
    None
):
    seats = Seats()
    first = seats.booking((), ())
    TWO.plan(daemon(first), 2)
    seats.note("first", first, grows=True)
    seats.note_end("first", [True, True])
    # All have come, and the first one of b is lost.
    again = seats.booking(["a/1", "a/2", "b:22/2"], ())
    assert logins(TWO.spread(daemon(again), 1, 0)) == [("b:22", "1", "2")]
    assert logins(ssh_config("b:22").plan(daemon(again), 1)) == [("b:22", "3", "3")]


def test_who_was_asked_for_has_a_seat_before_it_comes() -> None:
    seats = Seats()
    first = seats.booking((), ())
    assert first.take("a", 2) == ((1, 2), 2)
    seats.note("first", first, grows=True)
    assert next_on("a", seats.booking((), ())) == ((3,), 3)  # it is launched just now
    seats.note_end("first", [True])
    assert next_on("a", seats.booking(["a/1"], ["first"])) == ((3,), 3)
    assert next_on("a", seats.booking(["a/1"], [])) == ((2,), 2)  # it will not come


def test_seats_of_a_launch_that_has_failed_are_free() -> None:
    seats = Seats()
    for succeeded, taken in (([], [1, 1]), ([True, False], [3, 1]), ([True, True], [3, 3])):
        booking = seats.booking((), ())
        TWO.plan(daemon(booking), 2)
        seats.note("one", booking, grows=True)
        seats.note_end("one", succeeded)
        after = seats.booking((), ["one"])
        assert [next_on(machine, after)[0] for machine in ("a", "b:22")] == [(it,) for it in taken]
        seats.note_end("one", [])


def test_two_launches_at_a_time_take_different_seats() -> None:
    seats = Seats()
    one, other = seats.booking((), ()), seats.booking((), ())
    assert one.take("a", 2)[0] == (1, 2)
    assert other.take("a", 2)[0] == (3, 4)
    one.release(one.made)  # it could not be planned
    assert seats.booking((), ()).take("a", 3)[0] == (1, 2, 5)


def test_machines_that_are_full_get_more_only_if_no_other_has_room() -> None:
    taken = {"a": {1, 2}, "b:22": {1}}
    rooms = {"a": 2, "b:22": 2}
    assert logins(TWO.spread(daemon(Booking(taken, rooms)), 1, 0)) == [("b:22", "2", "2")]
    # That one was tried in vain: now all in turn, and the number is beyond what was meant.
    avoiding = TWO.spread(daemon(Booking(taken, rooms)), 1, 0, avoid={"b:22"})
    assert logins(avoiding) == [("a", "3", "3")]
    assert logins(TWO.spread(daemon(Booking(taken, rooms)), 2, 0)) == [
        ("a", "3", "3"),
        ("b:22", "2", "2"),
    ]


def test_daemons_that_come_with_the_work_fill_all_machines_alike() -> None:
    launcher = ssh_config({"large": {"daemons": 3}, "small": {}})
    rooms = launcher.rooms(4)
    assert rooms == {"large": 3, "small": 1}
    seats = Seats()
    seats.expect(rooms)
    live: list[str] = []
    for expected in (("large", "1"), ("small", "1"), ("large", "2"), ("large", "3")):
        booking = seats.booking(live, ())
        [(machine, number, sharing)] = logins(launcher.spread(daemon(booking), 1, 0))
        assert ((machine, number), sharing) == (expected, str(rooms[machine]))
        live.append(f"{machine}/{number}")


def test_a_number_that_is_a_placeholder_is_that_of_the_lost_one_too() -> None:
    live = ["+jobs/1", "+jobs/3"]
    args = ["-c", "echo {number} {name}", "."]
    for launcher in (remote_config("sh", args), remote_config("sh", args, stdin=True)):
        [first, second] = launcher.plan(daemon(Seats().booking(live, ())), 2)
        for one, number in ((first, "2"), (second, "4")):
            assert isinstance(one, Command)
            assert re.fullmatch(rf"echo {number} mirai-[0-9a-f]{{8}}-{number}", one.argv[2])
            told = f"{one.stdin.decode()}{one.environment}"
            assert re.search(rf"MIRAI_EXECUTOR_SEAT\W+\+jobs/{number}\b", told)
    indifferent = remote_config("sh", ["-c", "echo", "."])
    (command,) = indifferent.plan(daemon(None), 1)
    assert "SEAT" not in str(command)


def test_jobs_with_numbers_are_an_array_only_if_they_count_from_one() -> None:
    launcher = cluster_config("sbatch", "#SBATCH -o {number}.out", secret_folder=None)
    (array,) = launcher.plan(daemon(Seats().booking((), ())), 3)
    assert isinstance(array, Command)
    text = array.stdin.decode()
    assert "#SBATCH --array=1-3\n" in text
    assert "export MIRAI_EXECUTOR_SEAT=+jobs/${SLURM_ARRAY_TASK_ID}\n" in text
    texts = []
    for one in launcher.plan(daemon(Seats().booking(["+jobs/1", "+jobs/3"], ())), 2):
        assert isinstance(one, Command)
        texts.append(one.stdin.decode())
    for text, number in zip(texts, ("2", "4"), strict=True):
        assert "--array" not in text
        assert f"#SBATCH -o {number}.out\n" in text
        assert f"export MIRAI_EXECUTOR_SEAT=+jobs/{number}\n" in text
    indifferent = cluster_config("sbatch", secret_folder=None)
    (array,) = indifferent.plan(daemon(Seats().booking(["+jobs/1"], ())), 3)
    assert isinstance(array, Command)
    assert "--array=1-3" in array.stdin.decode()
    assert "SEAT" not in array.stdin.decode()


def test_a_peer_that_tells_nonsense_of_its_seat_has_none() -> None:
    booking = Seats().booking(["a/x", "a", "", "a/-1", "\u0664/\u0664"], ())
    assert booking.take("a", 1) == ((1,), 1)
