"""Why earlier attempts of a cluster's job failed, as its own log says: what the next one asks for follows from it."""

import os
import re
from collections import Counter
from pathlib import Path

_REASONS = {
    "time": re.compile(rb"DUE TO TIME LIMIT"),
    "memory": re.compile(
        rb"oom[_-]kill|out of memory|exceeded (job )?memory limit|memory limit .*exceeded|MemoryError|"
        rb"CANCELLED .*DUE TO MEMORY|Exceeded job memory",
        re.IGNORECASE,
    ),
    "node": re.compile(rb"DUE TO NODE FAIL|DUE TO PREEMPTION", re.IGNORECASE),
}
_TAIL = 20_000
"""Bytes at the end of a log in which the reason stands."""


def reasons(folder: Path, since: float) -> Counter[str]:
    """How many attempts ended for each reason: ``time``, ``memory``, ``node``, or ``other``.

    Args:
        folder: where SLURM wrote the logs of one job's attempts; the executor removes those of attempts that succeeded.
        since: when the workflow started, in seconds; older logs are of earlier starts.
    """
    found: Counter[str] = Counter()
    for path in folder.glob("*.log"):
        if path.stat().st_mtime < since:
            continue
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read()
        found[next((name for name, pattern in _REASONS.items() if pattern.search(text)), "other")] += 1
    return found
