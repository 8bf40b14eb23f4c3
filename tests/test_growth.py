"""A collection that grows by ten images must cost ten views a set, not the 600 GPU-hours of all of them."""

import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import training_study
from PIL import Image
from safetensors.torch import load_file
from workspace import Workspace

from genview import parquet, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.data import fingerprint, scenes
from genview.guidance import scoring
from genview.guidance.answers import Answer
from genview.kept import Earlier
from genview.training.data import quality_features

CONFIGURATION = """
study: growth
dataset: {{source: folder, path: {path}, shards: {shards}}}
views:
  img: {{mode: img, steps: 1, noise_level: 100, guidance_scale: 2.5, batch_size: 4, samples: {samples}}}
"""
STUDY = ("views", "--configfile", "growth.yaml")


def draw(folder: Path, numbers) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        Image.fromarray(scenes.scene(number).image).save(folder / f"{number:03d}.png")


def counts(work: Workspace) -> tuple[int, int]:
    """Views made and taken over in the last run."""
    told = [json.loads(path.read_text()) for path in (work.root / "results/growth/logs/views/img").glob("*.json")]
    return sum(one["made"] for one in told), sum(one["taken_over"] for one in told)


def views(work: Workspace) -> dict[tuple[str, int], bytes]:
    found = {}
    for index in (work.root / "results/growth/views/img").glob("*.parquet"):
        data = index.with_suffix(".tar").read_bytes()
        for row in parquet.read(index, tables.VIEWS).to_pylist():
            found[row["key"], row["sample"]] = data[row["offset"] : row["offset"] + row["length"]]
        with tarfile.open(index.with_suffix(".tar")) as tar:
            assert len(tar.getnames()) == 2 * len(parquet.read(index, tables.VIEWS))
    return found


def scores(work: Workspace) -> dict[str, tuple]:
    files = (work.root / "results/growth/foreground/small/scores").glob("*.parquet")
    rows = [row for file in files for row in parquet.read(file, tables.SCORES).to_pylist()]
    return {row["key"]: (row["scores"], row["embedding"]) for row in rows}


@pytest.mark.slow
def test_new_images_cost_their_own_views_alone(tmp_path):
    work = Workspace(tmp_path / "work")
    images = tmp_path / "images"
    draw(images, range(12))
    settings = {"path": images, "shards": 2, "samples": 1}
    (work.root / "growth.yaml").write_text(CONFIGURATION.format(**settings))
    work.snakemake(*STUDY)
    before, scored = views(work), scores(work)
    assert counts(work) == (12, 0) and work.planned(*STUDY) == {}
    for path in images.iterdir():  # touched, as by a copy
        os.utime(path)
    assert work.planned(*STUDY) == {}

    draw(images, range(12, 15))
    (images / "003.png").unlink()
    # All of it took weeks, and nothing of that is at stake.
    for count in (work.root / "results/growth/costs").rglob("*.attempts"):
        if "views" in str(count) or "scores" in str(count):
            count.write_text(json.dumps({**json.loads(count.read_text()), "seconds": 3_600_000}))
    planned = work.planned(*STUDY)
    assert "sample_features" not in planned and planned["generate_views"] == 2
    work.snakemake(*STUDY)
    now = views(work)
    assert counts(work) == (3, 11)
    assert {key for key, _ in now} == {f"{number:03d}" for number in range(15)} - {"003"}
    assert all(now[place] == data for place, data in before.items() if place[0] != "003")
    assert all(scores(work)[key] == values for key, values in scored.items() if key != "003")
    kept = work.root / "results/growth/views/img/.kept"
    assert len(list(kept.iterdir())) == 1, "what is no longer needed fills the disk"
    (tar,) = kept.glob("*/0-of-2.tar")
    assert tar.samefile(kept.parent / "0-of-2.tar"), "kept shards must cost no space"

    (work.root / "growth.yaml").write_text(CONFIGURATION.format(**{**settings, "shards": 3, "samples": 2}))
    work.snakemake(*STUDY, "--config", "confirm_hours=9999")
    for name in ("0-of-2", "1-of-2"):
        (kept.parent / f"{name}.parquet").unlink(), (kept.parent / f"{name}.tar").unlink()
        (work.root / f"results/growth/logs/views/img/{name}.json").unlink()
    again = views(work)
    assert counts(work) == (14, 14) and len(again) == 28
    assert all(again[place] == data for place, data in now.items())


class Counting:
    """Scores a caption by its length; knows what it was asked."""

    batch_size, is_costly = 4, False

    def __init__(self):
        self.asked = []

    def score(self, captions, images=None):
        self.asked += captions
        return [Answer(None if "?" in text else 1 + len(text) % 4) for text in captions]


