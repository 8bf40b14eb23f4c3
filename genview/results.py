"""A study's figures by code: tidy tables of what its report shows, as pandas data frames.

Open a folder of results with ``results.open("results/default")``; ``.probes`` and its siblings have a row for each run,
dataset and metric, ``compare`` has a row for each figure of two studies.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from genview import tables
from genview.errors import GenviewError
from genview.evaluation import outcomes
from genview.evaluation.catalogue import file_name
from genview.report import aggregate, summary
from genview.report.differences import of_studies
from genview.report.results import Results
from genview.report.summary import Measurement

MEASUREMENT = [field.name for field in fields(Measurement)]


class StudyResults:
    """A study's figures; its report takes them from here, too.

    Args:
        folder: ``results/<study>``.
        configuration: the effective one; None: that of the finished study's report.

    Attributes:
        folder, configuration: as given.
        artifacts: the folder's files, as the report reads them.

    Raises:
        GenviewError: no configuration is given, and the folder holds no finished study.
    """

    def __init__(self, folder: str | Path, configuration: Mapping[str, Any] | None = None):
        self.folder = Path(folder)
        self._finished = configuration is None
        if configuration is None:
            file = self.folder / "configuration.json"
            if not file.is_file() or not (self.folder / "summary.csv").is_file():
                raise GenviewError(
                    f"{folder}: no finished study: configuration.json and summary.csv come with its report"
                )
            configuration = json.loads(file.read_text(encoding="utf-8"))
        self.configuration = configuration
        self.artifacts = Results(self.folder, self.configuration)

    @cached_property
    def rows(self) -> list[Measurement]:
        """Every number that was measured, as in ``summary.csv``; means over datasets come last."""
        if self._finished:
            return summary.read(self.folder / "summary.csv")
        return [*summary.measurements(self.artifacts), *aggregate.measurements(self.artifacts)]

    @cached_property
    def log(self) -> dict[str, list[dict[str, Any]]]:
        """The logged steps of each run that has some, by run: step, losses, monitors."""
        runs = self.configuration["runs"]
        found = {run: self.artifacts.lines(f"runs/{run}/metrics.jsonl") for run in runs}
        return {run: lines for run, lines in found.items() if lines}

    @cached_property
    def audit_records(self) -> dict[str, dict[str, Any]]:
        """What the audit wrote of each view set that it has seen, by view set."""
        found = {view: self.artifacts.json(f"views/{view}/quality.json") for view in self.configuration["views"]}
        return {view: record for view, record in found.items() if record}

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """Every number: study, run, task, dataset, metric, value, its 95 % interval (low, high), test items (count)."""
        return pd.DataFrame([asdict(row) for row in self.rows], columns=MEASUREMENT)

    def _task(self, name: str) -> pd.DataFrame:
        of_task = self.measurements[self.measurements["task"] == name]
        return of_task.drop(columns=["study", "task"]).reset_index(drop=True)

    @property
    def probes(self) -> pd.DataFrame:
        """Linear probes and k-NN: run, dataset, metric, value, low, high, count."""
        return self._task("probes")

    @property
    def parts(self) -> pd.DataFrame:
        """Probes by part of the features (``DATASET.PART``), on perturbed tests too; columns as of probes."""
        return self._task("parts")

    @property
    def zeroshot(self) -> pd.DataFrame:
        """Zero-shot classification; columns as of probes."""
        return self._task("zeroshot")

    @property
    def retrieval(self) -> pd.DataFrame:
        """Retrieval; columns as of probes."""
        return self._task("retrieval")

    @property
    def finetune(self) -> pd.DataFrame:
        """Fine-tuning; columns as of probes."""
        return self._task("finetune")

    @property
    def detection(self) -> pd.DataFrame:
        """Detection and instance segmentation; columns as of probes."""
        return self._task("detection")

    @property
    def saliency(self) -> pd.DataFrame:
        """Saliency by TokenCut; columns as of probes."""
        return self._task("saliency")

    @property
    def video(self) -> pd.DataFrame:
        """Label propagation in videos; columns as of probes."""
        return self._task("video")

    @property
    def mmvp(self) -> pd.DataFrame:
        """Pairs of MMVP-VLM or its stand-in; columns as of probes."""
        return self._task("mmvp")

    @property
    def aggregates(self) -> pd.DataFrame:
        """Means over datasets, by task and group: run, dataset (the list), metric, value, low, high, count (datasets).

        ``mean_above_chance`` is the mean of each dataset's share of the way from chance to 100 %.
        """
        return self._task(aggregate.TASK)

    @property
    def duplicates(self) -> pd.DataFrame:
        """Shares of test images that are among the study's: dataset, metric, value, low, high, count."""
        found = self.artifacts.duplicates().items()
        return pd.DataFrame([{"dataset": name, **row} for name, record in found for row in record["results"]])

    @property
    def audits(self) -> pd.DataFrame:
        """What the audit measured of each view set: view, metric, value, its interval, and what it is grouped by."""
        found = self.audit_records.items()
        return pd.DataFrame([{"view": view, **row} for view, record in found for row in record["results"]])

    @property
    def training(self) -> pd.DataFrame:
        """The logged steps of each run: run, step, losses, monitors."""
        return pd.DataFrame([{"run": run, **line} for run, lines in self.log.items() for line in lines])

    @property
    def images(self) -> pd.DataFrame:
        """One row an image: the manifest's columns, and the conditions that its views were made with, if there are."""
        manifest = self.artifacts.table("data/manifest.parquet", tables.MANIFEST)
        found = pd.DataFrame() if manifest is None else manifest.to_pandas()
        conditions = self.artifacts.table("conditions/conditions.parquet", tables.CONDITIONS)
        if manifest is None or conditions is None:
            return found
        return found.merge(conditions.drop_columns(["caption"]).to_pandas(), on="key", how="left", validate="1:1")

    @property
    def rejected(self) -> pd.DataFrame:
        """What was refused at ingestion: source, reason, kind."""
        found = self.artifacts.table("data/rejected.parquet", tables.REJECTED)
        return pd.DataFrame() if found is None else found.to_pandas()

    def outcomes(self, task: str, run: str, dataset: str) -> pd.DataFrame:
        """What a model said of each test image (``tables.OUTCOMES``, or of retrieval ``tables.RANKS``).

        Raises:
            GenviewError: it was not measured, or keeps no outcomes.
        """
        file = self.folder / task / run / f"{file_name(dataset)}.parquet"
        found = outcomes.read(file)
        if found is None:
            raise GenviewError(f"{file}: no outcomes there; probes, zero-shot and retrieval results keep them")
        return found.to_pandas()


