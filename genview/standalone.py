"""A stage by itself: ``genview.<stage>`` run as a module, on files that are given, without a workflow.

Settings come from a study's configuration, files from the command line, and everything is written to one folder. The
exit status is 0, or 1 after a sentence that says what is wrong.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from genview import progress, provenance
from genview.config import load
from genview.config.study import Study
from genview.errors import GenviewError

CONFIGURATION = "config/config.yaml"


def parser(stage: str, description: str | None, *, manifest: bool = True) -> argparse.ArgumentParser:
    """The options that stages share.

    Args:
        stage: its package.
        description: what the command does.
        manifest: whether the stage works on the images of a manifest.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m genview.{stage}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--config", default=CONFIGURATION, metavar="FILE", help="the settings: a study's configuration (%(default)s)"
    )
    made.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="where to write")
    if manifest:
        made.add_argument("--manifest", required=True, type=Path, metavar="FILE", help="manifest.parquet of the images")
    return made


def stamp(stage: str, study: Study) -> dict[str, str]:
    """What a table says of its origin."""
    return {
        "stage": stage,
        "study": study.study,
        "parameters": provenance.digest(study.model_dump(mode="json")),
        "code": provenance.code_digest(f"genview.{stage}.__main__"),
    }


def loaders(cores: int) -> int:
    """Processes that decode images beside a GPU, of a rule's cores and this machine's; without a GPU none."""
    import torch  # a stage of tables alone does not wait for it

    return min(cores, len(os.sched_getaffinity(0))) - 1 if torch.cuda.is_available() else 0


def run(options: argparse.Namespace, work: Callable[[Study, argparse.Namespace], None]) -> None:
    """Do a stage's work and end the process.

    Args:
        options: of the command line.
        work: gets the study and the options.
    """
    progress.configure_logging()
    try:
        options.to.mkdir(parents=True, exist_ok=True)
        work(load.load(options.config), options)
    except (GenviewError, OSError) as error:
        logging.getLogger("genview").error("%s", error)
        sys.exit(1)
