"""The probe: what it may look at, what it must refuse, and that it measures something."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genview.config.evaluation import Features, LocalDataset, Probe
from genview.errors import GenviewError
from genview.evaluation import features, frozen, linear, probe, published, store
from genview.evaluation.datasets import Request
from genview.models import load as models

CPU = torch.device("cpu")
SCENES = LocalDataset(kind="scenes", train=240, test=120)


@pytest.fixture(scope="module")
def model():
    return models.small_directory("small/clip")


@pytest.fixture(scope="module")
def scenes():
    return Request("scenes", SCENES, seed=1).load()


@pytest.fixture(scope="module")
def trained(model, scenes):
    return features.extract(scenes, frozen.load(model), Features())


def value(result, metric):
    return next(row["value"] for row in result["results"] if row["metric"] == metric)


def made_up(train=80, test=40, classes=3, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 8))

    def part(count, first):
        labels = np.arange(count) % classes
        data = (centres[labels] + random.normal(size=(count, 8))).astype(np.float32)
        return store.PartFeatures(data, labels, np.arange(first, first + count, dtype=np.uint64))

    details = {"dataset": "made up", "classes": list("abc"[:classes]), "metric": "top1", "split_rule": "made up"}
    details |= {"layer": "pooled", "model_digest": "m", "data_digest": "d"}
    return store.Features({"train": part(train, 0), "test": part(test, 1000)}, details)


def test_a_trained_encoder_beats_a_random_one(model, scenes, trained):
    ours = probe.cached(trained, Probe(bootstrap=0), seed=1, device=CPU)
    random = features.extract(scenes, frozen.load(model, random_weights=3), Features())
    baseline = probe.cached(random, Probe(bootstrap=0), seed=1, device=CPU)
    assert value(ours, "top1") > 0.85 and value(ours, "knn_top1") > 0.85
    assert value(baseline, "top1") < 0.6


def test_the_choice_is_blind_to_the_test_part():
    settings = Probe(bootstrap=0)
    data = made_up()
    honest = probe.cached(data, settings, seed=1, device=CPU)
    test = data.parts["test"]
    shuffled = dataclasses.replace(test, labels=np.roll(test.labels, 1), features=test.features[::-1].copy())
    other = probe.cached(store.Features({**data.parts, "test": shuffled}, data.details), settings, seed=1, device=CPU)
    assert honest["grid"] == other["grid"] and honest["choice"] == other["choice"]
    assert value(honest, "top1") != value(other, "top1")


def test_a_choice_on_the_test_part_is_named():
    result = probe.cached(made_up(), Probe(bootstrap=0, selection="test"), seed=1, device=CPU)
    assert result["selection"] == "test" and "test_top1" in result["grid"][0]


def test_an_official_validation_part_decides():
    data = made_up(90, 40)
    train = data.parts["train"]
    first, second = linear._rows(train, np.arange(60)), linear._rows(train, np.arange(60, 90))
    result = probe.cached(
        store.Features({"train": first, "validation": second, "test": data.parts["test"]}, data.details),
        Probe(bootstrap=0),
        seed=1,
        device=CPU,
    )
    assert result["split"] == {"train": 60, "validation": 30, "test": 40}
    assert result["validation_rule"] == "official validation part"


def test_the_result_says_what_a_reader_must_know(trained, tmp_path):
    store.save(trained, tmp_path / "f.safetensors")
    stamp = {"stage": "probe"}
    probe.run(Probe(bootstrap=50), features=tmp_path / "f.safetensors", seed=1, output=tmp_path / "r.json", stamp=stamp)
    result = json.loads((tmp_path / "r.json").read_text())
    wanted = "metric protocol selection grid choice split split_rule model_digest data_digest overlap seed provenance"
    assert set(wanted.split()) <= set(result)
    row = result["results"][0]
    assert row["metric"] == "top1" and row["low"] <= row["value"] <= row["high"] and row["count"] == 120
    assert len(result["grid"]) == 7 and all("validation_top1" in candidate for candidate in result["grid"])


def test_the_metric_of_the_dataset_decides():
    data = made_up(300, 60)
    details = {**data.details, "metric": "mean_per_class"}
    result = probe.cached(store.Features(data.parts, details), Probe(bootstrap=0), seed=1, device=CPU)
    assert result["metric"] == "mean_per_class" and "validation_mean_per_class" in result["grid"][0]


def test_features_of_the_same_images_are_the_same_bytes(model, scenes, trained, tmp_path):
    again = features.extract(scenes, frozen.load(model), Features())
    for name, data in (("a", trained), ("b", again)):
        store.save(data, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = store.load(tmp_path / "a")
    assert np.array_equal(loaded.parts["test"].features, trained.parts["test"].features)


def test_test_images_among_the_training_images_are_refused(trained):
    test = trained.parts["test"]
    leaked = linear.joined(trained.parts["train"], linear._rows(test, np.arange(2)))
    data = store.Features({**trained.parts, "train": leaked}, trained.details)
    with pytest.raises(GenviewError, match="2 of 120 test images are also training images"):
        probe.cached(data, Probe(), seed=1, device=CPU)
    result = probe.cached(data, Probe(allowed_overlap=0.02, bootstrap=0), seed=1, device=CPU)
    assert result["overlap"] == 2


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_refused(model, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    path = folder / frozen.WEIGHTS
    weights = load_file(path)
    name = "visual.conv1.weight"
    if damage == "missing":
        weights.pop(name)
    elif damage == "unknown":
        weights["module.head.weight"] = torch.zeros(2)
    else:
        weights[name] = weights[name][:-1].clone()
    save_file(weights, path)
    word = {"missing": "missing", "unknown": "unknown", "shape": "of another shape"}[damage]
    with pytest.raises(GenviewError, match=f"1 {word}"):
        frozen.load(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(GenviewError, match=r"open_clip_config\.json is missing"):
        frozen.load(tmp_path)


def test_pooled_features_come_before_the_projection(model):
    images = torch.randn(2, 3, 32, 32)
    pooled, projected = frozen.load(model), frozen.load(model, layer="embedding")
    features_of = pooled.features(images)
    visual = projected.model.visual
    assert torch.allclose(features_of @ visual.proj, projected.features(images), atol=1e-5)
    assert pooled.model.visual.proj is not None


def test_raw_pixels_are_pixels(scenes):
    encoder = frozen.raw_pixels(32)
    image = scenes.test.image(0)
    expected = np.asarray(image, np.float32).transpose(2, 0, 1).ravel() / 255
    assert np.allclose(encoder.features(encoder.transform(image)[None])[0].numpy(), expected, atol=1e-6)


def test_the_published_rate_falls_to_zero_at_the_last_step():
    assert published.decay(0, 80) == 1 and published.decay(80, 80) == pytest.approx(0, abs=1e-12)
    assert published.decay(79, 80) < 0.001


def test_published_augmentation_depends_on_seed_epoch_and_image_alone(model, scenes):
    encoder = frozen.load(model)
    data = published.Augmented([scenes.train, scenes.test], encoder, 0.08, 5)
    first = data[241][0]
    torch.rand(7)
    assert torch.equal(data[241][0], first) and data[241][1] == scenes.test.labels[1]
    data.epoch = 1
    assert not torch.equal(data[241][0], first)


@pytest.mark.slow
def test_the_published_protocol_agrees_with_the_cached_one(model, scenes, trained):
    settings = Probe(protocol="published", epochs=4, batch_size=64, bootstrap=0, minimum_area=0.5)
    outcome = published.fit(scenes, trained, frozen.load(model), settings, Features(), seed=1)
    result = probe.report(trained, settings, outcome, overlapping=0, seed=1, device=CPU)
    assert len(result["grid"]) == 10 and result["protocol"] == "published"
    cached = probe.cached(trained, Probe(bootstrap=0), seed=1, device=CPU)
    assert value(result, "top1") > value(cached, "top1") - 0.12


def test_one_rate_does_not_feel_the_others(model, scenes):
    encoder, settings = frozen.load(model), Probe(protocol="published", epochs=1, batch_size=64)
    both = published.train_heads([scenes.test], encoder, 6, torch.tensor([0.01, 0.5]), settings, 0, 1)
    alone = published.train_heads([scenes.test], encoder, 6, torch.tensor([0.01]), settings, 0, 1)
    assert torch.allclose(both.weights[0], alone.weights[0], atol=1e-6)
