"""Section: the runs' curves: loss terms, learning rate, throughput, share of time spent waiting for data."""

from typing import Any

import numpy as np

from genview.report import drawing, wording
from genview.report.blocks import Block, Figure, Note, Section, Table
from genview.report.results import Results

POINTS = 240
"""Points of a curve; longer ones are averaged in equal pieces."""
THROUGHPUT = ("samples_per_second", "images_per_second", "data_wait_share")


def section(results: Results) -> Section | None:
    """Curves of every logged quantity, one figure each, all runs in it."""
    runs = list(results.configuration["runs"])
    metrics = {run: results.lines(f"runs/{run}/metrics.jsonl") for run in runs}
    metrics = {run: rows for run, rows in metrics.items() if rows}
    if not metrics:
        return None
    speed = {run: results.lines(f"logs/training/{run}/throughput.jsonl") for run in metrics}
    blocks: list[Block] = [_summary(metrics, speed)]
    names = _quantities(metrics)
    if max(len(rows) for rows in metrics.values()) < 2:
        blocks.append(Note("Each run logged a single point, so there are no curves to draw."))
    else:
        blocks += [_curve(name, metrics) for name in names]
    if max(len(rows) for rows in speed.values()) > 1:
        logged = {name for rows in speed.values() for row in rows for name in row}
        blocks += [_curve(name, speed) for name in THROUGHPUT if name in logged]
    waiting = {run: _mean(rows, "data_wait_share") for run, rows in speed.items()}
    for run, share in waiting.items():
        if share is not None and share > 0.2:
            text = f"Run {run} spent {wording.percent(share, 0)} of its time waiting for data: raise data.workers."
            blocks.append(Note(text, warning=True))
    lead = f"{wording.plural(len(metrics), 'training run')}. Every term that was logged, over the epochs."
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
        waiting = _mean(speed[run], "data_wait_share")
        rows.append(
            [
                run,
                wording.count(last.get("step", len(lines))),
                f"{last['epoch']:.3g}" if "epoch" in last else "–",
                f"{last['loss']:.3f}" if "loss" in last else "–",
                f"{images:.0f}" if images else "–",
                wording.percent(waiting, 0) if waiting is not None else "–",
            ]
        )
    columns = ["run", "steps", "epochs", "last loss", "images/s", "waiting for data"]
    return Table("Runs", columns, rows, numeric=range(1, 6))


def _pieces(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), POINTS)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _curve(name: str, metrics: dict[str, list[dict[str, Any]]]) -> Figure:
    ends = []
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
        if name == "data_wait_share":
            axes.set_ylim(0, 1)
        axes.set(xlabel=over, title=wording.heading(name))
        if len(ends) > 1:
            axes.legend()
        text = drawing.svg(figure, "curve-" + name.replace("_", "-"))
    words = "; ".join(ends)
    return Figure("curve-" + name.replace("_", "-"), text, f"{wording.title(name)} by {over}: {words}.", "")
