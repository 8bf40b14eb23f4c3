"""The artifacts of one study as the report reads them; what a study lacks is None or empty, never an error."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.numpy
from PIL import Image

from genview import parquet, provenance, tables
from genview.config import derived
from genview.config.dataset import Dataset
from genview.data import images, reader
from genview.data import manifest as manifests
from genview.data.keys import group_names, shard_names
from genview.evaluation.catalogue import file_name

Configuration = Mapping[str, Any]


def digest_order(keys: Iterable[str]) -> list[str]:
    """Keys in the order of their digests, so that nobody picks the examples."""
    return sorted(keys, key=provenance.digest)


class ByValue:
    """Counts the images of each value of a column, some rows at a time, and keeps the first keys of each."""

    KEPT = 5000

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self._keys: dict[Any, list[str]] = {}

    def add(self, rows: pa.Table, column: str) -> None:
        """Add rows with the columns key and ``column``; where this is null they are passed over."""
        rows = rows.select(["key", column]).filter(pc.is_valid(rows[column]))
        for value, count in ((found["values"], found["counts"]) for found in pc.value_counts(rows[column]).to_pylist()):
            self.counts[value] += count
            known = self._keys.setdefault(value, [])
            if len(known) < self.KEPT:
                keys = pc.unique(rows["key"].filter(pc.equal(rows[column], value)))
                known += keys.slice(0, self.KEPT - len(known)).to_pylist()

    def values(self, most: int | None = None) -> list[Any]:
        """The values in ascending order; at most ``most``, at equal steps."""
        values = sorted(self.counts)
        if most is None or len(values) <= most:
            return values
        return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]

    def examples(self, value: Any, count: int) -> list[str]:
        """At most ``count`` keys of a value, in the order of their digests."""
        return digest_order(self._keys[value])[:count]


EVALUATIONS = {
    "probes": "probe",
    "zeroshot": "zeroshot",
    "retrieval": "retrieval",
    "finetune": "finetune",
    "detection": "detection",
    "saliency": "saliency",
    "video": "video",
}
"""Folders of evaluations, and their blocks of the configuration."""

WITHOUT_TEST_SETS = ("detection", "saliency", "video")
"""Evaluations whose test images are not searched for among the study's."""


