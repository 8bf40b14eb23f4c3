"""Figures over models that follow from a run: its kept epochs, and weights between its beginning and its end."""

from collections.abc import Mapping
from typing import NamedTuple

from genview.report import drawing, wording
from genview.report.blocks import Block, Figure
from genview.report.results import Results
from genview.report.summary import Measurement


class Point(NamedTuple):
    """A model on a curve."""

    x: float
    row: Measurement


def blocks(results: Results, rows: list[Measurement], tasks: Mapping[str, tuple[str, str]]) -> list[Block]:
    """A figure for each run and kind of curve that the study has measured.

    Args:
        results: the study.
        rows: measurements that the report shows, those of derived models among them.
        tasks: folder of a task to its title and its short name.
    """
    found: list[Block] = []
    derived, runs = results.derived(), results.configuration["runs"]
    for kind, axis in (("epoch", "epoch"), ("interpolated", "per cent of the way from the initial weights")):
        for run in runs:
            places = {
                name: float(model.value) for name, model in derived.items() if (model.run, model.kind) == (run, kind)
            }
            if not places:
                continue
            before = results.before(run)
            places |= {run: float(runs[run]["epochs"]) if kind == "epoch" else 100.0}
            places |= {before: 0.0} if before else {}
            lines = _lines(places, rows)
            if lines:
                found.append(_figure(run, kind, axis, lines, tasks))
    return found


def _lines(places: Mapping[str, float], rows: list[Measurement]) -> dict[tuple[str, str, str], list[Point]]:
    lines: dict[tuple[str, str, str], list[Point]] = {}
    for row in rows:
        if row.run in places:
            lines.setdefault((row.task, row.dataset, row.metric), []).append(Point(places[row.run], row))
    return {key: sorted(points, key=lambda point: point.x) for key, points in lines.items() if len(points) > 1}


def _figure(
    run: str,
    kind: str,
    axis: str,
    lines: Mapping[tuple[str, str, str], list[Point]],
    tasks: Mapping[str, tuple[str, str]],
) -> Figure:
    title = f"{run}: over its epochs" if kind == "epoch" else f"{run}: between its initial weights and its own"
    name = f"curve-{kind}-{run}"
    with drawing.figure(5.2, 3.0 + 0.16 * len(lines)) as (figure, axes):
        for index, ((task, dataset, metric), points) in enumerate(lines.items()):
            style = drawing.series(index)
            label = f"{dataset}, {tasks[task][1]}, {wording.title(metric)}"
            xs, ys = [point.x for point in points], [100 * point.row.value for point in points]
            axes.plot(xs, ys, **style, markersize=4, label=label)
            for x, row in points:
                if row.low is not None and row.high is not None:
                    axes.plot([x, x], [100 * row.low, 100 * row.high], color=style["color"], linewidth=0.9, alpha=0.7)
        axes.set(xlabel=axis, ylabel="per cent", title=title)
        figure.legend(loc="outside lower center", ncols=1)
        text = drawing.svg(figure, name)
    words = [
        f"{dataset} ({tasks[task][1]}): "
        + ", ".join(f"{point.x:g}: {wording.percent(point.row.value)}" for point in points)
        for (task, dataset, metric), points in lines.items()
        if "knn" not in metric
    ]
    caption = "Upright lines are 95 % intervals; 0 is the encoder that the run started from. " + "; ".join(words) + "."
    if kind == "interpolated":
        caption += " Where one line rises and none falls, more is gained than lost (WiSE-FT)."
    return Figure(name, text, f"{title}. {caption}", caption)
