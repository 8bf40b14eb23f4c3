"""Stages at a size that does not fit a row group, and that memory need not hold: no image may be lost or doubled."""

import importlib.util
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from genview import parquet, spill, tables
from genview.data import manifest

ROOT = Path(__file__).parent.parent
ROWS = 70_000


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The benchmark's own made-up study, in this process."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        specification = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks/scale.py")
        scale = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(scale)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    made = scale.Study(tmp_path_factory.mktemp("scale") / "study", ROWS)
    for stage in scale.STAGES:
        if stage in scale.BEFORE:
            scale.BEFORE[stage](made)
        stage(made)
    return made


def test_every_image_has_its_row_in_every_table(study):
    keys = manifest.read(study.manifest, columns=["key"])["key"]
    assert len(pc.unique(keys)) == len(keys) == ROWS - ROWS // 1000
    for path, schema in (
        (study.ratio, tables.FOREGROUND_RATIO),
        (study.noise_level, tables.NOISE_LEVEL),
        (study.guidance_scale, tables.GUIDANCE_SCALE),
        (study.conditions, tables.CONDITIONS),
    ):
        assert parquet.read(path, schema, ["key"])["key"].equals(keys), path


def test_shards_are_in_order_and_of_one_size(study):
    rows = manifest.read(study.manifest, columns=["shard", "key"])
    assert rows.equals(rows.sort_by([("shard", "ascending"), ("key", "ascending")]))
    counts = pc.value_counts(rows["shard"]).field("counts").to_pylist()
    assert len(counts) == study.shards and max(counts) - min(counts) <= 1
    parts = list(manifest.by_shard(study.manifest, ["key"]))
    assert len(parts) == study.shards and pa.concat_tables(parts)["key"].equals(rows["key"])
    assert parts[3]["key"].equals(manifest.read(study.manifest, f"3-of-{study.shards}", ["key"])["key"])


def test_the_report_counts_all_images_and_nothing_is_left_behind(study):
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    assert f"{ROWS - ROWS // 1000:,}".replace(",", "\u202f") in page or f"{ROWS - ROWS // 1000:,}" in page
    assert not list(study.folder.rglob(f"*{spill.SUFFIX}")) and not (study.folder / "index.arrow").exists()


def test_a_database_that_does_not_fit_into_memory_sorts_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "MEMORY", "128MB")
    schema = tables.NOISE_LEVEL
    pieces = (
        pa.table({"key": [f"{(i * 7919) % 3_000_017:0200d}" for i in range(start, start + 50_000)],
                  "noise_level": pa.repeat(pa.scalar(0, pa.int32()), 50_000)}, schema=schema)
        for start in range(0, 1_200_000, 50_000)
    )  # fmt: skip
    with spill.folder(tmp_path / "table") as place, spill.database(place) as base:
        found = [piece["key"] for piece in base.sorted(pieces, schema, "key")]
    texts = [text for piece in found for text in piece.to_pylist()]
    assert len(texts) == 1_200_000 and texts == sorted(texts)
    assert not list(tmp_path.iterdir())
