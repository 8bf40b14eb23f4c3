"""Models to be trained: from any weights, with any tower, and back again with equal features."""

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from genview.config.encoders import Encoder
from genview.config.training import RunModel
from genview.encoders import build, layers, look, save
from genview.encoders.architecture import describe
from genview.errors import GenviewError
from genview.evaluation import frozen
from genview.models.load import small_directory


def _images(size, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def _made(text=False, initial=None, image_size=None, seed=1, several_sizes=False, **settings):
    block = RunModel(**settings)
    made = describe(block, text=text, initial=initial, image_size=image_size, several_sizes=several_sizes)
    return build.build(made, block, seed=seed), made


def _saved(model, made, folder):
    save.write(folder, model, made, record={"images": 1}, card="card")
    return folder


def _pooled(model, images):
    with torch.no_grad():
        return model.eval().pooled(images)


@pytest.mark.parametrize(
    ("architecture", "size", "form"),
    [
        ("resnet18", 64, "open_clip"),
        ("resnet18_cifar", 32, "own"),
        ("vit_small", 224, "own"),
        ("vit_tiny_patch16_224", 96, "own"),
        ("test_vit", 160, "open_clip"),
    ],
)
def test_a_saved_tower_comes_back_with_equal_features_whoever_opens_it(architecture, size, form, tmp_path):
    model, made = _made(architecture=architecture, image_size=size)
    folder, images = _saved(model, made, tmp_path / "model"), _images(size)
    expected = _pooled(model, images)
    torch.testing.assert_close(frozen.load(folder).features(images), expected, rtol=1e-4, atol=1e-5)
    assert (folder / "open_clip_config.json").exists() == (form == "open_clip")
    assert (folder / "genview_config.json").exists() == (form == "own")
    if form == "open_clip":
        opened = open_clip.create_model(f"local-dir:{folder}").eval()
        with torch.no_grad():
            torch.testing.assert_close(opened.encode_image(images), expected, rtol=1e-4, atol=1e-5)
    if architecture == "resnet18_cifar":
        assert not (folder / "timm").exists()
        assert model.visual.trunk.forward_features(images).shape[-2:] == (4, 4)
    else:
        tower = timm.create_model(f"local-dir:{folder}/timm", pretrained=True).eval()
        with torch.no_grad():
            torch.testing.assert_close(tower(images), expected, rtol=1e-4, atol=1e-5)
        data = timm.data.resolve_data_config({}, model=tower)
        assert list(data["mean"]) == list(made.preprocess_cfg["mean"]) and data["input_size"] == (3, size, size)


def test_a_vit_s_has_twelve_heads_as_moco_v3_has():
    model, _ = _made(architecture="vit_small")
    assert {block.attn.num_heads for block in model.visual.trunk.blocks} == {12}
    assert model.num_features == 384


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_base_patch16_siglip_224.v2_webli"])
def test_dinov3_and_siglip2_towers_are_looked_into_trained_and_saved(name, tmp_path):
    """Random weights: prefix tokens, rotary positions and attention pooling in their places."""
    base = name.partition(".")[0]
    model, made = _made(architecture=base)
    images = _images(made.image_size, 1)
    seen = model.eval().see(images, "tokens", "pooled", "embedding", "local")
    with torch.no_grad():
        own = model.visual.trunk.forward_features(images)
        torch.testing.assert_close(seen.pooled, model.visual.trunk(images))
    prefix = model.visual.trunk.num_prefix_tokens
    assert prefix == (5 if "dinov3" in name else 0)
    torch.testing.assert_close(seen.tokens, own[:, prefix:])
    assert seen.tokens.shape[1] == seen.local.shape[1] == (made.image_size // 16) ** 2
    assert seen.embedding.shape[1] == seen.local.shape[2] == model.num_features
    seen.pooled.sum().backward()
    assert all(p.grad is not None for p in model.visual.trunk.patch_embed.parameters())
    if "siglip" in name:
        assert made.preprocess_cfg["mean"] == [0.5, 0.5, 0.5]
    folder = _saved(model, made, tmp_path / "model")
    torch.testing.assert_close(frozen.load(folder).features(images), _pooled(model, images), rtol=1e-4, atol=1e-5)


def test_local_features_of_an_averaging_tower_average_to_its_embedding():
    """ResNet: nothing but a linear projection follows the average, so that both orders give the same."""
    encoder = look.load(Encoder(library="timm", model="resnet18", pretrained="random", image_size=64))
    glob, local = encoder.dense(_images(64))
    torch.testing.assert_close(local.mean(1), glob, rtol=1e-4, atol=1e-5)


def test_local_features_of_an_open_clip_vit_are_projected_like_its_class_token():
    encoder = look.load(Encoder(model="small/clip"))
    images = _images(32).requires_grad_()
    glob, local = encoder.dense(images, gradients=True)
    visual = encoder.model.visual
    visual.output_tokens = True
    pooled, tokens = visual(images)
    visual.output_tokens = False
    torch.testing.assert_close(glob, pooled)
    torch.testing.assert_close(local, tokens @ visual.proj)
    (glob.sum() + local.sum()).backward()
    assert images.grad.abs().sum() > 0 and not any(p.requires_grad for p in visual.parameters())


def test_a_run_starts_from_the_shipped_encoder_and_keeps_its_text_tower(tmp_path):
    encoder = Encoder(model="small/clip")
    model, made = _made(initial=encoder)
    before = look.load(encoder)
    images = _images(32)
    torch.testing.assert_close(model.eval().see(images, "embedding").embedding, before.encode(images)[1])
    assert not any(p.requires_grad for n, p in model.named_parameters() if not n.startswith("visual."))
    assert not model.visual.proj.requires_grad and model.visual.conv1.weight.requires_grad
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.01)
    folder = _saved(model, made, tmp_path / "model")
    after, shipped = load_file(folder / "open_clip_model.safetensors"), small_directory("small/clip")
    start = load_file(shipped / "open_clip_model.safetensors")
    assert all(torch.equal(after[n], start[n]) for n in start if not n.startswith("visual."))
    assert not torch.equal(after["visual.conv1.weight"], start["visual.conv1.weight"])
    loaded = frozen.load(folder, layer="embedding", text=True)
    words = loaded.tokenizer(["a red circle"])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.encode_text(words), before.encode_text(["a red circle"]))


