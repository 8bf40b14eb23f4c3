"""Measure how much of each image of a manifest is foreground.

    python -m genview.foreground --config mine.yaml --manifest data/manifest.parquet --to foreground

Writes the principal component (pca.*), the scores of all tokens and foreground_ratio.parquet.
"""

import argparse
import tempfile
from pathlib import Path

from genview import standalone
from genview.config.study import Study
from genview.data.keys import group_names
from genview.foreground import component, orientation, ratio, sample_features, token_scores


def work(study: Study, options: argparse.Namespace) -> None:
    """Write the component (pca.*), the scores of all tokens (scores/) and foreground_ratio.parquet."""
    encoder = study.encoders[options.encoder or study.foreground.encoder]
    to, stamp = options.to, standalone.stamp("foreground", study)
    with tempfile.TemporaryDirectory(dir=to) as scratch:
        tokens, images = [Path(scratch) / "tokens.npy"], Path(scratch) / "images.safetensors"
        fitted, sample_scores = to / "component.safetensors", Path(scratch) / "scores.safetensors"
        sample_features.run(
            encoder,
            study.dataset,
            count=study.pca.sample,
            seed=study.seed,
            manifest=options.manifest,
            tokens=tokens,
            images=images,
            workers=standalone.loaders(study.cores.sample_features),
        )
        component.run(tokens, images, vector=study.pca.vector, component=fitted, sample_scores=sample_scores)
        orientation.run(
            study.pca,
            component=fitted,
            sample_scores=sample_scores,
            sample_images=images,
            result=to / "pca.safetensors",
            summary=to / "pca.json",
            histogram=to / "pca_histogram.png",
            masks=to / "pca_masks.png",
            stamp=stamp,
        )
    groups = group_names(study.dataset.shards)
    scores = [to / "scores" / f"{group}.parquet" for group in groups]
    for group, file in zip(groups, scores):
        token_scores.run(
            encoder,
            study.dataset,
            manifest=options.manifest,
            group=group,
            component=fitted,
            scores=file,
            workers=standalone.loaders(study.cores.token_scores),
            stamp=stamp,
        )
    ratio.run(scores, component=to / "pca.safetensors", ratio=to / "foreground_ratio.parquet", stamp=stamp)


if __name__ == "__main__":
    parser = standalone.parser("foreground", __doc__)
    parser.add_argument("--encoder", metavar="NAME", help="an encoder of the configuration, in place of foreground's")
    standalone.run(parser.parse_args(), work)
