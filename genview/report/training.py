"""Section: the runs' curves: loss terms, learning rate, throughput, share of time spent waiting for data."""

from typing import Any

import numpy as np

from genview.report import drawing, wording
from genview.report.blocks import Block, Figure, Note, Section, Table
from genview.report.results import Results
from genview.results import StudyResults
from genview.training.collapse import collapsed

POINTS = 240
"""Points of a curve; longer ones are averaged in equal pieces."""
THROUGHPUT = ("samples_per_second", "images_per_second", "data_wait_share", "peak_share")
MEANINGS = {
    "loss": "What is minimised: the sum of the terms with their weights; it jumps where the weights change.",
    "learning_rate": "Learning rate of the optimiser after warm-up and cosine decay.",
    "image_image_loss": "Contrast of each view with the other views of its image, among all views of the batch.",
    "image_image_quality_loss": "The contrast among views with each pair weighted by its quality.",
    "image_text_loss": "Contrast of each view with its caption, among all captions of the batch, and back.",
    "image_text_quality_loss": "The contrast with captions with each pair weighted by its quality.",
    "logit_scale": "Learned factor on the cosines of image and caption.",
    "anchor_loss": "Distance (1 - cosine) to what the initial encoder makes of the same views: 0 = nothing has moved.",
    "fallbacks": "Views of a batch that were missing and replaced by their originals.",
    "distillation_loss": "Cross-entropy of the student's crops with the teacher's other large crop.",
    "orthogonality_loss": "Cosine between the equivariant parts' outputs for different views of an image.",
    "balance_loss": "Difference of the two heads' sums of squared parameters.",
    "feature_spread": "Spread of the encoder's features over samples: 1 = even on the sphere, 0 = all alike.",
    "projection_spread": "Spread of what the loss compares: 1 = even on the sphere, 0 = the run has collapsed.",
    "effective_rank": "Directions that the encoder's features of a step use (RankMe); no more than its samples.",
    "alignment": "Mean squared distance of two views' projections: 0 = equal.",
    "uniformity": "Evenness of the projections on the sphere: lower is more even, 0 = all alike.",
    "drift": "How far the features of fixed images have moved from the initial ones (1 - cosine).",
    "knn": "Share of fixed images that their ten nearest neighbours among the others classify rightly.",
    "gradient_norm": "Length of all gradients together before clipping.",
    "quality_mean": "Mean of the quality weights.",
    "quality_spread": "Standard deviation of the quality weights: 0 = all pairs count alike.",
    "samples_per_second": "Originals that were trained on, per second.",
    "images_per_second": "Views that were trained on, per second: all views of each original.",
    "data_wait_share": "Share of the time of a step in which the model waits for its data.",
}
"""What a curve shows."""


def section(study: StudyResults) -> Section | None:
    """Curves of every logged quantity, one figure each, all runs in it."""
    results, metrics = study.artifacts, study.log
    if not metrics:
        return None
    speed = {run: results.lines(f"logs/training/{run}/throughput.jsonl") for run in metrics}
    blocks: list[Block] = [_summary(metrics, speed)]
    names = _quantities(metrics)
    if max(len(rows) for rows in metrics.values()) < 2:
        blocks.append(Note("Each run logged a single point, so there are no curves to draw."))
    else:
        blocks += [_curve(name, metrics, _switches(results)) for name in names]
    if max(len(rows) for rows in speed.values()) > 1:
        logged = {name for rows in speed.values() for row in rows for name in row}
        blocks += [_curve(name, speed, {}) for name in THROUGHPUT if name in logged]
    for run, rows in metrics.items():
        if collapsed(rows[-1]):
            text = (
                f"Run {run} has collapsed: its last logged step gives all samples nearly the same projection (spread "
                f"{rows[-1]['projection_spread']:.2g}). What is measured of its encoder says nothing about its method."
            )
            blocks.append(Note(text, warning=True))
    waiting = {run: _mean(rows, "data_wait_share") for run, rows in speed.items()}
    for run, share in waiting.items():
        if share is not None and share > 0.2:
            text = (
                f"Run {run} spent {wording.percent(share, 0)} of its time waiting for data; "
                "where cores are idle, raise data.workers."
            )
            blocks.append(Note(text, warning=True))
    lead = (
        f"{wording.plural(len(metrics), 'training run')}. Each loss is a mean over the batch, in nats. A run with more "
        "views of an image contrasts among more rows: its losses are not comparable with those of a run with fewer."
    )
    return Section("training", "Training", lead, blocks, f"{wording.plural(len(metrics), 'training run')}.")


