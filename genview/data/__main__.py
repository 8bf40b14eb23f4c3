"""Make the manifest of a study's collection.

    python -m genview.data --config mine.yaml --to data

Writes manifest.parquet, rejected.parquet and images.tar.
"""

import argparse

from genview import standalone
from genview.config.study import Study
from genview.data import ingest


def work(study: Study, options: argparse.Namespace) -> None:
    """Write manifest.parquet, rejected.parquet and images.tar."""
    ingest.run(
        study.dataset,
        seed=study.seed,
        manifest=options.to / "manifest.parquet",
        rejected=options.to / "rejected.parquet",
        images=options.to / "images.tar",
        stamp=standalone.stamp("data", study),
        failures=options.to / "failures.csv",
    )


if __name__ == "__main__":
    standalone.run(standalone.parser("data", __doc__, manifest=False).parse_args(), work)
