"""Fetch the models and data sets that a study needs, check them, and pin their revisions in a lock.

Everything goes into the hub's own cache (HF_HOME). Jobs ask no network: on a cluster, fetch on the login node.
"""

import argparse
import importlib
from pathlib import Path

from genview.commands.study import configuration
from genview.config import load

HELP = "fetch the models and data sets that a study needs, sizes first"
EXAMPLE = (
    "genview fetch --config config/photos.yaml --dry-run   # what would be fetched, and how much\n"
    "  genview fetch --config config/photos.yaml"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after the command."""
    configuration(parser)
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be fetched, with sizes")
    parser.add_argument("--update", action="store_true", help="take the newest revisions instead of the locked ones")


def run(options: argparse.Namespace) -> None:
    """Fetch, check, lock.

    Raises:
        GenviewError: something cannot be had; says what, and what to do.
    """
    fetch = importlib.import_module("genview.hub.fetch")  # brings open_clip and timm, which know their weights
    study = load.load(options.config, pinned=not options.update)
    path = Path(study.weights_lock or Path(options.config).parent / "weights.lock")
    fetch.run(study, path, print, dry=options.dry_run, update=options.update)
    if not study.weights_lock and not options.dry_run and path.is_file():
        print(f"to pin the study to these revisions, state in it:  weights_lock: {path}")
