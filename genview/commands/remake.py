"""Make one generated view again from what is written beside it, and compare it with the one in its shard."""

import argparse
import importlib
import json
from pathlib import Path

from genview import atomic
from genview.commands.study import configuration
from genview.config import load

HELP = "make one view again, and compare it with the one in its shard"
EXAMPLE = "genview remake img 000012 --config mine.yaml --to 000012.jpg"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after the command."""
    parser.add_argument("view", help="name of the view set")
    parser.add_argument("key", help="the original: its path without the suffix, as in the manifest")
    parser.add_argument("--sample", type=int, default=0, help="which of the samples of this original (default: 0)")
    parser.add_argument("--to", metavar="FILE", help="write the view that was made again, a JPEG")
    configuration(parser)


def run(options: argparse.Namespace) -> None:
    """Print what the view was made from, and whether it came out the same.

    Raises:
        GenviewError: it is not there, or cannot be made again.
    """
    repeat = importlib.import_module("genview.generation.repeat")  # brings torch and diffusers
    found = repeat.of_study(load.load(options.config), options.view, options.key, options.sample)
    shown = ("prompt", "noise_level", "guidance_scale", "seed", "model", "scheduler", "versions")
    print(json.dumps({name: found.metadata[name] for name in shown}, indent=2, ensure_ascii=False))
    if options.to:
        Path(options.to).parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(options.to, found.made)
    if found.made == found.stored:
        print("equal to the one in the shard, byte for byte")
    else:
        print(f"differs from the one in the shard by at most {found.difference} of 255: another machine or version")
