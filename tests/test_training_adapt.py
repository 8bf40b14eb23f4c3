"""Going on from existing weights: LoRA and the anchor. If these fail, a user's encoder is lost or forgets unseen."""

import copy
import json

import pytest
import torch
from training_study import study, weights

from genview.config.encoders import Encoder
from genview.config.training import Anchor, LowRank, Run, RunModel
from genview.encoders import build, look, lora
from genview.encoders.architecture import describe
from genview.errors import GenviewError
from genview.training.loop import optimizers
from genview.training.loop.trainer import train
from genview.training.methods.anchored import Anchored, distance
from genview.training.methods.simclr import SimCLR

SMALL = Encoder(model="small/clip")
TINY = {"architecture": "vit_tiny_patch16_224"}


def made(*, text: bool = False, initial: Encoder = SMALL, **adapt: object) -> torch.nn.Module:
    settings = RunModel(initial=initial, adapt=LowRank(**adapt))
    return build.build(describe(settings, text=text, initial=initial), settings, seed=3).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("targets", [("qkv",), ("proj", "mlp"), ("qkv", "proj", "mlp")])
def test_it_begins_as_it_was_and_only_small_matrices_learn(images, targets):
    plain = RunModel(initial=SMALL)
    before = build.build(describe(plain, text=False, initial=SMALL), plain, seed=3).eval()
    model = made(rank=2, targets=targets)
    torch.testing.assert_close(model.pooled(images), before.pooled(images), rtol=1e-5, atol=1e-5)
    learns = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert learns and all(".parametrizations." in name and name.endswith((".up", ".down")) for name in learns)
    model.pooled(images).square().sum().backward()
    assert all(p.grad is not None for p in learns.values())
    assert not [name for name, p in model.named_parameters() if p.grad is not None and name not in learns]


def test_what_is_added_is_the_scaled_product_of_the_two(images):
    model = made(rank=3, alpha=6.0)
    block = model.visual.transformer.resblocks[0]
    part = block.attn.parametrizations["in_proj_weight"]
    with torch.no_grad():
        part[0].up.normal_()
    expected = part.original + 2.0 * part[0].up @ part[0].down
    torch.testing.assert_close(block.attn.in_proj_weight, expected)


def test_merged_it_is_the_plain_model_with_the_same_outputs(images):
    model = made(text=True, rank=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.1)
    plain = lora.merged(model)
    assert set(plain.state_dict()) == set(build.build(describe(RunModel(), text=True, initial=SMALL),
                                                      RunModel(initial=SMALL), seed=0).state_dict())  # fmt: skip
    torch.testing.assert_close(plain.pooled(images), model.pooled(images), rtol=1e-5, atol=1e-6)
    assert any(".parametrizations." in name for name in model.state_dict()), "the model that learns is left as it is"


@pytest.mark.parametrize("tower", ["vit_tiny_patch16_224", "convnext_tiny"])
def test_timms_towers_are_adapted_too(tower):
    encoder = Encoder(library="timm", model=tower, pretrained="random", image_size=32 if "vit" in tower else None)
    model = made(initial=encoder, rank=2, targets=("mlp",))
    assert all(".mlp." in name for name, p in model.named_parameters() if p.requires_grad)


def test_what_cannot_be_adapted_is_said_before_anything_is_trained():
    with pytest.raises(GenviewError, match="has no layers qkv"):
        made(initial=Encoder(library="timm", model="resnet18", pretrained="random"), targets=("qkv",))
    with pytest.raises(GenviewError, match=r"model\.adapt\.rank: 4096"):
        made(rank=4096)
    with pytest.raises(ValueError, match=r"say which in model\.initial"):
        RunModel(adapt=LowRank())
    with pytest.raises(ValueError, match=r"say which in model\.initial"):
        RunModel(anchor=Anchor())
    with pytest.raises(ValueError, match="diva's views have the size"):
        Run(method="diva", model={"initial": "small", "anchor": {}})
    with pytest.raises(ValueError, match="leave `freeze` to text"):
        RunModel(initial="small", adapt=LowRank(), freeze={"blocks": 1})


