"""The audit measures what it says: on cases whose answer is known."""

import io
import json
import math
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from generation import STAMP, write_originals
from PIL import Image

from genview import parquet, tables
from genview.audit import audit, measures
from genview.audit.pairs import Views
from genview.config.encoders import Encoder
from genview.config.evaluation import Audit
from genview.data import scenes, tars
from genview.errors import GenviewError

KEYS = [f"{index:02d}" for index in range(24)]
LEVELS = (0, 200, 400)


def test_likeness_is_the_cosine_with_the_original():
    originals = np.array([[1.0, 0.0], [0.0, 2.0]])
    views = np.array([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, -1.0]]])
    assert np.allclose(measures.likeness(originals, views), [0.5, (math.sqrt(0.5) - 1) / 2])
    assert np.allclose(measures.likeness_by_chance(originals, views), [(math.sqrt(0.5) + 0) / 2, 0.5])


def test_diversity_of_copies_is_none_and_of_opposites_full():
    copies = np.ones((1, 3, 4))
    assert np.allclose(measures.pairwise_cosine(copies), 1)
    assert np.allclose(measures.pairwise_cosine(np.array([[[1.0, 0], [-1.0, 0]]])), -1)
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((2, 5, 7))
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    expected = [np.mean([unit[i, a] @ unit[i, b] for a in range(5) for b in range(5) if a != b]) for i in range(2)]
    assert np.allclose(measures.pairwise_cosine(vectors), expected)
    pixels = np.zeros((1, 2, 4, 4, 3), np.uint8)
    assert measures.pixel_deviation(pixels) == 0
    pixels[0, 1] = 255
    assert np.allclose(measures.pixel_deviation(pixels), math.sqrt(0.5))


