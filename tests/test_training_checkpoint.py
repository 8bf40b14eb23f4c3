"""A week of training hangs on checkpoints that are whole, are found again, and are never taken for another run's."""

import json
import shutil

import pytest
import torch
from torch import nn

from genview.config.training import Checkpoints, Optimizer
from genview.errors import GenviewError
from genview.training.loop import checkpoint, optimizers
from genview.training.loop.checkpoint import Checkpoint

IDENTITY = {"run": {"epochs": 4, "checkpoints": {"keep_epochs": []}, "loss": {"temperature": 0.1}}, "code": "abc"}


def at(step, *, finished=False, identity=IDENTITY, ends_epoch=None):
    tensors = {"method": {"weight": torch.full((3,), float(step))}}
    return Checkpoint(step, step // 10, finished, identity, tensors, {"ends_epoch": ends_epoch})


def steps(root):
    return sorted(int(path.name.removeprefix("step-")) for path in root.iterdir() if path.name.startswith("step-"))


def test_what_was_saved_comes_back(tmp_path):
    saved = at(7)
    checkpoint.save(tmp_path, saved, Checkpoints())
    found = checkpoint.resume(tmp_path, IDENTITY)
    assert found.step == 7 and found.values == saved.values
    assert torch.equal(found.tensors["method"]["weight"], saved.tensors["method"]["weight"])


@pytest.mark.parametrize("name", ["adamw", "lars", "sgd"])
def test_an_optimiser_goes_on_as_if_it_had_never_stopped(tmp_path, name):
    def advance(model, optimizer, count):
        for number in range(count):
            for group in optimizer.param_groups:
                group["lr"] = 0.1
            model(torch.full((2, 4), number + 1.0)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    def build():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        return model, optimizers.build(Optimizer(name=name), model)

    model, optimizer = build()
    advance(model, optimizer, 3)
    tensors, values = checkpoint.split_optimizer(optimizer.state_dict())
    state = Checkpoint(
        3, 0, False, IDENTITY, {"method": model.state_dict(), "optimizer": tensors}, {"optimizer": values}
    )
    checkpoint.save(tmp_path, state, Checkpoints())
    advance(model, optimizer, 2)

    again, other = build()
    found = checkpoint.resume(tmp_path, IDENTITY)
    again.load_state_dict(found.tensors["method"])
    other.load_state_dict(checkpoint.join_optimizer(found.tensors["optimizer"], found.values["optimizer"]))
    advance(again, other, 2)
    for one, two in zip(model.parameters(), again.parameters()):
        assert torch.equal(one, two)


def test_the_newest_and_the_chosen_epochs_are_kept(tmp_path):
    settings = Checkpoints(keep=2, keep_epochs=(2, 5))
    for step in range(10, 80, 10):
        checkpoint.save(tmp_path, at(step, ends_epoch=step // 10), settings)
    assert steps(tmp_path) == [20, 50, 60, 70]


def test_an_interrupted_save_leaves_no_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, at(10), Checkpoints())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.atomic, "write_json", full)
    with pytest.raises(GenviewError, match="disk is full"):
        checkpoint.save(tmp_path, at(20), Checkpoints())
    assert steps(tmp_path) == [10] and checkpoint.resume(tmp_path, IDENTITY).step == 10


def test_a_folder_whose_removal_was_interrupted_is_no_checkpoint(tmp_path):
    checkpoint.save(tmp_path, at(10), Checkpoints())
    checkpoint.save(tmp_path, at(20), Checkpoints())
    (tmp_path / "step-00000020" / checkpoint.STATE).unlink()
    assert checkpoint.resume(tmp_path, IDENTITY).step == 10


def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path):
    path = checkpoint.save(tmp_path, at(10), Checkpoints())
    weights = path / "method.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(GenviewError, match=r"step-00000010: damaged"):
        checkpoint.resume(tmp_path, IDENTITY)


def test_changed_settings_of_an_unfinished_run_are_refused_and_listed(tmp_path):
    checkpoint.save(tmp_path, at(10), Checkpoints())
    changed = json.loads(json.dumps(IDENTITY))
    changed["run"]["loss"]["temperature"] = 0.2
    changed["run"]["ema"] = 0.99
    with pytest.raises(GenviewError) as refusal:
        checkpoint.resume(tmp_path, changed)
    message = str(refusal.value)
    assert "run.loss.temperature: was 0.1, is 0.2" in message and "run.ema: was null, is 0.99" in message
    assert "epochs" not in message and steps(tmp_path) == [10]


def test_a_finished_run_makes_room_for_one_with_other_settings(tmp_path):
    root = tmp_path / "checkpoints"
    other = {**IDENTITY, "code": "def"}
    checkpoint.save(root, at(10, finished=True), Checkpoints())
    assert checkpoint.resume(root, IDENTITY).finished
    assert checkpoint.resume(root, other) is None and not root.exists()


def test_epochs_kept_for_good_outlive_a_change_of_settings(tmp_path):
    root = tmp_path / "checkpoints"
    identity = {**IDENTITY, "run": {**IDENTITY["run"], "checkpoints": {"keep_epochs": [1]}}}
    checkpoint.save(root, at(10, finished=True, identity=identity), Checkpoints())
    assert checkpoint.resume(root, IDENTITY) is None
    aside = [path for path in tmp_path.iterdir() if path != root]
    assert len(aside) == 1 and steps(aside[0]) == [10]
    shutil.rmtree(aside[0])


def test_weight_decay_spares_biases_norms_embeddings_and_the_logit_scale():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = nn.ModuleDict({"trunk": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
            self.visual.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
            self.visual.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
            self.token_embedding = nn.Embedding(9, 4)
            self.positional_embedding = nn.Parameter(torch.zeros(7, 4))
            self.text_projection = nn.Parameter(torch.zeros(4, 4))
            self.logit_scale = nn.Parameter(torch.tensor(1.0))

    model = Model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimizers.build(Optimizer(weight_decay=0.3), model).param_groups
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {"visual.trunk.weight", "text_projection"}
    assert sum(len(group["params"]) for group in groups) == len(names)
