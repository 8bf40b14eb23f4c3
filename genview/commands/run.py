"""Run a study: Snakemake on the workflow that ships with the package, in the folder where the command is typed."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from genview import home

HELP = "run a study in this folder; all options are Snakemake's"
EXAMPLE = (
    "genview run -n                                   # what would run, and why\n"
    "  genview run --configfile mine.yaml\n"
    "  genview run --profile slurm --configfile config/cc3m.yaml"
)

_PROFILES = ("--profile", "--workflow-profile")
_FILES = ("--configfile", "--configfiles")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Everything goes to Snakemake; `snakemake --help` lists it."""
    parser.add_argument("options", nargs=argparse.REMAINDER, help="targets and options, as for snakemake")


def run(options: argparse.Namespace) -> None:
    """Become Snakemake; does not return, and the exit status is Snakemake's."""
    words = command(options.options)
    # Neither this process nor the jobs that it starts import what lies in the user's folder under a library's name.
    os.execve(sys.executable, words, {**os.environ, "PYTHONSAFEPATH": "1"})


def command(words: Sequence[str]) -> list[str]:
    """The command line of Snakemake for what was typed after ``genview run``.

    Names of profiles and configurations that ship with the package are found wherever the command is typed.
    """
    given = [_named(word, _before(words, index)) for index, word in enumerate(words)]
    profile = []
    if not any(word.split("=")[0] == "--workflow-profile" for word in words):
        profile = ["--workflow-profile", str(home.file("profiles/default"))]
    snakefile = ["--snakefile", str(home.file("workflow/Snakefile"))]
    # Targets come before options, some of which take every word that follows.
    return [sys.executable, "-P", "-m", "snakemake", *given, *snakefile, *profile]


def _before(words: Sequence[str], index: int) -> str:
    """The option that a word belongs to: the last one before it, if it can take that many words."""
    back = index - 1
    while back >= 0 and not words[back].startswith("-"):
        back -= 1
    option = words[back] if back >= 0 else ""
    return option if option in _FILES or back == index - 1 else ""


def _named(word: str, option: str) -> str:
    if word.startswith("--") and "=" in word:
        option, value = word.split("=", 1)
        return f"{option}={_named(value, option)}"
    if option in _PROFILES and not Path(word).exists():
        shipped = home.file(f"profiles/{word}")
        return str(shipped) if len(Path(word).parts) == 1 and shipped.is_dir() else word
    return str(home.found(word)) if option in _FILES else word
