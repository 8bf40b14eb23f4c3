"""Let artifacts stand under today's code although other code made them; the report lists them with the reason."""

import argparse
from pathlib import Path

from genview import accept
from genview.commands.study import configuration
from genview.config import load

HELP = "let artifacts stand under today's code, although other code made them"
EXAMPLE = 'genview accept views --config mine.yaml --reason "only a message was reworded"'


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after the command."""
    parser.add_argument("what", nargs="+", help="artifacts or folders of them, rules or stages by name, or all")
    parser.add_argument("--reason", required=True, help="why the change alters none of them; the report shows it")
    configuration(parser)


def run(options: argparse.Namespace) -> None:
    """Accept artifacts, and say which.

    Raises:
        GenviewError: something named is neither an artifact nor a rule nor a stage of the study.
    """
    study = load.load(options.config)
    for line in accept.run(options.what, options.reason, Path(study.results, study.study)):
        print(line)
