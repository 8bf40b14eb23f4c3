"""What was said of each test image, and whether two models differ by more than the choice of images."""

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from genview import tables
from genview.config.evaluation import Probe
from genview.evaluation import accuracy, outcomes, probe, store

RANDOM = np.random.default_rng(0)


def _table(prediction, labels):
    columns = {
        "key": [f"image-{index}" for index in range(len(labels))],
        "label": labels,
        "prediction": prediction,
        "neighbours": prediction[::-1],
    }
    return pa.table({name: pa.array(values, tables.OUTCOMES.field(name).type) for name, values in columns.items()})


def _two(count=400):
    labels = RANDOM.integers(4, size=count)
    first = np.where(RANDOM.random(count) < 0.7, labels, (labels + 1) % 4)
    second = np.where(RANDOM.random(count) < 0.1, labels, first)
    return _table(first, labels), _table(second, labels)


@pytest.mark.parametrize("metric", ["top1", "mean_per_class", "knn_top1"])
def test_the_interval_is_that_of_scipys_paired_bootstrap(metric):
    first, second = _two()
    found = outcomes.difference(first, second, metric, resamples=4000)
    (before, labels, _), after = outcomes.correct(first, metric), outcomes.correct(second, metric)[0]
    kind = metric.removeprefix("knn_")

    def statistic(rows):
        rows = rows.astype(int)
        return accuracy.value(kind, after[rows], labels[rows]) - accuracy.value(kind, before[rows], labels[rows])

    rows = np.arange(len(labels), dtype=float)
    expected = stats.bootstrap(
        (rows,), statistic, n_resamples=4000, method="percentile", vectorized=False, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(statistic(rows))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)
    assert found.count == len(labels)


def test_a_difference_within_overlapping_intervals_can_be_clear_and_chance_is_not():
    first, second = _two(2000)
    found = outcomes.difference(first, second, "top1")
    single = [accuracy.wilson(outcomes.correct(table, "top1")[0].mean(), 2000) for table in (first, second)]
    assert found.clear and found.low > 0
    assert found.high - found.low < (single[0][1] - single[0][0])
    same = outcomes.difference(first, first, "top1")
    assert (same.value, same.low, same.high, same.clear) == (0, 0, 0, False)


def test_models_that_saw_other_images_are_not_compared():
    first, second = _two(50)
    assert outcomes.difference(first, second.slice(1), "top1") is None
    assert outcomes.difference(first, _table([0] * 50, [1] * 50), "top1") is None
    assert outcomes.difference(first, second, "top5") is None


def test_ranks_are_the_places_of_the_right_answers():
    images, texts = RANDOM.standard_normal((7, 5)), RANDOM.standard_normal((12, 5))
    image_of = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6, 6])
    of_texts, of_images = outcomes.ranks(images, texts, image_of)
    scores = texts @ images.T
    for text, image in enumerate(image_of):
        assert of_texts[text] == list(np.argsort(-scores[text])).index(image)
    for image in range(7):
        order = list(image_of[np.argsort(-scores[:, image])])
        assert of_images[image] == order.index(image)


def test_captions_of_an_image_are_drawn_together():
    """Five captions that are all right or all wrong are one piece of evidence, not five."""
    right = RANDOM.random(40) < 0.5
    rows = {"key": [], "query": [], "rank": []}
    for image in range(40):
        for _ in range(5):
            rows["key"].append(str(image))
            rows["query"].append("text")
            rows["rank"].append(0 if right[image] else 9)
    second = pa.table({**rows, "rank": [0] * 200})
    found = outcomes.difference(pa.table(rows), second, "image_recall_at_1")
    expected = (~right).mean()
    assert found.value == pytest.approx(expected) and found.count == 40
    half = 1.96 * np.sqrt(expected * (1 - expected) / 40)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.25)


def test_a_probe_keeps_what_it_said_of_each_image(tmp_path):
    features = RANDOM.standard_normal((90, 6)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    digests = np.arange(90, dtype=np.uint64)
    parts = {
        name: store.PartFeatures(features[rows], labels[rows], digests[rows])
        for name, rows in (("train", slice(0, 60)), ("test", slice(60, 90)))
    }
    details = {"dataset": "own", "classes": ["a", "b"], "metric": "top1", "split_rule": "", "layer": "pooled"}
    details |= {"model_digest": "m", "data_digest": "d"}
    store.save(store.Features(parts, details), tmp_path / "features.safetensors")
    output, images = tmp_path / "result.json", tmp_path / "result.parquet"
    probe.run(
        Probe(), features=tmp_path / "features.safetensors", seed=1, output=output, images=images, stamp={"stage": "t"}
    )
    found = outcomes.read(images)
    assert found["key"].to_pylist() == [f"{digest:016x}" for digest in range(60, 90)]
    results = {row["metric"]: row["value"] for row in json.loads(output.read_text())["results"]}
    for metric in ("top1", "mean_per_class", "knn_top1"):
        right, own, _ = outcomes.correct(found, metric)
        kind = metric.removeprefix("knn_")
        assert accuracy.value(kind, right, own) == pytest.approx(results[metric])


def _said(right):
    labels = np.arange(len(right)) % 3
    said = np.where(right, labels, (labels + 1) % 3)
    keys = [str(index) for index in range(len(right))]
    return pa.table({"key": keys, "label": labels, "prediction": said, "neighbours": said}, schema=tables.OUTCOMES)


def test_between_seeds_the_interval_holds_the_spread_of_both():
    random = np.random.default_rng(1)
    count, seeds = 400, 6
    rates = {name: mean + random.normal(0, 0.04, seeds) for name, mean in (("control", 0.6), ("views", 0.68))}
    groups = {name: [_said(random.random(count) < rate) for rate in of] for name, of in rates.items()}
    found = outcomes.between_seeds(groups["control"], groups["views"], "top1")
    shares = {name: [outcomes.correct(t, "top1")[0].mean() for t in of] for name, of in groups.items()}
    assert found.value == pytest.approx(np.mean(shares["views"]) - np.mean(shares["control"]))
    spread = np.sqrt(sum(np.var(of) / seeds for of in shares.values()))
    images = np.sqrt(2 * 0.6 * 0.4 / (seeds * count))
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.hypot(spread, images), rel=0.25)
    same = outcomes.between_seeds(groups["control"], groups["control"], "top1")
    assert same.value == 0 and same.low < 0 < same.high
    assert outcomes.between_seeds(groups["control"][:1], groups["views"], "top1") is None
    fewer = [_said(random.random(count - 1) < 0.5) for _ in range(2)]
    assert outcomes.between_seeds(fewer, groups["views"], "top1") is None
    assert outcomes.between_seeds(groups["control"], groups["views"], "mean_per_class") is None
