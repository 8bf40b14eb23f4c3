"""How a stage runs: its log, its stamp of provenance, and errors that a person can read."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genview import progress, provenance
from genview.errors import GenviewError


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


@contextlib.contextmanager
def running(log: str | Path | None = None) -> Iterator[None]:
    """Run a stage: messages and progress go to its log, or to standard error without one.

    The terminal stays with the workflow, which prints the log of a job that failed. A user's error ends the stage with
    its message alone.
    """
    with contextlib.ExitStack() as stack:
        if log:
            Path(log).parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(log, "w", buffering=1, encoding="utf-8"))
            stack.callback(progress.configure_logging)  # what is said after the stage goes to standard error again
            stack.enter_context(contextlib.redirect_stderr(file))
        progress.configure_logging()
        logging.captureWarnings(True)
        try:
            yield
        except GenviewError as error:
            logging.getLogger("genview").error("%s", error)
            sys.exit(1)
        except Exception:
            logging.getLogger("genview").exception("the stage failed")
            sys.exit(1)
