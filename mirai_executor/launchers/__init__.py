"""Turns requests for daemons into started processes or jobs. A launcher is plain data.

::

    ssh_config(...)  cluster_config(...)  remote_config(...)  http_config(...)
    dask_config(...)  ray_config(...)  kubernetes_config(...)
         └──────────────────┴──────┬──────────┴──────────────────┘
                                   │ plan(daemon, count)
               Command, HttpRequest, JobRequest ── launch() ──► daemons elsewhere
"""

from __future__ import annotations

from mirai_executor._lazily import lazy_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._cluster import ClusterConfig, cluster_config
    from ._daemon import (
        Command,
        DaemonCommand,
        HttpRequest,
        Launcher,
        PrivateFile,
        Submission,
        Until,
        shell_command,
    )
    from ._dask import DaskConfig, dask_config
    from ._files import PrivateFiles
    from ._http import HttpConfig, http_config
    from ._jobs import Job, JobRequest, cancel_at_engines
    from ._kubernetes import KubernetesConfig, kubernetes_config
    from ._launch import Launched, launch, stop
    from ._queue import Queue, QueuedJob, cancel_jobs, count_present
    from ._ray import RayConfig, ray_config
    from ._remote import RemoteConfig, remote_config
    from ._schedulers import Scheduler
    from ._seats import Booking, Seats
    from ._ssh import Machine, Remote, SshConfig, ssh_config
else:
    __getattr__ = lazy_imports(
        __name__,
        {
            "_cluster": "ClusterConfig cluster_config",
            "_daemon": (
                "Command DaemonCommand HttpRequest Launcher PrivateFile Submission Until "
                "shell_command"
            ),
            "_dask": "DaskConfig dask_config",
            "_files": "PrivateFiles",
            "_http": "HttpConfig http_config",
            "_jobs": "Job JobRequest cancel_at_engines",
            "_kubernetes": "KubernetesConfig kubernetes_config",
            "_launch": "Launched launch stop",
            "_seats": "Booking Seats",
            "_queue": "Queue QueuedJob cancel_jobs count_present",
            "_ray": "RayConfig ray_config",
            "_remote": "RemoteConfig remote_config",
            "_schedulers": "Scheduler",
            "_ssh": "Machine Remote SshConfig ssh_config",
        },
    )

__all__ = [
    "Booking",
    "ClusterConfig",
    "Command",
    "DaemonCommand",
    "DaskConfig",
    "HttpConfig",
    "HttpRequest",
    "Job",
    "JobRequest",
    "KubernetesConfig",
    "Launched",
    "Launcher",
    "Machine",
    "PrivateFile",
    "PrivateFiles",
    "Queue",
    "QueuedJob",
    "RayConfig",
    "Remote",
    "RemoteConfig",
    "Scheduler",
    "Seats",
    "SshConfig",
    "Submission",
    "Until",
    "cancel_at_engines",
    "cancel_jobs",
    "cluster_config",
    "count_present",
    "dask_config",
    "http_config",
    "kubernetes_config",
    "launch",
    "ray_config",
    "remote_config",
    "shell_command",
    "ssh_config",
    "stop",
]
