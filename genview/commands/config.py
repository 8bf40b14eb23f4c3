"""Print a study's configuration."""

import argparse

from genview.commands.study import configuration
from genview.config import load, origin, reference

HELP = "print the effective configuration with the origin of each value"
EXAMPLE = "genview config --config mine.yaml\n  genview config --schema > genview.schema.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after the command."""
    configuration(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--schema", action="store_true", help="print the JSON schema instead, for editors")
    instead.add_argument("--reference", action="store_true", help="print every setting and its meaning, in Markdown")


def run(options: argparse.Namespace) -> None:
    """Print the configuration, its schema or its reference."""
    if options.schema:
        print(origin.schema_text(), end="")
    elif options.reference:
        print(reference.text(), end="")
    else:
        study, stack = load.load(options.config), origin.layers(options.config)
        if pins := load.pins_of(load.load(options.config, pinned=False)):
            stack.append((str(study.weights_lock), pins))
        print(origin.annotated(study, stack), end="")
