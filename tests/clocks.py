"""A reactor on a clock that a test moves: what is due happens at once, in its order."""

from mirai_executor._waiting import Reactor


class Clock(Reactor):
    """One that never sleeps.

    Attributes:
        time: What its clock shows, in seconds.
    """

    def __init__(self) -> None:
        self.time = 100.0
        super().__init__(clock=lambda: self.time)

    def look(self) -> None:
        """Take in all that has come, and what is due."""
        if not self.has_stopped:
            self.turn(self.time)

    def wait(self, seconds: float) -> None:
        """Let time pass, with all that is due on the way."""
        until = self.time + seconds
        while (due := self.next_deadline()) <= until and not self.has_stopped:
            self.time = max(self.time, due)
            self.look()
        self.time = until
