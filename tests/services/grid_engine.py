"""Runs a Grid Engine of one node, this machine, for tests of its own."""

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.sshd import free_port, wait_until

DEBIAN = Path("/usr/share/gridengine")
_TOOLS = Path("/usr/lib/gridengine")  # those that must not go through Debian's wrapper
_PATIENCE = 30.0
_BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn false
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {folder}/db
binary_path /usr/sbin
qmaster_spool_dir {folder}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
# What differs from what it has without us: jobs of root may run, at once and side by side.
_GLOBAL = {"min_uid": "0", "min_gid": "0", "load_report_time": "00:00:01"}
_SCHEDULER = {
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "job_load_adjustments": "NONE",
    "load_adjustment_decay_time": "0:0:0",
}
_QUEUE = {
    "qname": "tests",
    "hostlist": "localhost",
    "slots": "8",
    "load_thresholds": "NONE",
    "pe_list": "NONE",
    "shell": "/bin/sh",
    "shell_start_mode": "posix_compliant",
}


@dataclass(frozen=True)
class Grid:
    """A Grid Engine, and what its commands must find in their environment."""

    folder: Path
    master: int
    node: int

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "SGE_ROOT": str(self.folder / "root"),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(self.master),
            "SGE_EXECD_PORT": str(self.node),
            "SGE_ND": "1",  # services stay in the foreground
        }

    def run(self, *command: str) -> str:
        """Run a command of Grid Engine, and return what it prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=_PATIENCE
        )
        return done.stdout

    def file(self, name: str, text: str, changes: Mapping[str, str]) -> str:
        """Write a file of settings down, changed, and return its path."""
        for setting, value in changes.items():
            text = re.sub(rf"(?m)^{setting}\s.*", f"{setting} {value}", text)
        (self.folder / name).write_text(text)
        return str(self.folder / name)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Grid]:
    """Run a Grid Engine until the end."""
    grid = Grid(folder, free_port(), free_port())
    _lay_out(grid)
    with contextlib.ExitStack() as services:

        def start(program: str) -> None:
            log = services.enter_context((folder / f"{program}.log").open("wb"))
            process = subprocess.Popen(
                [f"/usr/sbin/{program}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **grid.environment},
            )
            services.callback(process.wait, _PATIENCE)
            services.callback(process.terminate)

        start("sge_qmaster")
        wait_until("Grid Engine", lambda: _answers(grid, "qconf", "-sconf"))
        grid.run("qconf", "-as", "localhost")
        start("sge_execd")
        wait_until("Grid Engine", lambda: _answers(grid, "qconf", "-se", "localhost"))
        scheduler = grid.file("scheduler", grid.run("qconf", "-ssconf"), _SCHEDULER)
        grid.run("qconf", "-Msconf", scheduler)
        queue = grid.file("queue", grid.run("qconf", "-sq"), _QUEUE)
        grid.run("qconf", "-Aq", queue)
        yield grid


def _lay_out(grid: Grid) -> None:
    """Make what Debian's scripts make, where nothing else is."""
    folder = grid.folder
    common = folder / "root" / "default" / "common"
    common.mkdir(parents=True)
    for name in ("qmaster", "execd", "db"):
        (folder / name).mkdir()
    for name in ("util", "bin", "lib", "utilbin"):
        (folder / "root" / name).symlink_to(Path("/var/lib/gridengine") / name)
    (common / "bootstrap").write_text(_BOOTSTRAP.format(folder=folder))
    (common / "act_qmaster").write_text("localhost\n")
    (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
    changes = {**_GLOBAL, "execd_spool_dir": f"{folder}/execd"}
    configuration = grid.file("global", (DEBIAN / "default-configuration").read_text(), changes)
    grid.run(f"{_TOOLS}/spoolinit", "berkeleydb", "libspoolb", f"{folder}/db", "init")
    for what, source in (
        ("configuration", configuration),
        ("complexes", f"{DEBIAN}/util/resources/centry"),
        ("usersets", f"{DEBIAN}/util/resources/usersets"),
        ("managers", "root"),
    ):
        grid.run(f"{_TOOLS}/spooldefaults", what, source)


def _answers(grid: Grid, *question: str) -> bool:
    try:
        grid.run(*question)
    except subprocess.SubprocessError:
        return False
    return True
