"""A method that trains wrongly gives a worse encoder and no error: each is held to what it must be, step by step."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from processes import in_two_processes
from torch import nn
from training_study import assemble, study, weights

from genview.config import load
from genview.config.methods import BLOCKS
from genview.config.training import Run
from genview.errors import GenviewError
from genview.process import Stopped
from genview.training.data.samples import Order, loader
from genview.training.loop import monitors, optimizers, trainer
from genview.training.loop.batchnorm import GatheredBatchNorm, PartedBatchNorm, synchronised
from genview.training.methods.dino import DINO
from genview.training.methods.method import Step

SMALL = {
    "genviewpp": {"early": {"image_image": 1, "image_text": 0}, "projector": [16, 8]},
    "simclr": {"projector": [16, 8]},
    "mocov2": {"projector": [16, 8], "queue": 24, "batchnorm_groups": 2},
    "mocov3": {"projector": [16, 8], "predictor": [16, 8]},
    "simsiam": {"projector": [16, 16, 16], "predictor": [8, 16]},
    "byol": {"projector": [16, 8], "predictor": [16, 8]},
    "swav": {"projector": [16, 8], "prototypes": 12, "queue": 16, "queue_from_epoch": 0, "freeze_prototypes_epochs": 1},
    "dino": {"head": [16, 8], "outputs": 12},
    "clever": {"head": [16, 8], "outputs": 12, "equivariant": {"outputs": 12}},
}
METHODS = sorted(SMALL)


def a_job(folder, name, *, count=16, epochs=1, quality=None, **changes):
    """A run of two steps an epoch."""
    method = {"name": name, **SMALL[name]}
    if quality is not None:
        weighted = {"early": {"image_image": 0, "image_image_quality": 1, "image_text": 0}}
        method = {**method, **(weighted if name == "genviewpp" else {"quality": quality})}
    optimizer = {"base_learning_rate": 0.05, "warmup_epochs": 0, **changes.pop("optimizer", {})}
    settings = {"epochs": epochs, "optimizer": optimizer, **changes}
    return study(folder, count=count, quality=quality is not None, method=method, **settings)


def batches(method_parts, order, first=0, last=1):
    read = loader(method_parts.samples, order, rank=0, first_step=first, last_step=last, workers=0, on_gpu=False)
    return list(read)


def lines(job):
    return [json.loads(line) for line in Path(job.metrics).read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two steps of every method, with quality weights and without: (method, weighted) -> trainer."""
    folder = tmp_path_factory.mktemp("methods")
    found = {}
    for name in METHODS:
        for quality in (None, {}):
            one = trainer.Trainer(a_job(folder / f"{name}-{quality is not None}", name, quality=quality))
            before = {key: value.clone() for key, value in one.method.state_dict().items()}
            one.train()
            found[name, quality is not None] = (one, before)
    return found


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_two_steps_and_exports_what_it_trained(runs, name, weighted):
    one, before = runs[name, weighted]
    rows = lines(one.job)
    assert len(rows) == 2 and all(np.isfinite(row["loss"]) for row in rows)
    assert {"feature_spread", "effective_rank", "projection_spread", "gradient_norm"} <= rows[0].keys()
    assert ("quality_spread" in rows[0]) == weighted
    exported, state = weights(one.job.model), one.method.exported().state_dict()
    for key, value in state.items():
        torch.testing.assert_close(exported[key], value.float(), rtol=0, atol=0)
    moved = [
        key for key, value in one.method.model.state_dict().items() if not torch.equal(value, before[f"model.{key}"])
    ]
    assert any(key.endswith("weight") for key in moved)


