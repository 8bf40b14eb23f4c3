"""Checks of the user's images, captions and given tables."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from genview import tables
from genview.config.dataset import Dataset
from genview.config.study import Study
from genview.errors import GenviewError
from genview.preflight.problem import Problem
from genview.report import wording


def manifest_of(study: Study) -> Path | None:
    """The study's manifest if it was made already."""
    file = Path(study.results) / study.study / "data/manifest.parquet"
    return file if file.is_file() else None


def images_of(study: Study) -> int | None:
    """How many images the study has, or at most has, where that is known before they are read."""
    dataset, file = study.dataset, manifest_of(study)
    if dataset.source == "scenes":
        return dataset.count or 1000
    if file:
        return pq.read_metadata(file).num_rows
    if dataset.source == "table" and Path(dataset.path).is_file():
        return min(_rows(Path(dataset.path)), dataset.count or 2**63)
    return dataset.count


def _rows(table: Path) -> int:
    """Rows of a table; of a text file, its lines without the header: at least as many."""
    if table.suffix == ".parquet":
        return pq.read_metadata(table).num_rows
    with open(table, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1


def paths(study: Study) -> Iterator[Problem]:
    """Folders and tables that are not there, or without the column of images."""
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


def captions(study: Study) -> Iterator[Problem]:
    """Views and losses that need captions of a collection that has none, or not for every image."""
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


def _caption_users(study: Study) -> Iterator[tuple[str, str]]:
    """Stage and key of what cannot do without captions."""
    for name, view in study.views.items():
        if view.mode != "img":
            yield "generation", f"views.{name}"
    for name, run in study.runs.items():
        if run.uses_text:
            yield "training", f"runs.{name}.loss"


def _has_no_texts(folder: Path) -> bool:
    return folder.is_dir() and next(folder.rglob("*.txt"), None) is None


def _without_caption(manifest: Path) -> list[str]:
    table = tables.read(manifest, tables.MANIFEST, ["key", "caption"])
    return table.filter(pc.is_null(table["caption"]))["key"].to_pylist()


def given(study: Study) -> Iterator[Problem]:
    """Given tables of conditions that are not there."""
    for stage, key, path in (
        ("foreground", "foreground.given", study.foreground.given),
        ("conditions", "noise_level.given", study.noise_level.given),
        ("conditions", "guidance.given", study.guidance.given),
    ):
        if path and not Path(path).is_file():
            yield Problem(stage, f"{key}: no file {path}")
