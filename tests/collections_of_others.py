"""Small collections as other tools write them, and their ingestion: for tests of what people really have."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from genview.config.dataset import Dataset
from genview.data import ingest, tars


def picture(seed: int, side: int = 16, kind: str = "PNG", **options: object) -> bytes:
    """An encoded picture that no other seed has."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def pictures(folder: Path, *names: str) -> Path:
    """A folder with a picture of each name."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(seed))
    return folder


def tar(path: Path, members: dict[str, bytes | str | object]) -> Path:
    """A tar of members; what is neither bytes nor text becomes JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tars.writing(path) as writer:
        for name, data in members.items():
            data = data if isinstance(data, (bytes, str)) else json.dumps(data)
            writer.add(name, data if isinstance(data, bytes) else data.encode())
    return path


def table(path: Path, rows: list[tuple], separator: str = ",") -> Path:
    """A delimited table; the first row is its header."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return path


class Taken:
    """What ingestion makes of a collection.

    Attributes:
        rows: by key.
        refused: reasons by what a person would look for.
    """

    def __init__(self, out: Path, **dataset: object):
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.dataset = out, Dataset(**{"maximum_rejects": 1.0, **dataset})
        files = {name: out / name for name in ("manifest.parquet", "rejected.parquet", "images.tar")}
        ingest.run(
            self.dataset,
            seed=1,
            manifest=files["manifest.parquet"],
            rejected=files["rejected.parquet"],
            images=files["images.tar"],
            stamp={"stage": "test"},
        )
        self.rows = {row["key"]: row for row in pq.read_table(files["manifest.parquet"]).to_pylist()}
        self.refused = {row["source"]: row["reason"] for row in pq.read_table(files["rejected.parquet"]).to_pylist()}

    def column(self, name: str) -> dict[str, object]:
        """A column by key."""
        return {key: row[name] for key, row in sorted(self.rows.items())}
