"""Runs an HTCondor pool of this machine alone, for tests of its own.

HTCondor takes no jobs of root, so the pool belongs to another user, and so does each host that
submits to it: :meth:`Pool.run` starts one.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mirai_executor
from services.sshd import free_port, wait_until

USER = "daemon"  # which every Debian has
_PATIENCE = 60.0
_CONFIG = """\
LOCAL_DIR = {folder}
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
RELEASE_DIR = /usr
LIBEXEC = /usr/libexec/condor
use ROLE : Personal
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
DAEMON_LIST = MASTER, COLLECTOR, NEGOTIATOR, SCHEDD, STARTD, SHARED_PORT
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_CLIENT_AUTHENTICATION_METHODS = FS
ALLOW_WRITE = *
ALLOW_READ = *
ALLOW_DAEMON = *
ALLOW_ADMINISTRATOR = *
ALLOW_NEGOTIATOR = *
NUM_CPUS = 8
SLOT_TYPE_1 = cpus=1
NUM_SLOTS_TYPE_1 = 8
START = True
SUSPEND = False
PREEMPT = False
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
PERIODIC_EXPR_INTERVAL = 2
RUNBENCHMARKS = False
"""


@dataclass(frozen=True)
class Pool:
    """A pool, and what its commands must find in their environment."""

    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        package = Path(mirai_executor.__file__).parents[1]
        return {
            **os.environ,
            "CONDOR_CONFIG": str(self.folder / "config"),
            "HOME": str(self.folder),
            "PYTHONPATH": str(package),
        }

    def words(self, *command: str) -> list[str]:
        """Return the words that run a command as the user of the pool."""
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]

    def run(self, *command: str) -> str:
        """Run a command as the user of the pool, and return what it prints."""
        done = subprocess.run(
            self.words(*command),
            cwd=self.folder,
            env=self.environment,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def serve() -> Iterator[Pool]:
    """Run a pool until the end."""
    folder = Path(tempfile.mkdtemp(prefix="mirai-condor-"))  # those of pytest are root's alone
    try:
        for name in ("log", "spool", "execute", "lock"):
            (folder / name).mkdir()
        (folder / "config").write_text(_CONFIG.format(folder=folder, port=free_port()))
        user = pwd.getpwnam(USER)
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
        pool = Pool(folder)
        with (
            (folder / "master.log").open("wb") as log,
            subprocess.Popen(
                pool.words("/usr/sbin/condor_master", "-f", "-t"),
                env=pool.environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ) as master,
        ):
            try:
                wait_until("HTCondor", lambda: _has_slots(pool))
                yield pool
            finally:
                master.send_signal(signal.SIGQUIT)  # no job is waited for
                master.wait(_PATIENCE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def can_run_python() -> bool:
    """Tell whether the user of a pool may run this interpreter."""
    words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", sys.executable]
    done = subprocess.run([*words, "-c", "import cloudpickle"], check=False, capture_output=True)
    return done.returncode == 0


def _has_slots(pool: Pool) -> bool:
    try:
        return "slot1" in pool.run("condor_status", "-af", "Name")
    except AssertionError:
        return False  # it does not answer yet
