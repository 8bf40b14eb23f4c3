"""If these fail, figures that a user plots by code are not those of the report."""

import json

import numpy as np
import pytest
from miniature_study import finished

from genview import results
from genview.errors import GenviewError
from genview.report import summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("results"), "first")


def test_tables_hold_every_number_of_the_summary(folder):
    study = results.open(folder)
    rows = summary.read(folder / "summary.csv")
    assert len(study.measurements) == len(rows)
    tasks = ("probes", "zeroshot", "retrieval", "finetune", "detection", "mmvp", "aggregates")
    assert sum(len(getattr(study, task)) for task in tasks) == len(rows)
    (row,) = study.probes.query("run == 'all_views' and dataset == 'digits' and metric == 'top1'").itertuples()
    (said,) = (r for r in rows if (r.run, r.task, r.dataset, r.metric) == ("all_views", "probes", "digits", "top1"))
    assert (row.value, row.low, row.high, row.count) == (said.value, said.low, said.high, said.count)


def test_what_is_not_an_evaluation_is_there_too(folder):
    study = results.open(folder)
    record = json.loads((folder / "views/img/quality.json").read_text())
    assert study.audits.query("view == 'img'")["value"].tolist() == [row["value"] for row in record["results"]]
    lines = (folder / "runs/all_views/metrics.jsonl").read_text().splitlines()
    assert study.training.query("run == 'all_views'")["loss"].tolist() == [json.loads(line)["loss"] for line in lines]
    assert study.images["key"].is_unique and {"path", "noise_level"} <= set(study.images.columns)
    assert set(study.duplicates.columns) >= {"dataset", "metric", "value", "count"}


def test_differences_are_those_of_the_numbers(folder, tmp_path):
    first, second = results.open(folder), results.open(finished(tmp_path, "second", seed=7))
    table = results.compare(first, second)
    assert len(table) == len(first.measurements)
    unpaired = table[~table["paired"]]
    np.testing.assert_allclose(unpaired["difference"], unpaired["second"] - unpaired["first"])


def test_what_is_missing_is_a_sentence(folder, tmp_path):
    with pytest.raises(GenviewError, match="no finished study"):
        results.open(tmp_path)
    with pytest.raises(GenviewError, match=r"probes/all_views/none\.parquet: no outcomes there"):
        results.open(folder).outcomes("probes", "all_views", "none")
