"""Audit a set of generated views.

    python -m genview.audit --config mine.yaml --view imgtxt --manifest data/manifest.parquet --views views --to audit

Writes quality.json, its figure and a picture of examples.
"""

import argparse
from pathlib import Path

from genview import standalone
from genview.audit import audit
from genview.audit.pairs import Views
from genview.config.study import Study
from genview.data import reader
from genview.errors import GenviewError


def work(study: Study, options: argparse.Namespace) -> None:
    """Write quality.json and its two pictures."""
    tars = sorted(options.views.glob("*-of-*.tar"))
    if not tars:
        raise GenviewError(f"{options.views}: no shard of views (0-of-1.tar) is in this folder")
    names = study.audit.encoders or (study.foreground.encoder,)
    audit.run(
        study.audit,
        {name: study.encoders[name] for name in names},
        Views(
            name=options.view,
            manifest=options.manifest,
            root=reader.data_root(study.dataset, options.manifest),
            indexes=[tar.with_suffix(".parquet") for tar in tars],
            tars=tars,
        ),
        audit.Artifacts(options.to / "quality.json", options.to / "quality.png", options.to / "examples.png"),
        seed=study.seed,
        workers=standalone.loaders(study.cores.audit),
        stamp=standalone.stamp("audit", study),
    )


if __name__ == "__main__":
    parser = standalone.parser("audit", __doc__)
    parser.add_argument("--view", required=True, metavar="NAME", help="what the set of views is called")
    parser.add_argument("--views", required=True, type=Path, metavar="FOLDER", help="its tars and their indexes")
    standalone.run(parser.parse_args(), work)
