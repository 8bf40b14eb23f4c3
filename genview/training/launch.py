"""Starts a run's processes: one python, torchrun on one node, or the cluster's launcher on several."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

from genview import atomic, process, shared_gpus
from genview.errors import GenviewError
from genview.training.job import Job

logger = logging.getLogger("genview")

LAST_LINES = 30

PORTS = 4
"""Ports that a run over several nodes tries."""

_TAKEN = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)

GRACE = ("--shutdown-timeout", "240")
"""Seconds that torchrun leaves its workers to save a checkpoint; its own 30 are short of a large model's."""


def command(job: Job, file: Path, launcher: Path, cores: int) -> list[str]:
    """The command line that starts all processes of a run."""
    module = ["-m", "genview.training", "--job", str(file)]
    processes = ["--nproc-per-node", str(job.run.gpus_per_node), *GRACE, *module]
    if job.run.nodes > 1:
        nodes = str(job.run.nodes)
        return ["bash", str(launcher), nodes, str(cores), sys.executable, "--nnodes", nodes, *processes]
    if job.run.gpus_per_node > 1:
        return [sys.executable, "-m", "genview.training.agent", "--standalone", *processes]
    return [sys.executable, *module]


def run(job: Job, file: Path, *, launcher: Path, log: Path, cores: int = 1) -> None:
    """Write the job file, start the processes, wait; a cluster's warning is handed on to them.

    Args:
        job: the run.
        file: where the job file goes.
        launcher: the script for several nodes.
        cores: per node.
        log: takes the processes' output.

    Raises:
        GenviewError: the run failed, or was stopped after saving a checkpoint; with the log's last lines.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(file, job.model_dump_json(indent=2) + "\n")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if job.run.nodes == 1:
        environment = process.as_starter(environment)
    marker = stopped_marker(job)
    marker.unlink(missing_ok=True)
    status, lines = 1, []
    for attempt in range(PORTS):
        # Over several nodes the processes meet at a port that none of them could look for: if it is taken, the next.
        words = command(job, file, launcher, cores)
        status, lines = _wait(words, {**environment, "GENVIEW_ATTEMPT": str(attempt)}, job.name, log)
        if not status or job.run.nodes == 1 or not any(_TAKEN.search(line) for line in lines):
            break
        logger.warning("run %s: the port of its processes was taken (attempt %d of %d)", job.name, attempt + 1, PORTS)
    last = "".join(lines[-LAST_LINES:])
    if status:
        saved = " after saving a checkpoint; the same command goes on from it" if marker.exists() else ""
        raise GenviewError(f"run {job.name} ended with status {status}{saved}. Its last lines ({log}):\n{last}")
    logger.info("run %s is done; its last lines:\n%s", job.name, last)


def stopped_marker(job: Job) -> Path:
    """By this file a run's processes say that they saved a checkpoint at a warning; torchrun has its own status."""
    return Path(job.logs) / "stopped"


def _wait(words: list[str], environment: dict[str, str], name: str, log: Path) -> tuple[int, list[str]]:
    """Start the processes and wait for their end; returns the status and what they said."""
    with log.open("a", encoding="utf-8") as output:
        start = output.tell()
        started = subprocess.Popen(
            words, stdout=output, stderr=subprocess.STDOUT, env=environment, pass_fds=shared_gpus.held()
        )

        # torchrun hands SIGTERM on to its workers but dies of SIGUSR1, so either warning becomes a SIGTERM.
        def warn(number: int) -> None:
            logger.warning("signal %d: asking run %s to save a checkpoint and stop", number, name)
            started.terminate()

        with process.on_warning(warn):
            status = started.wait()
    with log.open(encoding="utf-8", errors="replace") as text:
        text.seek(start)
        return status, text.readlines()
