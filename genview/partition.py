"""What a SLURM partition offers: a job that asks for more would be refused, or wait for ever without a word."""

import functools
import logging
import re
import shutil
import subprocess
from typing import NamedTuple

logger = logging.getLogger("genview")

NODES = ("sinfo", "--noheader", "--Node", "--format=%P|%c|%m|%l|%G")
"""A line for each node and partition: partition (the default one with a star), cores, MiB, time limit, GPUs."""

_GPUS = re.compile(r"gpu(?::[^:,(]+)?:(\d+)")


class Limits(NamedTuple):
    """The largest node of some partitions, and their longest time; None: no limit."""

    cores: int
    memory_mb: int
    gpus: int
    minutes: int | None


def minutes(text: str) -> int | None:
    """SLURM's writing of a time (``days-hours:minutes:seconds``, ``minutes:seconds``); None: without end."""
    if not re.fullmatch(r"[\d:-]+", text):
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, mins = (*parts, 0)[:2]
        return int(days) * 1440 + hours * 60 + mins
    hours, mins = (parts[0], parts[1]) if len(parts) == 3 else (0, parts[0])
    return hours * 60 + mins


@functools.cache
def _nodes() -> tuple[tuple[str, bool, Limits], ...]:
    """Partition, whether it is the default, and one of its nodes."""
    if shutil.which(NODES[0]) is None:
        return ()
    try:
        text = subprocess.run(NODES, check=True, capture_output=True, text=True, timeout=60).stdout
    except (subprocess.SubprocessError, OSError) as error:
        logger.info("what the cluster's partitions offer is not known: %s", error)
        return ()
    found = []
    for line in text.splitlines():
        name, cores, memory, time, gres = line.split("|", 4)
        gpus = sum(int(number) for number in _GPUS.findall(gres))
        node = Limits(int(re.sub(r"\D", "", cores)), int(re.sub(r"\D", "", memory)), gpus, minutes(time))
        found.append((name.rstrip("*"), name.endswith("*"), node))
    return tuple(found)


@functools.cache
def limits(partitions: str | None) -> Limits | None:
    """The most that a job may ask for of a partition, or of several (``a,b``); None where it is not known.

    Args:
        partitions: None or an empty name: the cluster's default partition.
    """
    names = partitions.split(",") if partitions else []
    nodes = [node for name, default, node in _nodes() if (name in names if names else default)]
    if not nodes:
        return None
    times = [node.minutes for node in nodes]
    return Limits(
        cores=max(node.cores for node in nodes),
        memory_mb=max(node.memory_mb for node in nodes),
        gpus=max(node.gpus for node in nodes),
        minutes=None if None in times else max(time for time in times if time is not None),
    )


def excess(partitions: str | None, *, cores: int, memory_mb: int, gpus: int, time: int) -> list[str]:
    """What a job asks for that no node of the partitions has, in words; per node, ``time`` in minutes."""
    most = limits(partitions)
    if most is None:
        return []
    asked = (("cores", cores, most.cores), ("MB", memory_mb, most.memory_mb), ("GPUs", gpus, most.gpus))
    found = [f"{amount} {what} of {there}" for what, amount, there in asked if amount > there]
    if most.minutes is not None and time > most.minutes:
        found.append(f"{time} minutes of {most.minutes}")
    return found
