"""The daemon's side: the bytes of calls become calls to run, and outcomes bytes."""

from mirai_executor._lazily import lazy_imports
from mirai_executor._payload.common.preparation import (
    LogLevels,
    Preparation,
    decode_plain,
    inherit,
)
from mirai_executor._payload.daemon.outcomes import Unawaited, encode_named, encode_value
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._payload.daemon.failures import encode_error
    from mirai_executor._payload.daemon.mainimport import importing_main
    from mirai_executor._payload.daemon.namespace import Namespace
else:  # what only some tasks need, or a host that shares memory does not
    __getattr__ = lazy_imports(
        __name__,
        {
            "failures": ("encode_error",),
            "mainimport": ("importing_main",),
            "namespace": ("Namespace",),
        },
    )

__all__ = [
    "LogLevels",
    "Namespace",
    "Preparation",
    "Unawaited",
    "decode_plain",
    "encode_error",
    "encode_named",
    "encode_value",
    "importing_main",
    "inherit",
]
