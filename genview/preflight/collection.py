"""Checks of the user's images, captions and given tables."""

import glob
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq

from genview.config.dataset import Dataset
from genview.config.study import Study
from genview.data import ingest, look
from genview.data import manifest as manifests
from genview.errors import GenviewError
from genview.preflight.problem import Problem
from genview.report import wording


def manifest_of(study: Study) -> Path | None:
    """The study's manifest if it was made already."""
    file = Path(study.results) / study.study / "data/manifest.parquet"
    return file if file.is_file() else None


def images_of(study: Study) -> int | None:
    """How many images the study has, or at most has, where that is known before they are read."""
    file = manifest_of(study)
    if file and study.dataset.source != "scenes":
        return pq.read_metadata(file).num_rows
    seen = first_look(study)
    return seen.images if seen else study.dataset.count


def first_look(study: Study) -> look.Look | None:
    """A first look at the collection; None where it finds what would stop ingestion."""
    try:
        return _looked(study.dataset)
    except GenviewError:
        return None


@lru_cache(maxsize=1)
def _looked(dataset: Dataset) -> look.Look:
    return look.look(dataset)


def paths(study: Study) -> Iterator[Problem]:
    """Paths that are not there, and what ingestion would stop at."""
    dataset = study.dataset
    missing = False
    for name, path in (
        ("path", dataset.path),
        ("image_root", dataset.image_root),
        ("exclude", dataset.exclude),
    ):
        if path and not glob.has_magic(path) and not Path(path).exists():
            missing = True
            yield Problem("data", f"dataset.{name}: {path} does not exist")
    if missing:
        return
    _looked.cache_clear()
    try:
        look.glance(dataset) if manifest_of(study) else _looked(dataset)
        if dataset.exclude:
            ingest.excluded(dataset.exclude)
    except GenviewError as error:
        yield Problem("data", f"dataset.path: {error}")


def told(study: Study) -> str | None:
    """How the columns of a table are understood, for a person to see."""
    seen = None if manifest_of(study) else first_look(study)
    return seen.told if seen else None


def captions(study: Study) -> Iterator[Problem]:
    """Views and losses that need captions of a collection that has none, or not for every image."""
    users = list(_caption_users(study))
    if not users:
        return
    file = manifest_of(study)
    if file:
        missing = manifests.without_caption(file)
        if not missing.count:
            return
        shown = ", ".join(missing.first[:3]) + (", ..." if missing.count > 3 else "")
        have = "has" if missing.count == 1 else "have"
        text = f"{wording.plural(missing.count, 'image')} {have} none: {shown}"
    else:
        seen = first_look(study)
        if seen is None or seen.uncaptioned is None:
            return
        text = seen.uncaptioned
    for stage, key in users:
        yield Problem(stage, f"{key} needs captions, but {text}")


def _caption_users(study: Study) -> Iterator[tuple[str, str]]:
    """Stage and key of what cannot do without captions."""
    for name, view in study.views.items():
        if view.mode != "img":
            yield "generation", f"views.{name}"
    for name, run in study.runs.items():
        if run.uses_text:
            yield "training", f"runs.{name}.method"


def given(study: Study) -> Iterator[Problem]:
    """Given tables of conditions that are not there."""
    for stage, key, path in (
        ("foreground", "foreground.given", study.foreground.given),
        ("conditions", "noise_level.given", study.noise_level.given),
        ("conditions", "guidance.given", study.guidance.given),
    ):
        if path and not Path(path).is_file():
            yield Problem(stage, f"{key}: no file {path}")
