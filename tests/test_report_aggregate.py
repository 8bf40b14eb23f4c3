"""If these fail, the mean over datasets that a report leads with is another one than it says."""

import json
from pathlib import Path

import numpy as np
import pytest
from miniature_study import configuration

from genview import parquet, tables
from genview.evaluation import accuracy, groups
from genview.report import aggregate, differences, evaluation
from genview.report.results import Results
from genview.results import StudyResults

CLASSES = {"cifar10": 10, "dtd": 5, "eurosat": 4, "pcam": 2}


def study(folder: Path, hits: dict[str, dict[str, np.ndarray]], runs: dict | None = None) -> Results:
    """Probes of runs on datasets, with what each test image was taken for."""
    names = list(next(iter(hits.values())))
    values = configuration(
        folder.parent, folder.name, runs=runs or {run: {"epochs": 2} for run in hits},
        evaluation={"probe": {"datasets": names}, "zeroshot": {"datasets": []}, "retrieval": {"datasets": []}},
    )  # fmt: skip
    for run, by_dataset in hits.items():
        for name, right in by_dataset.items():
            labels = np.arange(len(right)) % CLASSES[name]
            predictions = np.where(right, labels, (labels + 1) % CLASSES[name])
            file = folder / f"probes/{run}/{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            row = accuracy.row("top1", right.mean(), *accuracy.wilson(right.mean(), len(right)), len(right))
            file.write_text(json.dumps({"metric": "top1", "classes": CLASSES[name], "results": [row]}))
            columns = {
                "key": [str(index) for index in range(len(right))], "label": labels, "prediction": predictions,
                "neighbours": predictions,
            }  # fmt: skip
            parquet.write(columns, tables.OUTCOMES, file.with_suffix(".parquet"))
    return Results(folder, values)


@pytest.fixture
def hits():
    random = np.random.default_rng(3)
    rates = {"a": {"cifar10": 0.6, "dtd": 0.5, "eurosat": 0.7, "pcam": 0.8}}
    rates["b"] = {name: rate + 0.08 for name, rate in rates["a"].items()}
    sizes = {"cifar10": 900, "dtd": 400, "eurosat": 300, "pcam": 500}
    return {run: {name: random.random(sizes[name]) < rate for name, rate in of.items()} for run, of in rates.items()}


def by_name(rows):
    return {(row.run, row.dataset.partition(":")[0], row.metric): row for row in rows}


def test_each_dataset_counts_once_by_group_and_above_chance(tmp_path, hits):
    rows = aggregate.measurements(study(tmp_path / "one", hits))
    found = by_name(rows)
    assert {key[1] for key in found} == {"probes, all", "probes, natural", "probes, specialised"}
    for run, right in hits.items():
        for group, names in {"all": CLASSES, "natural": ("cifar10", "dtd"), "specialised": ("eurosat", "pcam")}.items():
            plain = found[run, f"probes, {group}", "mean"]
            above = found[run, f"probes, {group}", "mean_above_chance"]
            shares = {name: right[name].mean() for name in names}
            assert plain.value == pytest.approx(np.mean(list(shares.values())))
            chances = {name: 1 / CLASSES[name] for name in names}
            expected = np.mean([(shares[name] - chances[name]) / (1 - chances[name]) for name in names])
            assert above.value == pytest.approx(expected)
            assert plain.count == len(names) and set(plain.dataset.partition(": ")[2].split(", ")) == set(names)


def test_the_interval_is_that_of_independent_shares(tmp_path, hits):
    row = by_name(aggregate.measurements(study(tmp_path / "one", hits)))["a", "probes, all", "mean"]
    shares = [right.mean() * (1 - right.mean()) / len(right) for right in hits["a"].values()]
    deviation = np.sqrt(np.sum(shares)) / len(shares)
    assert row.high - row.low == pytest.approx(2 * 1.96 * deviation, rel=0.08)
    assert row.low < row.value < row.high


