"""How a stage runs: its log, its stamp of provenance, and errors that a person can read."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from genview import atomic, costs, made, process, progress, provenance, shared_gpus, usage
from genview.config.merge import merged
from genview.errors import GenviewError
from genview.kept import Earlier

RECORDS = ("code", "settings", "collection", "given")
"""Inputs of a rule that are records, each named by the digest of what it holds."""


@dataclass(frozen=True)
class Running:
    """A job of the workflow as its script sees it.

    Attributes:
        settings: of the rule, from their record.
        stamp: metadata of its artifacts: stage, study, a digest of the parameters and one of the code.
        earlier: the artifacts before, of a stage that takes unchanged rows over.
    """

    settings: dict[str, Any]
    stamp: dict[str, str]
    earlier: Earlier


@contextlib.contextmanager
def job(snakemake: Any, stage: str) -> Iterator[Running]:
    """Run a script of the workflow: log, GPUs, settings and stamp from its ``snakemake`` object, which records it used.

    Args:
        snakemake: what Snakemake gives to a script.
        stage: its name, for the stamp.
    """
    log = next(iter(snakemake.log), None)
    records = {kind: str(snakemake.input.get(kind)) for kind in RECORDS if _is_record(snakemake.input.get(kind))}
    artifact, gpus = snakemake.output[0], snakemake.resources.get("gpu", 0)
    with _counted(log, records, gpus), running(log, gpus=gpus):
        found = settings(records["settings"]) if "settings" in records else {}
        stamp = {
            "stage": stage,
            "study": str(found.get("study", "")),
            "parameters": digest_of(records["settings"]) if "settings" in records else "",
            "code": digest_of(records["code"]) if "code" in records else "",
        }
        made.begin(artifact, records)
        yield Running(found, stamp, Earlier(artifact, stamp["code"], _accepted(records, artifact, stamp["code"])))
        outputs = sorted(os.path.relpath(path, Path(artifact).parent) for path in snakemake.output[1:])
        made.finish(artifact, records, rule=snakemake.rule, stage=stage, outputs=outputs)
        if said := usage.in_words(usage.shares()):
            logging.getLogger("genview").info("%s", said)


def _accepted(records: dict[str, str], artifact: str, code: str) -> set[tuple[str, str]]:
    """Artifacts beside this one that stand under today's code, and the code that made each."""
    if "code" not in records:
        return set()
    results = made.results_of(records["code"])
    folder = Path(artifact).parent
    return {
        (Path(entry["artifact"]).name, entry["made"])
        for entry in made.accepted(results)
        if entry["code"] == code and results / Path(entry["artifact"]).parent == folder
    }


def _counted(log: str | None, records: dict[str, str], gpus: int) -> contextlib.AbstractContextManager[None]:
    """Count what the job takes, below the folder of the study, which its record of code is in."""
    if not log or "code" not in records:
        return contextlib.nullcontext()
    try:
        file = costs.attempts_of(made.results_of(records["code"]), log)
    except ValueError:  # its log is elsewhere
        return contextlib.nullcontext()
    made_from = provenance.digest([digest_of(records[kind]) for kind in ("code", "settings") if kind in records])
    return costs.counted(file, log, made_from, gpus)


def _is_record(path: Any) -> bool:
    return isinstance(path, str) and path.endswith(".json")


def digest_of(record: str | Path) -> str:
    """The digest that names a record (`provenance.record`)."""
    return Path(record).name.split(".")[0]


def _runtime_of(record: str | Path) -> Path:
    return Path(record).with_name(f"{digest_of(record)}.runtime")


def write_runtime(record: str | Path, values: dict[str, Any]) -> None:
    """Keep settings that change no result beside the record of those that do; a job reads both."""
    path, text = _runtime_of(record), json.dumps(values, sort_keys=True, ensure_ascii=False)
    if values and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        atomic.write_text(path, text)


def settings(record: str | Path) -> dict[str, Any]:
    """The settings of a rule, from the file that is their record and the one beside it (`write_runtime`)."""
    found = json.loads(Path(record).read_text(encoding="utf-8"))
    runtime = _runtime_of(record)
    return merged(found, json.loads(runtime.read_text(encoding="utf-8"))) if runtime.is_file() else found


@contextlib.contextmanager
def running(log: str | Path | None = None, *, gpus: int = 0) -> Iterator[None]:
    """Run a stage: messages and progress go to its log, or to standard error without one.

    The terminal stays with the workflow, which prints the log of a job that failed. A user's error ends the stage with
    its message alone.

    Args:
        log: where messages go.
        gpus: how many the stage needs. On a machine whose jobs share them it waits for that many and sees no others; a
            stage that needs none sees none.
    """
    terminal = sys.stderr
    process.end_with_starter()
    with contextlib.ExitStack() as stack:
        if log:
            Path(log).parent.mkdir(parents=True, exist_ok=True)
            file = open(log, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - closed by _close
            stack.callback(_close, file)
            stack.callback(progress.configure_logging)  # what is said after the stage goes to standard error again
            stack.enter_context(contextlib.redirect_stderr(file))
        progress.configure_logging()
        logging.captureWarnings(True)
        if log:
            stack.enter_context(_told_in(terminal))
        process.keep_freed_memory()
        try:
            with shared_gpus.claimed(gpus):
                yield
        except Exception as error:
            _report(error, terminal if log else None)
            sys.exit(1)


@contextlib.contextmanager
def _told_in(terminal: TextIO) -> Iterator[None]:
    """Show what is logged with ``extra={"terminal": True}`` where the command was typed, too: what a person must see
    although the stage goes on.
    """
    handler = logging.StreamHandler(terminal)
    handler.addFilter(lambda record: getattr(record, "terminal", False))
    handler.setFormatter(logging.Formatter("genview: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _report(error: Exception, terminal: TextIO | None) -> None:
    logger = logging.getLogger("genview")
    reason = atomic.refusal(error)
    if isinstance(error, GenviewError):
        message = str(error)
    elif reason:
        message = f"{getattr(error, 'filename', None) or 'a file of the study'}: {reason}"
    else:
        logger.exception("the stage failed")
        return
    logger.error("%s", message)
    if reason and terminal:  # a full disk has no room for the log either
        print(f"genview: {message}", file=terminal, flush=True)


def _close(file: TextIO) -> None:
    with contextlib.suppress(OSError):  # what a full disk did not take is written again, and refused again
        file.close()
