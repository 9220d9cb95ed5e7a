"""One daemon process of this machine, as seen by whoever has started it: a host or a keeper.

``_process`` is that daemon, ``_spawner`` decides where its process comes from, and ``_launcher``
has the two ways: a fresh interpreter, and a fork of the server that it leaves behind. ``_relay``
takes over its standard error, and ``_output``, where need be, its standard output; ``_ends`` tells
of its end, and describes it.

Each module is imported when it is asked for: a host has the first interpreter start, which takes
longest, before it imports the rest.
"""

from mirai_executor._lazily import lazy_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._ends import (
        LAST_FRAMES,
        DeathWatch,
        another,
        as_launch_error,
        describe_exit,
        has_ended,
        has_pidfds,
        lacks_room,
        last_words,
        memory_hint,
        misfit,
        other_package,
        watch,
    )
    from ._launcher import Forked, ForkServer, LocalLauncher
    from ._output import OutputRelay, relay_for
    from ._process import DaemonProcess, Stops, end_group
    from ._relay import Relay, Stream
    from ._spawner import Process, Spawner
    from ._template import TemplateSpawner, fork_server
else:
    __getattr__ = lazy_imports(
        __name__,
        {
            "_ends": (
                "LAST_FRAMES",
                "DeathWatch",
                "another",
                "as_launch_error",
                "describe_exit",
                "has_ended",
                "has_pidfds",
                "lacks_room",
                "last_words",
                "memory_hint",
                "misfit",
                "other_package",
                "watch",
            ),
            "_launcher": ("ForkServer", "Forked", "LocalLauncher"),
            "_output": ("OutputRelay", "relay_for"),
            "_process": ("DaemonProcess", "Stops", "end_group"),
            "_relay": ("Relay", "Stream"),
            "_spawner": ("Process", "Spawner"),
            "_template": ("TemplateSpawner", "fork_server"),
        },
    )

__all__ = [
    "LAST_FRAMES",
    "DaemonProcess",
    "DeathWatch",
    "ForkServer",
    "Forked",
    "LocalLauncher",
    "OutputRelay",
    "Process",
    "Relay",
    "Spawner",
    "Stops",
    "Stream",
    "TemplateSpawner",
    "another",
    "as_launch_error",
    "describe_exit",
    "end_group",
    "fork_server",
    "has_ended",
    "has_pidfds",
    "lacks_room",
    "last_words",
    "memory_hint",
    "misfit",
    "other_package",
    "relay_for",
    "watch",
]
