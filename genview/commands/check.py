"""List everything that would stop a study."""

import argparse

from genview import preflight
from genview.commands.study import configuration
from genview.config import load

HELP = "list everything that would stop a study, without computing anything"
EXAMPLE = "genview check --config mine.yaml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after the command."""
    configuration(parser)


def run(options: argparse.Namespace) -> None:
    """Check a study.

    Raises:
        GenviewError: it cannot run; lists why.
    """
    study = load.load(options.config)
    preflight.require(study)
    if told := preflight.collection.told(study):
        print(f"{study.dataset.path}: {told}")
    print(f"{options.config}: the study {study.study!r} can run")
