"""A collection of JPEGs of any size for benchmarks: drawn scenes with grain, packed in a tar with a manifest."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from genview import parquet, tables
from genview.data import manifest, scenes, tars

STAMP = {"stage": "benchmark", "study": "benchmark", "parameters": "", "code": ""}


def jpeg(index: int, size: tuple[int, int], quality: int = 90) -> bytes:
    """A drawn scene of (width, height); grain gives the file the length of a photograph's."""
    drawn = np.asarray(Image.fromarray(scenes.scene(index, seed=11, size=256).image).resize(size), np.float32)
    grain = np.random.default_rng(index).normal(0, 6, drawn.shape[:2])[..., None]
    buffer = io.BytesIO()
    Image.fromarray((drawn + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write(folder: Path, count: int, size: tuple[int, int], distinct: int = 64) -> pa.Table:
    """``images.tar`` and ``manifest.parquet`` of ``count`` images; ``distinct`` are drawn and the rest are copies."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [jpeg(index, size) for index in range(min(distinct, count))]
    rows = []
    with tars.writing(folder / "images.tar") as tar:
        for index in range(count):
            data = drawn[index % len(drawn)]
            rows.append({
                "key": f"{index:06}", "path": "images.tar", "offset": tar.add(f"{index:06}.jpg", data),
                "length": len(data), "caption": scenes.scene(index % len(drawn), seed=11).caption,
                "width": size[0], "height": size[1], "sha256": "0" * 64,
            })  # fmt: skip
    schema = pa.schema([field for field in tables.MANIFEST if field.name != "shard"])
    rows = [{**dict.fromkeys(schema.names), **row} for row in rows]
    listed = manifest.assemble(pa.Table.from_pylist(rows, schema), 1)
    parquet.write(listed, tables.MANIFEST, folder / "manifest.parquet", **STAMP, shards="1")
    return listed
