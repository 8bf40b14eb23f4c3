"""Blocks on runs that differ in their seed alone: how far the choice of a seed goes, and what goes further."""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from genview import provenance
from genview.evaluation import outcomes
from genview.report import differences, wording
from genview.report.blocks import Block, Cell, Table
from genview.report.results import Results
from genview.report.summary import Measurement

Lines = Mapping[tuple[str, str, str], Mapping[str, Measurement]]
Tasks = Mapping[str, tuple[str, str]]


def seeds_apart(runs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Groups of runs that differ in their seed alone, by the first one's name without its number."""
    alike: dict[str, list[str]] = {}
    for name, run in runs.items():
        alike.setdefault(provenance.digest({**run, "seed": None}), []).append(name)
    return {names[0].rstrip("-_0123456789") or names[0]: names for names in alike.values() if len(names) > 1}


def blocks(results: Results, lines: Lines, tasks: Tasks) -> list[Block]:
    """Mean and standard deviation over the runs that differ in their seed alone, and differences between such groups.

    Args:
        results: the study.
        lines: measurements by run, of each task, dataset and metric.
        tasks: folder of a task to its title and its short name.
    """
    groups = seeds_apart(results.configuration["runs"])
    if not groups:
        return []
    body = []
    for (task, dataset, metric), by_run in lines.items():
        cells = []
        for names in groups.values():
            values = [by_run[name].value for name in names if name in by_run]
            deviation = f"± {100 * stdev(values):.1f}, {len(values)} seeds" if len(values) > 1 else ""
            cells.append(Cell(wording.percent(fmean(values)), deviation) if values else Cell("–"))
        body.append([Cell(dataset, f"{tasks[task][1]}, {wording.title(metric)}"), *cells])
    columns = ["dataset", *groups]
    caption = "Mean over runs that differ in their seed alone; small print: standard deviation between seeds."
    over = Table("Over seeds", columns, body, caption, numeric=range(1, len(columns)))
    return [over, *_between_groups(results, lines, tasks, groups)]


def _between_groups(results: Results, lines: Lines, tasks: Tasks, groups: Mapping[str, list[str]]) -> list[Block]:
    """Each group of seeds against the first, which is the control, with intervals over seeds and test images."""
    control, *others = groups
    body = []
    for (task, dataset, metric), by_run in lines.items():
        tables = {
            name: [differences.kept(results.folder, by_run[run]) for run in runs if run in by_run]
            for name, runs in groups.items()
        }
        cells = []
        for name in others:
            both = [[table for table in tables[group] if table is not None] for group in (control, name)]
            whole = all(len(found) == len(groups[group]) for found, group in zip(both, (control, name)))
            found = outcomes.between_seeds(*both, metric) if whole and all(both) else None
            cells.append(Cell(*differences.shown(found), found.clear and found.value > 0) if found else Cell("–"))
        if any(cell.text != "–" for cell in cells):
            body.append([Cell(dataset, f"{tasks[task][1]}, {wording.title(metric)}"), *cells])
    if not body:
        return []
    columns = ["dataset", *(f"{name} − {control}" for name in others)]
    caption = (
        f"Points of a per cent: mean over a group's seeds minus that of {control}, the first group. "
        "Small print: 95 % interval, seeds and test images resampled together (2,000 resamples); too narrow for few "
        "seeds. Marked: better, beyond that interval."
    )
    return [Table("Differences between groups of seeds", columns, body, caption, numeric=range(1, len(columns)))]