def test_one_sample_has_no_diversity():
    with pytest.raises(ValueError, match="two samples"):
        measures.pairwise_cosine(np.ones((3, 1, 4)))
    with pytest.raises(ValueError, match="two samples"):
        measures.pixel_deviation(np.zeros((3, 1, 2, 2, 3), np.uint8))


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(1)
    shares = [measures.share_row("x", generator.random(60) < 0.9) for _ in range(600)]
    means = [measures.mean_row("x", generator.normal(0.3, 0.2, 60)) for _ in range(600)]
    for rows, truth in ((shares, 0.9), (means, 0.3)):
        covered = np.mean([row["low"] <= truth <= row["high"] for row in rows])
        assert 0.91 < covered < 0.985
    certain = measures.share_row("x", np.ones(10))
    assert certain["value"] == 1 and 0.6 < certain["low"] < 0.8 and certain["high"] == pytest.approx(1)
    assert measures.mean_row("x", [0.5])["low"] is None


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Scenes and two samples of "views" whose class and colour are known: at level 0 copies, at 400 other scenes."""
    folder = tmp_path_factory.mktemp("study")
    table = write_originals(folder, KEYS, 2)
    attributes = []
    for key in table["key"].to_pylist():
        drawn = scenes.scene(KEYS.index(key), seed=7)
        attributes.append(json.dumps({
            "class": scenes.CLASSES[drawn.class_index], "colour": tuple(scenes.COLOURS)[drawn.colour_index],
        }))  # fmt: skip
    values = table.to_pydict() | {"attributes": attributes}
    parquet.write(values, tables.MANIFEST, folder / "manifest.parquet", **STAMP, shards="2")
    for shard in range(2):
        rows = {name: [] for name in tables.VIEWS.names}
        with tars.writing(folder / f"{shard}.tar") as tar:
            for row in table.to_pylist():
                if row["shard"] != shard:
                    continue
                number = KEYS.index(row["key"])
                level = LEVELS[number % 3]
                for sample in range(2):
                    shown = scenes.scene(number if level < 400 else 500 + 2 * number + sample, seed=7)
                    buffer = io.BytesIO()
                    Image.fromarray(shown.image).save(buffer, "PNG")
                    data = buffer.getvalue()
                    values = (row["key"], sample, tar.add(f"{row['key']}-{sample}.png", data), len(data), level, 2.5, 0)
                    for name, value in zip(tables.VIEWS.names, values, strict=True):
                        rows[name].append(value)
        parquet.write(rows, tables.VIEWS, folder / f"{shard}.parquet", **STAMP)
    return folder


def run(study: Path, out: Path, workers: int = 0, **changes) -> dict:
    audit.run(
        Audit(**({"images": 24, "diversity_images": 12} | changes)),
        {"small": Encoder()},
        Views(
            name="test",
            manifest=study / "manifest.parquet",
            root=study,
            indexes=[study / "0.parquet", study / "1.parquet"],
            tars=[study / "0.tar", study / "1.tar"],
        ),
        audit.Artifacts(out / "quality.json", out / "quality.png", out / "examples.png"),
        seed=1,
        workers=workers,
        stamp=STAMP,
    )
    return json.loads((out / "quality.json").read_text())


def value(report: dict, metric: str, level: int | None = None) -> float:
    (row,) = [row for row in report["results"] if row["metric"] == metric and row.get("noise_level") == level]
    return row["value"]


def test_copies_and_strangers_are_told_apart(study, tmp_path):
    report = run(study, tmp_path)
    assert value(report, "clip_cosine", 0) == pytest.approx(1, abs=1e-5)
    assert value(report, "clip_cosine", 400) < 0.7
    assert value(report, "clip_cosine_by_chance") < 0.6
    assert value(report, "diversity_pixels", 0) == 0 < value(report, "diversity_pixels", 400)
    assert value(report, "diversity_cosine", 0) == pytest.approx(0, abs=1e-5)
    assert value(report, "diversity_cosine", 400) > 0.2
    assert value(report, "colour_kept", 0) > 0.9 and value(report, "class_kept", 200) > 0.8
    assert value(report, "colour_kept", 400) < 0.6 and value(report, "class_kept", 400) < 0.6
    assert value(report, "class_of_original") > 0.85
    assert {row["count"] for row in report["results"] if row.get("noise_level") == 400} <= {8, 4, 3, 5, 6}
    assert (report["images"], report["samples"], report["missing"]) == (24, 2, 0)
    for name in ("quality.png", "examples.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 300


def test_the_same_audit_again_gives_the_same_bytes(study, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(study, tmp_path / name, images=10)
    assert (tmp_path / "a/quality.json").read_bytes() == (tmp_path / "b/quality.json").read_bytes()


def test_processes_that_decode_change_no_figure(study, tmp_path):
    for workers in (0, 2):
        (tmp_path / str(workers)).mkdir()
        run(study, tmp_path / str(workers), workers)
    for name in ("quality.json", "examples.png"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def damaged(study: Path, folder: Path, name: str, table: pa.Table, row: int) -> Path:
    """The study with the bytes of one image overwritten."""
    shutil.copytree(study, folder, symlinks=True)
    place = table.to_pylist()[row]
    with open(folder / name, "r+b") as file:
        file.seek(place["offset"])
        file.write(b"\0" * place["length"])
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_an_original_that_is_gone_is_left_out_and_a_view_that_is_gone_is_an_error(study, tmp_path, caplog, workers):
    originals = parquet.read(study / "manifest.parquet", tables.MANIFEST)
    report = run(damaged(study, tmp_path / "a", "images.tar", originals, 3), tmp_path, workers)
    assert report["images"] == 23 and f"{originals['key'][3]} is left out of the audit" in caplog.text
    views = parquet.read(study / "1.parquet", tables.VIEWS)
    with pytest.raises(GenviewError, match=f"a view of '{views['key'][0]}': .*1.tar at byte"):
        run(damaged(study, tmp_path / "b", "1.tar", views, 0), tmp_path, workers)


PHOTOGRAPHS = """
import resource, sys
from pathlib import Path
import test_audit
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
study, out = map(Path, sys.argv[1:])
test_audit.run(study, out, images=1, diversity_images=0)
before = peak()
test_audit.run(study, out, images=12)
print(peak() - before)
"""


def test_pictures_are_not_all_held_in_memory(study, tmp_path):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save(buffer, "JPEG")
    (tmp_path / "photo.jpg").write_bytes(buffer.getvalue())
    values = parquet.read(study / "manifest.parquet", tables.MANIFEST).to_pydict()
    values |= {"path": ["photo.jpg"] * 24, "offset": [0] * 24, "length": [len(buffer.getvalue())] * 24}
    parquet.write(values, tables.MANIFEST, tmp_path / "manifest.parquet", **STAMP, shards="2")
    for name in ("0.tar", "1.tar", "0.parquet", "1.parquet"):
        (tmp_path / name).symlink_to(study / name)
    command = [sys.executable, "-c", PHOTOGRAPHS, str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    assert float(done.stdout) < 300, "MB more for 12 photographs of 36 MB than for one"


def test_images_without_attributes_are_not_judged(study, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("0.tar", "1.tar", "0.parquet", "1.parquet", "images.tar"):
        (folder / name).symlink_to(study / name)
    values = parquet.read(study / "manifest.parquet", tables.MANIFEST).to_pydict() | {"attributes": [None] * 24}
    parquet.write(values, tables.MANIFEST, folder / "manifest.parquet", **STAMP, shards="2")
    metrics = {row["metric"] for row in run(folder, tmp_path)["results"]}
    assert metrics == {"clip_cosine", "clip_cosine_by_chance", "diversity_cosine", "diversity_pixels"}


def test_no_view_at_all_is_an_empty_report(study, tmp_path):
    empty = {name: [] for name in tables.VIEWS.names}
    (tmp_path / "empty").mkdir()
    for shard in range(2):
        parquet.write(empty, tables.VIEWS, tmp_path / "empty" / f"{shard}.parquet", **STAMP)
        with tarfile.open(tmp_path / "empty" / f"{shard}.tar", "w"):
            pass
    for name in ("manifest.parquet", "images.tar"):
        (tmp_path / "empty" / name).symlink_to(study / name)
    report = run(tmp_path / "empty", tmp_path)
    assert report["results"] == [] and report["missing"] == 24


@pytest.mark.parametrize("count", [1, 2, 7, 48, 500, 1000])
def test_a_share_lies_within_its_interval_also_when_everything_or_nothing_was_kept(count):
    for kept in (0.0, 1.0):
        row = measures.share_row("class_kept", [kept] * count)
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
