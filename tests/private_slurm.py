"""A private SLURM for the tests: munge, the controller and some nodes on this machine, without systemd.

Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. Nodes are emulated: several slurmd on one
host. GPUs are device files that lead nowhere; what is tested is that a request reaches ``CUDA_VISIBLE_DEVICES``.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SYSTEM_CONFIGURATION = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "mungekey")
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def reason_to_skip() -> str | None:
    """Why SLURM cannot be started here, or None."""
    if os.geteuid() != 0:
        return "starting a private SLURM needs root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)"
    if SYSTEM_CONFIGURATION.exists() and not SYSTEM_CONFIGURATION.is_symlink():
        return "this machine is part of a real SLURM cluster"
    return None


class Job(NamedTuple):
    """One line of the queue; the workflow writes the rule and its wildcards into the comment."""

    number: str
    state: str
    nodes: str
    comment: str
    folder: str


@dataclass
class Cluster:
    """A running private cluster."""

    directory: Path
    nodes: int

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of SLURM's commands and return what it printed."""
        done = subprocess.run(command, check=check, capture_output=True, text=True, env=self.environment(), timeout=60)
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The environment in which SLURM's commands find this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.directory / "slurm.conf"), "PATH": SEARCH_PATH}

    def jobs(self, rule: str = "") -> list[Job]:
        """All jobs that wait or run, or those of one rule of the workflow."""
        rows = (line.split("|") for line in self.run("squeue", "-h", "-o", "%i|%T|%N|%k|%Z").splitlines())
        return [Job(*row) for row in rows if f"{row[3]}_".startswith(f"rule_{rule}")]

    def wait_for(self, what: Callable[[], Any], seconds: float = 300) -> Any:
        """The first true value of a condition that is asked twice a second."""
        deadline = time.monotonic() + seconds
        while not (value := what()):
            if time.monotonic() > deadline:
                raise TimeoutError(self.run("squeue", "-l", check=False))
            time.sleep(0.5)
        return value

    def memory_mb(self, number: str) -> int:
        """The memory that a job asked for."""
        amount, unit = re.search(r"TRES=\S*mem=([\d.]+)([MG])", self.run("scontrol", "show", "job", number)).groups()
        return round(float(amount) * {"M": 1, "G": 1024}[unit])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _write_configuration(directory: Path, nodes: int, cpus: int, gpus: int, memory_mb: int) -> None:
    host = socket.gethostname().split(".")[0]
    lines = f"""
        ClusterName=private
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={_free_port()}
        SlurmUser=root
        SlurmdUser=root
        AuthType=auth/munge
        CredType=cred/munge
        AuthInfo=socket={directory}/run/munge.sock,cred_expire=10
        StateSaveLocation={directory}/state
        SlurmdSpoolDir={directory}/run/spool.%n
        SlurmctldPidFile={directory}/run/slurmctld.pid
        SlurmdPidFile={directory}/run/slurmd.%n.pid
        SlurmctldLogFile={directory}/log/slurmctld.log
        SlurmdLogFile={directory}/log/slurmd.%n.log
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/none
        SwitchType=switch/none
        MpiDefault=none
        ReturnToService=2
        SlurmdParameters=config_overrides
        SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core_Memory
        GresTypes=gpu
        JobAcctGatherType=jobacct_gather/linux
        JobAcctGatherFrequency=task=2
        JobAcctGatherParams=OverMemoryKill
        AccountingStorageType=accounting_storage/none
        MinJobAge=3600
        KillWait=5
        InactiveLimit=0
        MailProg=/bin/true
        PropagateResourceLimits=NONE
        RebootProgram=/bin/true
        PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
    """.split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    gres = []
    for node in range(1, nodes + 1):
        lines.insert(
            -1,
            f"NodeName=node{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} CPUs={cpus} "
            f"RealMemory={memory_mb} Gres=gpu:{gpus} Feature=big State=UNKNOWN",
        )
        for gpu in range(gpus):
            device = directory / "dev" / f"gpu{(node - 1) * gpus + gpu}"
            os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
            gres.append(f"NodeName=node{node} Name=gpu File={device}")
    (directory / "slurm.conf").write_text("\n".join(lines) + "\n")
    (directory / "gres.conf").write_text("\n".join(gres) + "\n")


def _stop(directory: Path) -> None:
    """Stop the daemons by their process ids, the controller last but one, munge last."""
    files = [*sorted((directory / "run").glob("slurmd.*.pid")), directory / "run/slurmctld.pid"]
    for file in [*files, directory / "run/munged.pid"]:
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            process = int(file.read_text())
            os.kill(process, signal.SIGTERM)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                os.kill(process, 0)
                time.sleep(0.1)
            os.kill(process, signal.SIGKILL)


@contextlib.contextmanager
def cluster(
    directory: Path, *, nodes: int = 1, cpus: int = 2, gpus: int = 2, memory_mb: int = 250_000
) -> Iterator[Cluster]:
    """Start a cluster, yield it when its nodes are idle, and stop it."""
    directory = directory.resolve()
    for name in ("munge", "state", "log", "run", "dev"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "munge").chmod(0o700)
    # The socket's directories must be open to all, or munge calls its own socket inaccessible.
    for parent in [directory / "run", directory, *directory.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)
    _write_configuration(directory, nodes, cpus, gpus, memory_mb)
    this = Cluster(directory, nodes)
    # The step that Snakemake's executor starts inside a job loses SLURM_CONF, so the system's own place must lead here.
    SYSTEM_CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
    SYSTEM_CONFIGURATION.unlink(missing_ok=True)
    SYSTEM_CONFIGURATION.symlink_to(directory / "slurm.conf")
    try:
        munge = directory / "munge"
        this.run("mungekey", "--create", f"--keyfile={munge}/munge.key")
        this.run(
            "munged",
            f"--key-file={munge}/munge.key",
            f"--socket={directory}/run/munge.sock",
            f"--pid-file={directory}/run/munged.pid",
            f"--log-file={munge}/munged.log",
            f"--seed-file={munge}/munged.seed",
        )
        subprocess.run(["slurmctld", "-c"], check=True, env=this.environment())
        for node in range(1, nodes + 1):
            subprocess.run(["slurmd", "-N", f"node{node}"], check=True, env=this.environment())
        deadline = time.monotonic() + 30
        while len(this.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", check=False).split()) < nodes:
            if time.monotonic() > deadline:
                raise RuntimeError((directory / "log/slurmctld.log").read_text()[-2000:])
            time.sleep(0.1)
        yield this
    finally:
        with contextlib.suppress(Exception):
            this.run("scancel", "--user=root", check=False)
        _stop(directory)
        if SYSTEM_CONFIGURATION.is_symlink() and SYSTEM_CONFIGURATION.readlink() == directory / "slurm.conf":
            SYSTEM_CONFIGURATION.unlink()
