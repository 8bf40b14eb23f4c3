"""The trained encoder as a folder: an open_clip model where open_clip gives it back equal, its timm tower, a card.

open_clip has no place for a timm tower's arguments: a ViT-S with 12 heads would come back with 6, without an error and
with other features. So each form is opened again before it counts, and one that differs is not written:

- ``open_clip_config.json``, ``open_clip_model.safetensors``: open_clip's form;
- ``genview_config.json``, ``genview_model.safetensors``: ours, in its place, where that one differs;
- ``timm/``: the image tower for timm, with its arguments; left out for a stem that timm does not know.
"""

import copy
import json
import logging
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
from genview.encoders import build, towers
from genview.encoders.architecture import OURS, Architecture

logger = logging.getLogger("genview")

OPEN_CLIP_FORM = ("open_clip_config.json", "open_clip_model.safetensors")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
"""How equal a form that was opened again has to be: one and the same computation, threads aside."""


def _complete(model: nn.Module, architecture: Architecture) -> dict[str, Tensor]:
    """The state of an ``open_clip.CLIP``; an image-only model gets its placeholder text tower."""
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if architecture.has_text or architecture.keeps_text:
        return state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = open_clip.CLIP(**architecture.model_cfg).state_dict()
    rest = {name: tensor.contiguous() for name, tensor in whole.items() if not name.startswith("visual.")}
    return state | rest


def _timm_pooling(architecture: Architecture, state: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    vision = architecture.model_cfg["vision_cfg"]
    pool = {"global_pool": vision["timm_pool"]} if vision.get("timm_pool") else {}
    if isinstance(timm.create_model(vision["timm_model_name"], num_classes=0), VisionTransformer):
        # With a projection open_clip sets the pooling after the norm was placed, without one before.
        pool["fc_norm"] = f"{prefix}fc_norm.weight" in state
    return pool


def _save_timm(state: dict[str, Tensor], architecture: Architecture, folder: Path) -> None:
    vision, prefix = architecture.model_cfg["vision_cfg"], "visual.trunk."
    arguments = {**_timm_pooling(architecture, state, prefix), **architecture.timm_args}
    size = architecture.image_size
    trunk = timm.create_model(vision["timm_model_name"], num_classes=0, **arguments)
    if trunk.pretrained_cfg["input_size"][-1] != size and hasattr(trunk, "set_input_size"):
        arguments["img_size"] = size
        trunk = timm.create_model(vision["timm_model_name"], num_classes=0, **arguments)
    trunk.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
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
    timm.models.save_for_hf(trunk, folder, model_args={"num_classes": 0, **arguments}, safe_serialization=True)


@torch.no_grad()
def _equal(reference: nn.Module, again: nn.Module, size: int) -> bool:
    """Whether two towers give the same for two images of noise, embeddings and what comes before them."""
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    wanted = ("embedding",)
    one, other = (towers.of(tower.eval()).see(images, wanted).embedding for tower in (reference, again))
    return one.shape == other.shape and torch.allclose(one, other, **CLOSE)


def _opens_in_open_clip(folder: Path, visual: nn.Module, size: int) -> str | None:
    """Why open_clip does not give the model back; None: it does."""
    try:
        again = open_clip.create_model(f"local-dir:{folder}")
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None if _equal(visual, again.visual, size) else "it loads, and its features are others"


def write(
    target: str | Path, model: nn.Module, architecture: Architecture, *, record: dict[str, Any], card: str
) -> None:
    """Write the model's directory, complete or not at all.

    Args:
        target: the directory.
        model: ``ImageTextModel`` or ``ImageModel``.
        architecture: what it was built from.
        record: what is known of the run; becomes ``run.json``.
        card: text of ``README.md``.
    """
    state, kept = _complete(model, architecture), model.state_dict().keys()
    visual, size = copy.deepcopy(model.visual).float().cpu().eval(), architecture.image_size
    with atomic.writing(target) as folder:
        folder.mkdir(parents=True)
        configuration = {"model_cfg": architecture.model_cfg, "preprocess_cfg": architecture.preprocess_cfg}
        atomic.write_json(folder / OPEN_CLIP_FORM[0], configuration)
        save_file(state, folder / OPEN_CLIP_FORM[1])
        tower = architecture.model_cfg["vision_cfg"].get("timm_model_name")
        if tower and tower not in OURS and architecture.stem is None:
            _save_timm(state, architecture, folder / "timm")
            again = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True)
            if not _equal(visual.trunk, again, size):
                raise RuntimeError(f"{architecture.tower}: timm gives the tower back with other features")
        if architecture.tokenizer_folder:
            with tempfile.TemporaryDirectory() as scratch:
                architecture.tokenizer().tokenizer.save_pretrained(scratch)  # type: ignore[attr-defined]  # an HFTokenizer
                for path in Path(scratch).iterdir():
                    shutil.copy(path, folder / path.name)
        ours = "its image tower is GenView's own" if tower in OURS else None
        if why := ours or _opens_in_open_clip(folder, visual, size):
            logger.warning("open_clip cannot hold this model (%s); it is written in GenView's own form", why)
            own = {**configuration, "timm_args": architecture.timm_args, "stem": architecture.stem}
            atomic.write_json(folder / build.FORM[0], own)
            save_file({name: tensor for name, tensor in state.items() if name in kept}, folder / build.FORM[1])
            for name in OPEN_CLIP_FORM:
                (folder / name).unlink()
        atomic.write_text(folder / "run.json", json.dumps(record, indent=2, sort_keys=True) + "\n")
        atomic.write_text(folder / "README.md", card)
