"""Encoders: tokens from the wrong layer or the wrong preprocessing would go unnoticed through a whole study."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from genview import provenance
from genview.config.encoders import Encoder
from genview.data import scenes
from genview.encoders import loader, look
from genview.errors import GenviewError
from genview.models.load import small_directory


def _images(encoder, count=2, seed=0):
    return torch.randn(count, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(seed))


def _activation(module, run):
    """What a module of a tower gives while the tower runs its own forward."""
    seen = []
    handle = module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        result = run()
    handle.remove()
    return seen[-1], result


def _check_open_clip_vit(name, count):
    encoder = look.load(Encoder(model=name, pretrained="random"))
    images = _images(encoder, count)
    tokens, embeddings = encoder.encode(images)
    normed, own = _activation(encoder.model.visual.ln_post, lambda: encoder.model.encode_image(images))
    torch.testing.assert_close(tokens, normed[:, 1:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(embeddings, own, rtol=1e-5, atol=1e-5)
    return encoder


def _check_open_clip_convnext(name, count):
    encoder = look.load(Encoder(model=name, pretrained="random", image_size=224))
    images = _images(encoder, count)
    tokens, embeddings = encoder.encode(images)
    last, own = _activation(encoder.model.visual.trunk.stages[-1], lambda: encoder.model.encode_image(images))
    rows = last.permute(0, 2, 3, 1).reshape(count, -1, last.shape[1])
    torch.testing.assert_close(tokens, rows, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(embeddings, own, rtol=1e-5, atol=1e-5)
    return encoder


@pytest.mark.slow
def test_vit_h_14_gives_its_final_norm_tokens():
    encoder = _check_open_clip_vit("ViT-H-14", 1)
    assert (encoder.num_tokens, encoder.token_dim, encoder.embedding_dim) == (256, 1280, 1024)
    assert encoder.grid == (16, 16) and encoder.image_size == 224


@pytest.mark.slow
def test_convnext_base_w_at_224_gives_its_fourth_stage():
    encoder = _check_open_clip_convnext("convnext_base_w", 2)
    assert (encoder.num_tokens, encoder.token_dim, encoder.embedding_dim) == (49, 1024, 640)
    assert encoder.grid == (7, 7) and encoder.image_size == 224


@pytest.mark.slow
def test_vit_b_32_gives_its_final_norm_tokens():
    encoder = _check_open_clip_vit("ViT-B-32", 2)
    assert (encoder.num_tokens, encoder.token_dim, encoder.embedding_dim) == (49, 768, 512)


def test_timm_vision_transformer_gives_its_normed_patch_tokens():
    encoder = look.load(Encoder(library="timm", model="vit_tiny_patch16_224", pretrained="random", image_size=64))
    images = _images(encoder)
    tokens, embeddings = encoder.encode(images)
    normed, _ = _activation(encoder.model.norm, lambda: encoder.model(images))
    torch.testing.assert_close(tokens, normed[:, 1:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(embeddings, normed[:, 0], rtol=1e-5, atol=1e-5)
    assert encoder.grid == (4, 4) and encoder.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name, module", [("convnext_atto", "stages"), ("swin_tiny_patch4_window7_224", "norm")])
def test_timm_towers_with_maps_give_rows_of_tokens(name, module):
    size = 64 if module == "stages" else None
    encoder = look.load(Encoder(library="timm", model=name, pretrained="random", image_size=size))
    images = _images(encoder, 1)
    last, _ = _activation(getattr(encoder.model, module), lambda: encoder.model(images))
    rows = last.permute(0, 2, 3, 1) if module == "stages" else last
    tokens = encoder.encode(images)[0]
    torch.testing.assert_close(tokens, rows.reshape(1, -1, rows.shape[-1]), rtol=1e-5, atol=1e-5)
    assert encoder.grid == tuple(rows.shape[1:3])


def test_the_shipped_encoder_agrees_with_open_clip():
    encoder = look.load(Encoder(model="small/clip"))
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{small_directory('small/clip')}")
    image = Image.fromarray(scenes.scene(3, seed=1).image).resize((48, 40))
    torch.testing.assert_close(encoder.preprocess(image), transform(image), rtol=0, atol=0)
    images = torch.stack([transform(image)] * 2)
    tokens, embeddings = encoder.encode(images)
    normed, own = _activation(model.eval().visual.ln_post, lambda: model.encode_image(images))
    torch.testing.assert_close(tokens, normed[:, 1:])
    torch.testing.assert_close(embeddings, own)
    texts = ["a red star", "a blue ring"]
    words = open_clip.get_tokenizer(f"local-dir:{small_directory('small/clip')}")(texts)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_text(texts), model.encode_text(words))


def test_weights_are_frozen_but_gradients_can_reach_the_images():
    encoder = look.load(Encoder(model="small/clip"))
    images = _images(encoder).requires_grad_()
    assert not encoder.encode(images)[0].requires_grad
    tokens, _ = encoder.encode(images, gradients=True)
    tokens.sum().backward()
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training


def test_random_weights_are_the_same_each_time_and_leave_chance_alone():
    settings = Encoder(library="timm", model="vit_tiny_patch16_224", pretrained="random", image_size=32)
    torch.manual_seed(7)
    first = look.load(settings)
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.rand(1) == after
    second = look.load(settings)
    images = _images(first)
    torch.testing.assert_close(first.encode(images)[0], second.encode(images)[0], rtol=0, atol=0)
    assert first.digest == second.digest and first.record["sha256"] is None


def test_an_image_has_the_same_bits_whatever_shares_its_batch():
    encoder = look.load(Encoder(model="small/clip"))
    images = _images(encoder, 16)
    whole = loader.encode_padded(encoder, images, 16)
    for size in (1, 5, 15):
        part = loader.encode_padded(encoder, images[:size], 16)
        for all_, some in zip(whole, part):
            torch.testing.assert_close(some, all_[:size], rtol=0, atol=0)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(small_directory("small/clip"), tmp_path / "encoder")


def test_a_folder_is_loaded_and_its_digest_recorded(folder):
    expected = provenance.file_sha256(folder / "open_clip_model.safetensors")
    encoder = look.load(Encoder(model=str(folder), sha256=expected))
    assert encoder.digest == expected and encoder.record["model"] == "encoder"
    assert str(folder.parent) not in json.dumps(encoder.record)


def test_other_weights_than_expected_are_not_loaded(folder):
    with pytest.raises(
        GenviewError, match=r"open_clip_model.safetensors: SHA-256 is [0-9a-f]{64}, but .* expects 0{64}"
    ):
        look.load(Encoder(model=str(folder), sha256="0" * 64))


def test_a_file_of_weights_is_loaded(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        source = open_clip.create_model("ViT-S-32-alt", pretrained_text=False).eval()
    file = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in source.state_dict().items()}, file)
    encoder = look.load(Encoder(model="ViT-S-32-alt", pretrained=str(file)))
    images = _images(encoder, 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(images)[1], source.encode_image(images))
    assert encoder.digest == provenance.file_sha256(file)


def test_a_timm_file_of_weights_is_loaded(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    file = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), file)
    encoder = look.load(Encoder(library="timm", model="vit_tiny_patch16_224", pretrained=str(file)))
    images = _images(encoder, 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(images)[1], source(images))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model": "ViT-Q-99"}, "neither a folder nor an architecture that open_clip knows"),
        ({"library": "timm", "model": "vit_quark"}, "neither a folder nor an architecture that timm knows"),
        ({"model": "ViT-H-14"}, r"`pretrained` is missing: a tag \(.*laion2b_s32b_b79k"),
        ({"library": "timm", "model": "convnext_atto"}, r"`pretrained` is missing: a tag \(d2_in1k"),
        ({"model": "ViT-H-14", "pretrained": "laion9b"}, "'laion9b' is neither a tag that open_clip knows"),
        ({"model": "small/clip", "pretrained": "laion2b"}, "a folder brings its own weights"),
        ({"model": "small/unheard"}, "small/unheard"),
    ],
)
def test_what_cannot_be_loaded_says_what_to_do(settings, message):
    with pytest.raises(GenviewError, match=message):
        look.load(Encoder(**settings))


def test_weights_that_are_not_there_say_what_fetches_them(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path), raising=False)
    for settings in ({"model": "ViT-H-14", "pretrained": "laion2b_s32b_b79k"}, {"model": "hf-hub:nobody/nothing"}):
        with pytest.raises(GenviewError, match="not in the hub's cache"):
            look.load(Encoder(**settings))


def test_a_folder_with_several_weights_must_tell_which(folder):
    weights = folder / "open_clip_model.safetensors"
    shutil.copy(weights, folder / "one.safetensors")
    weights.rename(folder / "two.safetensors")
    with pytest.raises(GenviewError, match=r"found one\.safetensors, two\.safetensors"):
        look.load(Encoder(model=str(folder)))


def test_a_tower_without_text_says_so():
    encoder = look.load(Encoder(library="timm", model="convnext_atto", pretrained="random", image_size=32))
    with pytest.raises(GenviewError, match="has no text tower"):
        encoder.encode_text(["words"])


def test_the_transform_crops_the_middle():
    encoder = look.load(Encoder(model="small/clip"))
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    white = encoder.preprocess(Image.fromarray(wide))
    assert white[:, :, 4:-4].min() > 0.9
