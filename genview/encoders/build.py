"""The encoder that is trained: an open_clip model with a timm image tower; without captions the image tower alone."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from genview.config.training import RunModel
from genview.encoders import towers
from genview.errors import GenviewError
from genview.models import load

ARCHITECTURES = Path(__file__).parent / "architectures"

PLACEHOLDER_TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
"""Text tower of an exported image-only model: the class must have one; untrained, as small as can be."""


class _Face:
    """What the trained model shows to methods: no method looks into a tower.

    B images of S x S pixels, normalised; F features, E the width of the space shared with text.
    """

    visual: nn.Module

    @property
    def num_features(self) -> int:
        """F, of ``pooled``."""
        return towers.width(self.visual)

    @property
    def has_text(self) -> bool:
        """Whether it has a text tower: ``encode_text`` and ``logit_scale``."""
        return hasattr(self, "logit_scale")

    def pooled(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to features [B, F], before the projection to the text space."""
        return towers.of(self.visual).see(images, ("pooled",)).pooled

    def projected(self, pooled: Tensor) -> Tensor:
        """Features [B, F] to embeddings [B, E], not L2-normalised; the same, where there is no projection."""
        return towers.of(self.visual).projected(pooled)

    def see(self, images: Tensor, *wanted: str) -> towers.Seen:
        """Any of ``tokens``, ``pooled``, ``embedding``, ``local`` from one forward pass; see `towers` for shapes."""
        return towers.of(self.visual).see(images, wanted)

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Global [B, E] and local [B, T, E] features, both in the embedding's space, not L2-normalised."""
        seen = self.see(images, "embedding", "local")
        return seen.embedding, seen.local


class ImageModel(_Face, nn.Module):
    """The image tower alone, under the name that it has in an open_clip model."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.visual.set_grad_checkpointing(enable)


class ImageTextModel(_Face, open_clip.CLIP):
    """open_clip's model of an image and a text tower."""


@dataclass
class Architecture:
    """A model's configuration as open_clip keeps it, and where its tokenizer comes from.

    Attributes:
        model_cfg: arguments of ``open_clip.CLIP``.
        preprocess_cfg: mean, std, interpolation, resize mode, size.
        tokenizer_folder: of a Hugging Face tokenizer; None: CLIP's own, which open_clip brings along.
        has_text: whether the text tower is part of the run.
    """

    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    tokenizer_folder: Path | None
    has_text: bool

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""
        return self.model_cfg["vision_cfg"]["image_size"]

    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Captions to token ids [B, L]; can be pickled for loader processes."""
        length = self.model_cfg["text_cfg"]["context_length"]
        if self.tokenizer_folder is None:
            return open_clip.SimpleTokenizer(context_length=length)
        return open_clip.tokenizer.HFTokenizer(str(self.tokenizer_folder), context_length=length)


def _read(name: str) -> dict[str, Any]:
    path = ARCHITECTURES / f"{name}.json"
    if not path.is_file():
        path = Path(name)
    known = ", ".join(sorted(file.stem for file in ARCHITECTURES.glob("*.json")))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GenviewError(f"no architecture {name!r}: there are {known}, or give the path of a JSON file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise GenviewError(f"{path}: not an open_clip model configuration: {error}") from None
    if "model_cfg" not in values:
        values = {"model_cfg": values, "preprocess_cfg": {}}
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - values["model_cfg"].keys()
    if missing:
        raise GenviewError(f"{path}: not an open_clip model configuration: no {', '.join(sorted(missing))}")
    if not values["model_cfg"]["vision_cfg"].get("timm_model_name"):
        raise GenviewError(f"{path}: vision_cfg has no timm_model_name; the image tower has to be timm's")
    return values


def architecture(settings: RunModel, *, text: bool, image_size: int | None = None) -> Architecture:
    """What a run's model is made of.

    Args:
        settings: the configuration's block.
        text: whether any loss needs the text tower.
        image_size: side of the views; None: the architecture's own.

    Raises:
        GenviewError: the architecture is unknown or not one of open_clip's with a timm image tower.
    """
    values = copy.deepcopy(_read(settings.architecture))
    model_cfg, preprocess_cfg = values["model_cfg"], values.get("preprocess_cfg", {})
    vision, text_cfg = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if image_size is not None:
        vision["image_size"] = image_size
    vision.setdefault("image_size", 224)
    vision["timm_model_pretrained"] = False
    preprocess_cfg = {**open_clip.transform.PreprocessCfg().__dict__, **preprocess_cfg, "size": vision["image_size"]}
    folder = None
    if not text:
        trunk = TimmModel(
            vision["timm_model_name"], 0, vision["image_size"], vision.get("timm_pool", "avg"), "none"
        ).trunk
        model_cfg.update(embed_dim=trunk.num_features, text_cfg=PLACEHOLDER_TEXT)
        vision["timm_proj"] = "none"
    else:
        vision["timm_proj"] = settings.text_projection
        if text_cfg.get("hf_tokenizer_name"):
            folder = load.resolve(text_cfg["hf_tokenizer_name"])
            if not isinstance(folder, Path):
                raise GenviewError(f"no tokenizer folder {folder!r}; give a local folder in hf_tokenizer_name")
            text_cfg.setdefault(
                "vocab_size", len(open_clip.tokenizer.HFTokenizer(str(folder), context_length=8).tokenizer)
            )
            text_cfg["hf_tokenizer_name"] = folder.name  # open_clip reads the tokenizer of the model's own folder
    return Architecture(model_cfg, preprocess_cfg, folder, text)


def build(built: Architecture, settings: RunModel, *, seed: int) -> nn.Module:
    """The model with random weights: ``ImageTextModel``, or ``ImageModel`` where no loss needs captions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if built.has_text:
            model = ImageTextModel(**built.model_cfg, init_logit_scale=settings.initial_logit_scale)
        else:
            vision = built.model_cfg["vision_cfg"]
            model = ImageModel(
                TimmModel(
                    vision["timm_model_name"],
                    built.model_cfg["embed_dim"],
                    vision["image_size"],
                    vision.get("timm_pool", "avg"),
                    "none",
                )
            )
    if settings.freeze_patch_embedding:
        if not hasattr(model.visual.trunk, "patch_embed"):
            raise GenviewError(f"model.freeze_patch_embedding: {settings.architecture} has no patch embedding")
        model.visual.trunk.patch_embed.requires_grad_(False)
    return model
