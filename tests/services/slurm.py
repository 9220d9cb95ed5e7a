"""Runs a Slurm cluster of one node, this machine, for tests of its own."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.sshd import free_port, wait_until

_PATIENCE = 30.0
_CONFIG = """\
ClusterName=mirai
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# What is requeued starts once its first credential has expired.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
# More processors than there are, so that daemons need not wait for each other.
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=tests Nodes=localhost Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster, and what its commands must find in their environment."""

    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Run a command of Slurm, and return what it prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=_PATIENCE
        )
        return done.stdout


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Cluster]:
    """Run a cluster until the end."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o711)
    key, config = folder / "munge" / "key", folder / "slurm.conf"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    ports = {"controller": free_port(), "node": free_port()}
    config.write_text(_CONFIG.format(folder=folder, **ports))
    munge = [f"--{what}={folder}/munge/{what}" for what in ("socket", "pid-file", "seed-file")]
    cluster = Cluster(folder)
    with contextlib.ExitStack() as services:

        def start(*command: str) -> None:
            log = services.enter_context((folder / f"{command[0]}.log").open("wb"))
            # Not on PATH for everybody.
            program = (f"/usr/sbin/{command[0]}", *command[1:])
            process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )
            services.callback(process.wait, _PATIENCE)
            services.callback(process.terminate)

        start("munged", "-F", "--force", f"--key-file={key}", *munge)
        wait_until("Slurm", (folder / "munge" / "socket").exists)
        start("slurmctld", "-D", "-f", str(config))
        start("slurmd", "-D", "-N", "localhost", "-f", str(config))
        wait_until("Slurm", lambda: _is_idle(cluster))
        yield cluster


def _is_idle(cluster: Cluster) -> bool:
    try:
        return "idle" in cluster.run("sinfo", "-h", "-o", "%T")
    except subprocess.SubprocessError:
        return False  # it does not answer yet