def test_quality_weights_of_one_change_nothing_and_others_do(tmp_path):
    for name in ("simclr", "mocov2", "mocov3", "simsiam", "byol", "swav", "dino"):
        job = a_job(tmp_path / name, name, quality={"gamma": 4.0})
        parts = assemble(job)
        batch = batches(parts, Order(16, 8, 1, 1, 1))[0]
        method = parts.method.eval()
        plain = job.run.method.model_copy(update={"quality": None})
        level = job.run.method.model_copy(update={"quality": job.run.method.quality.model_copy(update={"gamma": 0.0})})
        values = {}
        for label, settings in {"plain": plain, "level": level, "weighted": job.run.method}.items():
            method.settings = settings
            values[label] = float(method(batch, Step(0, 10, 5))[0]["loss"].detach())
        assert values["level"] == pytest.approx(values["plain"], rel=1e-5), name
        assert abs(values["weighted"] - values["plain"]) > 1e-5 * abs(values["plain"]), name


@pytest.mark.parametrize("name", METHODS)
def test_forward_is_pure_but_for_running_statistics(runs, name):
    one, _ = runs[name, False]
    batch = batches(one.assembly, one.order)[0]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    before = {key: value.clone() for key, value in one.method.state_dict().items()}
    one.method.train()
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(float(one.method(batch, Step(1, 4, 2))[0]["loss"].detach()))
    assert losses[0] == losses[1]
    for key, value in one.method.state_dict().items():
        assert key.endswith(statistics) or torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", ["byol", "mocov3", "mocov2", "dino"])
def test_momentum_networks_begin_as_copies_and_follow_by_the_published_share(runs, name):
    one, before = runs[name, False]
    prefix = {"byol": "target.0.", "mocov3": "target.0.", "mocov2": "key.0.", "dino": "teacher.0."}[name]
    key = next(key for key in before if key.startswith(prefix) and key.endswith("weight") and before[key].ndim == 4)
    online = f"model.{key.removeprefix(prefix)}"
    assert torch.equal(before[key], before[online])
    # One more step by hand.
    state = {k: v.clone() for k, v in one.method.state_dict().items()}
    step = Step(2, 4, 2)
    parts = batches(one.assembly, one.order)
    _, residues = one.stepper.gradients(parts, step)
    optimizers.adjust(one.optimizer, one.run.optimizer, rate=0.01, peak=0.01, progress=0.5)
    one.stepper.update(step, residues, measured=False)
    after = one.method.state_dict()
    start, end = one.run.method.momentum.start, one.run.method.momentum.end
    number = 2 if name in ("byol", "dino") else 3
    share = end - (end - start) * (np.cos(np.pi * number / 4) + 1) / 2
    torch.testing.assert_close(after[key], share * state[key] + (1 - share) * after[online])
    assert not torch.equal(after[online], state[online])


def test_simsiam_s_predictor_keeps_its_rate_while_the_others_decays(runs):
    one, _ = runs["simsiam", False]
    optimizers.adjust(one.optimizer, one.run.optimizer, rate=0.001, peak=0.05, progress=0.9)
    rates = {group["name"]: group["lr"] for group in one.optimizer.param_groups}
    assert rates == {"all": 0.001, "predictor": 0.05}
    counted = sum(len(group["params"]) for group in one.optimizer.param_groups)
    assert counted == sum(p.requires_grad for p in one.method.parameters())


def test_moco_s_queue_takes_the_newest_keys_in_place_of_the_oldest(tmp_path):
    one = trainer.Trainer(a_job(tmp_path, "mocov2"))
    before = one.method.queue.clone()
    one.train()
    queue, place = one.method.queue, int(one.method.place)
    # Two steps of eight keys in a queue of 24.
    assert place == 16
    changed = (queue != before).any(dim=1)
    assert changed[:16].all() and not changed[16:].any()
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(24))
    keys = torch.nn.functional.normalize(torch.randn(12, 8), dim=1)
    one.method.after_step(Step(2, 4, 2), [{"keys": keys}])
    assert torch.equal(one.method.queue[16:24], keys[:8]) and torch.equal(one.method.queue[:4], keys[8:])


