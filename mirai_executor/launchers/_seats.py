"""Knows which seats the daemons of an executor have on their machines, and gives away free ones.

::

    Seats ── booking() ──► Booking ── of a DaemonCommand, take() ──► numbers of the daemons
       ▲── note(): they are taken          which others have, of those that are there or will come

A seat is a number, counted from 1: by it, a daemon finds its GPUs. Who comes for a daemon that is
lost gets its number, and hears how many share the machine, not how many come with it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count as naturals
from itertools import islice

Taken = tuple[str, tuple[int, ...]]  # a machine, and the numbers of seats on it

# No name of a machine: jobs with numbers, each of which has a machine to itself, or so it seems.
JOBS = "+jobs"


def seat_of(machine: str, number: int | str) -> str:
    """Return the text for a seat that a daemon tells its host."""
    return f"{machine}/{number}"


class Booking:
    """The seats that one launch may take. Not for several threads.

    Args:
        taken: The numbers that daemons have, by machine.
        rooms: How many daemons each machine is to have; nothing is known of others.
        claims: What this launch and others have taken, for daemons that have yet to come.

    Attributes:
        made: What has been taken of it: machine and numbers, in order.
    """

    def __init__(
        self,
        taken: Mapping[str, Collection[int]],
        rooms: Mapping[str, int] | None = None,
        claims: "Claims | None" = None,
    ) -> None:
        self._taken = {machine: set(numbers) for machine, numbers in taken.items()}
        self._rooms = dict(rooms or {})
        self._claims = {} if claims is None else claims
        for machine, number in list(self._claims):
            self._taken.setdefault(machine, set()).add(number)
        self.made: list[Taken] = []

    def take(self, machine: str, count: int) -> tuple[tuple[int, ...], int]:
        """Return the lowest free numbers for so many daemons, and how many share the machine."""
        taken = self._taken.setdefault(machine, set())
        free = (number for number in naturals(1) if self._claim(machine, number))
        numbers = tuple(islice(free, count))
        taken.update(numbers)
        self.made.append((machine, numbers))
        return numbers, max(self._rooms.get(machine, 0), *taken, 1)

    def _claim(self, machine: str, number: int) -> bool:
        """Take a seat, unless somebody has it; other threads may want it at the same moment."""
        if number in self._taken[machine]:
            return False
        return self._claims.setdefault((machine, number), self) is self

    def release(self, made: Iterable[Taken]) -> None:
        """Let others have seats that this has taken, if they are still its own."""
        for machine, numbers in made:
            for number in numbers:
                if self._claims.get((machine, number)) is self:
                    del self._claims[machine, number]

    def share(
        self, machines: Sequence[str], count: int, avoid: Collection[str] = ()
    ) -> tuple[list[int], int]:
        """Choose machines for so many daemons: those that have the most room left.

        Args:
            machines: Their names.
            count: How many daemons.
            avoid: Machines of which none is to be chosen.

        Returns:
            How many each machine gets, and how many find no machine with room.
        """
        used = [len(self._taken.get(machine, ())) for machine in machines]
        rooms = [0 if it in avoid else self._rooms.get(it, 0) for it in machines]
        shares = [0] * len(machines)
        for done in range(count):
            free = [one for one, room in enumerate(rooms) if used[one] < room]
            if not free:
                return shares, count - done
            chosen = min(free, key=lambda one: used[one] / rooms[one])
            used[chosen] += 1
            shares[chosen] += 1
        return shares, 0


Claims = dict[tuple[str, int], Booking]


class Seats:
    """The seats of one executor. Safe from any thread: each step is whole by itself."""

    def __init__(self) -> None:
        self._rooms: dict[str, int] = {}
        self._claims: Claims = {}
        self._asked: dict[str, Booking] = {}  # by request
        self._known: set[str] = set()  # requests of which the host tells what has become of them

    def booking(self, live: Iterable[str], coming: Collection[str]) -> Booking:
        """Return what a launch may take.

        Args:
            live: The seats that daemons have told.
            coming: The requests of which some daemons have yet to come.
        """
        for request in [it for it in list(self._known) if it not in coming]:
            self._known.discard(request)
            if (asked := self._asked.pop(request, None)) is not None:
                asked.release(asked.made)
        taken: dict[str, set[int]] = {}
        for seat in live:
            machine, _, number = seat.rpartition("/")
            if number.isdecimal():
                taken.setdefault(machine, set()).add(int(number))
        return Booking(taken, self._rooms, self._claims)

    def expect(self, rooms: Mapping[str, int]) -> None:
        """Take note of how many daemons some machines are to have, at least."""
        for machine, room in rooms.items():
            self._rooms[machine] = max(room, self._rooms.get(machine, 0))

    def note(self, request: str, booking: Booking, *, grows: bool) -> None:
        """Take note of the launch that has taken seats.

        Args:
            request: Its name.
            booking: What it has taken them of.
            grows: Whether so many are to be there from now on, too.
        """
        self._asked[request] = booking
        if grows:
            self.expect({machine: max(numbers, default=0) for machine, numbers in booking.made})

    def note_end(self, request: str, succeeded: Sequence[bool]) -> None:
        """Take note of how a launch has ended; the host knows of the request, unless it failed.

        Args:
            request: Its name.
            succeeded: For each of its parts, whether that did; empty if nothing came of it.
        """
        if (asked := self._asked.get(request)) is None:
            return
        if not any(succeeded):
            del self._asked[request]
            asked.release(asked.made)
            return
        if len(asked.made) == len(succeeded):  # each part has taken seats on a machine of its own
            made = zip(asked.made, succeeded, strict=True)
            asked.release(taken for taken, good in made if not good)
        self._known.add(request)
