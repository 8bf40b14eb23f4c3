"""From a job to its parts: data, quality encoder, method."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from genview import randomness
from genview.config.methods import DIVA as DivaSettings
from genview.config.training import Run
from genview.data import reader as readers
from genview.encoders import build, look
from genview.encoders.architecture import Architecture, describe
from genview.errors import GenviewError
from genview.foreground import pca
from genview.training.data import composition, index
from genview.training.data.index import Index
from genview.training.data.precomputed import PrecomputedQuality
from genview.training.data.samples import Form, Samples
from genview.training.job import Job
from genview.training.loop import batchnorm
from genview.training.loop.watched import Watched
from genview.training.methods.anchored import Anchored
from genview.training.methods.dino import DINO
from genview.training.methods.diva import DIVA
from genview.training.methods.genviewpp import GenViewPlusPlus
from genview.training.methods.method import Method
from genview.training.methods.mocov2 import MoCoV2
from genview.training.methods.siamese import BYOL, MoCoV3, SimSiam
from genview.training.methods.simclr import SimCLR
from genview.training.methods.swav import SwAV
from genview.training.scoring import Scorer

if TYPE_CHECKING:
    from genview.diva.teacher import Teacher

logger = logging.getLogger("genview")

METHODS: dict[str, type[Method]] = {
    "genviewpp": GenViewPlusPlus,
    "simclr": SimCLR,
    "mocov2": MoCoV2,
    "mocov3": MoCoV3,
    "simsiam": SimSiam,
    "byol": BYOL,
    "swav": SwAV,
    "dino": DINO,
    "clever": DINO,
}


@dataclass
class Assembly:
    """What the loop works with."""

    architecture: Architecture
    samples: Samples
    method: Method
    seed: int
    missing_views: dict[str, int]
    """View set -> images that it lacks; the original stands in for them."""
    watched: Watched | None = None
    made_of: dict[str, str] = field(default_factory=dict)
    """Digests of models that the run learns from, beside what the job names."""


def _check_captions(rows, run: Run) -> None:
    without = pc.sum(pc.is_null(rows["caption"])).as_py() or 0
    if run.uses_text and without:
        example = rows["key"].filter(pc.is_null(rows["caption"]))[0].as_py()
        raise GenviewError(
            f"{without} of {len(rows)} images have no caption (the first: {example!r}), and the image-text terms need "
            "one each; set method.early and method.later image_text and image_text_quality to 0, or give captions"
        )


def _check_views(found: Index, run: Run) -> None:
    for name, views in found.views.items():
        if views.missing:
            rows = views.first_missing(3)
            examples = ", ".join(found.rows["key"][row].as_py() for row in rows)
            total = len(found.rows)
            text = f"view set {name}: {views.missing} images are missing, of {total} originals ({examples}, ...)"
            if run.data.missing == "refuse":
                raise GenviewError(f"{text}; generate them, or set data.missing to original")
            logger.warning("%s; the original stands in for them", text)


def _scorer(job: Job, preprocess: dict, device: torch.device) -> Scorer | None:
    if not job.run.uses_quality:
        return None
    if job.quality is None:
        raise GenviewError(f"run {job.name}: its loss has quality weights, but no quality encoder is given")
    encoder = look.load(job.quality.encoder, device)
    component = torch.as_tensor(np.asarray(pca.load(job.quality.component).component))
    return Scorer(encoder, component, preprocess["mean"], preprocess["std"])


def _teacher(job: Job, device: torch.device) -> "Teacher | None":
    method = job.run.method
    if not isinstance(method, DivaSettings):
        return None
    if job.initial is None:
        raise GenviewError(f"run {job.name}: method diva corrects an encoder that was trained before: model.initial")
    from genview.diva.teacher import Teacher  # brings diffusers; only where it is asked for

    return Teacher(method.teacher, method.condition.prompt, device)


def _watched(job: Job, reader: readers.Reader, architecture: Architecture, seed: int) -> Watched:
    preprocess = PreprocessCfg(**{**architecture.preprocess_cfg, "size": architecture.image_size})
    transform = image_transform_v2(preprocess, is_train=False)
    assert job.run.watch is not None
    return Watched(job.run.watch, job.manifest, reader.image, transform, seed)


def prepare(job: Job) -> None:
    """Write the run's index, once for all of its processes.

    Raises:
        GenviewError: views are not those of the manifest.
    """
    index.write(Path(job.index), job.manifest, {name: job.views[name] for name in job.run.data.views})


def assemble(job: Job, device: torch.device) -> Assembly:
    """Open the data, load the quality encoder, build the method; nothing is read of the images yet.

    The run's index was written before (`prepare`).

    Raises:
        GenviewError: captions, views or quality features are missing or do not belong to these images.
    """
    run = job.run
    seed = randomness.seed("training", job.seed, run.seed)
    found = Index(Path(job.index), {name: job.views[name] for name in run.data.views})
    rows = found.rows
    _check_captions(rows, run)
    _check_views(found, run)
    crops = composition.augmentations(run.data)
    settings = crops[0]
    teacher = _teacher(job, device)
    architecture = describe(
        run.model,
        text=run.uses_text,
        image_size=None if teacher else settings.image_size,  # of a diffusion model's views the tower sees its own size
        initial=job.initial,
        several_sizes=len({crop.image_size for crop in crops}) > 1,
    )
    preprocess = architecture.preprocess_cfg
    preprocess.update(mean=list(settings.mean or preprocess["mean"]), std=list(settings.std or preprocess["std"]))
    precomputed = None
    if run.uses_text_quality and job.quality:
        precomputed = PrecomputedQuality(job.quality.features, rows["key"])
    samples = Samples(
        rows,
        readers.Reader(readers.data_root(job.dataset, job.manifest), maximum_pixels=job.dataset.maximum_pixels),
        found.views,
        run.data,
        Form(
            image_size=teacher.size if teacher else architecture.image_size,
            mean=preprocess["mean"],
            std=preprocess["std"],
            clean=run.method.scores_clean(run.epochs),
        ),
        seed=seed,
        tokenizer=architecture.tokenizer() if run.uses_text else None,
        quality=precomputed,
    )
    encoder = build.build(
        architecture, run.model, seed=randomness.seed("weights", seed), projection=run.method.trains_projection
    )
    if run.cached_chunk and batchnorm.has_batchnorm(encoder.visual):
        raise GenviewError(
            f"cached_chunk: architecture {run.model.architecture!r} has BatchNorm, whose statistics would be those of "
            "a chunk and not of the batch; take an architecture without it, or no cached_chunk"
        )
    if run.activation_checkpointing:
        (encoder if architecture.has_text else encoder.visual).set_grad_checkpointing(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.seed("heads", seed))
        if teacher:
            method: Method = DIVA(run, encoder, teacher, preprocess, image_size=architecture.image_size, seed=seed)
        else:
            method = METHODS[run.method.name](run, encoder, _scorer(job, preprocess, device))
        if run.model.anchor:
            method = Anchored(method, run.model.anchor)
    missing = {name: views.missing for name, views in found.views.items()}
    made_of = {"diffusion model": teacher.weights} if teacher else {}
    watched = _watched(job, samples.reader, architecture, seed) if run.watch else None
    return Assembly(architecture, samples, method, seed, missing, watched, made_of)