def test_swav_s_queue_is_used_once_full_and_its_prototypes_wait_an_epoch(tmp_path):
    job = a_job(tmp_path, "swav", epochs=3)
    one = trainer.Trainer(job)
    method, first = one.method, one.method.prototypes.weight.detach().clone()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(12))
    assert method._queue_scores() is None
    one.train()
    assert int(method.queued) == 16 and len(method._queue_scores()) == 2
    torch.testing.assert_close(method.queue.norm(dim=2), torch.ones(2, 16))
    assert not torch.equal(method.prototypes.weight, first)
    held = list(method.held(Step(1, 6, 2)))
    assert held[0] is method.prototypes.weight and not list(method.held(Step(2, 6, 2)))


def test_clever_without_its_terms_is_dino_on_a_part(runs):
    one, _ = runs["clever", False]
    row = lines(one.job)[0]
    second = one.run.method.equivariant
    total = (
        row["distillation_loss"] + second.separation * row["orthogonality_loss"] + second.balance * row["balance_loss"]
    )
    assert row["loss"] == pytest.approx(total, rel=1e-5) and 0 < row["orthogonality_loss"] <= 1
    record = json.loads((Path(one.job.model) / "run.json").read_text())
    assert record["invariant_channels"] == int(0.8 * one.method.model.num_features)
    assert any(not torch.equal(one.method.center_0, center) for center in [torch.zeros(12)])
    split = {384: 307, 192: 153, 512: 409, 2048: 1638, 768: 614}
    for features, invariant in split.items():
        settings = Run.model_validate(
            {"method": {"name": "clever", "head": [4], "outputs": 2, "equivariant": {"outputs": 2}}}
        )
        model = nn.Module()
        model.num_features = features
        assert DINO(settings, model, None).split == invariant


# Bad settings


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"method": "byl"}, "no such method.*byol"),
        ({"method": {"name": "mocov2", "queue": 100}, "batch_size": 256}, "100 keys are fewer than the 256"),
        ({"method": {"name": "swav", "queue": 100}, "batch_size": 256}, "100 features are fewer than the 256"),
        ({"method": {"name": "mocov2"}, "gpus_per_node": 3}, "batchnorm_groups: 8 parts"),
        ({"method": "dino", "ema": 0.9}, "exports its teacher"),
        ({"method": "byol", "cached_chunk": 4}, "cached_chunk is for methods that contrast within the batch"),
        ({"method": "byol", "optimizer": {"warmup_epochs": 9}, "epochs": 3}, "longer than the run"),
        ({"method": {"name": "byol", "temperature": 0.1}}, "method.temperature: unknown key"),
        ({"loss": {"switch_epoch": 3}}, "loss.switch_epoch is now method.switch_epoch"),
        ({"method": "simclr", "loss": {"gamma_image_image": 1}}, "loss.gamma_image_image is now method.quality.gamma"),
        ({"model": {"projector": [4]}}, "model.projector is now method.projector"),
    ],
)
def test_settings_that_cannot_be_are_answered_with_the_key(run, message):
    with pytest.raises(GenviewError, match=message):
        load.parse({"runs": {"a": run}})


def test_a_two_view_method_with_one_view_is_answered_before_the_first_job():
    from genview import preflight

    for data, found in [({"minimum_views": 1}, 1), ({"minimum_views": 3}, 3)]:
        study = load.parse({"runs": {"a": {"method": "byol", "data": data}}})
        texts = [problem.text for problem in preflight.problems(study)]
        assert any(f"method byol needs 2 views of a sample, but its data give {found}" in text for text in texts)


def test_a_recipe_lies_beneath_the_user_s_keys_and_is_stable():
    for name in BLOCKS:
        run = Run.model_validate({"method": name})
        assert Run.model_validate_json(run.model_dump_json()) == run
    run = Run.model_validate(
        {"method": "mocov3", "model": {"architecture": "base"}, "optimizer": {"weight_decay": 0.5}}
    )
    assert (run.method.temperature, run.optimizer.name, run.optimizer.weight_decay) == (0.2, "adamw", 0.5)
    assert run.model.freeze_patch_embedding and run.optimizer.warmup_epochs == 40
    short = Run.model_validate({"method": "mocov3", "epochs": 10})
    assert (short.method.temperature, short.optimizer.name, short.optimizer.warmup_epochs) == (1.0, "lars", 2)


