"""Turn foreground ratios and guidance scores into what each view is made with.

    python -m genview.conditions --config mine.yaml --manifest data/manifest.parquet \\
        --ratio foreground/foreground_ratio.parquet --scores guidance/*.parquet --to conditions

Writes noise_level.parquet, guidance_scale.parquet and conditions.parquet, which has what every view needs.
"""

import argparse
from pathlib import Path

from genview import standalone
from genview.conditions import guidance_scale, merge, noise_level
from genview.config.study import Study
from genview.data import reader
from genview.errors import GenviewError


def work(study: Study, options: argparse.Namespace) -> None:
    """Write noise_level.parquet, guidance_scale.parquet and conditions.parquet."""
    for needed, given, option in (
        (study.noise_level.strategy == "adaptive" and not study.noise_level.given, options.ratio, "--ratio"),
        (study.guidance.scores_captions, options.scores, "--scores"),
    ):
        if needed and not given:
            raise GenviewError(f"{options.config}: what it asks for is adaptive, which needs {option}")
    to, stamp = options.to, standalone.stamp("conditions", study)
    root = reader.data_root(study.dataset, options.manifest)
    noise_level.run(
        study.noise_level,
        manifest=options.manifest,
        ratio=options.ratio,
        noise_level=to / "noise_level.parquet",
        seed=study.seed,
        stamp=stamp,
        image_root=str(root),
    )
    guidance_scale.run(
        study.guidance,
        manifest=options.manifest,
        scores=options.scores,
        output=to / "guidance_scale.parquet",
        seed=study.seed,
        root=root,
        stamp=stamp,
    )
    levels_given, scales_given = study.noise_level.given, study.guidance.given
    merge.run(
        manifest=options.manifest,
        noise_level=merge.Values(
            to / "noise_level.parquet",
            "given" if levels_given else study.noise_level.strategy,
            study.noise_level.levels,
        ),
        guidance_scale=merge.Values(
            to / "guidance_scale.parquet",
            "given" if scales_given else study.guidance.strategy,
            study.guidance.scales,
        ),
        modes={name: view.mode for name, view in study.views.items()},
        seed=study.seed,
        conditions=to / "conditions.parquet",
        unmatched=to / "unmatched.json",
        stamp=stamp,
    )


if __name__ == "__main__":
    parser = standalone.parser("conditions", __doc__)
    parser.add_argument("--ratio", type=Path, metavar="FILE", help="foreground_ratio.parquet, for adaptive levels")
    parser.add_argument(
        "--scores", type=Path, nargs="+", default=[], metavar="FILE", help="tables of scores, for adaptive scales"
    )
    standalone.run(parser.parse_args(), work)
