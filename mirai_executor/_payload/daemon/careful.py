"""Pickles, at a daemon, the results that plain pickle would get wrong."""

from collections.abc import Callable
from types import CoroutineType, ModuleType
from typing import TYPE_CHECKING, Any

from mirai_executor._payload.common import rebuild
from mirai_executor._payload.common.diagnosis import explain, said_by_pickle
from mirai_executor._payload.common.fast_pickle import OutOfBand, Value, dump_value
from mirai_executor._payload.common.importable import Home, Travel
from mirai_executor._payload.common.loans import Loan
from mirai_executor._payload.common.pickler import PayloadPickler
from mirai_executor._payload.daemon import namespace

if TYPE_CHECKING:
    from mirai_executor._payload.common.refusals import Refusal
    from mirai_executor._payload.common.serial import Hooks


class OutcomePickler(PayloadPickler):
    """Pickles a result: by reference what the host has."""

    make_class = staticmethod(rebuild.make_kept_class)
    fill_class = staticmethod(rebuild.fill_kept_class)

    def __init__(
        self,
        file: Any,
        buffer_callback: Any = None,
        lend: Callable[[int], Any] | None = None,
        serial: "Hooks | None" = None,
    ) -> None:
        super().__init__(file, buffer_callback)
        self.serial = serial
        self._lend = lend

    def by_reference(self, home: Home) -> bool:
        daemon = namespace.current
        if home.kind is Travel.MAIN and daemon is not None:
            return home.root in daemon.host_names or rebuild.has_inherited(home.root)
        return home.kind is not Travel.HELD or daemon is None or _is_the_hosts(home.module)

    def travels_with_its_names(self, module: ModuleType) -> bool:
        return not _is_the_hosts(module.__name__)


def _is_the_hosts(module: str) -> bool:
    return module in (rebuild.held_modules or {})


def dump_carefully(
    value: object,
    refusal: "Refusal | None" = None,
    *,
    out_of_band: bool,
    apart: bool,
    serial: "Hooks | None" = None,
    name: str = "result",
) -> Value:
    """Turn a result into bytes, as ``encode_value`` does; or raise why it was refused before."""
    loan = Loan()
    made: list[OutcomePickler] = []

    def pickler(file: Any, beside: OutOfBand | None) -> OutcomePickler:
        made.append(OutcomePickler(file, beside, loan.lend, serial))
        return made[-1]

    try:
        if refusal is not None:
            raise refusal.error  # noqa: TRY301 - as if it had come now
        return dump_value(pickler, value, out_of_band=out_of_band, apart=apart)
    except BaseException as error:
        loan.end()
        if type(value) is CoroutineType:
            value.close()  # the error says that nobody awaits it: no need for a warning as well
        if said_by_pickle(error):
            failed = made[-1] if refusal is None else refusal.pickler
            raise explain({name: value}, failed, error) from error
        raise
