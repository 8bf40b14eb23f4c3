"""Two studies side by side: what is set differently, and which numbers differ by more than chance."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genview import results, words
from genview.evaluation.outcomes import Difference
from genview.report import aggregate, evaluation, wording
from genview.report import differences as differences_of_images
from genview.report.summary import Measurement

TASKS = {aggregate.TASK: "Means over data sets", **{task: title for task, (title, _) in evaluation.TASKS.items()}}
CLEAR = ("higher", "lower")
NOT_COMPARED = ("study", "results", "training")
"""Names, and what all runs share: it shows in the runs."""


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Keys whose values differ; None where a study does not have the key, and then for the largest block that it lacks.
    The shared block ``training`` is left out: what it says shows in the runs."""
    sides = ({key: side[key] for key in side if key not in NOT_COMPARED} for side in (first, second))
    return words.differences(*sides)


def verdict(first: Measurement, second: Measurement, paired: Difference | None = None) -> str:
    """``higher`` or ``lower`` (the second) where the interval of the paired difference leaves out 0, or, without one,
    where the 95 % intervals do not meet; otherwise what cannot be said.
    """
    if paired:
        return ("higher" if paired.value > 0 else "lower") if paired.clear else "within interval"
    if None in (first.low, first.high, second.low, second.high):
        return "no intervals"
    if second.low > first.high:
        return "higher"
    if second.high < first.low:
        return "lower"
    return "within intervals"


def pairs(first: list[Measurement], second: list[Measurement]) -> list[tuple[Measurement, Measurement]]:
    """Measurements that both studies have: same run, task, dataset and metric."""
    known = {(row.run, row.task, row.dataset, row.metric): row for row in second}
    return [
        (row, known[row.run, row.task, row.dataset, row.metric])
        for row in first
        if (row.run, row.task, row.dataset, row.metric) in known
    ]


def _number(row: Measurement) -> str:
    bounds = escape(f" [{100 * row.low:.1f}, {100 * row.high:.1f}]") if None not in (row.low, row.high) else ""
    return f"{100 * row.value:.1f}{bounds}"


def _setting(value: Any) -> str:
    if value is None:
        return "–"
    return "there" if isinstance(value, Mapping) else escape(json.dumps(value, ensure_ascii=False))


def _table(first: str, *columns: str, fold: bool) -> Table:
    table = Table(first, box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=not fold)
    return table


def show(first: str | Path, second: str | Path, console: Console | None = None) -> None:
    """Print the comparison of two folders ``results/<study>``: settings, then measurements by task.

    Of each task and dataset the first metric is shown, which is the dataset's own, and every other that differs by more
    than its interval; summary.csv has them all.

    Raises:
        GenviewError: one of them holds no finished study.
    """
    if console is None:
        console = Console()
        console = console if console.is_terminal else Console(width=140)
    studies = results.open(first), results.open(second)
    left, right = (study.configuration for study in studies)
    names = [left["study"], right["study"]] if left["study"] != right["study"] else [str(first), str(second)]

    different = differences(left, right)
    if different:
        table = _table("configuration", *names, fold=True)
        for key, *values in different:
            table.add_row(key, *map(_setting, values))
        console.print(table)
    else:
        console.print("The configurations are the same.")

    rows = [study.rows for study in studies]
    shared = pairs(*rows)
    if not shared:
        console.print("No run, dataset and metric is measured in both.")
        return
    clear, hidden, others, together = 0, 0, 0, 0
    find = differences_of_images.of_studies(studies[0].artifacts, studies[1].artifacts)
    for task, title in TASKS.items():
        table, main = _table(f"{title}, per cent", *names, "difference", "", fold=False), set()
        for one, other in (pair for pair in shared if pair[0].task == task):
            paired = find(one, other)
            word = verdict(one, other, paired)
            clear += word in CLEAR
            first_metric = (one.run, one.dataset) not in main
            main.add((one.run, one.dataset))
            if not first_metric and word not in CLEAR:
                hidden += 1
                continue
            if one.count != other.count:
                others += 1
                word += f", {one.count} and {other.count} test items"
            name = f"{one.run}, {one.dataset}, {wording.title(one.metric)}"
            difference = f"{100 * (other.value - one.value):+.1f}"
            if paired:
                difference, together = escape(" ".join(differences_of_images.shown(paired))), together + 1
            style = {"higher": "green", "lower": "red"}.get(verdict(one, other, paired), "")
            table.add_row(name, _number(one), _number(other), difference, word, style=style)
        if table.row_count:
            console.print()
            console.print(table)
    console.print(
        f"\n{clear} of {wording.plural(len(shared), 'measurement')} differ by more than their intervals "
        "(95 %, in brackets) allow."
    )
    if together:
        console.print(f"Intervals of differences: {differences_of_images.HOW}.")
    if hidden:
        console.print(f"{hidden} more lie within their intervals and are in the summary.csv of the studies.")
    if others:
        console.print("Where the number of test items differs, the studies were not tested on the same data.")
    only = [sum(1 for row in side if not any(row in pair for pair in shared)) for side in rows]
    if any(only):
        console.print(f"Measured in one study only: {only[0]} in {names[0]}, {only[1]} in {names[1]}.")
