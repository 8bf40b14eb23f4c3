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
    """Run a stage: messages go to standard error and to the log; a user's error ends it with its message alone."""
    progress.configure_logging()
    if log:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log, mode="w", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.captureWarnings(True)
    try:
        yield
    except GenviewError as error:
        logging.getLogger("genview").error("%s", error)
        sys.exit(1)
    except Exception:
        logging.getLogger("genview").exception("the stage failed")
        sys.exit(1)
