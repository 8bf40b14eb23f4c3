"""What a study's jobs took: every attempt at an artifact, those that were stopped or killed too.

The workflow's own benchmark files hold the last attempt that ended well. So each job keeps a count beside them, in
``costs/<path of its log>.attempts``: the seconds of all attempts since the artifact was last made otherwise.
"""

import contextlib
import csv
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genview import atomic, usage, words

SUFFIX = ".attempts"


def attempts_of(results: str | Path, log: str | Path) -> Path:
    """Where the attempts of a job are counted, by its log below ``<results>/logs``."""
    place = Path(log).relative_to(Path(results) / "logs")
    return Path(results, "costs", place.parent, f"{place.stem}{SUFFIX}")


def read(file: str | Path) -> dict[str, Any]:
    """A job's count; empty if there is none.

    ``seconds``, those of the ``last`` attempt, ``attempts``, ``gpus``, and of jobs that read images the shares of
    `usage.Usage` in the last attempt.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def counted(file: str | Path, log: str | Path, made_from: str, gpus: int) -> Iterator[None]:
    """Count the time of an attempt, however it ends.

    An attempt that was killed could not say so: it lasted until it last wrote to its log, which the next one reads
    before it begins a new log.

    Args:
        file: the count (`attempts_of`).
        log: of the job, still that of the attempt before.
        made_from: digest of code and settings; the attempts of others are forgotten.
        gpus: that the job holds.
    """
    before = read(file)
    if before.get("made_from") != made_from:
        before = {}
    seconds = float(before.get("seconds", 0.0))
    if (began := before.get("began")) and Path(log).is_file():
        seconds += max(0.0, Path(log).stat().st_mtime - began)
    count = {"made_from": made_from, "gpus": gpus, "attempts": int(before.get("attempts", 0)) + 1}
    start, clock = time.time(), time.perf_counter()
    usage.begin()
    atomic.write_json(file, {**count, "seconds": seconds, "began": start})
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # a full disk has said so already
            last = time.perf_counter() - clock
            atomic.write_json(file, {**count, "seconds": seconds + last, "last": last, **usage.shares()})


def benchmark_seconds(file: str | Path) -> float:
    """Wall-clock seconds in one of the workflow's benchmark files; 0 where there is none."""
    try:
        with open(file, newline="", encoding="utf-8") as handle:
            return sum(float(row.get("s") or 0) for row in csv.DictReader(handle, delimiter="\t"))
    except (OSError, ValueError):
        return 0.0


def hours(results: str | Path, log: str | Path | None, benchmark: str | Path | None = None) -> float:
    """Hours that a job took by the wall clock, all attempts together; with several GPUs, times their number."""
    found = {}
    if log:
        with contextlib.suppress(ValueError):  # the log of a job that is not part of the study
            found = read(attempts_of(results, log))
    seconds = max(float(found.get("seconds", 0.0)), benchmark_seconds(benchmark) if benchmark else 0.0)
    return seconds / 3600 * max(1, int(found.get("gpus", 1)))


@dataclass(frozen=True)
class Remade:
    """A job that would make again what is there.

    Attributes:
        rule: its rule.
        causes: what changed, in words; of code, of settings, or of files.
        hours: what it took.
        code: whether its own code has changed, so that its artifacts can be accepted.
    """

    rule: str
    causes: tuple[str, ...]
    hours: float
    code: bool = False


def in_words(jobs: Iterable[Remade]) -> list[str]:
    """A line for each change: what it remakes, and what that took; the dearest first."""
    spent: dict[tuple[str, ...], dict[str, float]] = {}
    number: Counter[tuple[tuple[str, ...], str]] = Counter()
    for job in jobs:
        rules = spent.setdefault(job.causes, {})
        rules[job.rule] = rules.get(job.rule, 0.0) + job.hours
        number[job.causes, job.rule] += 1
    lines = []
    for causes, rules in sorted(spent.items(), key=lambda item: -sum(item[1].values())):
        dearest = sorted(rules.items(), key=lambda item: -item[1])
        told = [f"{rule} {amount(time)} ({number[causes, rule]:,})" for rule, time in dearest if time]
        lines.append(f"{words.listed(causes, 4) or 'needed again'}: {words.listed(told, 8) or 'no time to speak of'}")
    return lines


def amount(time: float) -> str:
    """``620 hours``, ``3.5 hours``, ``12 minutes``."""
    if time < 1:
        return f"{math.ceil(time * 60)} minutes"
    return f"{time:,.0f} hours" if time >= 10 else f"{time:.1f} hours"


def objection(jobs: Sequence[Remade], confirm_hours: float) -> str | None:
    """Why a plan is not begun without a word from the user, and what to write; None: it may begin."""
    total = sum(job.hours for job in jobs)
    if total <= confirm_hours:
        return None
    lines = "\n".join(f"  - {line}" for line in in_words(jobs))
    rules = sorted({job.rule for job in jobs if job.code})
    accept = (
        "\nTo let what is there stand under today's code, because the change alters no result:\n"
        f'  python -m genview accept {" ".join(rules)} --reason "..."'
        if rules
        else "\nTo keep what is there, set back what changed."
    )
    return (
        f"this would make again what took {amount(total)}, more than confirm_hours ({confirm_hours:g}):\n{lines}\n"
        f"To make it again, the same command with\n  --config confirm_hours={math.ceil(total)}{accept}"
    )