def test_a_run_goes_on_from_a_finished_one_of_images_alone_and_refuses_losses_on_text(tmp_path):
    model, made = _made(architecture="tiny")
    folder = _saved(model, made, tmp_path / "model")
    again, _ = _made(initial=Encoder(model=str(folder)), seed=2)
    torch.testing.assert_close(_pooled(again, _images(32)), _pooled(model, _images(32)))
    assert not Encoder(model=str(folder)).has_text and not again.has_text
    with pytest.raises(GenviewError, match="trained on images alone and has no text tower"):
        _made(initial=Encoder(model=str(folder)), text=True)


def test_a_run_starts_from_a_file_and_from_a_timm_tower(tmp_path):
    tower = timm.create_model("test_resnet", num_classes=0)
    file = tmp_path / "tower.safetensors"
    save_file(tower.state_dict(), file)
    images = _images(160)
    for initial in (
        Encoder(library="timm", model="test_resnet", pretrained=str(file)),
        Encoder(library="timm", model="test_resnet", pretrained=str(file), image_size=160),
    ):
        model, made = _made(initial=initial)
        with torch.no_grad():
            torch.testing.assert_close(_pooled(model, images), tower.eval()(images))
        assert made.preprocess_cfg["mean"] == list(tower.pretrained_cfg["mean"])
    text, made = _made(initial=initial, text=True, architecture="tiny")
    assert text.has_text and text.see(images, "embedding").embedding.shape[1] == made.model_cfg["embed_dim"]


def test_views_of_several_sizes_pass_a_vision_transformer():
    model, _ = _made(architecture="test_vit", several_sizes=True)
    assert model.pooled(_images(160)).shape == model.pooled(_images(96)).shape


@pytest.mark.parametrize("initial", [None, Encoder(model="small/clip")])
def test_what_is_frozen_gets_no_gradient_and_the_rest_does(initial):
    settings = {"freeze": {"blocks": 1}, "architecture": "test_vit"}
    model, _ = _made(initial=initial, **settings)
    names = {name for name, p in model.named_parameters() if not p.requires_grad and name.startswith("visual")}
    first = "visual.transformer.resblocks.0." if initial else "visual.trunk.blocks.0."
    second = first.replace(".0.", ".1.")
    assert any(name.startswith(first) for name in names) and not any(name.startswith(second) for name in names)
    assert ("visual.conv1.weight" if initial else "visual.trunk.patch_embed.proj.weight") in names
    with pytest.raises(GenviewError, match=r"model\.freeze\.blocks: 99, but the image tower has"):
        _made(initial=initial, freeze={"blocks": 99}, architecture="test_vit")


@pytest.mark.parametrize(("architecture", "text"), [("test_vit", False), ("small/clip", True), ("resnet18", False)])
def test_layers_learn_slower_the_earlier_they_are(architecture, text):
    initial = Encoder(model=architecture) if text else None
    model, _ = _made(initial=initial, text=text, **({} if text else {"architecture": architecture}))
    scales = layers.rate_scales(model, 0.5)
    assert scales.keys() == {name for name, _ in model.named_parameters()} and max(scales.values()) == 1
    blocks = {"test_vit": "visual.trunk.blocks.", "small/clip": "visual.transformer.resblocks.", "resnet18": None}
    if prefix := blocks[architecture]:
        each = [next(v for n, v in scales.items() if n.startswith(f"{prefix}{i}.")) for i in range(2)]
        assert each[0] == each[1] / 2 < 1
    if text:
        assert scales["visual.proj"] == 1 and scales["logit_scale"] == 1 and scales["token_embedding.weight"] < 1
    assert set(layers.rate_scales(model, 1.0).values()) == {1.0}
