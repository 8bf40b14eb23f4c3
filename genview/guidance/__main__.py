"""Score how far each caption of a manifest constrains the picture.

    python -m genview.guidance --config mine.yaml --manifest data/manifest.parquet --to guidance

Writes a table of scores for each group of shards.
"""

import argparse

from genview import standalone
from genview.config.study import Study
from genview.data import reader
from genview.data.keys import group_names
from genview.guidance import scoring


def work(study: Study, options: argparse.Namespace) -> None:
    """Write a table of scores for each group of shards."""
    scorer = scoring.backend(study.guidance)
    for group in group_names(study.dataset.shards):
        scoring.run(
            scorer,
            manifest=options.manifest,
            group=group,
            output=options.to / f"{group}.parquet",
            root=reader.data_root(study.dataset, options.manifest) if study.guidance.needs.sees_images else None,
            stamp=standalone.stamp("guidance", study),
        )


if __name__ == "__main__":
    standalone.run(standalone.parser("guidance", __doc__).parse_args(), work)