def test_a_difference_of_means_is_paired_image_by_image(tmp_path, hits):
    better = {
        "a": hits["a"],
        "b": {name: right | (np.arange(len(right)) % 20 == 0) for name, right in hits["a"].items()},
    }
    results = study(tmp_path / "one", better)
    found = by_name(aggregate.measurements(results))
    one, other = (found[run, "probes, all", "mean"] for run in "ab")
    difference = differences.of_studies(results, results)(one, other)
    changes = [better["b"][name].astype(float) - right for name, right in better["a"].items()]
    deviation = np.sqrt(np.sum([change.var() / len(change) for change in changes])) / len(changes)
    assert difference.value == pytest.approx(np.mean([change.mean() for change in changes]))
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert difference.low > 0 and one.high > other.low, "the two intervals overlap, the paired one does not meet 0"


def test_means_over_other_lists_are_never_compared(tmp_path, hits):
    first = study(tmp_path / "one", hits)
    fewer = {run: {name: of[name] for name in ("cifar10", "dtd", "pcam")} for run, of in hits.items()}
    second = study(tmp_path / "two", fewer)
    one = by_name(aggregate.measurements(first))["a", "probes, all", "mean"]
    other = by_name(aggregate.measurements(second))["a", "probes, all", "mean"]
    assert one.dataset != other.dataset and differences.of_studies(first, second)(one, other) is None


def test_without_outcomes_there_is_a_mean_and_no_interval(tmp_path, hits):
    results = study(tmp_path / "one", hits)
    (tmp_path / "one/probes/a/dtd.parquet").unlink()
    found = by_name(aggregate.measurements(results))
    assert found["a", "probes, all", "mean"].low is None
    assert found["a", "probes, specialised", "mean"].low is not None


@pytest.mark.parametrize(
    ("name", "task", "group"),
    [
        ("wds/vtab/caltech101", "probes", "natural"), ("vtab/pcam", "zeroshot", "specialised"),
        ("vtab/clevr_count_all", "probes", "structured"), ("wds/vtab/dsprites_label_x", "probes", "structured"),
        ("flickr30k", "retrieval", "retrieval"), ("imagenet-r", "zeroshot", "natural"), ("own", "probes", "other"),
        ("wds_vtab-resisc45", "probes", "specialised"), ("fgvc_aircraft", "zeroshot", "natural"),
    ],
)  # fmt: skip
def test_groups_are_those_of_vtab(name, task, group):
    assert groups.of(name, task) == group


def test_the_report_leads_with_the_mean_and_names_its_list(tmp_path, hits):
    section = evaluation.section(StudyResults(tmp_path / "one", study(tmp_path / "one", hits).configuration))
    assert section.summary.startswith("Mean over 4 probed data sets: b ")
    (table,) = (block for block in section.blocks if getattr(block, "title", "") == "Means over data sets")
    assert "over cifar10, dtd, eurosat, pcam" in table.rows[0][0].note and table.rows[0][2].best


def test_what_a_run_gained_over_its_beginning_and_what_it_took(tmp_path):
    random, names = np.random.default_rng(2), list(CLASSES)[:2]
    before = {name: random.random(400) < 0.5 for name in names}
    after = {name: before[name] | (random.random(400) < 0.3) for name in names}
    runs = {"tuned": {"epochs": 2, "model": {"initial": "small"}}}
    artifacts = study(tmp_path / "one", {"small": before, "tuned": after}, runs)
    attempts = tmp_path / "one/costs/training/tuned/train.attempts"
    attempts.parent.mkdir(parents=True)
    attempts.write_text(json.dumps({"seconds": 1800.0, "gpus": 4, "attempts": 2}))
    section = evaluation.section(StudyResults(tmp_path / "one", artifacts.configuration))
    (table,) = (block for block in section.blocks if getattr(block, "title", "") == "Before and after")
    ((run, value, other, difference, hours, per_hour),) = table.rows
    gain = 100 * np.mean([after[name].mean() - before[name].mean() for name in names])
    assert (run.text, run.note) == ("tuned − small", "probe, mean over 2 data sets") and hours == "2.00"
    assert difference.text == f"{gain:+.1f}" and difference.note.startswith("[+") and difference.best
    assert per_hour == f"{gain / 2:+.1f}" and (value, other) != ("", "")
