"""The encoder that is trained: an open_clip model, or its image tower alone; from a seed or from existing weights."""

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
from safetensors.torch import load_file
from torch import Tensor, nn

from genview.config.encoders import Encoder
from genview.config.training import RunModel
from genview.encoders import files, find, layers, lora, towers, vmamba
from genview.errors import GenviewError
from genview.models import load

ARCHITECTURES = Path(__file__).parent / "architectures"

OURS = frozenset({vmamba.vmamba_tiny.__name__})
"""Image towers that timm knows in this process alone."""

FORM = ("genview_config.json", "genview_model.safetensors")
"""A model's own form, where open_clip cannot hold it: configuration and weights."""

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


class CustomImageTextModel(_Face, open_clip.CustomTextCLIP):
    """The same where the text tower is a part of its own (SigLIP, MetaCLIP 2)."""


CLASSES = {open_clip.CLIP: ImageTextModel, open_clip.CustomTextCLIP: CustomImageTextModel}
"""open_clip's classes, and ours of the same state."""


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


def architecture(
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
    base = architecture(settings.model_copy(update={"architecture": "base"}), text=False)
    if text:
        base = architecture(settings, text=True)
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
        model.__class__ = CLASSES[type(model)]  # the same state, and the face that methods look at
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
