"""Weights trained with QuickGELU give that model's features, by tag, file or folder; or a warning names it."""

import json
import logging

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from genview import provenance
from genview.config.encoders import Encoder
from genview.encoders import files, find, look
from genview.errors import GenviewError


def _small(quick, folder):
    """A small open_clip Vision Transformer of either kind, its weights, and its embeddings of some images."""
    configuration = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = open_clip.CLIP(**configuration, quick_gelu=quick).eval()
    file = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return configuration, model, file


@pytest.fixture
def quick(tmp_path):
    return _small(True, tmp_path)


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _embedding(encoder):
    with torch.no_grad():
        return look.load(encoder).encode(IMAGES)[1]


@pytest.fixture
def architecture(quick, tmp_path):
    """The small model under two names of open_clip's, with GELU and with QuickGELU."""
    known = tmp_path / "known"
    known.mkdir()
    (known / "ViT-small.json").write_text(json.dumps(quick[0]))
    (known / "ViT-small-quickgelu.json").write_text(json.dumps({**quick[0], "quick_gelu": True}))
    before = list(open_clip.factory._MODEL_CONFIG_PATHS)
    open_clip.add_model_config(known)
    yield "ViT-small"
    open_clip.factory._MODEL_CONFIG_PATHS[:] = before
    open_clip.factory._rescan_model_configs()


def test_a_tag_says_it_of_an_architecture_whose_configuration_does_not(quick, architecture, monkeypatch):
    """As ``ViT-B-32`` with the tag ``openai``: open_clip's own warning, made right."""
    _, model, file = quick
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, "ViT-small", {"own": {"url": f"file://{file}", "quick_gelu": True}}
    )
    monkeypatch.setattr(open_clip, "download_pretrained", lambda tag, **options: str(file))
    with torch.no_grad():
        expected = model.encode_image(IMAGES)
    for name in ("ViT-small", "ViT-small-quickgelu"):
        monkeypatch.setitem(
            open_clip.pretrained._PRETRAINED, name, {"own": {"url": f"file://{file}", "quick_gelu": True}}
        )
        torch.testing.assert_close(_embedding(Encoder(model=name, pretrained="own")), expected)


def test_a_file_that_says_nothing_is_warned_of_and_the_setting_decides(quick, architecture, caplog):
    _, model, file = quick
    with torch.no_grad():
        expected = model.encode_image(IMAGES)
    with caplog.at_level(logging.WARNING, "genview"):
        wrong = _embedding(Encoder(model=architecture, pretrained=str(file)))
    assert "does not say which activation" in caplog.text and "activation: quick_gelu" in caplog.text
    assert (wrong - expected).abs().max() > 1e-4
    stated = _embedding(Encoder(model=architecture, pretrained=str(file), activation="quick_gelu"))
    torch.testing.assert_close(stated, expected)
    torch.testing.assert_close(_embedding(Encoder(model=f"{architecture}-quickgelu", pretrained=str(file))), expected)


@pytest.mark.parametrize("how", ("name", "configuration beside it", "folder", "digest"))
def test_a_file_that_says_it_somehow_is_believed(quick, architecture, how, tmp_path, monkeypatch):
    configuration, model, file = quick
    encoder = {"model": architecture, "pretrained": str(file)}
    if how == "name":
        encoder["pretrained"] = str(file.rename(tmp_path / "vit-small-quickgelu-own.safetensors"))
    elif how == "digest":
        url = f"https://example.org/vit_small-own-{provenance.file_sha256(file)[:8]}.pt"
        monkeypatch.setitem(
            open_clip.pretrained._PRETRAINED, "ViT-small-quickgelu", {"own": {"url": url, "quick_gelu": True}}
        )
    else:
        (tmp_path / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": {**configuration, "quick_gelu": True}, "preprocess_cfg": {}})
        )
        if how == "folder":
            encoder = {"model": str(tmp_path)}
    with torch.no_grad():
        torch.testing.assert_close(_embedding(Encoder(**encoder)), model.encode_image(IMAGES))


def test_every_tag_of_the_library_gets_the_activation_it_states(monkeypatch, tmp_path):
    file = tmp_path / "any.bin"
    file.write_bytes(b"")
    monkeypatch.setattr(files, "cached_file", lambda *arguments: file)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda *arguments, **options: str(file))
    quick = 0
    for model, tag in open_clip.list_pretrained():
        found, _ = find.open_clip_weights(Encoder(model=model, pretrained=tag))
        assert found.quick_gelu == bool(open_clip.get_pretrained_cfg(model, tag).get("quick_gelu")), (model, tag)
        quick += found.quick_gelu
    assert quick > 30
    for name in ("vit_base_patch32_clip_224", "vit_base_patch32_clip_quickgelu_224"):
        found = find.timm_weights(Encoder(library="timm", model=name, pretrained="openai"))
        assert found.model == "vit_base_patch32_clip_quickgelu_224.openai"
    found = find.timm_weights(Encoder(library="timm", model="vit_base_patch32_clip_224", pretrained="laion2b"))
    assert found.model == "vit_base_patch32_clip_224.laion2b"


def test_a_timm_tower_of_openai_has_quick_gelu_from_a_folder_too(tmp_path):
    name = "vit_base_patch32_clip_quickgelu_224"
    model = timm.create_model(name, num_classes=0).eval()
    folder = tmp_path / "tower"
    timm.models.save_for_hf(model, folder, model_args={"num_classes": 0}, safe_serialization=True)
    settings = json.loads((folder / "config.json").read_text())
    settings["architecture"] = "vit_base_patch32_clip_224"
    settings["pretrained_cfg"]["tag"] = "openai"
    (folder / "config.json").write_text(json.dumps(settings))
    loaded = look.load(Encoder(library="timm", model=str(folder)))
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(images)[1], model(images))
    with pytest.raises(GenviewError, match="no such architecture with QuickGELU"):
        look.load(Encoder(library="timm", model="resnet18", pretrained="random", activation="quick_gelu"))
