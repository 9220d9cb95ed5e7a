"""One daemon process of this machine, as seen by whoever has started it: a host or a keeper.

``_process`` is that daemon, ``_spawner`` decides where its process comes from, and ``_forkserver``
is what forks the later ones; ``_relay`` takes over its standard error, and ``_output``, where need
be, its standard output; ``_deaths`` tells of its end, ``_ends`` describes that, and ``_stops``
decides when a task is asked again to stop.

Each module is imported when it is asked for: a host has the first interpreter start, which takes
longest, before it imports the rest.
"""

from mirai_executor._lazily import lazy_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._deaths import LAST_FRAMES, DeathWatch, has_ended, has_pidfds, watch
    from ._ends import (
        another,
        as_launch_error,
        describe_exit,
        lacks_room,
        last_words,
        memory_hint,
        misfit,
        other_package,
    )
    from ._forkserver import Forked, ForkServer
    from ._output import OutputRelay, relay_for
    from ._process import DaemonProcess, end_group
    from ._relay import Relay, Stream
    from ._spawner import Process, Spawner
    from ._stops import Stops
    from ._template import TemplateSpawner, fork_server
else:
    __getattr__ = lazy_imports(
        __name__,
        {
            "_deaths": ("LAST_FRAMES", "DeathWatch", "has_ended", "has_pidfds", "watch"),
            "_ends": (
                "another",
                "as_launch_error",
                "describe_exit",
                "lacks_room",
                "last_words",
                "memory_hint",
                "misfit",
                "other_package",
            ),
            "_forkserver": ("ForkServer", "Forked"),
            "_output": ("OutputRelay", "relay_for"),
            "_process": ("DaemonProcess", "end_group"),
            "_relay": ("Relay", "Stream"),
            "_spawner": ("Process", "Spawner"),
            "_stops": ("Stops",),
            "_template": ("TemplateSpawner", "fork_server"),
        },
    )

__all__ = [
    "LAST_FRAMES",
    "DaemonProcess",
    "DeathWatch",
    "ForkServer",
    "Forked",
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
