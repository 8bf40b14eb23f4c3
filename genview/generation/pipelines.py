"""Diffusion pipelines, loaded through diffusers, with what is known about them: weights, sizes, noise schedule."""

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableUnCLIPImg2ImgPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from genview import placement, provenance, words
from genview.config.views import ViewSet
from genview.errors import GenviewError
from genview.models import load as models

CLASSES = {"img": StableUnCLIPImg2ImgPipeline, "imgtxt": StableUnCLIPImg2ImgPipeline, "txt": StableDiffusionPipeline}

# Draws its noise from a sampler seeded once per batch: an image would depend on its neighbours.
REFUSED_SCHEDULERS = ("DPMSolverSDEScheduler",)


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline on its device, in evaluation mode."""

    pipeline: DiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    mode: str
    model: str
    """Name of the model, without the path of a directory on this machine."""
    weights: str
    """Digest of all files of the pipeline: weights and configurations."""
    size: int
    """Pixels on a side that are generated."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        side = self.size // self.pipeline.vae_scale_factor
        return self.pipeline.unet.config.in_channels, side, side

    @property
    def embedding_dim(self) -> int:
        """Width of the image embedding that conditions the UNet."""
        return self.pipeline.image_encoder.config.projection_dim

    @property
    def maximum_level(self) -> int:
        """Last index of the image-noising schedule."""
        if self.mode == "txt":
            return 0
        return self.pipeline.image_noising_scheduler.config.num_train_timesteps - 1

    @cached_property
    def scheduler_config(self) -> dict:
        """Class and settings of the scheduler, as JSON can hold them."""
        return json.loads(self.pipeline.scheduler.to_json_string())


def default_model(mode: str) -> str:
    """The shipped model of a mode."""
    return "small/text2image" if mode == "txt" else "small/unclip"


def directory(view: ViewSet) -> Path:
    """The pipeline's directory on this machine; a hub id is found in the hub's cache.

    Raises:
        GenviewError: neither a directory nor in the cache.
    """
    return models.folder(view.model or default_model(view.mode), "model_index.json", view.revision)


def digest(folder: Path, variant: str | None) -> str:
    """Digest of everything of a pipeline that images depend on: weights, configurations, tokenizer files."""
    components = sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "safety_checker")
    files = [folder / "model_index.json"]
    for component in components:
        texts = [path for path in component.iterdir() if path.suffix in (".json", ".txt") and "index" not in path.name]
        files += sorted(texts) + models.weight_files(component, variant)
    return provenance.digest([(path.relative_to(folder).as_posix(), provenance.file_sha256(path)) for path in files])


def _check_class(folder: Path, mode: str) -> None:
    try:
        found = json.loads((folder / "model_index.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise GenviewError(f"{folder}: not a diffusers pipeline: no readable model_index.json") from error
    if found == CLASSES[mode].__name__:
        return
    reason = (
        "it has no image embedding to add noise to, so it knows no noise level"
        if mode != "txt"
        else "it cannot be driven by text alone"
    )
    raise GenviewError(
        f"{folder}: a {found}; mode {mode!r} needs a {CLASSES[mode].__name__}: {reason}. Choose another model or mode"
    )


def _check_sha256(folder: Path, view: ViewSet) -> None:
    if not view.sha256:
        return
    files = models.weight_files(folder / "unet", view.variant)
    found = [provenance.file_sha256(file) for file in files]
    if found != [view.sha256]:
        names = ", ".join(f"{file.name}: {value}" for file, value in zip(files, found)) or "no file"
        raise GenviewError(f"{folder}/unet: SHA-256 is not the expected {view.sha256}: {names}; fetch the weights anew")


def _scheduler(name: str, current: SchedulerMixin) -> SchedulerMixin:
    known = [other.__name__ for other in current.compatibles if other.__name__ not in REFUSED_SCHEDULERS]
    if name not in known:
        hint = words.nearest(name, known) or f"; there are {', '.join(sorted(known))}"
        if name in REFUSED_SCHEDULERS:
            hint = "; its noise depends on the batch, so images could not be repeated; choose another"
        raise GenviewError(f"scheduler {name!r} is not one that fits this pipeline{hint}")
    return getattr(diffusers, name).from_config(current.config)


def load(view: ViewSet, device: torch.device) -> LoadedPipeline:
    """Load the pipeline of a view set, check it, and put it on a device.

    Raises:
        GenviewError: not found, another class than the mode needs, another SHA-256, an unknown scheduler, a size that
            does not fit.
    """
    folder = directory(view)
    _check_class(folder, view.mode)
    _check_sha256(folder, view)
    dtype = placement.DTYPES[placement.precision(view.precision, device, f"view sets by {view.model or folder.name}")]
    options = {"safety_checker": None, "requires_safety_checker": False} if view.mode == "txt" else {}
    diffusers.utils.logging.set_verbosity_error()
    try:
        pipeline = CLASSES[view.mode].from_pretrained(
            folder, variant=view.variant, dtype=dtype, local_files_only=True, **options
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise GenviewError(f"{folder}: cannot be loaded as a {CLASSES[view.mode].__name__}: {error}") from error
    if view.scheduler:
        pipeline.scheduler = _scheduler(view.scheduler, pipeline.scheduler)
    if view.mode != "txt":
        _check_noise_support(folder, pipeline)
    size = view.image_size or pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    if size % pipeline.vae_scale_factor:
        raise GenviewError(f"image_size {size} is not a multiple of {pipeline.vae_scale_factor}, as {folder} needs")
    _tune(pipeline, view, device)
    name = view.model or default_model(view.mode)
    return LoadedPipeline(
        pipeline=pipeline,
        device=device,
        dtype=dtype,
        mode=view.mode,
        model=Path(name).name if Path(name).is_absolute() else name,
        weights=digest(folder, view.variant),
        size=size,
    )


def _check_noise_support(folder: Path, pipeline: StableUnCLIPImg2ImgPipeline) -> None:
    width = pipeline.image_encoder.config.projection_dim
    expected = pipeline.unet.config.projection_class_embeddings_input_dim
    if pipeline.unet.config.class_embed_type != "projection" or expected != 2 * width:
        raise GenviewError(
            f"{folder}: the UNet takes no noised image embedding: it should project 2 x {width} values (embedding and "
            f"noise level), but has class_embed_type {pipeline.unet.config.class_embed_type!r} with {expected}"
        )


def _tune(pipeline: DiffusionPipeline, view: ViewSet, device: torch.device) -> None:
    """Device, evaluation mode, memory layout and compilation; none of it changes what is computed."""
    pipeline.to(device)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval().requires_grad_(False)
    if device.type == "cuda":
        # The choice of a kernel by a stopwatch would make the result depend on the day.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    if view.attention_slicing:
        pipeline.enable_attention_slicing()
    if view.compile:
        _compile_privately()
        pipeline.unet.compile(dynamic=False)
        pipeline.vae.decoder.compile(dynamic=False)


@cache
def _compile_privately() -> None:
    """Give this process a cache of compiled code of its own: a job killed while compiling leaves files cut short in
    the shared one, at which every later job would fail.
    """
    folder = tempfile.mkdtemp(prefix="genview-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # torch itself sets the shared one when it is imported
