"""A ``concurrent.futures.Executor`` whose workers are mirai daemons.

A daemon is a worker process, on this machine or on another one, that runs tasks. The host is the
process that submits them::

    from mirai_executor import MiraiExecutor

    with MiraiExecutor(8) as executor:
        future = executor.submit(fit, data)

As in R's mirai, code can also leave it to its caller where its tasks run::

    from mirai_executor import daemons, mirai

    daemons(8)
    future = mirai(fit, data)

The examples of the docstrings assume ``from mirai_executor import *``. Names are imported when
they are first used, since a daemon needs few of them.
"""

from ._lazily import lazy_imports
from ._version import __version__

TYPE_CHECKING = False  # what typing says, which takes milliseconds to import
if TYPE_CHECKING:
    from ._maps._mirai_map import MiraiMap as MiraiMap
    from ._maps._streams import Stream as Stream
    from ._messages import Progress as Progress
    from ._messages import progress as progress
    from ._messages import report as report
    from ._monitoring._status import DaemonStatus as DaemonStatus
    from ._monitoring._status import Info as Info
    from ._monitoring._status import MemoryStatus as MemoryStatus
    from ._monitoring._status import Status as Status
    from ._monitoring._status import Waiting as Waiting
    from ._observing._completed import as_completed as as_completed
    from ._place import on_daemon as on_daemon
    from ._random_streams import rng as rng
    from ._serial import SerialConfig as SerialConfig
    from ._serial import register_serial as register_serial
    from ._serial import serial_config as serial_config
    from .errors import DaemonLostError as DaemonLostError
    from .errors import ForkedExecutorError as ForkedExecutorError
    from .errors import LaunchError as LaunchError
    from .errors import MiraiError as MiraiError
    from .errors import MiraiInterrupt as MiraiInterrupt
    from .errors import PayloadError as PayloadError
    from .errors import RemoteError as RemoteError
    from .errors import TaskTimeoutError as TaskTimeoutError
    from .executor import MiraiExecutor as MiraiExecutor
    from .functional import Daemons as Daemons
    from .functional import DaemonsNotSetError as DaemonsNotSetError
    from .functional import collect as collect
    from .functional import daemons as daemons
    from .functional import daemons_set as daemons_set
    from .functional import everywhere as everywhere
    from .functional import executor_for as executor_for
    from .functional import info as info
    from .functional import is_error_value as is_error_value
    from .functional import is_mirai_error as is_mirai_error
    from .functional import is_mirai_interrupt as is_mirai_interrupt
    from .functional import launch_local as launch_local
    from .functional import launch_remote as launch_remote
    from .functional import mirai as mirai
    from .functional import mirai_map as mirai_map
    from .functional import mirai_with as mirai_with
    from .functional import next_stream as next_stream
    from .functional import profile as profile
    from .functional import race as race
    from .functional import require_daemons as require_daemons
    from .functional import status as status
    from .functional import stop_mirai as stop_mirai
    from .functional import try_mirai as try_mirai
    from .functional import unresolved as unresolved
    from .futures import MiraiFuture as MiraiFuture
    from .launchers import cluster_config as cluster_config
    from .launchers import dask_config as dask_config
    from .launchers import http_config as http_config
    from .launchers import kubernetes_config as kubernetes_config
    from .launchers import ray_config as ray_config
    from .launchers import remote_config as remote_config
    from .launchers import ssh_config as ssh_config
    from .urls import host_url as host_url
    from .urls import local_url as local_url

_ROOMS = {
    "_messages": "Progress progress report",
    "_observing._completed": "as_completed",
    "_maps._mirai_map": "MiraiMap",
    "_place": "on_daemon",
    "_serial": "SerialConfig register_serial serial_config",
    "_maps._streams": "Stream",
    "_monitoring._status": "DaemonStatus Info MemoryStatus Status Waiting",
    "_random_streams": "rng",
    "errors": (
        "DaemonLostError ForkedExecutorError LaunchError MiraiError MiraiInterrupt PayloadError "
        "RemoteError TaskTimeoutError"
    ),
    "executor": "MiraiExecutor",
    "functional": (
        "Daemons DaemonsNotSetError collect daemons daemons_set everywhere executor_for info "
        "is_error_value is_mirai_error is_mirai_interrupt launch_local launch_remote mirai "
        "mirai_map mirai_with next_stream profile race require_daemons status stop_mirai "
        "try_mirai unresolved"
    ),
    "futures": "MiraiFuture",
    "launchers": (
        "cluster_config dask_config http_config kubernetes_config ray_config remote_config "
        "ssh_config"
    ),
    "urls": "host_url local_url",
}

__all__ = ["__version__", *" ".join(_ROOMS.values()).split()]  # all of them strings

if not TYPE_CHECKING:  # to type checkers, a name that does not exist is to be an error
    # Only what needs nothing of POSIX can be imported on Windows.
    __getattr__ = lazy_imports(__name__, _ROOMS, on_windows=("_messages", "_place", "errors"))


def __dir__() -> list[str]:
    return sorted(__all__)