def test_another_method_than_the_inherited_one_leaves_its_settings_behind():
    study = load.parse(
        {
            "training": {"method": {"name": "byol", "projector": [8, 4]}},
            "runs": {"same": {"method": {"predictor": [8, 4]}}, "other": {"method": "simsiam"}},
        }
    )
    assert study.runs["same"].method.projector == (8, 4) and study.runs["same"].method.predictor == (8, 4)
    assert study.runs["other"].method.projector == (2048, 2048, 2048)


# Monitors


def test_monitors_equal_their_definitions():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 6))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    tensor = torch.as_tensor(features)
    assert float(monitors.spread(tensor)) == pytest.approx(np.sqrt(unit.var(axis=0).sum()))
    values = np.linalg.svd(features, compute_uv=False)
    shares = values / values.sum()
    assert float(monitors.effective_rank(tensor)) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    other = rng.standard_normal((40, 6))
    unit_other = other / np.linalg.norm(other, axis=1, keepdims=True)
    expected = ((unit - unit_other) ** 2).sum(axis=1).mean()
    assert float(monitors.alignment(tensor, torch.as_tensor(other))) == pytest.approx(expected)
    squared = [((unit[i] - unit[j]) ** 2).sum() for i in range(40) for j in range(i)]
    assert float(monitors.uniformity(tensor)) == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(squared)))))


def test_a_collapsed_run_is_said_to_be_one(tmp_path, caplog):
    job = a_job(tmp_path, "simsiam", count=16)
    one = trainer.Trainer(job)
    with torch.no_grad():
        last = one.method.projector.layers[-2]
        last.weight.zero_()
    for norm in one.method.projector.layers:
        if isinstance(norm, nn.BatchNorm1d):
            norm.eps = 1.0
    one.method.projector.layers[-1] = nn.Identity()
    one.method.projector.layers.append(_Constant())
    one.train()
    assert "has collapsed at step 1" in caplog.text
    assert json.loads((Path(job.model) / "run.json").read_text())["collapsed"]


class _Constant(nn.Module):
    def forward(self, rows):
        return rows + torch.ones(rows.shape[1])


# Stopping and several processes


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_losses_and_weights(tmp_path, name):
    changes = {"epochs": 2, "quality": {}, "checkpoints": {"every_steps": 1}}
    whole = a_job(tmp_path / "whole", name, **changes)
    trainer.train(whole)
    stopped = a_job(tmp_path / "stopped", name, **changes)
    one = trainer.Trainer(stopped)
    one.verdict.record = lambda step, *_: step == 2
    with pytest.raises(Stopped):
        one.train()
    trainer.train(stopped)
    assert Path(stopped.metrics).read_text() == Path(whole.metrics).read_text()
    for key, value in weights(whole.model).items():
        assert torch.equal(value, weights(stopped.model)[key]), key


