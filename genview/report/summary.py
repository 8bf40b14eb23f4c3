"""Every number that the evaluation measured, tidy: one row per run and metric."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from genview import atomic
from genview.report.results import Results


@dataclass(frozen=True)
class Measurement:
    """One number: what was measured, on what, and its 95 % interval."""

    study: str
    run: str
    task: str
    dataset: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    count: int | None = None
    """Test items behind the number."""


def measurements(results: Results) -> list[Measurement]:
    """All measurements of a study, by task, run and dataset, in the order of the configuration's runs."""
    study, rows = results.configuration["study"], []
    for (task, run, dataset), record in results.evaluations().items():
        for row in record["results"]:
            if row.get("value") is None:
                continue
            rest = {name: row.get(name) for name in ("low", "high", "count")}
            rows.append(Measurement(study, run, task, dataset, row["metric"], row["value"], **rest))
    return rows


def write(rows: list[Measurement], path: str | Path) -> None:
    """Write ``summary.csv``."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(Measurement)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    atomic.write_text(path, buffer.getvalue())


def read(path: str | Path) -> list[Measurement]:
    """Read ``summary.csv``."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Measurement(
                **{name: row[name] for name in ("study", "run", "task", "dataset", "metric")},
                value=float(row["value"]),
                **{name: float(row[name]) if row[name] else None for name in ("low", "high")},
                count=int(row["count"]) if row["count"] else None,
            )
            for row in csv.DictReader(file)
        ]
