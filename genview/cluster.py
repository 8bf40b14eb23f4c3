"""Jobs that a killed workflow left on a SLURM cluster: found before they would be submitted a second time."""

import getpass
import logging
import shutil
import subprocess
from pathlib import Path

from genview.errors import GenviewError

logger = logging.getLogger("genview")

QUEUE = ("squeue", "--noheader", "--array", "--format=%i|%j|%Z")
"""Job, name and working folder of what waits or runs. The executor names a workflow's jobs after its start."""


def left_behind(folder: Path, artifacts: str) -> list[str]:
    """Ids of the SLURM jobs that earlier starts of the same study, in the same folder, left behind.

    A start is recognised by its log below ``.snakemake/log``, which names its jobs and their artifacts. Without a log a
    job in this folder counts as the study's.

    Args:
        folder: where the workflow runs.
        artifacts: the study's folder of results, as the workflow writes it.
    """
    if shutil.which("squeue") is None:
        return []
    try:
        queue = subprocess.run(
            [*QUEUE, f"--user={getpass.getuser()}"], check=True, capture_output=True, text=True, timeout=60
        ).stdout
    except (subprocess.SubprocessError, OSError) as error:
        logger.info("whether jobs of an earlier start are on the cluster is not known: %s", error)
        return []
    starts: dict[str, list[str]] = {}
    for line in queue.splitlines():
        job, start, where = line.split("|", 2)
        if Path(where) == folder:
            starts.setdefault(start, []).append(job)
    logs = [path.read_text(encoding="utf-8", errors="replace") for path in folder.glob(".snakemake/log/*.log")]
    found = []
    for start, jobs in starts.items():
        log = next((text for text in logs if start in text), None)
        if log is None or f"{artifacts}/" in log:
            found += jobs
    return found


def refuse_doubles(folder: Path, artifacts: str) -> None:
    """Stop if jobs of an earlier start of the study are still waiting or running.

    Raises:
        GenviewError: there are some; with their ids and what to do.
    """
    jobs = " ".join(left_behind(folder, artifacts))
    if jobs:
        raise GenviewError(
            f"jobs of an earlier start of this study are still on the cluster, and would be submitted twice: {jobs}. "
            f"End them (scancel {jobs}), or let them finish if no setting has changed since they were submitted; "
            "then type the same command again"
        )
