"""Remembers which descriptors a payload lends, and imports what lends them for the first one."""

import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mirai_executor._payload.common.descriptors import Lender

T = TypeVar("T")


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

    def kept_by(self, table: tuple[T, ...]) -> tuple[T, ...]:
        """Return the table of the call; if that lends anything, the loan ends with it."""
        return table if self._lender is None else Lending.of(table, self)

    def end(self) -> None:
        """Close what has not been fetched, or may be fetched again."""
        if self._lender is not None:
            self._lender.end()


class Lending(tuple[T, ...]):
    """The table of a call that lends descriptors, which ends with the last reference to it.

    Wherever a call goes, its table goes along: into the queue and out of it by a cancel, past a
    gate that turns it away, or to its daemon. So nobody has to think of what it lends.
    """

    loan: Loan

    @classmethod
    def of(cls, table: tuple[T, ...], loan: Loan) -> "Lending[T]":
        """Return the same table, which keeps a loan."""
        self = cls(table)
        self.loan = loan
        return self

    def __del__(self) -> None:
        if not sys.is_finalizing():  # then the system closes everything
            self.loan.end()