def grown(folder: Path, keys: list[str], captions: list[str], digests: list[str]) -> Path:
    """A manifest of one shard."""
    folder.mkdir(exist_ok=True)
    rows = {
        "key": keys, "path": ["images.tar"] * len(keys), "offset": [0] * len(keys), "length": [1] * len(keys),
        "caption": captions, "label": pa.nulls(len(keys), pa.string()), "width": [1] * len(keys),
        "height": [1] * len(keys), "shard": [0] * len(keys), "sha256": digests,
        "foreground_share": pa.nulls(len(keys), pa.float32()), "attributes": pa.nulls(len(keys), pa.string()),
    }  # fmt: skip
    path = folder / "manifest.parquet"
    parquet.write(rows, tables.MANIFEST, path, shards="1")
    return path


def test_only_new_and_changed_captions_are_scored(tmp_path):
    output = tmp_path / "guidance/0-of-1.parquet"

    def run(captions: dict[str, str], code: str = "a", accepted=(), parameters: str = "p") -> list[str]:
        manifest = grown(tmp_path, list(captions), list(captions.values()), ["0"] * len(captions))
        scorer = Counting()
        output.unlink(missing_ok=True)
        earlier = Earlier(output, code, accepted)
        stamp = {"parameters": parameters, "code": code}
        scoring.run(scorer, manifest=manifest, group="0-of-1", output=output, stamp=stamp, earlier=earlier)
        table = parquet.read(output, tables.GUIDANCE).to_pylist()
        assert [row["key"] for row in table] == list(captions)
        assert all(row["score"] == (None if "?" in text else 1 + len(text) % 4)
                   for row, text in zip(table, captions.values()))  # fmt: skip
        return sorted(scorer.asked)

    assert run({"a": "one", "b": "three", "c": "?"}) == ["?", "one", "three"]
    assert run({"b": "three", "c": "?", "d": "fourth"}) == ["?", "fourth"], "what had no score is asked for again"
    assert run({"b": "3", "d": "fourth"}) == ["3"]
    assert run({"b": "3", "d": "fourth"}) == [] == run({"d": "fourth"}), "nothing new, and one less"
    assert run({"b": "3", "d": "fourth"}, parameters="q") == ["3", "fourth"]
    assert run({"b": "3", "d": "fourth"}, code="b", parameters="q") == ["3", "fourth"], "other code takes nothing over"
    assert run({"b": "3", "e": "e"}, "c", {(output.name, "b")}, "q") == ["e"], "unless it was accepted"


def test_quality_features_of_unchanged_images_are_taken_over(tmp_path):
    component, output = tmp_path / "pca.safetensors", tmp_path / "quality/0-of-1.safetensors"
    training_study.write_component(component, 64)

    def run(count: int, keep: bool = True) -> dict[str, torch.Tensor]:
        training_study.write_manifest(tmp_path / "data", count, shards=1)
        quality_features.run(
            Dataset(source="scenes"), Encoder(), manifest=tmp_path / "data/manifest.parquet", group="0-of-1",
            component=component, output=output, stamp={"parameters": "p", "code": "c"},
            earlier=Earlier(output, "c") if keep else None,
        )  # fmt: skip
        return load_file(output)

    run(5)
    (rows,) = (tmp_path / "quality/.kept").glob("*/0-of-1.safetensors")
    marked = {name: values.fill_(0.25) for name, values in load_file(rows).items()}
    rows.unlink()
    from safetensors.torch import save_file

    save_file(marked, rows)  # so that what was taken over can be told from what was computed
    both, same, fewer, alone = run(7), run(7), run(3), run(7, keep=False)
    taken = (both["background"] == 0.25).all(1)
    assert taken.sum() == 5 and (both["caption"] == 0.25).all(1).equal(taken)
    assert torch.allclose(both["background"][~taken], alone["background"][~taken], atol=1e-3)
    for name, values in both.items():  # a job that was killed after its last write finds all of it made
        assert same[name].equal(values) and fewer[name].equal(values[:3])


def test_a_folder_is_watched_up_to_a_number_of_files(tmp_path):
    draw(tmp_path / "images", range(3))
    (tmp_path / "images/000.txt").write_text("a caption")
    (tmp_path / "images/notes.md").write_text("of no matter")
    (tmp_path / "images/dangling.png").symlink_to("nowhere")
    found = fingerprint.collection(str(tmp_path / "images"), "folder", 4)
    assert sorted(found) == ["000.png", "000.txt", "001.png", "002.png"]
    assert fingerprint.collection(str(tmp_path / "images"), "folder", 3) == {}
    first = fingerprint.of(found, tmp_path / "known.json")
    (tmp_path / "images/000.txt").write_text("b caption")
    assert fingerprint.of(found, tmp_path / "known.json") != first, "a caption of the same length"
