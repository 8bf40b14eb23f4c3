"""Compare two studies."""

import argparse

from genview.report import compare

HELP = "print what differs between two studies, and whether it matters"
EXAMPLE = "genview compare results/default results/mine"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after the command."""
    parser.add_argument("first", help="folder of a study's results, such as results/default")
    parser.add_argument("second", help="the other one")


def run(options: argparse.Namespace) -> None:
    """Print a table of settings and one of measurements."""
    compare.show(options.first, options.second)
