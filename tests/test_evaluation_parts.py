"""Probes by part and perturbed tests. If these fail, a user credits a part of the features with what another knows."""

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from workspace import Workspace

from genview import results
from genview.config.parts import Parts
from genview.encoders import towers
from genview.errors import GenviewError
from genview.evaluation import parts, perturb

STUDY = """
study: parted
dataset: {source: scenes, count: 32, shards: 1}
encoders: {small: {model: small/clip}}
training:
  epochs: 1
  batch_size: 16
  model: {architecture: tiny}
  optimizer: {warmup_epochs: 0}
  data:
    views: {}
    slots: [{resample: 0, blur: 0, rotation: 90}, {resample: 0, blur: 0, rotation: 90}]
runs:
  clever: {method: {name: clever, head: [16, 8], outputs: 12, equivariant: {outputs: 12}}}
  dino: {method: {name: dino, head: [16, 8], outputs: 12}}
evaluation:
  encoders: [small]
  features: {workers: 1}
  datasets: {shapes: {kind: scenes, train: 60, test: 40}}
  parts:
    datasets: [shapes]
    parts: [all, ir, ef, last]
    perturbations: [ori, aug1_4_2]
    draws: 2
    epochs: 2
    learning_rate: 0.1
  duplicates: {enabled: false}
"""


@pytest.mark.parametrize(
    ("features", "invariant", "all_of", "ir", "ef"),
    [(384, 307, 1536, 1459, 77), (192, 153, 768, 729, 39), (2048, 1638, 2048, 1638, 410)],
)
def test_parts_have_the_published_widths(features, invariant, all_of, ir, ef):
    where = parts.slices(all_of, features, invariant)
    width = {name: part.stop - part.start for name, part in where.items()}
    assert width == {"all": all_of, "ir": ir, "ef": ef, "last": features, "last_ir": invariant}
    assert where["ir"].stop == where["ef"].start and width["ir"] + width["ef"] == width["all"]


def test_class_tokens_end_with_the_pooled_features():
    images = torch.randn(2, 3, 32, 32)
    settings = {"img_size": 32, "patch_size": 16, "num_classes": 0, "depth": 3, "embed_dim": 24, "num_heads": 2}
    trunk = timm.create_model("vit_tiny_patch16_224", **settings).eval()
    visual = open_clip.create_model("ViT-B-32", force_image_size=32).eval().visual
    for tower, depth, width in ((trunk, 3, 24), (visual, 12, 768)):
        with torch.no_grad():
            found = towers.class_tokens(tower, images, 2)
            pooled = towers.of(tower).see(images, ("pooled",)).pooled
            assert found.shape == (2, 2 * width) and towers.class_tokens(tower, images, 99).shape == (2, depth * width)
        torch.testing.assert_close(found[:, width:], pooled)
        assert not torch.allclose(found[:, :width], pooled)
    with torch.no_grad():  # the block before the last, by timm's own function
        earlier = trunk.get_intermediate_layers(images, n=2, return_prefix_tokens=True, norm=True)[0][1][:, 0]
        torch.testing.assert_close(towers.class_tokens(trunk, images, 2)[:, :24], earlier)
        convolutional = timm.create_model("test_resnet", num_classes=0).eval()
        torch.testing.assert_close(towers.class_tokens(convolutional, images, 4), convolutional(images))


def test_a_perturbation_is_the_images_own():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8).astype(np.uint8))
    for name in ("ori", "basic", "aug1", "aug1_2", "aug1_3", "aug1_4_1", "aug1_4_2", "aug1_4_3"):
        change = perturb.Perturbed(name, 32, seed=1)
        one = np.asarray(change(image, 5))
        torch.manual_seed(99)
        assert one.shape == (32, 32, 3) and np.array_equal(one, np.asarray(change(image, 5)))
        other = np.asarray(perturb.Perturbed(name, 32, seed=1, draw=1)(image, 5))
        assert np.array_equal(one, other) == (name == "ori")
        assert np.array_equal(one, np.asarray(change(image, 6))) == (name == "ori")


