"""Has every executor that a test makes listen, and its daemons dial like those of other machines.

::

    MiraiExecutor(2, ...)   becomes   MiraiExecutor(url=<a fresh address>, ...).launch_local(2)

Which kind of address, ``pytest --transport`` says, and an environment variable passes it on to
the scripts that tests run as hosts of their own.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

from mirai_executor import MiraiExecutor, local_url
from mirai_executor._place import usable_cpus

VARIABLE = "MIRAI_TESTS_TRANSPORT"
URLS: dict[str, Callable[[], str]] = {
    "tcp": lambda: "tcp://127.0.0.1:0",
    "tls": lambda: "tls+tcp://127.0.0.1:0",
    "ipc": local_url,
}
# What a script runs first, so that its executors do the same.
FOR_SCRIPTS = "import elsewhere; elsewhere.use_transport()\n"


def is_chosen() -> bool:
    """Say whether daemons are to connect by themselves."""
    return VARIABLE in os.environ


def new_url() -> str:
    """Return a fresh address, for a test whose executor listens in any run."""
    return URLS[os.environ.get(VARIABLE, "tcp")]()


def use_transport() -> None:
    """From now on, have executors without a url listen, and launch their daemons."""
    make_url = URLS[os.environ[VARIABLE]]
    original: Callable[..., None] = MiraiExecutor.__init__

    @functools.wraps(original)
    def init(
        self: MiraiExecutor, max_workers: int | None = None, *args: Any, **options: Any
    ) -> None:
        # Calls without daemons may start dozens, one for each task: they stay local.
        if not {"url", "remote"}.isdisjoint(options) or options.get("name") == "ephemeral":
            original(self, max_workers, *args, **options)
            return
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        original(self, None, *args, url=make_url(), **options)
        self.launch_local(max_workers or usable_cpus())

    MiraiExecutor.__init__ = init  # type: ignore[method-assign]  # the one seam that all tests share