def open(folder: str | Path) -> StudyResults:
    """A finished study's figures, of a folder ``results/<study>``.

    Raises:
        GenviewError: the folder holds no finished study.
    """
    return StudyResults(folder)


def compare(first: StudyResults, second: StudyResults) -> pd.DataFrame:
    """Every figure that both studies have: run, task, dataset, metric, first, second, difference, low, high, paired.

    The interval is of the paired difference over the same test images (bootstrap), where both keep their outcomes.
    """
    known = {(row.run, row.task, row.dataset, row.metric): row for row in second.rows}
    find, found = of_studies(first.artifacts, second.artifacts), []
    for row in first.rows:
        other = known.get((row.run, row.task, row.dataset, row.metric))
        if other:
            paired = find(row, other)
            found.append(
                {
                    "run": row.run,
                    "task": row.task,
                    "dataset": row.dataset,
                    "metric": row.metric,
                    "first": row.value,
                    "second": other.value,
                    "difference": paired.value if paired else other.value - row.value,
                    "low": paired.low if paired else None,
                    "high": paired.high if paired else None,
                    "paired": paired is not None,
                }
            )
    columns = ["run", "task", "dataset", "metric", "first", "second", "difference", "low", "high", "paired"]
    return pd.DataFrame(found, columns=columns)