class Results:
    """A study's folder of results together with its effective configuration."""

    def __init__(self, folder: str | Path, configuration: Configuration) -> None:
        self.folder = Path(folder)
        self.configuration = configuration
        self.encoder = configuration["foreground"]["encoder"]
        self._reader: reader.Reader | None = None

    def json(self, path: str) -> dict[str, Any] | None:
        """A JSON artifact."""
        file = self.folder / path
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def lines(self, path: str) -> list[dict[str, Any]]:
        """The objects of a file of JSON lines."""
        file = self.folder / path
        if not file.is_file():
            return []
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]

    def table(self, path: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table | None:
        """A table, or some of its columns."""
        file = self.folder / path
        return parquet.read(file, schema, columns) if file.is_file() else None

    def pieces(self, path: str, schema: pa.Schema, columns: list[str]) -> Iterator[pa.Table]:
        """Columns of a table, some rows at a time; nothing where there is none."""
        file = self.folder / path
        return parquet.batches(file, schema, columns) if file.is_file() else iter(())

    def manifest(self, columns: list[str]) -> Iterator[pa.Table]:
        """Columns of the manifest, some rows at a time."""
        return self.pieces("data/manifest.parquet", tables.MANIFEST, columns)

    def images(self) -> int | None:
        """How many images the study has; None where there is no manifest."""
        file = self.folder / "data/manifest.parquet"
        return manifests.count(file) if file.is_file() else None

    def rows(self, path: str, schema: pa.Schema, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Some rows of a table with one row per key, by key."""
        file, keys = self.folder / path, list(keys)
        if not keys or not file.is_file():
            return {}
        found = parquet.with_keys(file, schema, pa.array(keys, pa.string()), schema.names)
        return {row["key"]: row for row in found.to_pylist()}

    def originals(self, keys: Iterable[str]) -> dict[str, Image.Image]:
        """Images of the study by key, upright RGB."""
        rows = self.rows("data/manifest.parquet", tables.MANIFEST, keys)
        if rows and self._reader is None:
            dataset = Dataset.model_validate(self.configuration["dataset"])
            self._reader = reader.Reader(reader.data_root(dataset, self.folder / "data/manifest.parquet"))
        return {key: self._reader.image(row["path"], row["offset"], row["length"]) for key, row in rows.items()}

    def shards(self, folder: str) -> list[Path]:
        """The tables in a folder of a sharded stage, in order; those of another number of shards lie there unused."""
        return self._existing(folder, shard_names(self.configuration["dataset"]["shards"]))

    def score_shards(self) -> list[Path]:
        """Tables of the token scores."""
        names = group_names(self.configuration["dataset"]["shards"])
        return self._existing(f"foreground/{self.encoder}/scores", names)

    def _existing(self, folder: str, names: Iterable[str]) -> list[Path]:
        files = (self.folder / folder / f"{name}.parquet" for name in names)
        return [file for file in files if file.is_file()]

    def evaluations(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """What was measured, by task, run and dataset, of what the configuration asks for.

        Results of datasets that were dropped from it are still there, of models that may have been trained anew since.
        """
        asked = self.configuration["evaluation"]
        found = {
            (task, run, name): record
            for task, block in EVALUATIONS.items()
            for run in self.evaluated()
            for name in sorted(asked.get(block, {}).get("datasets", ()))
            if (record := self.json(f"{task}/{run}/{file_name(name)}.json")) is not None
        }
        pairs = {run: self.json(f"mmvp/{run}.json") for run in self.evaluated() if asked.get("mmvp") is not None}
        found |= {("mmvp", run, record["dataset"]): record for run, record in pairs.items() if record is not None}
        by_part = asked.get("parts") or {"datasets": (), "parts": ()}
        return found | {
            ("parts", run, f"{name}.{part}"): record
            for run in self.evaluated()
            for name in by_part["datasets"]
            for part in by_part["parts"]
            if (record := self.json(f"probes/{run}/{file_name(name)}.{part}.json")) is not None
        }

    def evaluated(self) -> list[str]:
        """Names of what was evaluated: encoders of the configuration, what runs started from, then runs."""
        runs = self.configuration["runs"]
        before = [name for run in runs if (name := self.before(run)) and name not in runs]
        encoders = dict.fromkeys([*self.configuration["evaluation"].get("encoders", ()), *before])
        return [*encoders, *runs, *self.derived()]

    def derived(self) -> dict[str, derived.Derived]:
        """Models that follow from a run, by name."""
        return derived.of(self.configuration)

    def before(self, run: str) -> str | None:
        """Under which name the weights that a run started from were evaluated (`config.study.Study.before`)."""
        initial = self.configuration["runs"][run].get("model", {}).get("initial")
        if isinstance(initial, str):
            return initial
        if initial and "run" in initial and not initial.get("study"):
            return initial["run"]
        return f"{run}-before" if initial else None

    def duplicates(self) -> dict[str, dict[str, Any]]:
        """What was found of each test set among the study's images, by its name."""
        asked = self.configuration["evaluation"]
        blocks = [asked[block] for block in EVALUATIONS.values() if block not in WITHOUT_TEST_SETS]
        blocks.append(asked.get("parts") or {"datasets": ()})
        names = sorted({name for block in blocks for name in block["datasets"]})
        found = {name: self.json(f"evaluation/duplicates/{file_name(name)}.json") for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def score_batches(self, maximum: int) -> Iterator[tuple[list[str], np.ndarray]]:
        """Keys and oriented token scores ``[n, T]`` float32, shard by shard, of at most ``maximum`` images in all."""
        files, sign = self.score_shards(), self.sign()
        for file in files:
            table = parquet.read(file, tables.SCORES, ["key", "scores"]).slice(0, -(-maximum // len(files)))
            if table.num_rows:
                scores = table["scores"].combine_chunks()
                values = scores.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
                yield table["key"].to_pylist(), sign * values.reshape(table.num_rows, -1)

    def scores_of(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Oriented token scores ``[T]`` of some images."""
        wanted, found, sign = pa.array(list(keys), pa.string()), {}, self.sign()
        for file in self.score_shards():
            table = parquet.read(file, tables.SCORES, ["key", "scores"])
            for row in table.filter(pc.is_in(table["key"], wanted)).to_pylist():
                found[row["key"]] = sign * np.asarray(row["scores"], np.float32)
        return found

    def pca(self) -> dict[str, np.ndarray] | None:
        """Tensors of the foreground encoder's principal component, as `foreground.pca` has them: vectors [D]."""
        file = self.folder / "foreground" / self.encoder / "pca.safetensors"
        return safetensors.numpy.load_file(file) if file.is_file() else None

    def sign(self) -> float:
        """Stored token scores times this are larger where there is foreground; the orientation came after them."""
        return float(np.ravel((self.pca() or {}).get("sign", 1))[0])

    def view_index(self, view: str, columns: list[str]) -> Iterator[pa.Table]:
        """Columns of a view set's index, shard by shard."""
        return (parquet.read(file, tables.VIEWS, columns) for file in self.shards(f"views/{view}"))

    def views(self, view: str, keys: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """Generated views by key, each row of the index with its ``image``, in order of the sample."""
        wanted = pa.array(list(keys), pa.string())
        found: dict[str, list[dict[str, Any]]] = {}
        for shard in self.shards(f"views/{view}"):
            index = parquet.read(shard, tables.VIEWS)
            rows = index.filter(pc.is_in(index["key"], wanted)).to_pylist()
            if rows:
                with open(shard.with_suffix(".tar"), "rb") as file:
                    for row in sorted(rows, key=lambda row: (row["key"], row["sample"])):
                        file.seek(row["offset"])
                        image = images.decode(file.read(row["length"]))
                        found.setdefault(row["key"], []).append({**row, "image": image})
        return found
