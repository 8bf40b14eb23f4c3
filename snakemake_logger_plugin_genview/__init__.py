"""What a person sees while a study runs: ``snakemake --logger genview``, which profiles/default asks for.

In a terminal: a line for each job that ends and, below, the jobs that run, each with the last line of its log (done of
total, rate, time left) and the log's path. In a pipe: a line for each job that ends. In a dry-run: a line for each job
with the reason. Warnings and errors always appear in Snakemake's own words; ``--verbose`` shows all that it says, and
so does the file under ``.snakemake/log``.

Snakemake finds loggers by the name of their package, which therefore lies beside ``genview`` and not in it.
"""

import copy
import json
import logging
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

REFRESH = 0.5
"""Seconds between two pictures of the running jobs."""
FILES = 3
"""Files that a reason names."""
ERASE = "\r\x1b[J"
"""To the start of the line, and nothing from there on."""
BOLD, DIM, RED, YELLOW, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
SILENT = (
    LogEvent.WORKFLOW_STARTED,
    LogEvent.JOB_STARTED,
    LogEvent.RESOURCES_INFO,
    LogEvent.PROGRESS,
    LogEvent.RULEGRAPH,
)
CHATTER = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Using shell:",
    "Conda environments: ignored",
    "Singularity containers: ignored",
    "Select jobs to execute",
    "Job rate limit reached",
    "Some jobs were triggered by provenance information",
    "Rules with provenance triggered jobs",
)
"""Remarks that say nothing about the study."""
AFTER = "after earlier jobs"
OTHER = "other inputs"
RECORDS = {"code": "/code/", "settings": "/settings/"}
"""In the paths of the files that stand for a job's code and settings; see ``record`` in `workflow/rules/common.smk`."""
REASONS = {
    "Missing output files": "new",
    "Incomplete output files": "unfinished",
    "Updated input files": "changed: {files}",
    "Input files updated by another job": AFTER,
    "Code has changed since last execution": "script changed",
    "Set of input files has changed since last execution": OTHER,
    "Forced execution": "forced",
}
"""Snakemake's reasons in a few words."""


