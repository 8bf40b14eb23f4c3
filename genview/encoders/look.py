"""A frozen encoder: from images to patch tokens and embeddings, through open_clip's and timm's own interfaces."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import open_clip
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from genview import placement, provenance, usage
from genview.config.encoders import Encoder
from genview.encoders import build, files, find, towers
from genview.encoders.files import Weights
from genview.encoders.preprocess import Preprocess
from genview.errors import GenviewError


@dataclass
class LoadedEncoder:
    """An encoder in evaluation mode with frozen weights; made by ``load``.

    Attributes:
        transform: the library's own inference transform.
        mean, std: normalisation of the encoder's own training, three floats each.
        image_size: side of its square input in pixels.
        num_tokens, token_dim, embedding_dim: T, D and E of ``encode``.
        grid: (rows, columns) of the tokens.
        digest: SHA-256 of the weights file; of the architecture where the weights are random.
        record: what made it, for an artifact's metadata: no paths of this machine.
    """

    tower: towers.TimmTower | towers.OpenClipTower
    visual: nn.Module
    model: nn.Module
    transform: Preprocess
    tokenizer: Any
    device: torch.device
    autocast: torch.dtype | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int
    digest: str
    record: dict[str, Any]
    num_tokens: int = 0
    token_dim: int = 0
    embedding_dim: int = 0
    grid: tuple[int, int] = (0, 0)

    def preprocess(self, image: Image.Image) -> Tensor:
        """The library's own inference transform: RGB image to float32 [3, S, S], normalised."""
        return self.transform(image)

    def encode(self, images: Tensor, *, gradients: bool = False) -> tuple[Tensor, Tensor]:
        """Patch tokens [B, T, D] and embeddings [B, E] (projected, not L2-normalised), float32.

        Args:
            images: [B, 3, S, S], normalised with this encoder's mean and std, or uint8 pixels; on any device.
            gradients: let gradients flow to the images; the weights stay frozen.
        """
        images = self.transform.finish(images.to(self.device, non_blocking=True))
        with (
            torch.set_grad_enabled(gradients),
            torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None),
        ):
            seen = self.tower.see(images, ("tokens", "embedding"))
        self.grid = seen.grid
        return seen.tokens.float(), seen.embedding.float()

    def look(self, images: Tensor, *wanted: str, gradients: bool = False) -> towers.Seen:
        """What is wanted of images, from one forward pass, float32; see `towers` for shapes.

        Args:
            images: [B, 3, S, S], normalised with this encoder's mean and std, or uint8 pixels; on any device.
            wanted: ``tokens``, ``pooled``, ``embedding`` (not L2-normalised), ``local``.
            gradients: let gradients flow to the images; the weights stay frozen.

        Raises:
            GenviewError: the tower has no such thing.
        """
        images = self.transform.finish(images.to(self.device, non_blocking=True))
        with (
            torch.set_grad_enabled(gradients),
            torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None),
        ):
            seen = self.tower.see(images, wanted)
        for name in wanted:
            setattr(seen, name, getattr(seen, name).float())
        return seen

    def dense(self, images: Tensor, *, gradients: bool = False) -> tuple[Tensor, Tensor]:
        """Global [B, E] and local [B, T, E] features of normalised images, both in the embedding's space, float32."""
        seen = self.look(images, "embedding", "local", gradients=gradients)
        return seen.embedding, seen.local

    @property
    def least(self) -> int | None:
        """Side in pixels that a collection's images must have when they are decoded; None: in full."""
        return self.transform.least if self.record.get("fast_decode") else None

    @cached_property
    def peak(self) -> float | None:
        """Floating-point operations a second of its device in its precision; None: not known."""
        return usage.peak(self.device, half=self.autocast is not None)

    @cached_property
    def operations(self) -> float | None:
        """Floating-point operations for an image; None where the device's peak is not known, or it cannot be told."""
        shape = (1, 3, self.image_size, self.image_size)
        return usage.operations(self.encode, shape, device=self.device) if self.peak else None

    def encode_text(self, texts: list[str]) -> Tensor:
        """Text embeddings [B, E] (projected, not L2-normalised), float32.

        Raises:
            GenviewError: the encoder has no text tower.
        """
        if self.tokenizer is None:
            raise GenviewError(f"encoder {self.record['model']} has no text tower; use an open_clip model")
        self.model.to(self.device)  # the text tower stays on the CPU until it is used
        tokens = self.tokenizer(texts).to(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return self.model.encode_text(tokens).float()


def _load_open_clip(encoder: Encoder) -> dict[str, Any]:
    found, preprocess = find.open_clip_weights(encoder)
    if found.folder and (found.folder / build.FORM[0]).is_file():
        return _load_own_form(found)
    model = towers.build_open_clip(encoder, found, preprocess)
    visual = model.visual
    config = PreprocessCfg(**visual.preprocess_cfg)
    size = config.size if isinstance(config.size, int) else config.size[0]
    return {
        "found": found,
        "model": model,
        "image": visual,
        "transform": Preprocess(image_transform_v2(config, is_train=False), config.mean, config.std),
        "tokenizer": open_clip.get_tokenizer(found.model),
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "image_size": size,
    }


def _load_own_form(found: Weights) -> dict[str, Any]:
    model, built = build.reopen(found.folder)
    config = PreprocessCfg(**built.preprocess_cfg)
    return {
        "found": found,
        "model": model,
        "image": model.visual,
        "transform": Preprocess(image_transform_v2(config, is_train=False), config.mean, config.std),
        "tokenizer": built.tokenizer() if built.has_text else None,
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "image_size": built.image_size,
    }


def _load_timm(encoder: Encoder) -> dict[str, Any]:
    found = find.timm_weights(encoder)
    model = towers.build_timm(encoder, found)
    overrides = {"input_size": (3, encoder.image_size, encoder.image_size)} if encoder.image_size else {}
    config = timm.data.resolve_data_config(overrides, model=model)
    return {
        "found": found,
        "model": model,
        "image": model,
        "transform": Preprocess(timm.data.create_transform(**config, is_training=False), config["mean"], config["std"]),
        "tokenizer": None,
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "image_size": config["input_size"][-1],
    }


def load(encoder: Encoder, device: torch.device | str = "cpu") -> LoadedEncoder:
    """Load an encoder, frozen and in evaluation mode, after checking its weights against their digest.

    Raises:
        GenviewError: the architecture is unknown, the weights are missing, or have another digest than expected.
    """
    device = torch.device(device)
    parts = _load_open_clip(encoder) if encoder.library == "open_clip" else _load_timm(encoder)
    found = parts.pop("found")
    precision = placement.precision(encoder.precision, device, f"encoder {encoder.model}")
    parts["model"].requires_grad_(False)
    image = parts.pop("image").to(device)
    name = encoder.model if found.folder is None or encoder.model.startswith("small/") else found.folder.name
    record = {
        "library": encoder.library,
        "model": name,
        "pretrained": files.RANDOM if found.file is None else found.file.name,
        "revision": found.revision,
        "sha256": found.sha256,
        "image_size": parts["image_size"],
        "precision": precision,
        "versions": {"open_clip": open_clip.__version__, "timm": timm.__version__},
    }
    if encoder.fast_decode:
        record["fast_decode"] = True
    if found.quick_gelu:
        record["activation"] = "quick_gelu"
    loaded = LoadedEncoder(
        **parts,
        tower=towers.of(image),
        visual=image,
        device=device,
        autocast=placement.autocast_type(precision),
        digest=found.sha256 or provenance.digest([encoder.library, name, parts["image_size"], towers.RANDOM_SEED]),
        record=record,
    )
    tokens, embeddings = loaded.encode(torch.zeros(1, 3, loaded.image_size, loaded.image_size))
    loaded.num_tokens, loaded.token_dim = tokens.shape[1:]
    loaded.embedding_dim = embeddings.shape[1]
    return loaded
