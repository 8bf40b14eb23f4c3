"""The command ``genview``: run a study, check it, look at its configuration, compare it with another."""

import argparse
import sys
from pathlib import Path

from genview.commands import table
from genview.errors import GenviewError

CODES = """exit status:
  0    done
  1    something is wrong with what was given; the message says what, and what to do
  2    the command itself is not known or incomplete
  130  stopped by Ctrl-C
`genview run` ends with Snakemake's own status: 0, or 1 if a job failed."""


def parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="genview", description=__doc__, epilog=CODES, formatter_class=form)
    version = (Path(__file__).parent / "VERSION").read_text(encoding="utf-8").strip()
    top.add_argument("--version", action="version", version=f"genview {version}")
    each = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in table.COMMANDS.items():
        epilog = f"example:\n  {module.EXAMPLE}\n\n{CODES}"
        command = each.add_parser(
            name, help=module.HELP, description=module.__doc__, epilog=epilog, formatter_class=form
        )
        module.arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(words: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 after a user's error, which is printed alone, or 130 after Ctrl-C.
    """
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["run"] and not {"-h", "--help"} & set(words):
        # Snakemake's options are not this parser's, which would take some for its own.
        arguments = argparse.Namespace(run=table.COMMANDS["run"].run, options=words[1:])
    else:
        arguments = parser().parse_args(words)
    try:
        arguments.run(arguments)
    except GenviewError as error:
        print(f"genview: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
