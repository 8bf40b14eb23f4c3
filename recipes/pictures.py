"""The pictures of README.md, from a finished default study: views by noise level, masks, a curve.

python -m recipes.pictures
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from PIL import Image

from genview import atomic, placement, tables
from genview.config import load
from genview.config.study import Study
from genview.generation import embeddings, pipelines
from genview.generation.plan import ViewRequest
from genview.generation.sampler import Sampler
from genview.report import pictures
from genview.report.results import Results

SHOWN = 4
"""Originals, from little to much foreground."""
SEED = 7
CURVES = ("figures/evaluation/probes.svg", "figures/training/curve-effective-rank.svg")
"""Of the report: points with intervals, a curve over the training."""


def chosen(results: Results) -> list[dict]:
    """Images at equal steps of the rank by foreground ratio: key, ratio."""
    ratios = results.table(f"foreground/{results.encoder}/foreground_ratio.parquet", tables.FOREGROUND_RATIO)
    assert ratios is not None
    rows = ratios.sort_by("ratio").to_pylist()
    return [rows[int(place)] for place in np.linspace(0.05, 0.95, SHOWN) * (len(rows) - 1)]


def by_level(study: Study, results: Results, keys: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """Views of each image at each noise level of the study, uint8 [H, W, 3]; one seed for a whole row."""
    view = study.views["img"]
    loaded = pipelines.load(view, placement.default())
    vectors: dict[str, np.ndarray] = {}
    for scores in results.score_shards():
        vectors |= embeddings.kept(scores, pa.chunked_array([pa.array(keys, pa.string())]))
    sampler, found = Sampler(loaded, view), {}
    for key in keys:
        found[key] = []
        for level in study.noise_level.levels:
            request = ViewRequest(key, 0, None, "", level, float(view.guidance_scale or 1.0), SEED)
            (pixels,) = sampler.sample([request], torch.tensor(vectors[key])[None])
            found[key].append(np.asarray(pixels))
    return found


def _panel(figure: Figure, shape: tuple[int, int], place: int, image: np.ndarray, title: str = "") -> None:
    axes = figure.add_subplot(*shape, place)
    axes.imshow(image, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=9)


def _write(figure: Figure, path: Path) -> None:
    with atomic.writing(path) as partial:
        figure.savefig(partial, format="png", dpi=80, metadata={"Software": None})


def run(configuration: str, folder: Path, output: Path) -> None:
    """Write ``views.png``, ``masks.png`` and two figures of the report."""
    study = load.load(configuration)
    results = Results(folder, study.model_dump(mode="json"))
    rows = chosen(results)
    keys = [row["key"] for row in rows]
    originals = {key: np.asarray(image.convert("RGB")) for key, image in results.originals(keys).items()}
    levels, made = study.noise_level.levels, by_level(study, results, keys)
    shape = (SHOWN, 1 + len(levels))
    figure = Figure(figsize=(1.2 * shape[1], 1.3 * shape[0]), layout="constrained")
    for row, key in enumerate(keys):
        first = row * shape[1] + 1
        _panel(figure, shape, first, originals[key], "original" if row == 0 else "")
        for column, (level, image) in enumerate(zip(levels, made[key])):
            _panel(figure, shape, first + 1 + column, image, f"level {level}" if row == 0 else "")
    _write(figure, output / "views.png")
    pca, scores = results.pca(), results.scores_of(keys)
    assert pca is not None
    threshold = float(np.ravel(pca["threshold"])[0])
    figure = Figure(figsize=(1.2 * 2 * SHOWN, 1.6), layout="constrained")
    for column, row in enumerate(rows):
        values = scores[row["key"]]
        mask = values.reshape(pictures.grid_shape(len(values))) > threshold
        image = pictures.masked(Image.fromarray(originals[row["key"]]), mask)
        _panel(figure, (1, 2 * SHOWN), 2 * column + 1, originals[row["key"]], "image")
        _panel(figure, (1, 2 * SHOWN), 2 * column + 2, np.asarray(image), f"foreground {row['ratio']:.2f}")
    _write(figure, output / "masks.png")
    for curve in CURVES:
        if (folder / curve).is_file():
            shutil.copyfile(folder / curve, output / Path(curve).name)
        else:
            print(f"{folder / curve}: the report of this study has no such figure")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/config.yaml")
    parser.add_argument("--results", type=Path, default=Path("results/default"))
    parser.add_argument("--output", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    run(options.config, options.results, options.output)


if __name__ == "__main__":
    main()