def test_batch_statistics_in_parts_are_those_of_so_many_processes():
    rows = torch.randn(12, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    source = nn.BatchNorm2d(3).double()
    reference = nn.BatchNorm2d(3).double()
    norm = PartedBatchNorm(source, 4)
    result = norm(rows)
    expected = torch.empty_like(result)
    running = []
    for part in range(4):
        own = nn.BatchNorm2d(3).double()
        own.load_state_dict(reference.state_dict())
        expected[3 * part : 3 * part + 3] = own(rows.detach()[3 * part : 3 * part + 3])
        running.append(own.running_var)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(norm.running_var, torch.stack(running).mean(0))
    assert norm.state_dict().keys() == reference.state_dict().keys()


def _without_scale(rank):
    norm = synchronised(nn.Sequential(nn.BatchNorm1d(3, affine=False)).double(), torch.device("cpu"))
    assert isinstance(norm[0], GatheredBatchNorm)
    rows = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return norm(rows[rank]).numpy()


def _steps(rank, jobs):
    """Two steps of every method in one of two processes: losses, and the state afterwards."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    return {name: _trained(job) for name, job in jobs.items()}, _without_scale(rank)


def _trained(job):
    AcceleratorState._reset_state(True)
    one = trainer.Trainer(job)
    one.accelerator.end_training = lambda: None  # it would end the group, which the next method needs
    one.train()
    state = one.method.state_dict()
    return {key: value.double().numpy() for key, value in state.items() if "num_batches" not in key}


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    one, two = {}, {}
    for name in METHODS:
        quality = None if name == "genviewpp" else {"scope": "global"}
        # SGD follows the gradient; AdamW would blow the rounding of small gradients up to whole steps.
        job = a_job(tmp_path / name, name, quality=quality, optimizer={"name": "sgd", "momentum": 0.9})
        half = job.run.model_copy(update={"gpus_per_node": 2, "batch_size": job.run.batch_size // 2})
        places = {place: f"{getattr(job, place)}-2" for place in ("model", "metrics", "checkpoints", "logs")}
        two[name] = job.model_copy(update={"run": half, **places})
        one[name] = (job, _trained(job))
    each = in_two_processes(_steps, two)
    for name, (job, state) in one.items():
        for row, other in zip(lines(job), lines(two[name]), strict=True):
            for key in row:
                assert row[key] == pytest.approx(other[key], rel=2e-3, abs=1e-4), (name, key)
        for rank in range(2):
            for key, value in state.items():
                # Statistics of MoCo v2's parts are each process's own.
                if name == "mocov2" and "running" in key:
                    continue
                found, scale = each[rank][0][name][key], np.abs(value).max()
                assert np.abs(found - value).max() <= 2e-3 * scale + 1e-6, (name, rank, key)
    rows = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    expected = nn.BatchNorm1d(3, affine=False).double()(rows.flatten(0, 1)).view_as(rows)
    for rank in range(2):
        np.testing.assert_allclose(each[rank][1], expected[rank].numpy(), rtol=1e-9)


def test_models_of_kept_epochs_are_exported_beside_the_finished_one(tmp_path):
    job = a_job(tmp_path, "dino", epochs=3, checkpoints={"keep_epochs": [1, 2], "every_steps": 100, "keep": 1})
    one = trainer.Trainer(job)
    one.train()
    folder = Path(job.model).parent / "epochs"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    states = [weights(folder / epoch / "model") for epoch in ("1", "2")] + [weights(job.model)]
    name = next(name for name in states[0] if name.endswith("conv1.0.weight"))
    assert not torch.equal(states[0][name], states[1][name]) and not torch.equal(states[1][name], states[2][name])
    assert json.loads((folder / "1" / "model" / "run.json").read_text())["steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "invariant"),
    [("vit_tiny_patch16_224", 153), ("vit_small_patch16_224", 307), ("resnet18", 409), ("resnet50", 1638)],
)
def test_clever_trains_each_of_its_backbones_on_crops_of_two_sizes(tmp_path, backbone, invariant):
    """Two steps; the parts have the published widths. (VMamba-Tiny: tests/test_encoders_vmamba.py.)"""
    slots = [{"image_size": 64, "rotation": 90, "resample": 0, "blur": 0}] * 2
    slots = [*slots, {"image_size": 32, "crops": 2, "rotation": 90, "resample": 0, "blur": 0}]
    job = a_job(tmp_path, "clever", batch_size=8, model={"architecture": backbone}, data={"views": {}, "slots": slots})
    one = trainer.Trainer(job)
    one.train()
    record = json.loads((Path(job.model) / "run.json").read_text())
    assert record["steps"] == 2 and record["invariant_channels"] == invariant
    assert all(math.isfinite(line["loss"]) for line in lines(job))