def test_what_each_perturbation_does():
    ramp = np.broadcast_to(np.linspace(0, 250, 64).astype(np.uint8)[None, :, None], (64, 64, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp))

    def slope(name):
        pixels = np.asarray(perturb.Perturbed(name, 32, seed=0)(image, 0)).astype(float).mean(axis=2)
        return pixels[:, -8:].mean() - pixels[:, :8].mean()

    assert slope("ori") > 100 and slope("basic") > 30 and slope("aug1") < -30
    corners = [np.asarray(perturb.Perturbed("aug1_2", 32, seed=0)(image, index))[0, -1].sum() for index in range(20)]
    assert corners.count(0) > 10  # turned by enough that a corner is black
    turned = perturb.Turned(32, 90.0, seed=3)
    angles = [turned.angle(index) for index in range(300)]
    assert min(angles) < -80 and max(angles) > 80 and abs(np.mean(angles)) < 10


def test_the_regression_finds_an_angle_that_is_there_and_none_that_is_not():
    random = np.random.default_rng(0)
    angles, truth = random.uniform(-90, 90, 400), random.uniform(-90, 90, 200)
    weights = random.normal(size=6)

    def features(of):
        return np.outer(of, weights) + random.normal(size=(len(of), 6))

    def r2(left):
        return 1 - left.sum() / np.square(truth - truth.mean()).sum()

    assert r2(parts.squared_residuals(features(angles), angles, features(truth), truth, 0)) > 0.99
    noise = parts.squared_residuals(random.normal(size=(400, 6)), angles, random.normal(size=(200, 6)), truth, 0)
    assert abs(r2(noise)) < 0.1
    constant = parts.squared_residuals(np.ones((400, 2)), angles, np.ones((200, 2)), truth, 0)
    assert abs(r2(constant)) < 0.05


def test_where_the_parts_meet_is_said_by_the_run(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"invariant_channels": 5}))
    assert parts.invariant_channels(tmp_path, 10, 0.8) == (5, True)
    (tmp_path / "run.json").write_text("{}")
    assert parts.invariant_channels(tmp_path, 10, 0.8) == (8, False)
    with pytest.raises(GenviewError, match="10 of 10"):
        parts.invariant_channels(tmp_path, 10, 1.0)


def test_intervals_of_several_draws_hold_the_mean():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 500)
    correct = random.random((3, 500)) < 0.7
    low, high = parts.interval("top1", correct, labels, Parts(), 0)
    assert low < correct.mean() < high and high - low < 0.1
    assert parts.interval("top1", correct, labels, Parts(bootstrap=0), 0) == (None, None)


@pytest.mark.slow
def test_parts_and_perturbed_tests_through_the_workflow(tmp_path):
    work = Workspace(tmp_path / "work")
    (work.root / "parted.yaml").write_text(STUDY)
    work.snakemake("--configfile", "parted.yaml", "--cores", "2")
    folder = work.root / "results/parted"
    found = {
        (run, part): json.loads((folder / f"probes/{run}/shapes.{part}.json").read_text())
        for run in ("clever", "dino", "small")
        for part in ("all", "ir", "ef", "last")
    }
    assert found["clever", "ef"]["cut"] == "as trained" and found["clever", "ef"]["channels"] == [76, 96]
    assert found["small", "ef"]["channels"] == [243, 256] and "control" in found["small", "ef"]["cut"]
    for record in found.values():
        rows = {row["metric"]: row for row in record["results"]}
        assert set(rows) == {"top1", "top1: aug1_4_2", "angle_r2"}
        perturbed = rows["top1: aug1_4_2"]
        assert perturbed["value"] == pytest.approx(np.mean(perturbed["draws"])) and len(perturbed["draws"]) == 2
        assert rows["top1"]["low"] <= rows["top1"]["value"] <= rows["top1"]["high"]
    table = results.open(folder).parts
    assert set(table["dataset"]) == {f"shapes.{part}" for part in ("all", "ir", "ef", "last")}
    assert set(table["run"]) == {"clever", "dino", "small"}
    page = (folder / "report.html").read_text()
    assert "Perturbed test images" in page and "R2 of the angle" in page and "shapes.ef" in page
