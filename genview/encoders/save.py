"""The trained encoder as an open_clip model directory, with its image tower for timm beside it, and a model card."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from genview import atomic
from genview.encoders.build import Architecture


def _complete(model: nn.Module, architecture: Architecture) -> dict[str, Tensor]:
    """The state of an ``open_clip.CLIP``; an image-only model gets its placeholder text tower."""
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if architecture.has_text:
        return state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = open_clip.CLIP(**architecture.model_cfg).state_dict()
    return {name: state.get(name, tensor).contiguous() for name, tensor in whole.items()}


def _save_timm(state: dict[str, Tensor], architecture: Architecture, folder: Path) -> None:
    vision = architecture.model_cfg["vision_cfg"]
    pool = {"global_pool": vision["timm_pool"]} if vision.get("timm_pool") else {}
    prefix = "visual.trunk."
    if isinstance(timm.create_model(vision["timm_model_name"], num_classes=0), VisionTransformer):
        # With a projection open_clip sets the pooling after the norm was placed, without one before.
        pool["fc_norm"] = f"{prefix}fc_norm.weight" in state
    trunk = timm.create_model(vision["timm_model_name"], num_classes=0, **pool)
    trunk.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
    size = architecture.image_size
    preprocess = architecture.preprocess_cfg
    trunk.pretrained_cfg = {
        **trunk.pretrained_cfg,
        "input_size": (3, size, size),
        "test_input_size": (3, size, size),
        "mean": tuple(preprocess["mean"]),
        "std": tuple(preprocess["std"]),
        "interpolation": preprocess["interpolation"],
        "crop_pct": 1.0,
        "test_crop_pct": 1.0,
        "num_classes": 0,
    }
    timm.models.save_for_hf(trunk, folder, model_args={"num_classes": 0, **pool}, safe_serialization=True)


def write(
    target: str | Path, model: nn.Module, architecture: Architecture, *, record: dict[str, Any], card: str
) -> None:
    """Write the model's directory, complete or not at all.

    Args:
        target: the directory.
        model: ``open_clip.CLIP`` or ``ImageModel``.
        architecture: what it was built from.
        record: what is known of the run; becomes ``run.json``.
        card: text of ``README.md``.
    """
    state = _complete(model, architecture)
    with atomic.writing(target) as folder:
        folder.mkdir(parents=True)
        configuration = {"model_cfg": architecture.model_cfg, "preprocess_cfg": architecture.preprocess_cfg}
        atomic.write_json(folder / "open_clip_config.json", configuration)
        save_file(state, folder / "open_clip_model.safetensors")
        _save_timm(state, architecture, folder / "timm")
        if architecture.tokenizer_folder:
            with tempfile.TemporaryDirectory() as scratch:
                architecture.tokenizer().tokenizer.save_pretrained(scratch)
                for path in Path(scratch).iterdir():
                    shutil.copy(path, folder / path.name)
        atomic.write_text(folder / "run.json", json.dumps(record, indent=2, sort_keys=True) + "\n")
        atomic.write_text(folder / "README.md", card)
