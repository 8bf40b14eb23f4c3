"""Generate a set of views of the images of a manifest.

    python -m genview.generation --config mine.yaml --view imgtxt --manifest data/manifest.parquet \\
        --conditions conditions/conditions.parquet --to views

Writes a tar of views and its index for each shard. The same command goes on after an interruption.
"""

import argparse
import os
from pathlib import Path

from genview import standalone
from genview.config.study import Study
from genview.data import reader
from genview.data.keys import shard_names
from genview.errors import GenviewError
from genview.generation import views


def work(study: Study, options: argparse.Namespace) -> None:
    """Write a tar of views and its index for each shard; what is finished stays, unfinished shards go on."""
    if options.view not in study.views:
        raise GenviewError(f"{options.view}: no view set of {options.config}; there are {', '.join(study.views)}")
    shards = shard_names(study.dataset.shards)
    if options.shard and options.shard not in shards:
        raise GenviewError(f"{options.shard}: no shard of {options.config}; there are {shards[0]} to {shards[-1]}")
    for shard in [options.shard] if options.shard else shards:
        tar = options.to / f"{shard}.tar"
        if tar.is_file() and tar.with_suffix(".parquet").is_file():
            continue
        views.run(
            views.Shard(
                name=options.view,
                view=study.views[options.view],
                shard=shard,
                seed=study.seed,
                manifest=options.manifest,
                conditions=options.conditions,
                root=reader.data_root(study.dataset, options.manifest),
                scores=None,
                tar=tar,
                index=tar.with_suffix(".parquet"),
                statistics=options.to / f"{shard}.json",
                work=options.to / ".work",
                stamp=standalone.stamp("generation", study),
                maximum_rejects=study.dataset.maximum_rejects,
                maximum_pixels=study.dataset.maximum_pixels,
                threads=os.cpu_count() or 1,
            )
        )


if __name__ == "__main__":
    parser = standalone.parser("generation", __doc__)
    parser.add_argument("--view", required=True, metavar="NAME", help="a view set of the configuration")
    parser.add_argument("--conditions", required=True, type=Path, metavar="FILE", help="conditions.parquet")
    parser.add_argument("--shard", metavar="NAME", help="one shard, such as 0-of-8; without it, all of them")
    standalone.run(parser.parse_args(), work)