def in_words(reason: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> str:
    """Why a job runs; reasons without words of their own stay as they are."""
    records = {file: kind for file in inputs for kind, part in RECORDS.items() if part in file}
    previous = {file: before for file in records if (before := previous_record(Path(file), outputs))}
    words = []
    for part in reason.split("; "):
        name, _, rest = part.partition(": ")
        text = REASONS.get(name, part)
        if "{files}" in text:
            files = [file for file in rest.split(", ") if file and file not in previous]
            if not files:  # what was updated is updated by another job, or is told below
                continue
            more = f" and {len(files) - FILES} more" if len(files) > FILES else ""
            text = text.format(files=", ".join(files[:FILES]) + more)
        if text and not (previous and text == OTHER):
            words.append(text)
    for file, before in previous.items():
        words.append(", ".join([f"{records[file]} changed", *changes(before, Path(file))]))
    first = [text for text in words if text != AFTER]  # a new file says enough
    return ", ".join(first or words)


def previous_record(record: Path, outputs: Sequence[str]) -> Path | None:
    """The record that outputs were made with, if it was another: the newest that is not newer than they."""
    try:
        made = min(os.stat(file).st_mtime_ns for file in outputs)
        times = {file: file.stat().st_mtime_ns for file in record.parent.glob("*.json")}
    except (OSError, ValueError):
        return None
    newest = max((file for file in times if times[file] <= made), key=times.get, default=record)
    return newest if newest != record else None


def changes(before: Path, now: Path) -> list[str]:
    """The settings, or files of code, in which two records differ."""
    named = []

    def compare(old: Any, new: Any, path: str) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for key in {**old, **new}:
                compare(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        elif old != new and path:
            values = f" from {old!r} to {new!r}"
            named.append(path + (values if len(values) < 40 else ""))

    compare(*(json.loads(path.read_text(encoding="utf-8")) for path in (before, now)), "")
    return named[:FILES] + ([f"{len(named) - FILES} more"] if len(named) > FILES else [])


def clock(seconds: float) -> str:
    """``0:07``, ``12:30``, ``3:05:00``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


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


def seconds_left(line: str) -> float | None:
    """The time left in a line of ``genview.progress``."""
    found = re.search(r"(?:(\d+):)?(\d+):(\d+) left$", line)
    if not found:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


@dataclass
class Job:
    """A job that runs, or waits on a cluster."""

    rule: str
    label: str
    log: str
    reason: str
    started: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """Rule and wildcards."""
        return f"{self.rule} {self.label}".rstrip()

    @property
    def elapsed(self) -> float:
        """Seconds since it was started or submitted."""
        return time.monotonic() - self.started


class Progress:
    """Counts and times of a study's jobs."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.totals: dict[str, int] = {}
        self.running: dict[int, Job] = {}
        self.done: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()

    @property
    def count(self) -> str:
        """``3 of 48``."""
        return f"{self.done.total()} of {sum(self.totals.values())}"

    def plan(self, totals: dict[str, int]) -> None:
        """Take the number of jobs of each rule."""
        self.totals = {rule: number for rule, number in totals.items() if rule != "total"}

    def start(self, values: dict[str, Any]) -> Job:
        """Take a job that starts."""
        label = "/".join(str(value) for value in (values["wildcards"] or {}).values())
        log = str(values["log"][0]) if values["log"] else ""
        outputs = values["output"]
        reason = in_words(values["reason"] or "", values["input"] or (), outputs) if outputs else ""
        job = Job(values["rule_name"], label, log, reason)
        self.running[values["jobid"]] = job
        return job

    def finish(self, number: int) -> Job | None:
        """Take a job that ended; None where it was not seen to start."""
        job = self.running.pop(number, None)
        if job:
            self.done[job.rule] += 1
            self.spent[job.rule] += job.elapsed
        return job

    def left(self) -> str:
        """How long the rest may take, from the mean time of each rule's jobs and how many ran side by side so far."""
        means = {rule: self.spent[rule] / self.done[rule] for rule in self.done}
        for job in self.running.values():
            rest = seconds_left(last_line(job.log))
            if rest is not None:
                means.setdefault(job.rule, job.elapsed + rest)
        waiting = Counter(self.totals)
        waiting.subtract(self.done)
        waiting = +waiting
        unknown = [rule for rule in waiting if rule not in means and rule != list(self.totals)[-1]]
        work = sum(means.get(rule, 0.0) * number for rule, number in waiting.items())
        work -= sum(min(job.elapsed, means.get(job.rule, 0.0)) for job in self.running.values())
        spent = self.spent.total() + sum(job.elapsed for job in self.running.values())
        side_by_side = max(1.0, spent / max(time.monotonic() - self.started, 1e-9))
        if not self.done:
            return ""
        known = clock(work / side_by_side)
        if not unknown:
            return f"about {known} left"
        more = f" and {len(unknown) - 2} more" if len(unknown) > 2 else ""
        return f"at least {known} left (not timed yet: {', '.join(unknown[:2])}{more})"

    def picture(self, width: int, height: int) -> list[str]:
        """The running jobs as lines of at most ``width`` cells, fewer than ``height``."""
        jobs = sorted(self.running.values(), key=lambda job: job.started)
        shown = jobs[: max(1, (height - 4) // 2)]
        head = ", ".join(text for text in (self.count, clock(time.monotonic() - self.started), self.left()) if text)
        lines = [(head, BOLD)]
        for job in shown:
            said = last_line(job.log)
            of = f"{self.done[job.rule]} of {self.totals.get(job.rule, '?')} done" if self.totals else ""
            parts = (job.name, clock(job.elapsed), said.split(": ", 1)[-1] if seconds_left(said) is not None else said)
            lines.append((f"  {'  '.join(parts)}", ""))
            lines.append((f"    {of}; log: {job.log or 'none'}", DIM))
        if len(jobs) > len(shown):
            lines.append((f"  and {len(jobs) - len(shown)} more jobs", DIM))
        cut = [(text if cell_len(text) < width else set_cell_size(text, width - 1), style) for text, style in lines]
        return [f"{style}{text}{PLAIN if style else ''}" for text, style in cut]


class LogHandler(LogHandlerBase):
    """Snakemake's messages, told shorter."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Decide where and how to write."""
        settings = self.common_settings
        self.stream = sys.stdout if settings.stdout else sys.stderr
        terminal = self.stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        quiet = {str(getattr(word, "name", word)).lower() for word in settings.quiet or ()}
        self.coloured = terminal and not settings.nocolor and "NO_COLOR" not in os.environ
        self.live = terminal and not settings.dryrun and not quiet & {"all", "progress"}
        self.progress = Progress()
        self.told: set[str] = set()
        self.stopped = threading.Event()
        self.painter: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write what a record says; a record that cannot be read is written as Snakemake would."""
        try:
            text = self._words(record)
        except Exception:
            text = self.format(record)
        try:
            self._write(text)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Take the picture of running jobs away."""
        self.acquire()
        try:
            if self.painter and not self.stopped.is_set():
                self.stopped.set()
                self.stream.write(ERASE)
                self.stream.flush()
        finally:
            self.release()
        super().close()

    def _words(self, record: logging.LogRecord) -> str:
        event = getattr(record, "event", None)
        values = record.__dict__
        if event == LogEvent.RUN_INFO:
            self.progress.plan(values["stats"])
        if event == LogEvent.JOB_INFO:
            job = self.progress.start(values)
            if self.common_settings.dryrun and not self.common_settings.verbose:
                return f"{job.name}: {job.reason}" if job.reason else ""
            self._paint()
        if event == LogEvent.JOB_FINISHED:
            job = self.progress.finish(values["job_id"])
            if job and job.reason:
                return f"[{self.progress.count}] {job.name}, {clock(job.elapsed)} ({job.reason})"
            if job:  # a target by name
                return f"[{self.progress.count}] {job.name}"
        if event == LogEvent.JOB_ERROR:
            self.progress.running.pop(values["jobid"], None)
        if self.common_settings.verbose:
            return self.format(record)
        if record.levelno >= logging.WARNING:
            return self._trouble(record)
        if event in SILENT or event in (LogEvent.JOB_INFO, LogEvent.JOB_FINISHED):
            return ""
        text = self.format(record).rstrip()
        if event is None and text.startswith(CHATTER):
            return ""
        if event == LogEvent.RUN_INFO and not self.common_settings.dryrun:
            counts = (f"{number} {rule}" for rule, number in self.progress.totals.items())
            return f"{sum(self.progress.totals.values())} jobs: {', '.join(counts)}"
        if event == LogEvent.RUN_INFO:  # said before and after the jobs of a dry-run
            text = "" if text in self.told else text
            self.told.add(text)
        return text

    def _trouble(self, record: logging.LogRecord) -> str:
        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            record = copy.copy(record)
            record.input = []  # mostly the files of the code
        text = self.format(record).rstrip()
        colour = RED if record.levelno >= logging.ERROR else YELLOW
        return f"{colour}{text}{PLAIN}" if self.coloured and text else text

    def _paint(self) -> None:
        """Begin to show the running jobs."""
        if self.live and self.painter is None:
            self.painter = threading.Thread(target=self._repaint, daemon=True)
            self.painter.start()

    def _repaint(self) -> None:
        while not self.stopped.wait(REFRESH):
            self.acquire()
            try:
                if not self.stopped.is_set():
                    self._write("")
            finally:
                self.release()

    def _write(self, text: str) -> None:
        """Write a text, and the running jobs below it.

        The cursor is left at the first line of the jobs: what others print (a job's own standard error) lands there
        and pushes the jobs down, instead of being painted over.
        """
        if not self.painter or self.stopped.is_set():
            if text:
                self.stream.write(f"{text}\n")
                self.stream.flush()
            return
        size = os.get_terminal_size(self.stream.fileno())
        lines = self.progress.picture(size.columns or 80, size.lines or 24)
        if not self.coloured:
            lines = [re.sub(r"\x1b\[\d*m", "", line) for line in lines]
        back = f"\r\x1b[{len(lines) - 1}A" if len(lines) > 1 else "\r"
        self.stream.write(ERASE + (f"{text}\n" if text else "") + "\n".join(lines) + back)
        self.stream.flush()
