"""Fine-tuning: which labels are used, that a killed training goes on to the same network, that labels help."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from genview.config.evaluation import Features, Finetune, FinetuneRates, LocalDataset
from genview.errors import GenviewError
from genview.evaluation import accuracy, finetune, frozen
from genview.evaluation.datasets import Request
from genview.models import load as models

RATES = {"0.1": (FinetuneRates(classifier=0.5, backbone=0.02),)}
QUICK = Finetune(shares=(0.1,), subset_seeds=(0,), rates=RATES, epochs=3, batch_size=16, bootstrap=50)


@pytest.fixture(scope="module")
def model():
    return models.small_directory("small/clip")


@pytest.fixture(scope="module")
def request_():
    return Request("scenes", LocalDataset(kind="scenes", train=300, test=60), seed=1)


@pytest.fixture(scope="module")
def dataset(request_):
    return request_.load()


def test_a_share_is_drawn_class_by_class_and_by_its_seed(dataset):
    labels = dataset.train.labels
    tenth = finetune.labelled_subset(dataset, 0.1, 0)
    for label, count in zip(*np.unique(labels, return_counts=True)):
        assert (labels[tenth] == label).sum() == max(1, round(0.1 * count))
    assert np.array_equal(tenth, finetune.labelled_subset(dataset, 0.1, 0))
    assert not np.array_equal(tenth, finetune.labelled_subset(dataset, 0.1, 1))
    least = finetune.labelled_subset(dataset, 0.0001, 0)
    assert sorted(labels[least]) == sorted(set(labels))  # one of each class
    assert len(finetune.labelled_subset(dataset, 1.0, 0)) == len(labels)


def test_a_list_names_its_images(dataset, tmp_path):
    names = tmp_path / "list.txt"
    names.write_text("\n".join(dataset.train.name_of(index) for index in (7, 3)) + "\n")
    assert finetune.labelled_subset(dataset, 0.01, 0, names).tolist() == [3, 7]
    names.write_text("nobody\n")
    with pytest.raises(GenviewError, match="'nobody' is not a training image"):
        finetune.labelled_subset(dataset, 0.01, 0, names)
    with pytest.raises(GenviewError, match="cannot be read"):
        finetune.labelled_subset(dataset, 0.01, 0, tmp_path / "missing.txt")


def test_published_rates_by_share():
    settings = Finetune()
    assert settings.rates_of(0.01) == (FinetuneRates(classifier=1.0, backbone=1e-5),)
    assert settings.rates_of(0.1) == (FinetuneRates(classifier=0.2, backbone=0.02),)
    with pytest.raises(ValidationError, match="lists"):
        Finetune(lists={"0.5": "some.txt"})
    with pytest.raises(ValidationError, match="not a share"):
        Finetune(rates={"few": ()})


@pytest.mark.slow
def test_labels_help_and_the_result_says_what_was_done(model, request_, tmp_path):
    output = tmp_path / "result.json"
    settings = QUICK.model_copy(update={"subset_seeds": (0, 1), "shares": (0.1, 0.5)})
    finetune.run(request_, Features(), settings, model=model, work=tmp_path / "work", output=output, stamp={})
    result = json.loads(output.read_text())
    few, many = result["results"]
    assert (few["metric"], many["metric"]) == ("top1_at_0.1", "top1_at_0.5")
    assert few["low"] <= few["value"] <= few["high"] and many["value"] > 0.5 > 1 / 6
    assert many["value"] == pytest.approx(np.mean([t["top1"] for t in result["trainings"] if t["share"] == 0.5]))
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_network(model, dataset, tmp_path, monkeypatch):
    encoder = frozen.load(model)
    rows = finetune.labelled_subset(dataset, 0.1, 0)

    def training(name):
        return finetune.Training(dataset.train.take(rows), RATES["0.1"][0], 0, tmp_path / name)

    whole = finetune.train(training("whole"), encoder, 6, QUICK, 0)
    keep, saved = finetune._keep, []

    def kept_then_killed(*arguments):
        keep(*arguments)
        saved.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "_keep", kept_then_killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            finetune.train(training("parts"), encoder, 6, QUICK, 0)
    monkeypatch.undo()
    parts = finetune.train(training("parts"), encoder, 6, QUICK, 0)
    assert [arguments[2] for arguments in saved] == [1, 2]
    for ours, theirs in zip(whole.state_dict().values(), parts.state_dict().values()):
        assert torch.equal(ours, theirs)
    before = encoder.tower.state_dict()
    assert any(not torch.equal(before[n], v) for n, v in whole.tower.state_dict().items())  # the backbone learns
    again = frozen.load(model).tower.state_dict()
    assert all(torch.equal(before[name], again[name]) for name in before)  # and the frozen one stays


def test_an_interval_over_trainings_and_images():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 400)
    alike = np.tile(random.random(400) < 0.7, (3, 1))
    apart = np.stack([random.random(400) < share for share in (0.5, 0.7, 0.9)])
    mean, low, high = finetune.over_seeds("top1", alike, labels, resamples=500, seed=0)
    assert mean == pytest.approx(alike[0].mean())
    assert (low, high) == pytest.approx(accuracy.bootstrap("top1", alike[0], labels, 500, 1), abs=0.02)
    _, wider_low, wider_high = finetune.over_seeds("top1", apart, labels, resamples=500, seed=0)
    assert wider_high - wider_low > 2 * (high - low)  # trainings that differ widen it
