"""Turns requests for daemons into started processes or jobs. A launcher is plain data.

::

    ssh_config(...)  cluster_config(...)  remote_config(...)  http_config(...)
         └──────────────────┴──────┬──────────┴──────────────────┘
                                   │ plan(daemon, count)
                        Command, HttpRequest ── launch() ──► daemons elsewhere

    LocalLauncher ──► a daemon here, which inherits its link
"""

from __future__ import annotations

from mirai_executor._lazily import lazy_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._cluster import ClusterConfig, Scheduler, cluster_config
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
    from ._http import HttpConfig, http_config
    from ._launch import Launched, launch, stop
    from ._local import LocalLauncher
    from ._queue import Job, Queue, cancel_jobs, is_present
    from ._remote import RemoteConfig, remote_config
    from ._ssh import Remote, SshConfig, ssh_config
else:
    __getattr__ = lazy_imports(
        __name__,
        {
            "_cluster": ("ClusterConfig", "Scheduler", "cluster_config"),
            "_daemon": (
                "Command",
                "DaemonCommand",
                "HttpRequest",
                "Launcher",
                "PrivateFile",
                "Submission",
                "Until",
                "shell_command",
            ),
            "_http": ("HttpConfig", "http_config"),
            "_launch": ("Launched", "launch", "stop"),
            "_local": ("LocalLauncher",),
            "_queue": ("Job", "Queue", "cancel_jobs", "is_present"),
            "_remote": ("RemoteConfig", "remote_config"),
            "_ssh": ("Remote", "SshConfig", "ssh_config"),
        },
    )

__all__ = [
    "ClusterConfig",
    "Command",
    "DaemonCommand",
    "HttpConfig",
    "HttpRequest",
    "Job",
    "Launched",
    "Launcher",
    "LocalLauncher",
    "PrivateFile",
    "Queue",
    "Remote",
    "RemoteConfig",
    "Scheduler",
    "SshConfig",
    "Submission",
    "Until",
    "cancel_jobs",
    "cluster_config",
    "http_config",
    "is_present",
    "launch",
    "remote_config",
    "shell_command",
    "ssh_config",
    "stop",
]