def _quantities(metrics: dict[str, list[dict[str, Any]]]) -> list[str]:
    found = dict.fromkeys(
        name
        for rows in metrics.values()
        for row in rows[:1] + rows[-1:]
        for name, value in row.items()
        if isinstance(value, (int, float)) and name not in ("step", "epoch")
    )
    found = {name: None for name in found if any(row.get(name) for rows in metrics.values() for row in rows)}
    first = [name for name in ("loss", "learning_rate") if name in found]
    return first + [name for name in found if name not in first and name not in THROUGHPUT]


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def _summary(metrics: dict[str, list[dict[str, Any]]], speed: dict[str, list[dict[str, Any]]]) -> Table:
    rows = []
    for run, lines in metrics.items():
        last, images = lines[-1], _mean(speed[run], "images_per_second") or _mean(speed[run], "samples_per_second")
        waiting, peak = (_mean(speed[run], name) for name in ("data_wait_share", "peak_share"))
        rows.append(
            [
                run,
                wording.count(last.get("step", len(lines))),
                f"{last['epoch']:.3g}" if "epoch" in last else "–",
                f"{last['loss']:.3f}" if "loss" in last else "–",
                f"{images:.0f}" if images else "–",
                wording.percent(waiting, 0) if waiting is not None else "–",
                wording.percent(peak, 0) if peak is not None else "unknown",
            ]
        )
    columns = ["run", "steps", "epochs", "last loss", "images/s", "waiting for data", "share of the device's peak"]
    return Table("Runs", columns, rows, numeric=range(1, 7))


def _pieces(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), POINTS)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _switches(results: Results) -> dict[str, int]:
    """The epoch in which a run's weights of the terms change, where they do."""
    return {
        run: block["method"]["switch_epoch"]
        for run, block in results.configuration["runs"].items()
        if 0 < (block["method"].get("switch_epoch") or 0) < block["epochs"]
    }


def _curve(name: str, metrics: dict[str, list[dict[str, Any]]], switches: dict[str, int]) -> Figure:
    ends: list[str] = []
    switched: list[str] = []
    with drawing.figure() as (figure, axes):
        over = "epoch" if all("epoch" in row for rows in metrics.values() for row in rows) else "step"
        for index, (run, rows) in enumerate(metrics.items()):
            points = [(row[over], row[name]) for row in rows if row.get(name) is not None]
            if not points:
                continue
            x, y = _pieces(*np.array(points, float).T)
            style = {**drawing.series(index), "marker": None} if len(x) > 20 else drawing.series(index)
            axes.plot(x, y, label=run, markersize=3, **style)
            ends.append(f"{run} from {y[0]:.3g} to {y[-1]:.3g}")
            if over == "epoch" and name.endswith("loss") and x[0] < switches.get(run, 0):
                switched.append(f"{run} in epoch {switches[run]}")
                axes.axvline(switches[run], color=drawing.series(index)["color"], linewidth=0.8, linestyle=(0, (3, 3)))
        if name == "data_wait_share":
            axes.set_ylim(0, 1)
        axes.set(xlabel=over, title=wording.heading(name))
        axes.legend()
        text = drawing.svg(figure, "curve-" + name.replace("_", "-"))
    words = "; ".join(ends)
    caption = MEANINGS.get(name, "")
    if switched:
        caption += f" Dashed: the weights of the terms change, {wording.listing(switched)}."
    return Figure("curve-" + name.replace("_", "-"), text, f"{wording.title(name)} by {over}: {words}.", caption)
