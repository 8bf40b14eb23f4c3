"""Detection transfer: COCO folders, the traps of norms and normalisation, and a detector that learns."""

import json
import shutil

import numpy as np
import pytest
import timm
import torch

from genview.config.evaluation import Detection, Features
from genview.config.training import RunModel
from genview.encoders import build, pyramid, save
from genview.encoders.architecture import describe
from genview.errors import GenviewError
from genview.evaluation import coco, coco_images, detection, frozen

QUICK = Detection(
    image_size=64,
    proposals=20,
    sampled_proposals=8,
    steps=4,
    batch_size=2,
    learning_rate=0.01,
    warmup_steps=2,
    checkpoint_every=2,
    trials=2,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained ResNet as a run exports it."""
    settings = RunModel(architecture="tiny")
    built = describe(settings, text=False)
    folder = tmp_path_factory.mktemp("run") / "model"
    save.write(folder, build.build(built, settings, seed=0), built, record={}, card="")
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    coco.write_scenes(folder, train=12, test=4, seed=1)
    return folder


def test_drawn_scenes_are_read_as_they_were_drawn(scenes):
    part = coco.read(scenes, "train")
    assert len(part.images) == 12 and len(part.categories) == 6
    image, target = coco_images.Detections(part, flip=False)[3]
    assert image.shape == (3, 64, 64) and image.min() >= 0 and image.max() <= 1
    rows, columns = np.nonzero(target["masks"][0].numpy())
    assert target["boxes"][0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    flipped, mirrored = next(item for epoch in range(9) if not torch.equal((item := _epoch(part, epoch)[3])[0], image))
    assert torch.equal(flipped, image.flip(2)) and torch.equal(mirrored["masks"], target["masks"].flip(2))
    assert mirrored["boxes"][0, 0] == 64 - target["boxes"][0, 2]


def _epoch(part, epoch):
    data = coco_images.Detections(part, flip=True, seed=5)
    data.epoch = epoch
    return data


def test_wrong_annotations_are_named(scenes, tmp_path):
    with pytest.raises(GenviewError, match="no annotations of the train part"):
        coco.read(tmp_path, "train")
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    (copy / "train" / "00004.png").unlink()
    with pytest.raises(GenviewError, match=r"00004\.png: no such image \(1 of 12"):
        coco.read(copy, "train")
    content = json.loads((copy / "test.json").read_text())
    content["annotations"][0]["category_id"] = 99
    (copy / "test.json").write_text(json.dumps(content))
    with pytest.raises(GenviewError, match="annotation 0 names an unknown"):
        coco.read(copy, "test")
    (copy / "test.json").write_text('{"images": []}')
    with pytest.raises(GenviewError, match="not annotations in COCO's format"):
        coco.read(copy, "test")


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 64), ("test_convnext", 64), ("test_vit2", 64)])
def test_towers_give_maps_at_four_strides(name, size):
    trunk = timm.create_model(name, num_classes=0)
    maps = pyramid.build(trunk, size)
    found = maps(torch.zeros(2, 3, size, size))
    assert [tuple(each.shape[1:]) for each in found] == [
        (channels, size // stride, size // stride) for channels, stride in zip(maps.channels, maps.strides)
    ]


def test_frozen_norms_compute_what_the_norms_did_and_learn_nothing():
    trunk = timm.create_model("test_resnet", num_classes=0)
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    images = torch.randn(2, 3, 64, 64)
    expected = trunk.eval()(images)
    assert pyramid.freeze_batch_norms(trunk) > 0
    trunk.train()
    torch.testing.assert_close(trunk(images), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trunk(images), expected, rtol=1e-4, atol=1e-5)  # no statistics moved
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in trunk.modules())


def test_images_are_normalised_as_the_tower_wants_them(model):
    encoder = frozen.load(model)
    network = detection.detector(encoder, 6, QUICK, seed=0)
    image = torch.rand(3, 64, 64)
    prepared, _ = network.transform([image])
    mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
    torch.testing.assert_close(prepared.tensors[0], (image - mean) / std)
    assert all(parameter.requires_grad for parameter in network.backbone.parameters())


def test_the_rate_warms_up_and_falls_at_the_published_steps():
    settings = Detection()
    assert detection.rate(0, settings) < 0.01 and detection.rate(1000, settings) == 1
    assert detection.rate(59_999, settings) == 1 and detection.rate(60_000, settings) == pytest.approx(0.1)
    assert detection.rate(80_000, settings) == pytest.approx(0.01)


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_detector(model, scenes, tmp_path):
    part = coco.read(scenes, "train")

    def trained():
        network = detection.detector(frozen.load(model), 6, QUICK, seed=0)
        detection.train(network, detection.Trial(part, 0, tmp_path / "trial.pt", "one"), QUICK, 0)
        return network.state_dict()

    whole = trained()
    assert torch.load(tmp_path / "trial.pt", weights_only=True)["step"] == 2
    parts = trained()  # the state of step 2 is there: only the rest is trained
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_the_result_is_the_mean_of_its_trials(model, scenes, tmp_path):
    output = tmp_path / "result.json"
    detection.run(
        "scenes", scenes, Features(), QUICK, seed=0, model=model, work=tmp_path / "work", output=output, stamp={}
    )
    result = json.loads(output.read_text())
    by_metric = {row["metric"]: row for row in result["results"]}
    assert set(by_metric) == {f"{what}_ap{level}" for what in ("box", "mask") for level in ("", "50", "75")}
    for name, row in by_metric.items():
        values = [trial[name] for trial in result["trials"]]
        assert len(values) == 2 and row["value"] == pytest.approx(np.mean(values)) and -1 <= row["value"] <= 1
