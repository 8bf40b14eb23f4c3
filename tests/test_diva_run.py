"""A run of DIVA: what learns and what must not, that it goes on where it stopped, and what it leaves behind."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from training_study import assemble, study, weights

from genview.config import load
from genview.config.encoders import Encoder
from genview.encoders import look
from genview.errors import GenviewError
from genview.process import Stopped
from genview.training.data.samples import Order, loader
from genview.training.loop import checkpoint, trainer
from genview.training.methods.method import Step


def a_job(folder, *, initial=True, **changes):
    """Steps of eight images, from the small encoder by the small diffusion model."""
    method = {"name": "diva", "condition": {"tokens": "random_count", "count": 5}, **changes.pop("method", {})}
    settings = {"epochs": 1, "optimizer": {"base_learning_rate": 0.1, "warmup_epochs": 0}, **changes}
    job = study(folder, count=16, views=(), quality=False, data={"slots": "diva"}, method=method, **settings)
    return job.model_copy(update={"initial": Encoder()}) if initial else job


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps: (trainer, what was there before)."""
    one = trainer.Trainer(a_job(tmp_path_factory.mktemp("diva")))
    teacher = one.method.teacher
    before = {"method": copied(one.method), "unet": copied(teacher.unet), "vae": copied(teacher.vae)}
    one.train()
    return one, before


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A method before its first step, and batches of eight images."""
    job = a_job(tmp_path_factory.mktemp("parts"), method={"draws": 3})
    assembled = assemble(job)
    order = Order(16, 8, 1, 1, 1)
    read = loader(assembled.samples, order, rank=0, first_step=0, last_step=2, workers=0, on_gpu=False)
    return job, assembled.method.train(), list(read)


def test_only_the_image_tower_and_the_projector_learn(finished):
    one, before = finished
    rows = [json.loads(line) for line in Path(one.job.metrics).read_text().splitlines()]
    assert len(rows) == 2 and all(row["loss"] > 0 and row["gradient_norm"] > 0 for row in rows)
    for name, value in one.method.state_dict().items():
        learns = name.startswith(("model.visual.", "recap.projection."))
        assert torch.equal(value, before["method"][name]) != learns, name
    for part in ("unet", "vae"):
        state = getattr(one.method.teacher, part).state_dict()
        assert all(torch.equal(value, before[part][name]) for name, value in state.items())


def test_what_is_left_is_a_plain_open_clip_model_and_the_projector_is_in_the_checkpoint_alone(finished):
    one, _ = finished
    again = open_clip.create_model(f"local-dir:{one.job.model}")
    exported = weights(one.job.model)
    assert exported.keys() == again.state_dict().keys()
    start = look.load(Encoder()).model.state_dict()
    for name, value in exported.items():
        assert torch.equal(value, start[name]) != name.startswith("visual."), name
    saved = checkpoint.load(Path(one.job.checkpoints) / "step-00000002").tensors["method"]
    assert saved.keys() - {f"model.{name}" for name in exported} == {"recap.projection.weight", "recap.projection.bias"}
    record = json.loads((Path(one.job.model) / "run.json").read_text())
    assert record["context_length"] == 6 and record["data"]["diffusion model"] == one.method.teacher.weights
    assert "unchanged" in (Path(one.job.model) / "README.md").read_text()


def test_gradients_reach_the_whole_image_tower_and_the_projector(parts):
    _, method, batches = parts
    method.zero_grad()
    method(batches[0], Step(0, 2, 2))[0]["loss"].backward()
    for name, parameter in method.named_parameters():
        if name.startswith(("model.visual.", "recap.projection.")):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_the_tower_sees_its_own_images_and_the_autoencoder_pixels(parts):
    _, method, batches = parts
    pixels = method.pixels(batches[0])
    assert pixels.shape == (8, 3, method.teacher.size, method.teacher.size)
    levels = pixels * 255  # views are not blended after their colours: each is a byte
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    assert levels.min() > -1e-3 and levels.max() < 255.001
    encoder = look.load(Encoder())
    images = (pixels - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(3, 1, 1)
    with torch.no_grad():
        token, local = method.model.eval().dense(batches[0].views[0])
        method.model.train()
        torch.testing.assert_close(token, encoder.model.encode_image(images), rtol=1e-4, atol=1e-5)
    assert local.shape == (8, 64, token.shape[1])


def test_draws_belong_to_epoch_image_and_draw(parts):
    _, method, batches = parts
    batch = batches[0]

    def loss(step):
        with torch.no_grad():
            return float(method(batch, step)[0]["loss"])

    first = loss(Step(0, 4, 2))
    assert loss(Step(1, 4, 2)) == first  # the same epoch
    assert loss(Step(2, 4, 2)) != first and loss(Step(0, 4, 2, draw=1)) != first
    keys = batch.keys
    assert method._seeds(keys, Step(0, 4, 2), "noise")[3] == method._seeds(keys[3:5], Step(0, 4, 2), "noise")[0]


@pytest.mark.parametrize("weighting", ["mean", "repository"])
def test_the_gradient_weighs_draws_as_stated(tmp_path, weighting):
    """Two parts of three draws: each loss differentiated on its own, and their weighted sum."""
    job = a_job(tmp_path, batch_size=4, accumulate=2, method={"weighting": weighting, "draws": 3})
    one = trainer.Trainer(job)
    order = one.order
    batches = list(loader(one.assembly.samples, order, rank=0, first_step=0, last_step=1, workers=0, on_gpu=False))
    weight, step = one.method.recap.projection.weight, Step(0, 2, 2)
    expected, losses = torch.zeros_like(weight), []
    for batch in batches:
        for draw in range(3):
            loss = one.method(batch, step._replace(draw=draw))[0]["loss"]
            factor = 1 / 6 if weighting == "mean" else (1, 1, 1 / 2)[draw]
            expected += factor * torch.autograd.grad(loss, weight)[0]
            losses.append(float(loss.detach()))
    terms, residues = one.stepper.gradients(batches, step)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-7)
    assert float(terms["loss"]) == pytest.approx(sum(losses) / 6, rel=1e-5) and len(residues) == 2


def test_a_stopped_run_goes_on_to_the_same_model(tmp_path, finished):
    whole = finished[0].job
    stopped = a_job(tmp_path, checkpoints={"every_steps": 1})
    one = trainer.Trainer(stopped)
    one.verdict.record = lambda step, *_: step == 1
    with pytest.raises(Stopped):
        one.train()
    trainer.train(stopped)
    assert Path(stopped.metrics).read_text() == Path(whole.metrics).read_text()
    for name, value in weights(whole.model).items():
        assert torch.equal(value, weights(stopped.model)[name]), name


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({}, "model.initial: method diva corrects an encoder"),
        ({"model": {"initial": "small"}, "compile": True}, "compile: diva reads the tower's tokens"),
        ({"model": {"initial": "small"}, "data": {"slots": [{"image_size": 64}]}}, "set method.teacher.image_size"),
        ({"model": {"initial": "small"}, "method": {"name": "diva", "condition": "clip"}}, "no published condition"),
    ],
)
def test_settings_that_cannot_be_are_answered_with_the_key(run, words):
    with pytest.raises(GenviewError, match=words):
        load.parse({"runs": {"a": {"method": "diva", **run}}})


def test_a_condition_that_does_not_fit_the_tower_stops_before_the_first_step(tmp_path):
    job = a_job(tmp_path / "window", method={"condition": {"tokens": "pooled", "window": 100}})
    with pytest.raises(GenviewError, match="window 100 is larger than the tower's 64"):
        assemble(job)
    with pytest.raises(GenviewError, match=r"model\.initial"):
        assemble(a_job(tmp_path / "none", initial=False))
