"""Two studies side by side: what is set differently, and which numbers differ by more than chance."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from genview.errors import GenviewError
from genview.report import summary, wording
from genview.report.summary import Measurement


def configuration(folder: str | Path) -> dict[str, Any]:
    """The effective configuration that a study's report was made with.

    Raises:
        GenviewError: the folder holds no finished study.
    """
    file = Path(folder) / "configuration.json"
    if not file.is_file() or not (Path(folder) / "summary.csv").is_file():
        raise GenviewError(f"{folder}: no finished study: configuration.json and summary.csv come with its report")
    return json.loads(file.read_text(encoding="utf-8"))


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping, by its dotted key."""
    if isinstance(values, Mapping) and values:
        for key, inner in values.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Keys whose values differ; None where a study does not have the key. The shared block ``training`` is left out:
    what it says shows in the runs."""
    left, right = (dict(leaves({k: v for k, v in side.items() if k != "training"})) for side in (first, second))
    return [(key, left.get(key), right.get(key)) for key in {**left, **right} if left.get(key) != right.get(key)]


def verdict(first: Measurement, second: Measurement) -> str:
    """``higher`` or ``lower`` (the second) where the 95 % intervals do not meet, otherwise what cannot be said."""
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
    bounds = wording.interval(row.low, row.high, share=True)
    return f"{100 * row.value:.1f}" + (f"  ({bounds})" if bounds else "")


def show(first: str | Path, second: str | Path, console: Console | None = None) -> None:
    """Print the comparison of two folders ``results/<study>``.

    Raises:
        GenviewError: one of them holds no finished study.
    """
    console = console or Console()
    left, right = configuration(first), configuration(second)
    names = [left["study"], right["study"]] if left["study"] != right["study"] else [str(first), str(second)]

    different = [row for row in differences(left, right) if row[0] not in ("study", "results")]
    if different:
        table = Table("key", *names, title="Configuration", title_justify="left", box=None, header_style="bold")
        for key, *values in different:
            table.add_row(key, *("–" if value is None else json.dumps(value, ensure_ascii=False) for value in values))
        console.print(table)
    else:
        console.print("The configurations are the same.")

    rows = [summary.read(Path(folder) / "summary.csv") for folder in (first, second)]
    shared = pairs(*rows)
    if not shared:
        console.print("No run, dataset and metric is measured in both.")
        return
    table = Table("run", "dataset", "metric", *names, "difference", "", title="Measurements, per cent")
    table.title_justify, table.box, table.header_style = "left", None, "bold"
    verdicts = []
    for one, other in shared:
        verdicts.append(verdict(one, other))
        style = {"higher": "green", "lower": "red"}.get(verdicts[-1], "")
        difference = f"{100 * (other.value - one.value):+.1f}"
        cells = [
            one.run,
            one.dataset,
            wording.title(one.metric),
            _number(one),
            _number(other),
            difference,
            verdicts[-1],
        ]
        table.add_row(*cells, style=style)
    console.print(table)
    clear = sum(word in ("higher", "lower") for word in verdicts)
    console.print(
        f"{clear} of {wording.plural(len(verdicts), 'measurement')} differ by more than their 95 % intervals allow."
    )
    only = [sum(1 for row in side if not any(row in pair for pair in shared)) for side in rows]
    if any(only):
        console.print(f"Measured in one study only: {only[0]} in {names[0]}, {only[1]} in {names[1]}.")
