"""Checks of where the study runs: its folder, its disk, its GPUs, and batches that its images can fill."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from genview import shared_gpus
from genview.config.study import Study
from genview.config.training import Run
from genview.config.views import ViewSet
from genview.models import load as models
from genview.preflight.collection import images_of
from genview.preflight.problem import EVERY_STAGE, Problem
from genview.report import wording

BYTES_PER_PIXEL = 0.5
"""JPEG at quality 95 takes about so much; natural images of 256 pixels a side come to about 30 kB."""
BYTES_PER_VIEW = 3000
"""What a view takes beside its JPEG: its JSON, the tar's headers, its row of the index."""
BYTES_PER_SCORE_ROW = 5000
"""Token scores and embedding of an image by a ViT-H-14; smaller for smaller encoders."""
BYTES_PER_SAMPLE = 256 * 1280 * 2
"""Patch tokens of an image of the component's sample by a ViT-H-14, in half precision."""
USUAL_SIDE = 768
"""Pixels a side where a pipeline's own size is not stated: the largest of the published ones."""
PARAMETERS = {"tiny": 0.65e6, "small": 107e6, "base": 171e6, "base_p32": 173e6, "large": 390e6}
"""Parameters of a run's encoder and projector, by its architecture."""


def results(study: Study) -> Iterator[Problem]:
    """A folder of results that cannot be written."""
    folder = _existing(Path(study.results) / study.study)
    if not folder.is_dir():
        yield Problem(EVERY_STAGE, f"results: {folder} is not a folder")
    elif os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield Problem(EVERY_STAGE, f"results: {folder} is on a read-only file system; choose another folder")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Problem(EVERY_STAGE, f"results: {folder} may not be written by this user; choose another folder")


def _existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def space(study: Study) -> Iterator[Problem]:
    """The first stage whose artifacts, with those of the stages before it, do not fit on the disk."""
    images = images_of(study)
    if images is None:
        return
    folder = Path(study.results) / study.study
    free = shutil.disk_usage(_existing(folder)).free
    trained = {name for name in study.runs if (folder / "runs" / name / "metrics.jsonl").is_file()}
    parts = {
        "foreground": (_bytes_of_foreground(study, images), ("foreground/*/scores/*", "foreground/*/tokens/*")),
        "generation": (sum(_bytes_of_views(view, images) for view in study.views.values()), ("views/*/*.tar",)),
        "training": (
            sum(_bytes_of_run(run) for name, run in study.runs.items() if name not in trained),
            [f"runs/{name}/checkpoints/*/*" for name in study.runs if name not in trained],
        ),
    }
    needed, shown = 0.0, []
    for stage, (amount, patterns) in parts.items():
        made = sum(file.stat().st_size for pattern in patterns for file in folder.glob(pattern) if file.is_file())
        left = max(amount - made, 0)
        needed += left
        shown.append(f"{stage} {wording.size(left)}")
        if needed > free:
            text = f"about {wording.size(needed)} are needed ({', '.join(shown)}), {wording.size(free)} are free"
            yield Problem(stage, f"{study.results}: {text}")
            return


def _bytes_of_foreground(study: Study, images: int) -> float:
    """Token scores and embeddings, and the tokens of the component's sample while it is fitted."""
    names = {study.foreground.encoder} | (
        {study.quality_encoder} if any(run.uses_quality for run in study.runs.values()) else set()
    )
    small = [study.encoders[name].model.startswith(models.PREFIX) for name in names]
    sample = sum(0 if is_small else min(study.pca.sample, images) * BYTES_PER_SAMPLE for is_small in small)
    return sample + images * (BYTES_PER_SCORE_ROW if not all(small) else 1000)


def _bytes_of_views(view: ViewSet, images: int) -> float:
    small = view.model is None or view.model.startswith(models.PREFIX)
    side = view.save_size or view.image_size or (32 if small else USUAL_SIDE)
    return images * view.samples * (BYTES_PER_VIEW + BYTES_PER_PIXEL * side**2)


def _bytes_of_run(run: Run) -> float:
    """Checkpoints (weights and two moments each; one more while it replaces the oldest) and the trained model."""
    parameters = PARAMETERS.get(run.model.architecture, PARAMETERS["base"])
    kept = run.checkpoints.keep + len(run.checkpoints.keep_epochs) + 1
    return 4 * parameters * (3 * kept + 1)


def batches(study: Study) -> Iterator[Problem]:
    """Steps that take more images than the collection has."""
    images = images_of(study)
    if images is None:
        return
    for name, run in study.runs.items():
        samples = run.batch_size * run.accumulate * run.world_size
        if samples > images:
            all_of_them = wording.plural(images, "image")
            text = f"a step takes {samples} samples (with accumulate and all GPUs) of {all_of_them} in the collection"
            yield Problem("training", f"runs.{name}.batch_size: {text}")


def processors(study: Study, gpus: int | None = None) -> Iterator[Problem]:
    """More GPUs than there are, or several nodes without a cluster.

    Args:
        study: the study.
        gpus: how many its jobs may use; None: all of this machine.
    """
    gpus = len(shared_gpus.visible()) if gpus is None else gpus
    for name, run in study.runs.items():
        if run.nodes > 1 and shutil.which("srun") is None:
            yield Problem("training", f"runs.{name}.nodes: {run.nodes} nodes need a cluster, and there is no srun here")
        if 0 < gpus < run.gpus and run.nodes == 1:
            text = f"{run.gpus} asked for, but the jobs of this machine share {wording.plural(gpus, 'GPU')}"
            yield Problem("training", f"runs.{name}.gpus_per_node: {text}")
