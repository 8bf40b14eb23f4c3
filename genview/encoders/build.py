"""The encoder that is trained: an open_clip model, or its image tower alone; from a seed or from existing weights."""

import json
from pathlib import Path

import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from safetensors.torch import load_file
from torch import Tensor, nn

from genview.config.training import RunModel
from genview.encoders import files, find, layers, lora, towers
from genview.encoders.architecture import PLACEHOLDER_TEXT, Architecture
from genview.errors import GenviewError

FORM = ("genview_config.json", "genview_model.safetensors")
"""A model's own form, where open_clip cannot hold it: configuration and weights."""


class _Interface:
    """What methods use of the trained model: none of them looks into a tower.

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


class ImageModel(_Interface, nn.Module):
    """The image tower alone, under the name that it has in an open_clip model."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.visual.set_grad_checkpointing(enable)


class ImageTextModel(_Interface, open_clip.CLIP):
    """open_clip's model of an image and a text tower."""


class CustomImageTextModel(_Interface, open_clip.CustomTextCLIP):
    """The same where the text tower is a part of its own (SigLIP, MetaCLIP 2)."""


CLASSES = {open_clip.CLIP: ImageTextModel, open_clip.CustomTextCLIP: CustomImageTextModel}
"""open_clip's classes, and ours of the same state."""


def _cifar_stem(trunk: nn.Module) -> None:
    """The first convolution 3 x 3 without stride, no pooling after it (He et al. 2016, section 4.2; SimCLR, B.9)."""
    if not (hasattr(trunk, "conv1") and hasattr(trunk, "maxpool")):
        raise GenviewError(f"stem: cifar is for ResNets, not for {type(trunk).__name__}")
    before = trunk.conv1
    trunk.conv1 = nn.Conv2d(before.in_channels, before.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
    trunk.maxpool = nn.Identity()


def _fitted(visual: nn.Module, built: Architecture) -> None:
    """Give a timm tower the arguments, stem and input size that open_clip cannot give it; weights are random again."""
    vision = built.model_cfg["vision_cfg"]
    if not vision.get("timm_model_name"):
        return
    if built.timm_args:
        pool = {"global_pool": vision["timm_pool"]} if vision.get("timm_pool") else {}
        visual.trunk = timm.create_model(vision["timm_model_name"], num_classes=0, **pool, **built.timm_args)
    if built.stem == "cifar":
        _cifar_stem(visual.trunk)
    own = visual.trunk.pretrained_cfg.get("input_size", (3, 0, 0))[-1] if hasattr(visual.trunk, "pretrained_cfg") else 0
    if own and own != built.image_size and hasattr(visual.trunk, "set_input_size"):
        visual.trunk.set_input_size(img_size=built.image_size)


def skeleton(built: Architecture, initial_logit_scale: float | None = None) -> nn.Module:
    """The model with random weights, drawn from torch's generator."""
    scale = {} if initial_logit_scale is None else {"init_logit_scale": initial_logit_scale}
    if built.has_text or built.keeps_text:
        arguments = {**built.model_cfg, **scale}
        custom = arguments.pop("custom_text", False) or "hf_model_name" in arguments["text_cfg"]
        model = (CustomImageTextModel if custom else ImageTextModel)(**arguments)
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
    _fitted(model.visual, built)
    return model


def build(built: Architecture, settings: RunModel, *, seed: int, projection: bool = False) -> nn.Module:
    """The model to be trained: ``ImageTextModel``, or ``ImageModel`` where no loss needs captions.

    Args:
        built: what it is made of.
        settings: the configuration's block.
        seed: of the weights that do not come from an initial encoder.
        projection: train the projection to a text tower that stays as it is, too.

    Raises:
        GenviewError: initial weights are missing or do not fit; a layer to freeze does not exist.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _started(built, settings) if built.initial else skeleton(built, settings.initial_logit_scale)
        if built.keeps_text:
            model.requires_grad_(False)
            (model.visual if projection else layers.trunk_of(model.visual)).requires_grad_(True)
        layers.freeze(model, settings)
        if settings.adapt:
            lora.adapt(model, settings.adapt, text=built.has_text and not settings.freeze.text)
    return model


def _started(built: Architecture, settings: RunModel) -> nn.Module:
    """The model with the weights of its initial encoder."""
    encoder = built.initial
    if encoder.library == "timm":
        model = skeleton(built, settings.initial_logit_scale)
        state = towers.build_timm(encoder, find.timm_weights(encoder)).state_dict()
        _load(model.visual.trunk, state, f"model.initial: {encoder.model}")
        return model
    found, preprocess = find.open_clip_weights(encoder)
    if built.has_text or built.keeps_text:
        if found.folder and (found.folder / FORM[0]).is_file():
            model = skeleton(built, settings.initial_logit_scale)
            _load(model, load_file(found.folder / FORM[1]), str(found.folder))
            return model
        model = towers.build_open_clip(encoder, found, preprocess)
        if type(model) not in CLASSES:
            raise GenviewError(f"model.initial: {encoder.model}: {type(model).__name__} has no place in training")
        if built.timm_args:
            state = model.state_dict()
            model = skeleton(built, settings.initial_logit_scale)
            _load(model, state, f"model.initial: {encoder.model}")
            return model
        model.__class__ = CLASSES[type(model)]  # the same state, and the interface that methods use
        return model.train()
    model = skeleton(built)
    state = {
        name: value
        for name, value in open_clip.factory.load_state_dict(str(found.file)).items()
        if name.startswith("visual.")
    }
    _load(model, state, str(found.folder or found.file))
    return model


def _load(module: nn.Module, state: dict[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise GenviewError(f"{what}: the weights do not fit the run's model: {error}") from None


def reopen(folder: Path) -> tuple[nn.Module, Architecture]:
    """A model in our own form, in evaluation mode.

    Raises:
        GenviewError: the weights do not fit the configuration.
    """
    values = json.loads((folder / FORM[0]).read_text(encoding="utf-8"))
    tokenizer = folder if any((folder / name).is_file() for name in files.TOKENIZERS) else None
    has_text = values["model_cfg"]["text_cfg"] != PLACEHOLDER_TEXT
    built = Architecture(
        values["model_cfg"], values["preprocess_cfg"], tokenizer, has_text, values["timm_args"], values["stem"]
    )
    model = skeleton(built)
    _load(model, load_file(folder / FORM[1]), str(folder))
    return model.eval(), built
