"""What several commands are given: a study's configuration."""

import argparse

CONFIGURATION = "config/config.yaml"


def configuration(parser: argparse.ArgumentParser) -> None:
    """The option that names a configuration."""
    parser.add_argument(
        "--config",
        default=CONFIGURATION,
        metavar="FILE",
        help="a study's configuration; a name such as config/cc3m.yaml that is not here is that of a study that ships "
        "with GenView (default: %(default)s)",
    )
