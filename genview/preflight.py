"""What would stop a study later, found before anything is computed; nothing heavy is imported.

Each check belongs to a stage, named as its rules' file, so that a run that needs only some stages is not kept by
others.
"""

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genview import tables
from genview.config.dataset import Dataset
from genview.config.study import Study
from genview.config.training import Run
from genview.errors import GenviewError
from genview.evaluation import catalogue
from genview.models import load as models
from genview.report import wording

HUB_PREFIX = "hf-hub:"
BYTES_PER_PIXEL = 0.5
"""JPEG at quality 95 takes about so much; natural images of 256 pixels a side come to about 30 kB."""
BYTES_PER_SCORE_ROW = 5000
"""Token scores and embedding of an image by a ViT-H-14; smaller for smaller encoders."""
USUAL_SIDE = 768
"""Pixels a side where a pipeline's own size is not stated: the largest of the published ones."""


class Problem(NamedTuple):
    """Something that would stop a stage, and what to do."""

    stage: str
    text: str


def problems(study: Study) -> list[Problem]:
    """Everything that would stop the study, in the order of its stages."""
    found: list[Problem] = []
    for check in CHECKS:
        found.extend(check(study))
    return found


def require(study: Study, stages: set[str] | None = None) -> None:
    """Stop with one message that lists everything wrong.

    Args:
        study: the study.
        stages: the stages that are going to run; None: all.

    Raises:
        GenviewError: there is a problem in one of the stages.
    """
    found = [problem for problem in problems(study) if stages is None or problem.stage in stages]
    if found:
        lines = "\n".join(f"  - {problem.stage}: {problem.text}" for problem in found)
        raise GenviewError(f"the study {study.study!r} cannot run, {wording.plural(len(found), 'problem')}:\n{lines}")


def manifest_of(study: Study) -> Path | None:
    """The study's manifest if it was made already."""
    file = Path(study.results) / study.study / "data/manifest.parquet"
    return file if file.is_file() else None


def images_of(study: Study) -> int | None:
    """How many images the study has, where that is known before they are read."""
    if study.dataset.source == "scenes":
        return study.dataset.count or 1000
    file = manifest_of(study)
    return pq.read_metadata(file).num_rows if file else None


def _dataset(study: Study) -> Iterator[Problem]:
    dataset = study.dataset
    for name, path in (
        ("path", dataset.path),
        ("image_root", dataset.image_root),
        ("exclude", dataset.exclude),
    ):
        if path and not Path(path).expanduser().exists():
            yield Problem("data", f"dataset.{name}: {path} does not exist")
    columns = _table_columns(dataset)
    if columns is not None and "image" not in columns:
        yield Problem("data", f"dataset.path: {dataset.path} has no column 'image'; it has {', '.join(columns)}")


def _table_columns(dataset: Dataset) -> list[str] | None:
    """Header of the dataset's table; None where there is none to read."""
    if dataset.source != "table" or not Path(dataset.path).is_file():
        return None
    path = Path(dataset.path)
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path).names
        with open(path, newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","), [])
    except (OSError, ValueError) as error:
        raise GenviewError(f"dataset.path: {path}: {error}") from error


def _caption_users(study: Study) -> Iterator[tuple[str, str]]:
    """Stage and key of what cannot do without captions."""
    for name, view in study.views.items():
        if view.mode != "img":
            yield "generation", f"views.{name}"
    for name, run in study.runs.items():
        if run.method == "genviewpp" and _reads_text(run):
            yield "training", f"runs.{name}.loss"


def _reads_text(run: Run) -> bool:
    used = [run.loss.early] if run.loss.switch_epoch is None else [run.loss.early, run.loss.later]
    return any(block.image_text or block.image_text_quality for block in used)


def _captions(study: Study) -> Iterator[Problem]:
    users = list(_caption_users(study))
    if not users:
        return
    columns, file = _table_columns(study.dataset), manifest_of(study)
    if columns is not None and study.dataset.caption_column not in columns:
        text = f"{study.dataset.path} has no column {study.dataset.caption_column!r} (dataset.caption_column)"
    elif study.dataset.source == "folder" and _has_no_texts(Path(study.dataset.path)):
        text = f"there is no .txt file beside the images in {study.dataset.path}"
    elif file and (missing := _without_caption(file)):
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        have = "has" if len(missing) == 1 else "have"
        text = f"{wording.plural(len(missing), 'image')} {have} none: {shown}"
    else:
        return
    for stage, key in users:
        yield Problem(stage, f"{key} needs captions, but {text}")


def _has_no_texts(folder: Path) -> bool:
    return folder.is_dir() and next(folder.rglob("*.txt"), None) is None


def _without_caption(manifest: Path) -> list[str]:
    table = tables.read(manifest, tables.MANIFEST, ["key", "caption"])
    return table.filter(pc.is_null(table["caption"]))["key"].to_pylist()


