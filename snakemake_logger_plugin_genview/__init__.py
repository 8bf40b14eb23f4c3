"""What a person sees while a study runs: ``snakemake --logger genview``, which profiles/default asks for.

In a terminal: a line for each job that ends and, below, the jobs that run, each with the last line of its log (done of
total, rate, time left) and the log's path. In a pipe: a line for each job that ends. In a dry-run: a line for each job
with the reason. Warnings and errors always appear in Snakemake's own words; ``--verbose`` shows all that it says, and
so does the file under ``.snakemake/log``.

Snakemake finds loggers by the name of their package, which therefore lies beside ``genview`` and not in it.
"""

import copy
import logging
import sys
import threading
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from genview import costs
from snakemake_logger_plugin_genview.jobs import Jobs, Running, clock

REFRESH = 0.5
"""Seconds between two pictures of the running jobs."""
ERASE = "\r\x1b[J"
"""To the start of the line, and nothing from there on; rich knows no such control."""
SILENT = (
    LogEvent.WORKFLOW_STARTED,
    LogEvent.JOB_STARTED,
    LogEvent.RESOURCES_INFO,
    LogEvent.PROGRESS,
    LogEvent.RULEGRAPH,
    LogEvent.JOB_INFO,
    LogEvent.JOB_FINISHED,
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
        stream = sys.stdout if settings.stdout else sys.stderr
        quiet = {str(getattr(word, "name", word)).lower() for word in settings.quiet or ()}
        self.console = Console(file=stream, no_color=settings.nocolor or None, highlight=False, soft_wrap=True)
        terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        self.live = terminal and not settings.dryrun and not quiet & {"all", "progress"}
        self.jobs = Jobs()
        self.hours = 0.0
        """That what a dry-run would make again took."""
        self.told: set[str] = set()
        self.stopped = threading.Event()
        self.painter: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write what a record says; a record that cannot be read is written as Snakemake would."""
        try:
            text = self._words(record)
        except Exception:
            text = self.format(record)
        style = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}.get(record.levelno, "")
        try:
            self._write(text, style)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Take the picture of running jobs away."""
        with self.lock:
            if self.painter and not self.stopped.is_set():
                self.stopped.set()
                self.console.file.write(ERASE)
                self.console.file.flush()
        super().close()

    def _words(self, record: logging.LogRecord) -> str:
        event, values, settings = getattr(record, "event", None), record.__dict__, self.common_settings
        line = ""
        if event == LogEvent.RUN_INFO:
            self.jobs.plan(values["stats"])
        elif event == LogEvent.JOB_INFO:
            job = self.jobs.start(values)
            self._paint()
            line = self._planned(job) if settings.dryrun and job.reason else ""
        elif event == LogEvent.JOB_FINISHED and (job := self.jobs.finish(values["job_id"])):
            # A target by name makes nothing, and has no reason.
            line = f"[{self.jobs.count}] {job.name}" + (f", {clock(job.elapsed)} ({job.reason})" if job.reason else "")
        elif event == LogEvent.JOB_ERROR:
            self.jobs.running.pop(values["jobid"], None)
            record = copy.copy(record)
            record.input = []  # mostly the files of the code
        if line and not (settings.verbose and settings.dryrun):
            return line
        text = self.format(record).rstrip()
        if settings.verbose or record.levelno >= logging.WARNING:
            return text
        if event in SILENT or (event is None and text.startswith(CHATTER)):
            return ""
        if event == LogEvent.RUN_INFO and not settings.dryrun:
            return self.jobs.plan_in_words()
        if event == LogEvent.RUN_INFO and text in self.told:  # said before and after the jobs of a dry-run
            return f"What there is of these took {costs.amount(self.hours)}" if self.hours else ""
        self.told.add(text)
        return text

    def _planned(self, job: Running) -> str:
        """A job of a dry-run: why it would run, and what it took when it ran before."""
        self.hours += job.hours
        return f"{job.name}: {job.reason}" + (f" (took {costs.amount(job.hours)})" if job.hours else "")

    def _paint(self) -> None:
        """Begin to show the running jobs."""
        if self.live and self.painter is None:
            self.painter = threading.Thread(target=self._repaint, daemon=True)
            self.painter.start()

    def _repaint(self) -> None:
        while not self.stopped.wait(REFRESH):
            with self.lock:
                if not self.stopped.is_set():
                    self._write("")

    def _write(self, text: str, style: Any = "") -> None:
        """Write a text, and the running jobs below it.

        The cursor is left at the first line of the jobs: what others print (a job's own standard error) lands there
        and pushes the jobs down. Under rich's own live display it would be painted over.
        """
        with self.console:
            if self.painter and not self.stopped.is_set():
                self.console.file.write(ERASE)
            if text:
                self.console.print(Text(text, style))
            if self.painter and not self.stopped.is_set():
                lines = self.jobs.picture(self.console.height)
                width = self.console.width - 1
                picture = Text("\n").join(lines)
                self.console.print(picture, end="\r", width=width, soft_wrap=False, no_wrap=True, overflow="ellipsis")
                self.console.control(Control.move(0, 1 - len(lines)))
