"""The daemon's side: the bytes of calls become calls to run, and outcomes bytes."""

from mirai_executor._lazily import lazy_imports
from mirai_executor._payload.common.preparation import LogLevels as LogLevels
from mirai_executor._payload.common.preparation import Preparation as Preparation
from mirai_executor._payload.common.preparation import decode_plain as decode_plain
from mirai_executor._payload.common.preparation import inherit as inherit
from mirai_executor._payload.daemon.outcomes import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mirai_executor._payload.daemon.failures import *
    from mirai_executor._payload.daemon.mainimport import *
    from mirai_executor._payload.daemon.namespace import *
else:  # what only some tasks need, or a host that shares memory does not
    __getattr__ = lazy_imports(
        __name__,
        {
            "failures": "encode_error",
            "mainimport": "MainImport importing_main",
            "namespace": "Namespace",
        },
    )
