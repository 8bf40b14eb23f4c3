"""The jobs of a study as they run: how many, how long, what each said last, and how long the rest may take."""

import datetime
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from genview import costs, made, words
from snakemake_logger_plugin_genview.reasons import in_words


def clock(seconds: float) -> str:
    """``0:00:07``."""
    return str(datetime.timedelta(seconds=round(seconds)))


def last_line(path: str) -> str:
    """What a log said last, without the time that stands before a message; nothing where there is no log yet."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 1000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return re.sub(r"^\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ ", "", lines[-1]) if lines else ""


def _hours(values: dict[str, Any], log: str) -> float:
    """What a job took when it made the artifacts that are there."""
    code = next((str(file) for file in values["input"] or () if "/code/" in str(file)), None)
    if code is None or not any(os.path.exists(file) for file in values["output"] or ()):
        return 0.0
    return costs.hours(made.results_of(code), log or None, values.get("benchmark"))


def seconds_left(line: str) -> float | None:
    """The time left in a line of ``genview.progress``."""
    found = re.search(r"(?:(\d+):)?(\d+):(\d+) left$", line)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return 3600 * hours + 60 * minutes + seconds if found else None


@dataclass
class Running:
    """A job that runs, or waits on a cluster."""

    rule: str
    label: str
    log: str
    reason: str
    hours: float = 0.0
    """What it took when it ran before, where its artifacts are there."""
    started: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """Rule and wildcards."""
        return f"{self.rule} {self.label}".rstrip()

    @property
    def elapsed(self) -> float:
        """Seconds since it was started or submitted."""
        return time.monotonic() - self.started


class Jobs:
    """Counts and times of a study's jobs."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.totals: dict[str, int] = {}
        self.running: dict[int, Running] = {}
        self.done: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()

    @property
    def count(self) -> str:
        """``3 of 48``."""
        return f"{self.done.total()} of {sum(self.totals.values())}"

    def plan(self, totals: dict[str, int]) -> None:
        """Take the number of jobs of each rule."""
        self.totals = {rule: number for rule, number in totals.items() if rule != "total"}

    def plan_in_words(self) -> str:
        """``48 jobs: 1 manifest, ...``."""
        counts = (f"{number} {rule}" for rule, number in self.totals.items())
        return f"{sum(self.totals.values())} jobs: {', '.join(counts)}"

    def start(self, values: dict[str, Any]) -> Running:
        """Take a job that starts."""
        label = "/".join(str(value) for value in (values["wildcards"] or {}).values())
        log = str(values["log"][0]) if values["log"] else ""
        outputs = values["output"]
        reason = in_words(values["reason"] or "", values["input"] or (), outputs) if outputs else ""
        job = Running(values["rule_name"], label, log, reason, _hours(values, log))
        self.running[values["jobid"]] = job
        return job

    def finish(self, number: int) -> Running | None:
        """Take a job that ended; None where it was not seen to start."""
        job = self.running.pop(number, None)
        if job:
            self.done[job.rule] += 1
            self.spent[job.rule] += job.elapsed
        return job

    def left(self) -> str:
        """How long the rest may take, from the mean time of each rule's jobs and how many ran side by side so far."""
        if not self.done:
            return ""
        means = {rule: self.spent[rule] / self.done[rule] for rule in self.done}
        for job in self.running.values():
            if (rest := seconds_left(last_line(job.log))) is not None:
                means.setdefault(job.rule, job.elapsed + rest)
        waiting = Counter(self.totals)
        waiting.subtract(self.done)
        waiting = +waiting
        unknown = [rule for rule in waiting if rule not in means and rule != list(self.totals)[-1]]
        work = sum(means.get(rule, 0.0) * number for rule, number in waiting.items())
        work -= sum(min(job.elapsed, means.get(job.rule, 0.0)) for job in self.running.values())
        spent = self.spent.total() + sum(job.elapsed for job in self.running.values())
        known = clock(work / max(1.0, spent / max(time.monotonic() - self.started, 1e-9)))
        return (
            f"at least {known} left (not timed yet: {words.listed(unknown, 2)})" if unknown else f"about {known} left"
        )

    def picture(self, height: int) -> list[Text]:
        """The running jobs in fewer lines than ``height``."""
        jobs = sorted(self.running.values(), key=lambda job: job.started)
        shown = jobs[: max(1, (height - 4) // 2)]
        head = (self.count, clock(time.monotonic() - self.started), self.left())
        lines = [Text(", ".join(filter(None, head)), "bold")]
        for job in shown:
            said = last_line(job.log)
            said = said.split(": ", 1)[-1] if seconds_left(said) is not None else said
            lines.append(Text(f"  {job.name}  {clock(job.elapsed)}  {said}"))
            of = f"{self.done[job.rule]} of {self.totals.get(job.rule, '?')} done"
            lines.append(Text(f"    {of}; log: {job.log or 'none'}", "dim"))
        if len(jobs) > len(shown):
            lines.append(Text(f"  and {len(jobs) - len(shown)} more jobs", "dim"))
        return lines
