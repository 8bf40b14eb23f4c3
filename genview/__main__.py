"""Command line: check a configuration, print it with the origin of each value, compare two studies."""

import argparse
import sys

from genview import preflight
from genview.config import load, origin
from genview.errors import GenviewError
from genview.report import compare

CONFIGURATION = "config/config.yaml"


def _check(arguments: argparse.Namespace) -> None:
    study = load.load(arguments.config)
    preflight.require(study)
    if told := preflight.collection.told(study):
        print(f"{study.dataset.path}: {told}")
    print(f"{arguments.config}: the study {study.study!r} can run")


def _config(arguments: argparse.Namespace) -> None:
    if arguments.schema:
        print(origin.schema_text(), end="")
    else:
        print(origin.annotated(load.load(arguments.config), origin.layers(arguments.config)), end="")


def _compare(arguments: argparse.Namespace) -> None:
    compare.show(arguments.first, arguments.second)


def parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    top = argparse.ArgumentParser(prog="python -m genview", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="list everything that would stop a study, without computing anything")
    check.set_defaults(run=_check)
    config = commands.add_parser("config", help="print the effective configuration with the origin of each value")
    config.add_argument("--schema", action="store_true", help="print the JSON schema instead, for editors")
    config.set_defaults(run=_config)
    for command in (check, config):
        command.add_argument("--config", default=CONFIGURATION, metavar="FILE", help="default: %(default)s")
    both = commands.add_parser("compare", help="print what differs between two studies, and whether it matters")
    both.add_argument("first", help="folder of a study's results, such as results/default")
    both.add_argument("second", help="the other one")
    both.set_defaults(run=_compare)
    return top


def main(words: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 1 after a user's error, which is printed alone.
    """
    arguments = parser().parse_args(words)
    try:
        arguments.run(arguments)
    except GenviewError as error:
        print(f"genview: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
