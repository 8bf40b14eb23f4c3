"""How a stage runs: its log, its stamp of provenance, and errors that a person can read."""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from genview import atomic, devices, progress, provenance
from genview.errors import GenviewError
from genview.parent import end_with_parent


def stamp(stage: str, study: str, settings: Any, *modules: str) -> dict[str, str]:
    """Metadata of an artifact: the stage, the study, a digest of its parameters and one of its code.

    Args:
        stage: name of the stage, as in the workflow.
        study: name of the study.
        settings: the parameters that reach the artifact; anything JSON can hold.
        modules: the modules that make it; the digest covers their import closure inside the package.
    """
    return {
        "stage": stage,
        "study": study,
        "parameters": provenance.digest(settings),
        "code": provenance.code_digest(*modules),
    }


def settings(record: str | Path) -> dict[str, Any]:
    """The settings of a rule, from the file that is their record (`provenance.record`)."""
    return json.loads(Path(record).read_text(encoding="utf-8"))


@contextlib.contextmanager
def running(log: str | Path | None = None, *, gpus: int = 0) -> Iterator[None]:
    """Run a stage: messages and progress go to its log, or to standard error without one.

    The terminal stays with the workflow, which prints the log of a job that failed. A user's error ends the stage with
    its message alone.

    Args:
        log: where messages go.
        gpus: how many the stage needs. On a machine whose jobs share them it waits for so many and sees no others; a
            stage that needs none sees none.
    """
    terminal = sys.stderr
    end_with_parent()
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
        try:
            with devices.claimed(gpus):
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
