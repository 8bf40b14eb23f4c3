"""VMamba-Tiny: its size, and its scan against the recurrence that it stands for."""

from pathlib import Path

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_study import study

from genview.config.encoders import Encoder
from genview.config.training import RunModel
from genview.encoders import build, look
from genview.encoders.architecture import describe
from genview.encoders.vmamba import Block, VMamba, associative_scan, four_directions, loop_scan, merged, vmamba_tiny
from genview.training.loop.trainer import train


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 49, 196])
def test_the_scan_equals_the_loop_and_so_do_its_gradients(dtype, tolerance, length):
    generator = torch.Generator().manual_seed(length)
    decay = torch.rand(2, 3, length, generator=generator, dtype=dtype, requires_grad=True)
    update = torch.randn(2, 3, length, generator=generator, dtype=dtype, requires_grad=True)
    cotangent = torch.randn(2, 3, length, generator=generator, dtype=dtype)
    results = [(scan(decay, update)) for scan in (loop_scan, associative_scan)]
    gradients = [torch.autograd.grad(states, (decay, update), cotangent) for states in results]
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


def test_decays_of_nothing_and_of_everything_stay_finite():
    decay = torch.tensor([0.0, 1e-30, 1.0, 0.0, 1.0]).requires_grad_()
    update = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).requires_grad_()
    states = associative_scan(decay, update)
    assert states.tolist() == [1, 2, 5, 4, 9]
    states.sum().backward()
    assert decay.grad.isfinite().all() and update.grad.isfinite().all()


def test_four_directions_and_back():
    maps = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    sequences = four_directions(maps)
    assert sequences[0, 0, 0, :3].tolist() == [0, 1, 2] and sequences[0, 1, 0, :3].tolist() == [0, 5, 10]
    assert sequences[0, 2, 0, 0] == 19 and sequences[0, 3, 0, 0] == 19
    torch.testing.assert_close(merged(sequences, 4, 5), 4 * maps)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return VMamba()


def test_size_of_vmamba_tiny(tiny):
    """29.5 million parameters and 4.84 GFLOPs, as published (multiplications; 9 a state for the scan)."""
    assert sum(parameter.numel() for parameter in tiny.parameters()) / 1e6 == pytest.approx(29.5, abs=0.05)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny(torch.zeros(1, 3, 224, 224))
    stages = zip((96, 192, 384, 768), (2, 2, 8, 2), (56, 28, 14, 7))
    scans = sum(9 * 4 * width * side**2 * depth for width, depth, side in stages)
    assert (counter.get_total_flops() / 2 + scans) / 1e9 == pytest.approx(4.84, rel=0.01)


@pytest.mark.slow
def test_a_block_is_the_same_with_either_scan_and_compiled():
    block, looped = Block(8, 0, "associative"), Block(8, 0, "loop")
    looped.load_state_dict(block.state_dict())
    maps = torch.randn(2, 8, 3, 3)
    expected = block(maps)
    torch.testing.assert_close(looped(maps), expected, rtol=1e-4, atol=1e-5)
    compiled = torch.compile(block, backend="aot_eager", dynamic=False)  # traced whole; code for a CPU takes a minute
    torch.testing.assert_close(compiled(maps), expected, rtol=1e-4, atol=1e-5)
    compiled(maps).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_a_tower_gives_features_at_any_size():
    tower = VMamba((16, 32), (1, 1))
    tower(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())
    assert tower.eval()(torch.randn(2, 3, 96, 64)).shape == (2, 32)


@pytest.mark.slow
def test_a_run_trains_it_and_its_export_opens_again(tmp_path):
    job = study(
        tmp_path, count=16, quality=False, method={"name": "simclr", "quality": None}, epochs=1, batch_size=4,
        model={"architecture": "vmamba_tiny"}, optimizer={"warmup_epochs": 0, "layer_decay": 0.75},
        activation_checkpointing=True, data={"views": {}, "augmentation": {"image_size": 32, "resample": 0}},
    )  # fmt: skip
    train(job)
    folder = Path(job.model)
    names = {path.name for path in folder.iterdir()}
    assert {"genview_config.json", "genview_model.safetensors"} <= names
    assert "open_clip_config.json" not in names and "timm" not in names, "nobody else could open these"
    opened = look.load(Encoder(model=str(folder)))
    images = torch.rand(2, 3, 32, 32)
    tokens, embeddings = opened.encode(images)
    assert tokens.shape == (2, 1, 768) and embeddings.shape == (2, 768)
    again, _ = build.reopen(folder)
    torch.testing.assert_close(again.pooled(images), embeddings, rtol=1e-3, atol=1e-3)


def test_timm_makes_it_by_its_name_and_nothing_else_is_promised():
    tower = timm.create_model("vmamba_tiny", num_classes=0, drop_path_rate=0.0)
    assert isinstance(tower, VMamba) and tower.num_features == 768
    groups = timm.models.group_parameters(tower, tower.group_matcher(coarse=False))
    assert sum(map(len, groups.values())) == len(list(tower.parameters()))
    for wrong in ({"pretrained": True}, {"num_classes": 10}, {"global_pool": "max"}):
        with pytest.raises(ValueError, match="vmamba_tiny"):
            vmamba_tiny(**wrong)
    settings = RunModel(architecture="vmamba_tiny")
    built = describe(settings, text=False, image_size=64)
    assert built.model_cfg["embed_dim"] == 768 and built.image_size == 64
