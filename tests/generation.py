"""A small study up to generation: drawn scenes, their manifest, conditions and embeddings, for tests of generation."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from genview import parquet, tables
from genview.config.views import ViewSet
from genview.data import manifest, scenes
from genview.data.reader import Reader
from genview.generation import embeddings, pipelines, views

STAMP = {"stage": "test", "study": "test", "parameters": "p", "code": "c"}
LEVELS = (0, 100, 200, 300, 400)
SCALES = (8.0, 6.0, 4.0, 2.0)


def write_originals(folder: Path, keys: list[str], shards: int) -> pa.Table:
    """Draw a scene for each key, write ``images.tar`` and ``manifest.parquet``, and return the manifest."""
    rows = []
    with tarfile.open(folder / "images.tar", "w") as tar:
        for index, key in enumerate(keys):
            drawn = scenes.scene(index, seed=7)
            buffer = io.BytesIO()
            Image.fromarray(drawn.image).save(buffer, "PNG")
            header = tarfile.TarInfo(f"{index}.png")
            header.size = len(buffer.getvalue())
            offset = tar.offset + 512
            tar.addfile(header, io.BytesIO(buffer.getvalue()))
            rows.append({
                "key": key, "path": "images.tar", "offset": offset, "length": header.size, "caption": drawn.caption,
                "label": None, "width": 32, "height": 32, "sha256": "0" * 64, "foreground_share": None,
                "attributes": None,
            })  # fmt: skip
    schema = pa.schema([field for field in tables.MANIFEST if field.name != "shard"])
    table = manifest.assemble(pa.Table.from_pylist(rows, schema), shards)
    parquet.write(table, tables.MANIFEST, folder / "manifest.parquet", **STAMP, shards=str(shards))
    return table


def write_conditions(folder: Path, table: pa.Table, **columns: list) -> Path:
    """Write conditions that go through the levels and scales; ``columns`` replaces whole columns."""
    count = len(table)
    values = {
        "key": table["key"].to_pylist(),
        "caption": table["caption"].to_pylist(),
        "noise_level": [LEVELS[len(key) % 5] for key in table["key"].to_pylist()],
        "guidance_scale": [SCALES[len(key) % 4] for key in table["key"].to_pylist()],
        "noise_level_from": ["adaptive"] * count,
        "guidance_scale_from": ["adaptive"] * count,
    } | columns
    path = folder / "conditions.parquet"
    parquet.write(values, tables.CONDITIONS, path, **STAMP)
    return path


def write_scores(folder: Path, table: pa.Table, shards: int, view: ViewSet) -> None:
    """Write the foreground pass's shards with the pipeline's own embeddings."""
    loaded = pipelines.load(view, torch.device("cpu"))
    reader = Reader(folder)
    pictures = [reader.image(row["path"], row["offset"], row["length"]) for row in table.to_pylist()]
    vectors = embeddings.encode(loaded, embeddings.processed(loaded, pictures), 8)
    for index in range(shards):
        chosen = np.flatnonzero(table["shard"].to_numpy() == index)
        values = {
            "key": table["key"].take(chosen).to_pylist(),
            "scores": [np.zeros(4, np.float16)] * len(chosen),
            "embedding": list(vectors[chosen]),
        }
        parquet.write(values, tables.SCORES, folder / f"scores-{index}-of-{shards}.parquet", **STAMP)


def job(folder: Path, view: ViewSet, name: str, out: Path, **changes) -> views.Shard:
    """The job of one shard of that study."""
    scores = folder / f"scores-{name}.parquet"
    values = {
        "name": "test", "view": view, "shard": name, "seed": 3, "manifest": folder / "manifest.parquet",
        "conditions": folder / "conditions.parquet", "root": folder,
        "scores": scores if scores.exists() and view.mode != "txt" else None,
        "tar": out / f"{name}.tar", "index": out / f"{name}.parquet", "statistics": out / "logs" / f"{name}.json",
        "work": out / ".work", "stamp": STAMP,
    }  # fmt: skip
    return views.Shard(**(values | changes))
