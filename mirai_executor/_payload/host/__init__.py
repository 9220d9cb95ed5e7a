"""The host's side: calls become bytes, and the bytes of outcomes values and errors."""

from mirai_executor._lazily import lazy_imports
from mirai_executor._payload.common.entries import Call as Call
from mirai_executor._payload.common.entries import NameEntry as NameEntry
from mirai_executor._payload.common.entries import Sent as Sent
from mirai_executor._payload.common.preparation import LogLevels as LogLevels
from mirai_executor._payload.common.preparation import Preparation as Preparation
from mirai_executor._payload.common.preparation import encode_plain as encode_plain
from mirai_executor._payload.host.calls import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mirai_executor._payload.common.inheritance import Inheritance as Inheritance
    from mirai_executor._payload.host.failures import *
    from mirai_executor._payload.host.inherit import *
    from mirai_executor._payload.host.mainfile import *
else:  # what only some tasks need, and only some daemons
    __getattr__ = lazy_imports(
        __name__,
        {
            "failures": "decode_error",
            "inherit": "Inheritance KnownInheritance only_forks_share",
            "mainfile": "Mode main_file",
        },
    )
