"""What a model is made of: an architecture by its name, or the one that initial weights belong to."""

import copy
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from genview.config.encoders import Encoder
from genview.config.training import RunModel
from genview.encoders import files, find, towers, vmamba
from genview.errors import GenviewError
from genview.models import load

ARCHITECTURES = Path(__file__).parent / "architectures"

OURS = frozenset({vmamba.vmamba_tiny.__name__})
"""Image towers that timm knows in this process alone."""

PLACEHOLDER_TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
"""Text tower of an exported image-only model: the class must have one; untrained, as small as can be."""


@dataclass
class Architecture:
    """A model's configuration as open_clip keeps it, and where its tokenizer and its weights come from.

    Attributes:
        model_cfg: arguments of ``open_clip.CLIP``.
        preprocess_cfg: mean, std, interpolation, resize mode, size.
        tokenizer_folder: of a Hugging Face tokenizer; None: CLIP's own, which open_clip brings along.
        has_text: whether the text tower is part of the run.
        timm_args: arguments of the timm tower that open_clip has no place for.
        stem: ``cifar``: 3 x 3 first convolution without stride, no pooling after it.
        initial: where the weights come from; None: a seed.
        keeps_text: whether a text tower stays as it is, frozen, in a run that has no use for it.
    """

    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    tokenizer_folder: Path | None
    has_text: bool
    timm_args: dict[str, Any] = field(default_factory=dict)
    stem: str | None = None
    initial: Encoder | None = None
    keeps_text: bool = False

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""
        return self.model_cfg["vision_cfg"]["image_size"]

    @property
    def tower(self) -> str:
        """Name of the image tower, for people."""
        vision = self.model_cfg["vision_cfg"]
        return (
            f"{vision['timm_model_name']} (timm)" if vision.get("timm_model_name") else "Vision Transformer (open_clip)"
        )

    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Captions to token ids [B, L]; can be pickled for loader processes."""
        length = self.model_cfg["text_cfg"].get("context_length", 77)
        if self.initial is not None and self.tokenizer_folder is None:
            return open_clip.get_tokenizer(find.open_clip_weights(self.initial)[0].model)
        if self.tokenizer_folder is None:
            return open_clip.SimpleTokenizer(context_length=length)
        return open_clip.tokenizer.HFTokenizer(str(self.tokenizer_folder), context_length=length)


def _read(name: str) -> dict[str, Any]:
    path = ARCHITECTURES / f"{name}.json"
    if not path.is_file():
        path = Path(name)
    if not path.exists() and timm.is_model(name):
        return _of_timm(name)
    known = ", ".join(sorted(file.stem for file in ARCHITECTURES.glob("*.json")))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GenviewError(
            f"no architecture {name!r}: there are {known} and all of timm's (timm.list_models()), or give the path of "
            "a JSON file"
        ) from None
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


def _of_timm(name: str) -> dict[str, Any]:
    """The configuration of a model with a timm tower: its own pooling, size and normalisation; base's text tower."""
    values = json.loads((ARCHITECTURES / "base.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0)
    data = timm.data.resolve_data_config({}, model=trunk)
    values["model_cfg"]["vision_cfg"].update(
        timm_model_name=name, timm_pool=_pooling(trunk), image_size=data["input_size"][-1]
    )
    values["preprocess_cfg"].update(mean=list(data["mean"]), std=list(data["std"]), interpolation=data["interpolation"])
    return values


def _pooling(trunk: nn.Module) -> str:
    pooling = getattr(trunk, "global_pool", "avg")
    return pooling if isinstance(pooling, str) else "avg"


def describe(
    settings: RunModel,
    *,
    text: bool,
    image_size: int | None = None,
    initial: Encoder | None = None,
    several_sizes: bool = False,
) -> Architecture:
    """What a run's model is made of.

    Args:
        settings: the configuration's block.
        text: whether any loss needs the text tower.
        image_size: side of the views; None: the architecture's own.
        initial: the encoder whose weights the run starts from; its architecture is the run's.
        several_sizes: views have several sizes: a Vision Transformer interpolates its positions.

    Raises:
        GenviewError: the architecture is unknown or not one of open_clip's with a timm image tower.
    """
    if initial is not None:
        return _of_initial(settings, initial, text, image_size, several_sizes)
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
    timm_args = {**values.get("timm_args", {}), **_dynamic(vision["timm_model_name"], several_sizes)}
    return Architecture(model_cfg, preprocess_cfg, folder, text, timm_args, values.get("stem"))


def _dynamic(name: str, several_sizes: bool) -> dict[str, Any]:
    if not several_sizes:
        return {}
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0)
    known = inspect.signature(type(trunk).__init__).parameters
    return {"dynamic_img_size": True} if "dynamic_img_size" in known else {}


def _of_initial(
    settings: RunModel, encoder: Encoder, text: bool, image_size: int | None, several_sizes: bool
) -> Architecture:
    """The architecture that initial weights belong to."""
    if image_size is not None:
        encoder = encoder.model_copy(update={"image_size": image_size})
    if encoder.library == "timm":
        return _of_initial_tower(settings, encoder, text, several_sizes)
    found, preprocess = find.open_clip_weights(encoder)
    own = find.configuration(encoder, found)
    model_cfg = copy.deepcopy(own["model_cfg"])
    vision, text_cfg = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if encoder.image_size:
        vision["image_size"] = encoder.image_size
    vision.setdefault("image_size", 224)
    if found.quick_gelu is not None:
        model_cfg["quick_gelu"] = found.quick_gelu
    if "multimodal_cfg" in model_cfg:
        raise GenviewError(f"model.initial: {encoder.model} is a captioner (CoCa), which has no place in training")
    preprocess_cfg = {
        **open_clip.transform.PreprocessCfg().__dict__,
        **own.get("preprocess_cfg", {}),
        **preprocess,
        "size": vision["image_size"],
    }
    has_tower = text_cfg != PLACEHOLDER_TEXT
    if text and not has_tower:
        raise GenviewError(
            f"model.initial: {encoder.model} was trained on images alone and has no text tower, but the run's losses "
            "need captions; start from an encoder with one, or set the image-text coefficients to 0"
        )
    timm_args = dict(own.get("timm_args", {}))
    if vision.get("timm_model_name"):
        timm_args |= _dynamic(vision["timm_model_name"], several_sizes)
    elif several_sizes:
        raise GenviewError(
            f"model.initial: {encoder.model}: views of several sizes need a timm tower; open_clip's own takes one size"
        )
    folder = None
    if found.folder and any((found.folder / name).is_file() for name in files.TOKENIZERS):
        folder = found.folder
    kept = Architecture(model_cfg, preprocess_cfg, folder, text, timm_args, own.get("stem"), encoder)
    return replace(kept, keeps_text=has_tower and not text)


def _of_initial_tower(settings: RunModel, encoder: Encoder, text: bool, several_sizes: bool) -> Architecture:
    found = find.timm_weights(encoder)
    trunk = towers.build_timm(encoder, found)
    data = timm.data.resolve_data_config({}, model=trunk)
    size = encoder.image_size or data["input_size"][-1]
    name = trunk.pretrained_cfg["architecture"]
    arguments = find.timm_arguments(found)
    pooling = arguments.pop("global_pool", None) or _pooling(trunk)
    arguments.pop("num_classes", None)
    base = describe(settings.model_copy(update={"architecture": "base"}), text=False)
    if text:
        base = describe(settings, text=True)
    vision = {
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": pooling,
        "timm_proj": settings.text_projection if text else "none",
        "image_size": size,
    }
    model_cfg = {**base.model_cfg, "vision_cfg": vision}
    if not text:
        model_cfg["embed_dim"] = trunk.num_features
    preprocess_cfg = {
        **base.preprocess_cfg,
        **{"mean": list(data["mean"]), "std": list(data["std"]), "interpolation": data["interpolation"], "size": size},
    }
    arguments |= _dynamic(name, several_sizes)
    return Architecture(model_cfg, preprocess_cfg, base.tokenizer_folder, text, arguments, None, encoder)
