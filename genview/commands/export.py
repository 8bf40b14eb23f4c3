"""Write a study's conditions as the files of the published pipeline, for whoever works with that one.

Trained models need no export: `results/<study>/runs/<run>/model` opens in open_clip and timm, as its README.md says.
Views are WebDataset tars.
"""

import argparse
from pathlib import Path

from genview.commands.study import configuration
from genview.config import load
from genview.data import published
from genview.errors import GenviewError

HELP = "write a study's conditions as the published pipeline's CSV files"
EXAMPLE = "genview export published --config mine.yaml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after the command."""
    parser.add_argument("folder", help="where fg_ratios.csv, noise_level.csv, guidance_scale.csv and infos.csv go")
    configuration(parser)


def run(options: argparse.Namespace) -> None:
    """Write the four files, and say where.

    Raises:
        GenviewError: a stage of the study is not finished.
    """
    study = load.load(options.config)
    results = Path(study.results, study.study)
    names = {
        "data": "data/manifest.parquet",
        "foreground": f"foreground/{study.foreground.encoder}/foreground_ratio.parquet",
        "noise_level": "conditions/noise_level.parquet",
        "guidance": "conditions/guidance_scale.parquet",
    }
    if missing := [f"{name} ({stage})" for stage, name in names.items() if not (results / name).is_file()]:
        raise GenviewError(f"{results}: not made yet: {', '.join(missing)}")
    manifest, ratio, noise_level, guidance_scale = (results / name for name in names.values())
    published.export(manifest, ratio, noise_level, guidance_scale, options.folder)
    for path in sorted(Path(options.folder).glob("*.csv")):
        print(path)
