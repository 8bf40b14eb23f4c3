"""Pictures of the audit: measures by condition, and originals beside their views."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

from genview import atomic
from genview.audit.pairs import Pair, Place
from genview.data.reader import Reader

DOTS_PER_INCH = 120
SIDE = 256
"""Of an example in pixels, at most: matplotlib needs sixteen bytes for each."""
TITLES = {
    "clip_cosine": "CLIP cosine with the original",
    "diversity_cosine": "1 - cosine among samples",
    "diversity_pixels": "pixel deviation among samples",
    "class_kept": "class kept",
    "colour_kept": "colour kept",
}
LEVELS = {
    "clip_cosine": "clip_cosine_by_chance",
    "class_kept": "class_of_original",
    "colour_kept": "colour_of_original",
}
"""What is drawn as a dashed line beside a measure: chance, or the originals."""


def _save(figure: plt.Figure, path: str | Path) -> None:
    with atomic.writing(path) as partial:
        figure.savefig(partial, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    plt.close(figure)


def measures(results: Sequence[Mapping[str, Any]], name: str, path: str | Path) -> None:
    """Each measure by noise level (or guidance scale), with 95 % intervals; PNG."""
    rows = [row for row in results if row.get("encoder") in (None, next((r.get("encoder") for r in results), None))]
    shown = [metric for metric in TITLES if any(row["metric"] == metric for row in rows)]
    figure, grid = plt.subplots(
        1, max(1, len(shown)), figsize=(2.8 * max(1, len(shown)), 2.8), squeeze=False, layout="constrained"
    )
    figure.suptitle(f"views {name!r}: mean and 95 % interval", fontsize=10)
    if not shown:
        grid[0, 0].text(0.5, 0.5, "nothing measured", ha="center")
        grid[0, 0].set_axis_off()
    for axes, metric in zip(grid[0], shown):
        of_metric = [row for row in rows if row["metric"] == metric]
        by = next((key for key in ("noise_level", "guidance_scale") if any(key in row for row in of_metric)), None)
        points = [row for row in of_metric if by in row]
        below = [row["value"] - (row["low"] if row["low"] is not None else row["value"]) for row in points]
        above = [(row["high"] if row["high"] is not None else row["value"]) - row["value"] for row in points]
        axes.errorbar(
            [row[by] for row in points],
            [row["value"] for row in points],
            yerr=[below, above],
            marker="o",
            capsize=3,
            color="#3b6ea5",
        )
        beside = next((row for row in rows if row["metric"] == LEVELS.get(metric)), None)
        if beside:
            label = "chance" if "chance" in beside["metric"] else "originals"
            axes.axhline(beside["value"], linestyle="--", color="#999999", linewidth=1, label=label)
            axes.legend(fontsize=7)
        axes.set_title(TITLES[metric], fontsize=9)
        axes.set_xlabel((by or "").replace("_", " "), fontsize=8)
        axes.set_xticks(sorted({row[by] for row in points}))
        axes.tick_params(labelsize=7)
    _save(figure, path)


def examples(pairs: Sequence[Pair], reader: Reader, path: str | Path, samples: int = 4) -> None:
    """Originals in the first row, their views below, with noise level and guidance scale; PNG."""
    rows = 1 + min(samples, max((len(pair.views) for pair in pairs), default=1))
    columns = max(1, len(pairs))
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.1 * columns, 1.15 * rows + 0.3), squeeze=False, layout="constrained"
    )
    for axes in grid.ravel():
        axes.set_axis_off()
    for column, pair in enumerate(pairs):
        grid[0, column].imshow(_small(reader, pair.original))
        level = "" if pair.noise_level is None else f"level {pair.noise_level}\n"
        grid[0, column].set_title(f"{level}scale {pair.guidance_scale:g}", fontsize=7)
        for row, view in enumerate(pair.views[: rows - 1], start=1):
            grid[row, column].imshow(_small(reader, view))
    _save(figure, path)


def _small(reader: Reader, place: Place) -> Image.Image:
    picture = reader.image(*place)
    picture.thumbnail((SIDE, SIDE))
    return picture
