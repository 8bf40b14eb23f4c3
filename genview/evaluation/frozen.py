"""The frozen encoder that is evaluated: a pretrained run, or a baseline to compare it with."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torchvision.transforms import v2

from genview import loading, placement, provenance, usage
from genview.config.encoders import Encoder
from genview.encoders import build, look, towers
from genview.encoders.architecture import PLACEHOLDER_TEXT
from genview.encoders.files import TOKENIZERS
from genview.encoders.preprocess import Preprocess
from genview.errors import GenviewError

CONFIGURATION, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def _images(batch: Any) -> int:
    return len(batch if isinstance(batch, Tensor) else batch[0])


@dataclass
class FrozenEncoder:
    """An image encoder in evaluation mode.

    Attributes:
        tower: from images [B, 3, S, S] to features [B, D].
        transform: from a PIL image to the tower's input, in one or in two halves.
        digest: SHA-256 of the weights file, or of what a baseline is made from.
        model, tokenizer: the whole open_clip model, for text; null for baselines without one.
        mean, std, image_size: of the tower's input.
    """

    tower: nn.Module
    transform: Preprocess
    digest: str
    device: torch.device
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    autocast: torch.dtype | None = None
    model: nn.Module | None = None
    tokenizer: Any = None

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Features float32 [B, D] of images [B, 3, S, S], normalised or uint8 pixels; no gradient."""
        images = self.ready(images)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return self.tower(images).float()

    def ready(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S], normalised or uint8 pixels, as the tower takes them, on its device."""
        return self.transform.finish(images.to(self.device, non_blocking=True))

    def counted(self, batches: Iterable[Any], times: int = 1) -> Iterator[Any]:
        """Batches of images and what belongs to them, on the device, counted for the job's log (`usage.reading`).

        Args:
            batches: of a loader: images [B, 3, S, S], or images and something else.
            times: forward passes for each image; a backward pass counts two.
        """
        peak = usage.peak(self.device, half=self.autocast is not None)
        shape = (1, 3, self.image_size, self.image_size)
        each = usage.operations(self.features, shape, device=self.device) if peak else None
        return usage.reading(loading.ahead(batches, self.device), each and times * each, peak, _images)

    def prepared(self, batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        """The same (`counted`), with images [B, 3, S, S] as the tower takes them (`ready`); for a loop of others."""
        for images, *rest in self.counted(batches):
            yield self.ready(images), *rest


def check_weights(folder: str | Path, model: nn.Module) -> None:
    """Compare the names and shapes of a run's weights with the model's.

    Raises:
        GenviewError: keys are missing, unknown, or of another shape; names the first of each.
    """
    path = Path(folder) / WEIGHTS
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    with safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (safe_open cannot be iterated)
    problems = []
    for what, names in (
        ("missing", sorted(expected.keys() - found.keys())),
        ("unknown", sorted(found.keys() - expected.keys())),
        ("of another shape", sorted(n for n in expected.keys() & found.keys() if expected[n] != found[n])),
    ):
        if names:
            problems.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    if problems:
        raise GenviewError(
            f"{path}: the weights do not fit the model of {CONFIGURATION}: {'; '.join(problems)}; "
            "a probe of a partly random encoder would say nothing about the run"
        )


def load(
    source: str | Path,
    *,
    layer: str = "pooled",
    precision: str = "fp32",
    device: torch.device | str = "cpu",
    random_weights: int | None = None,
    text: bool = False,
) -> FrozenEncoder:
    """Load what is evaluated: the model of a run, or an encoder of the configuration.

    Args:
        source: an open_clip model directory (open_clip_config.json, open_clip_model.safetensors and, for text, a
            tokenizer), or a JSON file with a block ``encoder``.
        layer: ``pooled``: features before the projection to the text space; ``embedding``: after it.
        precision: fp32, fp16 or bf16 (autocast); on a CPU always fp32. An encoder of the configuration has its own.
        device: where it runs.
        random_weights: a seed: the same architecture with random weights, as a baseline.
        text: load the tokenizer too.

    Raises:
        GenviewError: no such model, its weights lack keys or have others, or text is asked of one without a tokenizer.
    """
    folder, device = Path(source), torch.device(device)
    if folder.suffix == ".json":
        return _of_configuration(folder, layer, device, text)
    own = (folder / build.FORM[0]).is_file()
    configuration, weights = build.FORM if own else (CONFIGURATION, WEIGHTS)
    for name in (configuration, weights):
        if not (folder / name).is_file():
            raise GenviewError(f"{folder}: no model there ({name} is missing); has the run been trained?")
    settings = json.loads((folder / configuration).read_text(encoding="utf-8"))
    if text:
        _check_text(folder, settings.get("model_cfg", settings)["text_cfg"])
    if own:
        return _own_form(folder, layer, precision, device, random_weights, text)
    if random_weights is None:
        try:
            model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        except RuntimeError:  # open_clip's words for weights that do not fit; ours name the file and what differs
            check_weights(folder, open_clip.create_model(f"local-dir:{folder}", load_weights=False))
            raise
        check_weights(folder, model)
        digest = provenance.file_sha256(folder / WEIGHTS)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(random_weights)
            model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}", load_weights=False)
        digest = provenance.digest(["random", random_weights, settings])
    model = model.eval().requires_grad_(False).to(device)
    mean, std, size = model.visual.image_mean, model.visual.image_std, model.visual.image_size
    return FrozenEncoder(
        tower=towers.Layer(model.visual, layer),
        transform=Preprocess(transform, mean, std),
        digest=digest,
        device=device,
        mean=tuple(mean),
        std=tuple(std),
        image_size=size[0] if isinstance(size, (tuple, list)) else size,
        autocast=placement.autocast_type(placement.precision(precision, device, f"encoder {folder}")),
        model=model,
        tokenizer=open_clip.get_tokenizer(f"local-dir:{folder}") if text else None,
    )


def _check_text(folder: Path, text_cfg: dict[str, Any]) -> None:
    hint = "the run has no text tower; leave it out of zero-shot tests and retrieval"
    if text_cfg == PLACEHOLDER_TEXT:
        raise GenviewError(f"{folder}: trained on images alone: {hint}")
    if text_cfg.get("hf_tokenizer_name") and not any((folder / name).is_file() for name in TOKENIZERS):
        raise GenviewError(f"{folder}: no tokenizer there: {hint}")


def _own_form(
    folder: Path, layer: str, precision: str, device: torch.device, random_weights: int | None, text: bool
) -> FrozenEncoder:
    model, built = build.reopen(folder)
    digest = provenance.file_sha256(folder / build.FORM[1])
    if random_weights is not None:
        with torch.random.fork_rng():
            torch.manual_seed(random_weights)
            model = build.skeleton(built).eval()
        digest = provenance.digest(["random", random_weights, built.model_cfg, built.timm_args, built.stem])
    preprocess = PreprocessCfg(**built.preprocess_cfg)
    return FrozenEncoder(
        tower=towers.Layer(model.requires_grad_(False).to(device).visual, layer),
        transform=Preprocess(image_transform_v2(preprocess, is_train=False), preprocess.mean, preprocess.std),
        digest=digest,
        device=device,
        mean=tuple(preprocess.mean),
        std=tuple(preprocess.std),
        image_size=built.image_size,
        autocast=placement.autocast_type(placement.precision(precision, device, f"encoder {folder}")),
        model=model,
        tokenizer=built.tokenizer() if text else None,
    )


def _of_configuration(file: Path, layer: str, device: torch.device, text: bool) -> FrozenEncoder:
    encoder = Encoder.model_validate(json.loads(file.read_text(encoding="utf-8"))["encoder"])
    loaded = look.load(encoder, device)
    if text and loaded.tokenizer is None:
        raise GenviewError(f"encoder {encoder.model} has no text tower; leave it out of zero-shot tests and retrieval")
    return FrozenEncoder(
        tower=towers.Layer(loaded.visual, layer),
        transform=loaded.transform,
        digest=loaded.digest,
        device=device,
        mean=loaded.mean,
        std=loaded.std,
        image_size=loaded.image_size,
        autocast=loaded.autocast,
        model=loaded.model.to(device),
        tokenizer=loaded.tokenizer,
    )


class _Flat(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def raw_pixels(size: int, device: torch.device | str = "cpu") -> FrozenEncoder:
    """A baseline whose features are the pixels of the image at ``size`` x ``size``, in [0, 1]."""
    transform = v2.Compose(
        [
            v2.Lambda(_rgb),
            v2.Resize((size, size), antialias=True),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return FrozenEncoder(
        tower=_Flat(),
        transform=Preprocess(transform, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        digest=provenance.digest(["raw pixels", size]),
        device=torch.device(device),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        image_size=size,
    )


def _rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")
