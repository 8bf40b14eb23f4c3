"""Differences between two models over the same test images, of one study or of two."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa

from genview.evaluation import outcomes
from genview.evaluation.catalogue import file_name
from genview.evaluation.outcomes import Difference
from genview.report import aggregate, wording
from genview.report.blocks import Block, Cell, Table
from genview.report.results import Results
from genview.report.summary import Measurement

HOW = "paired bootstrap over the test images, 2,000 resamples"
"""The method, for people."""

Finder = Callable[[Measurement, Measurement], Difference | None]

_read = cache(outcomes.read)


def kept(folder: Path, row: Measurement) -> pa.Table | None:
    """What was said of each test image behind a number; None: it was not kept."""
    return _read(folder / row.task / row.run / f"{file_name(row.dataset)}.parquet")


def between(first: Path, second: Path) -> Finder:
    """A function of two measurements, one of each folder of results: the second minus the first, where both keep
    what they said of the same test images.
    """

    @cache
    def find(one: Measurement, other: Measurement) -> Difference | None:
        if (one.task, one.dataset, one.metric) != (other.task, other.dataset, other.metric):
            return None
        tables = [kept(folder, row) for folder, row in ((first, one), (second, other))]
        if any(table is None for table in tables):
            return None
        return outcomes.difference(*tables, one.metric)

    return find


def of_studies(first: Results, second: Results) -> Finder:
    """The same for every measurement of two studies, means over datasets among them."""
    find = between(first.folder, second.folder)

    @cache
    def both(one: Measurement, other: Measurement) -> Difference | None:
        if one.task == other.task == aggregate.TASK:
            return aggregate.difference(first, second, one, other)
        return find(one, other)

    return both


def shown(difference: Difference) -> tuple[str, str]:
    """A difference in points of a per cent, and its interval."""
    return f"{100 * difference.value:+.1f}", f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def table(results: Results, lines: dict[tuple[str, str, str], dict[str, Measurement]], tasks: dict) -> list[Block]:
    """Each run against what it started from, or else against the first run: one table, if anything can be paired."""
    find, runs = between(results.folder, results.folder), list(results.configuration["runs"])
    against = {run: results.before(run) or runs[0] for run in runs}
    against = {run: other for run, other in against.items() if other != run}
    body, used = [], set()
    for (task, dataset, metric), by_run in lines.items():
        cells = []
        for run, other in against.items():
            found = find(by_run[other], by_run[run]) if run in by_run and other in by_run else None
            used |= {run} if found else set()
            cells.append(Cell(*shown(found), found.clear and found.value > 0) if found else Cell("–"))
        if any(cell.text != "–" for cell in cells):
            body.append([Cell(dataset, f"{tasks[task][1]}, {wording.title(metric)}"), *cells])
    if not body:
        return []
    columns = ["dataset", *(f"{run} − {other}" for run, other in against.items())]
    caption = (
        "Points of a per cent: the run minus what it started from, or minus the study's first run. Small print: 95 % "
        f"interval of the difference, {HOW}. Marked: better, beyond that interval."
    )
    return [Table("Differences over the same test images", columns, body, caption, numeric=range(1, len(columns)))]