def test_the_distance_is_one_minus_the_cosine():
    one, other = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(one, other)]
    assert float(distance(one, other)) == pytest.approx(1 - sum(cosines) / 5, rel=1e-5)
    assert float(distance(one, 3 * one)) == pytest.approx(0, abs=1e-6)


def test_what_decays_and_how_fast_it_learns_does_not_depend_on_the_anchor():
    initial = Encoder(model="small/clip")
    settings = RunModel(initial=initial)
    made = build.build(describe(settings, text=False, initial=initial), settings, seed=0)
    run = Run(method={"name": "simclr", "quality": None}, model=settings, optimizer={"layer_decay": 0.7})
    plain = SimCLR(run, made, None)

    def treated(method):
        groups = optimizers.build(run.optimizer, method).param_groups
        return {id(p): (group["weight_decay"], group["lr_scale"]) for group in groups for p in group["params"]}

    assert treated(Anchored(plain, Anchor())) == treated(plain)
    assert treated(plain)[id(made.visual.positional_embedding)][0] == 0


def trained(folder, **changes):
    job = study(folder, count=24, quality=False, method={"name": "simclr", "quality": None}, **changes)
    job = job.model_copy(update={"initial": SMALL})
    train(job)
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return job, [json.loads(line) for line in lines]


@pytest.mark.parametrize("adapt", [None, {"rank": 2}])
def test_an_anchor_holds_and_without_weight_tells_how_far_it_went(tmp_path, adapt):
    start = {"architecture": "small", "initial": "small", "adapt": adapt}
    rate = {"base_learning_rate": 0.003, "scale_learning_rate": False, "warmup_epochs": 0}
    ends = {}
    for weight in (0.0, 200.0):
        settings = {**start, "anchor": {"weight": weight, "feature": "pooled"}}
        job, lines = trained(tmp_path / str(weight), model=settings, optimizer=rate)
        assert lines[0]["anchor_loss"] < 0.02, "it begins at the initial encoder, but for dropout"
        ends[weight] = lines[-1]["anchor_loss"]
        assert lines[-1]["loss"] == pytest.approx(lines[-1]["loss"])
    assert ends[200.0] < 0.5 * ends[0.0]
    opened = look.load(Encoder(model=job.model))
    initial = look.load(SMALL)
    pictures = torch.rand(2, 3, 32, 32)
    assert not torch.equal(opened.encode(pictures)[1], initial.encode(pictures)[1])
    assert not [name for name in weights(job.model) if "parametrizations" in name]
    record = json.loads((tmp_path / "200.0/run/model/run.json").read_text())
    assert (record["trained_parameters"] < 0.2 * record["parameters"]) == (adapt is not None)


def test_killed_and_gone_on_an_adapted_anchored_run_ends_the_same(tmp_path):
    start = {"architecture": "small", "initial": "small", "adapt": {"rank": 2}, "anchor": {"weight": 1.0}}
    whole, _ = trained(tmp_path / "whole", model=start, checkpoints={"every_steps": 2})
    job = study(tmp_path / "parts", count=24, quality=False, method={"name": "simclr", "quality": None},
                model=start, checkpoints={"every_steps": 2, "keep": 10})  # fmt: skip
    job = job.model_copy(update={"initial": SMALL})
    train(job)
    first = copy.deepcopy(weights(job.model))
    folder = tmp_path / "parts/run"
    (folder / "model").rename(tmp_path / "aside")
    newest = sorted((folder / "checkpoints").glob("step-*"))[2:]
    import shutil

    for path in newest:
        shutil.rmtree(path)
    train(job)
    assert all(torch.equal(value, weights(job.model)[name]) for name, value in first.items())
    assert all(torch.equal(value, weights(whole.model)[name]) for name, value in first.items())