def _weights(study: Study) -> Iterator[Problem]:
    used = {"foreground": {study.foreground.encoder}, "training": set(), "generation": set(study.audit.encoders)}
    if any(_weighs_quality(run) for run in study.runs.values()):
        used["training"].add(study.quality_encoder)
    for stage, names in used.items():
        for name in sorted(names):
            encoder = study.encoders[name]
            if encoder.model.startswith(HUB_PREFIX) or "/" in encoder.model:
                reason = _absent(encoder.model, "open_clip_config.json", encoder.revision)
                if reason:
                    yield Problem(stage, f"encoders.{name}.model: {reason}")
            if encoder.pretrained and "/" in encoder.pretrained and not Path(encoder.pretrained).is_file():
                yield Problem(stage, f"encoders.{name}.pretrained: no file {encoder.pretrained}")
    for name, view in study.views.items():
        model = view.model or ("small/text2image" if view.mode == "txt" else "small/unclip")
        reason = _absent(model, "model_index.json", view.revision)
        if reason:
            yield Problem("generation", f"views.{name}.model: {reason}")
    guidance = study.guidance
    if guidance.backend.endswith("language_model") and not guidance.given and guidance.strategy == "adaptive":
        reason = _absent(guidance.model, "config.json", guidance.revision)
        if reason:
            yield Problem("guidance", f"guidance.model: {reason}")
    if study.pca.vector and not Path(study.pca.vector).is_file():
        yield Problem("foreground", f"pca.vector: no file {study.pca.vector}")


def _weighs_quality(run: Run) -> bool:
    used = [run.loss.early] if run.loss.switch_epoch is None else [run.loss.early, run.loss.later]
    return run.method == "simclr" or any(block.image_image_quality or block.image_text_quality for block in used)


def _absent(model: str, file: str, revision: str | None) -> str | None:
    """Why a model cannot be loaded from here; None if it is shipped, a local path, or in the hub's cache."""
    name = model.removeprefix(HUB_PREFIX)
    try:
        if Path(models.resolve(name)).exists():
            return None
    except GenviewError as error:
        return str(error)
    hub_like = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if hub_like and isinstance(huggingface_hub.try_to_load_from_cache(name, file, revision=revision), str):
        return None
    if name.startswith("stabilityai/stable-diffusion-2"):
        return f"{name} was removed from the hub in 2025: give a path to a copy, or a mirror"
    if not hub_like:
        return f"{name} does not exist"
    at = f" --revision {revision}" if revision else ""
    return f"{name} is neither a path nor in the hub's cache; a model of the hub is fetched by: hf download {name}{at}"


def _given(study: Study) -> Iterator[Problem]:
    for stage, key, path in (
        ("foreground", "foreground.given", study.foreground.given),
        ("foreground", "noise_level.given", study.noise_level.given),
        ("guidance", "guidance.given", study.guidance.given),
    ):
        if path and not Path(path).is_file():
            yield Problem(stage, f"{key}: no file {path}")


def _evaluation(study: Study) -> Iterator[Problem]:
    block = study.evaluation
    asked = {
        name: task
        for task in ("probe", "zeroshot", "retrieval")
        for name in getattr(block, task).datasets
    }  # fmt: skip
    for name, task in asked.items():
        local = block.datasets.get(name)
        if local is not None:
            if local.kind in ("image_folder", "table") and not (local.path and Path(local.path).exists()):
                yield Problem("evaluation", f"evaluation.datasets.{name}.path: {local.path} does not exist")
            continue
        if task == "retrieval" or (task == "zeroshot" and name not in catalogue.ENTRIES):
            continue  # clip_benchmark's own names
        try:
            entry, place = catalogue.find(name), catalogue.location(name, block.root)
        except GenviewError as error:
            yield Problem("evaluation", f"evaluation.{task}.datasets: {error}")
            continue
        if place is not None and not place.exists() and not (block.download and entry.downloadable):
            hint = "; or set evaluation.download" if entry.downloadable else ""
            yield Problem("evaluation", f"evaluation.{task}.datasets: {name} is not at {place}{hint}")


def _space(study: Study) -> Iterator[Problem]:
    images = images_of(study)
    if images is None:
        return
    folder = Path(study.results).absolute()
    while not folder.exists():
        folder = folder.parent
    needed = images * BYTES_PER_SCORE_ROW
    for view in study.views.values():
        side = view.save_size or view.image_size or (32 if view.model is None else USUAL_SIDE)
        needed += images * view.samples * BYTES_PER_PIXEL * side**2
    free = shutil.disk_usage(folder).free
    made = sum(file.stat().st_size for file in (folder / study.study).glob("views/*/*.tar"))
    if needed - made > free:
        text = f"about {wording.size(needed - made)} are needed in {study.results}, {wording.size(free)} are free"
        yield Problem("generation", text)


def _shards(study: Study) -> Iterator[Problem]:
    images = images_of(study)
    if images is None:
        return
    for name, run in study.runs.items():
        batch = run.batch_size * run.processes * run.nodes
        if batch > images:
            text = (
                f"a batch of {batch} ({run.batch_size} x {run.processes * run.nodes}) needs more than {images} images"
            )
            yield Problem("training", f"runs.{name}.batch_size: {text}")


def visible_gpus() -> int:
    """NVIDIA GPUs that this process may use, told without loading a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()]
    return len(devices) if visible is None else min(len(devices), len([part for part in visible.split(",") if part]))


def _processors(study: Study) -> Iterator[Problem]:
    gpus = visible_gpus()
    for name, run in study.runs.items():
        if 0 < gpus < run.processes and run.nodes == 1:
            yield Problem(
                "training", f"runs.{name}.processes: {run.processes} processes, but this machine has {gpus} GPUs"
            )


CHECKS: tuple[Callable[[Study], Iterator[Problem]], ...] = (
    _dataset,
    _captions,
    _weights,
    _given,
    _shards,
    _space,
    _evaluation,
    _processors,
)
