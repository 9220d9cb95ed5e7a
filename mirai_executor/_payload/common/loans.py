"""Remembers which descriptors a payload lends, and imports what lends them for the first one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirai_executor._payload.common.descriptors import Lender

__all__ = ["Loan"]


class Loan:
    """What one payload lends.

    Args:
        lasting: Whether each descriptor may be fetched more than once, until :meth:`end`.
    """

    def __init__(self, *, lasting: bool = False) -> None:
        self._lasting = lasting
        self._lender: Lender | None = None

    def lend(self, descriptor: int) -> Any:
        """Return what travels in the place of a descriptor of this process."""
        if self._lender is None:
            from mirai_executor._payload.common.descriptors import Lender

            self._lender = Lender(lasting=self._lasting)
        return self._lender.lend(descriptor)

    def end(self) -> None:
        """Close what has not been fetched, or may be fetched again."""
        if self._lender is not None:
            self._lender.end()
