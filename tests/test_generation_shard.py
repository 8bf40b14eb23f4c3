"""Shards of views: the same bytes however the work is cut or interrupted, and readable by everybody's tools."""

import json
import subprocess
import tarfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import webdataset
from generation import job, write_conditions, write_originals, write_scores
from pipelines import save_text2image, save_unclip

from genview import parquet, tables
from genview.config.views import ViewSet
from genview.data import manifest as manifests
from genview.data.reader import Reader
from genview.errors import GenviewError
from genview.generation import embeddings, members, pipelines, sampler, views
from genview.generation.remake import remake
from genview.generation.work import Work

KEYS = [*(f"class {i % 2}/image.{i}" for i in range(5)), "é ü/" + "long" * 40, "__hidden__/x", "a%2E", "1.2", "1.3"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    return {"img": save_unclip(folder / "unclip"), "txt": save_text2image(folder / "text2image")}


@pytest.fixture(scope="module")
def studies(models, tmp_path_factory):
    """The same images cut into 1, 3 and 8 shards, each with the foreground pass's embeddings."""
    found = {}
    for shards in (1, 3, 8):
        folder = tmp_path_factory.mktemp(f"study-{shards}")
        table = write_originals(folder, KEYS, shards)
        write_conditions(folder, table)
        write_scores(folder, table, shards, view_of(models, "img"))
        found[shards] = folder
    return found


def view_of(models, mode: str, **changes) -> ViewSet:
    return ViewSet(**({"mode": mode, "model": str(models[mode]), "steps": 2, "batch_size": 4} | changes))


def contents(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as file:
        return {member.name: file.extractfile(member).read() for member in file}


def make(folder: Path, view: ViewSet, out: Path, shards: int = 1, **changes) -> dict[str, bytes]:
    made = {}
    for index in range(shards):
        name = f"{index}-of-{shards}"
        views.run(job(folder, view, name, out, **changes))
        made |= contents(out / f"{name}.tar")
    return made


def statistics(out: Path, name: str = "0-of-1") -> dict:
    return json.loads((out / "logs" / f"{name}.json").read_text())


@pytest.mark.parametrize("mode", ["img", "txt"])
def test_any_number_of_shards_gives_the_same_bytes(models, studies, tmp_path, mode):
    view = view_of(models, mode, samples=2)
    made = {n: make(studies[n], view, tmp_path / str(n), n) for n in studies}
    assert len(made[1]) == 2 * 2 * len(KEYS)
    assert made[1] == made[3] == made[8]


def test_two_runs_give_the_same_files_and_leave_nothing_else(models, studies, tmp_path):
    for name in ("a", "b"):
        make(studies[1], view_of(models, "img"), tmp_path / name)
    for name in ("0-of-1.tar", "0-of-1.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    files = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*"))
    assert files == ["0-of-1.parquet", "0-of-1.tar", "logs", "logs/0-of-1.json"]


def test_an_error_half_way_keeps_what_is_finished(models, studies, tmp_path, monkeypatch):
    view = view_of(models, "img")
    undisturbed = make(studies[1], view, tmp_path / "a")
    normal, calls = sampler.Sampler.sample, []

    def failing(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return normal(self, *arguments)

    monkeypatch.setattr(sampler.Sampler, "sample", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        make(studies[1], view, tmp_path / "b")
    assert statistics(tmp_path / "b")["made"] == 8
    assert not statistics(tmp_path / "b")["finished"]
    assert not (tmp_path / "b" / "0-of-1.tar").exists()
    monkeypatch.setattr(sampler.Sampler, "sample", normal)
    # What a killed writer leaves: part of an image under its temporary name. It must not count as an image.
    (folder,) = (tmp_path / "b" / ".work").iterdir()
    (folder / "0123456789abcdef.jpg.partial").write_bytes(b"\xff\xd8 half an image")
    resumed = make(studies[1], view, tmp_path / "b")
    assert (statistics(tmp_path / "b")["resumed"], statistics(tmp_path / "b")["made"]) == (8, 2)
    assert resumed == undisturbed
    assert (tmp_path / "a/0-of-1.tar").read_bytes() == (tmp_path / "b/0-of-1.tar").read_bytes()
    assert not (tmp_path / "b" / ".work").exists()


def test_work_of_other_settings_is_not_taken_up(tmp_path):
    old, other = Work(tmp_path, "0-of-2", "old"), Work(tmp_path, "1-of-2", "old")
    old.keep({"key": "a"}, b"image")
    other.keep({"key": "b"}, b"image")
    new = Work(tmp_path, "0-of-2", "new")
    assert not new.finished() and not old.folder.exists()
    assert Work(tmp_path, "1-of-2", "old").finished() == other.finished() != set()


def test_work_of_other_conditions_is_not_taken_up(models, studies, tmp_path, monkeypatch):
    """Conditions are read from a file, so they are not part of the folder's digest: each image is bound to its own."""
    view = view_of(models, "img")
    with monkeypatch.context() as patch:
        patch.setattr(views, "_pack", lambda *_: (_ for _ in ()).throw(RuntimeError("stop before packing")))
        with pytest.raises(RuntimeError, match="stop before"):
            make(studies[1], view, tmp_path / "a")
    table = parquet.read(studies[1] / "manifest.parquet", tables.MANIFEST)
    levels = parquet.read(studies[1] / "conditions.parquet", tables.CONDITIONS)["noise_level"].to_pylist()
    changed = [999 if row == 3 else level for row, level in enumerate(levels)]
    (tmp_path / "other").mkdir()
    conditions = write_conditions(tmp_path / "other", table, noise_level=changed)
    resumed = make(studies[1], view, tmp_path / "a", conditions=conditions)
    assert statistics(tmp_path / "a")["resumed"] == len(KEYS) - 1
    assert resumed == make(studies[1], view, tmp_path / "b", conditions=conditions)


def test_opens_with_webdataset_tar_and_our_reader(models, studies, tmp_path):
    made = make(studies[1], view_of(models, "img"), tmp_path / "out")
    tar = tmp_path / "out" / "0-of-1.tar"
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    assert all({"jpg", "json"} == {name for name in sample if not name.startswith("__")} for sample in samples)
    assert {json.loads(sample["json"])["key"] for sample in samples} == set(KEYS)
    assert {members.key_of_member(sample["__key__"], 1)[0] for sample in samples} == set(KEYS)
    (tmp_path / "x").mkdir()
    subprocess.run(["tar", "xf", tar, "-C", tmp_path / "x"], check=True)
    files = {path.relative_to(tmp_path / "x").as_posix(): path for path in (tmp_path / "x").rglob("*.j*")}
    assert {name: path.read_bytes() for name, path in files.items()} == made
    reader = Reader(tmp_path / "out")
    index = parquet.read(tmp_path / "out" / "0-of-1.parquet", tables.VIEWS).to_pylist()
    assert [row["key"] for row in index] == [json.loads(sample["json"])["key"] for sample in samples]
    for row, sample in zip(index, samples):
        assert reader.read("0-of-1.tar", row["offset"], row["length"]) == sample["jpg"]
        assert reader.image("0-of-1.tar", row["offset"], row["length"]).size == (32, 32)
        values = json.loads(sample["json"])
        assert {name: values[name] for name in ("sample", "noise_level", "guidance_scale", "seed")} == {
            name: row[name] for name in ("sample", "noise_level", "guidance_scale", "seed")
        }


@pytest.mark.parametrize("samples", [1, 3])
def test_member_names_give_the_keys_back(samples):
    keys = [*KEYS, "a", "a/1", "a/1/1", "%", "a.b/c.d", "_x", "__", "a__/__b"]
    names = {members.member_name(key, n, samples): (key, n) for key in keys for n in range(samples)}
    assert len(names) == len(keys) * samples
    assert all(members.key_of_member(name, samples) == wanted for name, wanted in names.items())
    assert not any("." in name.rpartition("/")[2] or name.startswith("__") for name in names)


def test_embeddings_are_those_of_the_keys_wherever_they_lie(studies):
    scores = studies[1] / "scores-0-of-1.parquet"
    table = parquet.read(scores, tables.SCORES, ["key", "embedding"])
    for first, said, other in ((3, 3, []), (3, 0, []), (len(table) - 2, 1, ["nobody"])):
        keys = table["key"].slice(first, 2)
        found = embeddings.kept(scores, pa.chunked_array([*keys.chunks, pa.array(other, pa.string())]), said)
        assert list(found) == keys.to_pylist()
        for row, vector in enumerate(found.values(), first):
            assert vector.tolist() == table["embedding"][row].as_py()


@pytest.mark.parametrize("mode", ["img", "txt"])
def test_any_image_can_be_made_again_from_its_json(models, studies, tmp_path, mode):
    made = make(studies[1], view_of(models, mode, samples=2, save_size=24, jpeg_quality=80), tmp_path)
    scores = studies[1] / "scores-0-of-1.parquet"
    vectors = embeddings.kept(scores, parquet.read(scores, tables.SCORES, ["key"])["key"])
    for name in sorted(name for name in made if name.endswith(".json"))[::7]:
        values = json.loads(made[name])
        vector = None if mode == "txt" else vectors[values["key"]]
        assert remake(made[name], embedding=vector, model=str(models[mode])) == made[name.replace(".json", ".jpg")]
    with pytest.raises(GenviewError, match="made with weights 0000"):
        remake(values | {"weights": "0000"}, embedding=vector, model=str(models[mode]))
    if mode == "img":
        with pytest.raises(GenviewError, match="not the one that the image was made from"):
            remake(values, embedding=vector + 1, model=str(models[mode]))


def test_nothing_of_this_machine_is_in_an_artifact(models, studies, tmp_path):
    made = make(studies[1], view_of(models, "img"), tmp_path)
    everything = b"".join(made.values()) + (tmp_path / "0-of-1.parquet").read_bytes()
    assert str(tmp_path).encode() not in everything
    assert str(models["img"].parent).encode() not in everything
    assert json.loads(next(data for name, data in made.items() if name.endswith(".json")))["model"] == "unclip"
    with tarfile.open(tmp_path / "0-of-1.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_kept_embeddings_are_used_only_if_they_are_the_pipelines_own(models, studies, tmp_path):
    view = view_of(models, "img")
    kept = make(studies[1], view, tmp_path / "kept")
    assert statistics(tmp_path / "kept")["embedding_from"] == "foreground"
    without = make(studies[1], view, tmp_path / "without", scores=None)
    assert statistics(tmp_path / "without")["embedding_from"] == "pipeline"
    (tmp_path / "foreign").mkdir()
    scores = parquet.read(studies[1] / "scores-0-of-1.parquet", tables.SCORES).to_pydict()
    scores["embedding"] = [np.asarray(vector) / np.linalg.norm(vector) for vector in scores["embedding"]]
    parquet.write(scores, tables.SCORES, tmp_path / "foreign" / "scores.parquet", stage="test")
    foreign = make(studies[1], view, tmp_path / "foreign-out", scores=tmp_path / "foreign" / "scores.parquet")
    assert statistics(tmp_path / "foreign-out")["embedding_from"] == "pipeline"
    assert foreign == without
    jpegs = [[data for name, data in made.items() if name.endswith(".jpg")] for made in (kept, without)]
    assert np.mean([a == b for a, b in zip(*jpegs)]) > 0.5  # the same embeddings but for rounding


def test_embeddings_do_not_hang_on_the_processes_that_decode(models, studies):
    rows, reader = manifests.shard_rows(studies[1] / "manifest.parquet", "0-of-1"), Reader(studies[1])
    loaded = pipelines.load(view_of(models, "img"), torch.device("cpu"))
    one, other = (embeddings.of_shard(loaded, rows, None, reader, 4, workers) for workers in (0, 2))
    assert list(one.values) == rows["key"].to_pylist()
    assert all(np.array_equal(one.values[key], other.values[key]) for key in one.values)


def test_a_bad_original_costs_that_image_and_is_listed(models, studies, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    table = write_originals(folder, KEYS, 1)
    write_conditions(folder, table)
    row = table.to_pylist()[4]
    with open(folder / "images.tar", "r+b") as file:
        file.seek(row["offset"])
        file.write(b"\0" * row["length"])
    view = view_of(models, "img")
    made = make(folder, view, tmp_path / "out", maximum_rejects=0.1)
    index = parquet.read(tmp_path / "out" / "0-of-1.parquet", tables.VIEWS)
    assert row["key"] not in index["key"].to_pylist() and len(index) == len(KEYS) - 1 and len(made) == 2 * 9
    stats = statistics(tmp_path / "out")
    assert stats["failed_images"][0]["key"] == row["key"]
    assert "cannot be read" in stats["failed_images"][0]["reason"] and stats["made"] == 9
    with pytest.raises(GenviewError, match=r"1 of 10 images failed; dataset\.maximum_rejects") as error:
        make(folder, view, tmp_path / "strict", maximum_rejects=0.05)
    assert row["key"] in str(error.value)


def test_too_many_images_that_are_not_finite_stop_the_shard(models, studies, tmp_path, monkeypatch):
    monkeypatch.setattr(sampler.Sampler, "sample", lambda self, requests, _: [None] * len(requests))
    with pytest.raises(GenviewError, match="not finite"):
        make(studies[1], view_of(models, "img"), tmp_path)


def test_an_empty_shard_is_an_empty_tar(models, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    table = write_originals(folder, ["only"], 3)
    write_conditions(folder, table)
    made = make(folder, view_of(models, "img"), tmp_path / "out", 3)
    assert sorted(made) == ["only.jpg", "only.json"]
    rows = [len(parquet.read(tmp_path / "out" / f"{i}-of-3.parquet", tables.VIEWS)) for i in range(3)]
    assert sorted(rows) == [0, 0, 1]


def test_a_full_disk_is_said_and_nothing_half_is_left(models, studies, tmp_path, monkeypatch):
    def full(self, metadata, data):
        raise GenviewError("x.jpg: cannot be written: the disk is full; make space and run the same command again")

    monkeypatch.setattr(Work, "keep", full)
    with pytest.raises(GenviewError, match="the disk is full"):
        make(studies[1], view_of(models, "img"), tmp_path)
    assert not list(tmp_path.glob("*.tar*"))


def test_prompts_too_long_are_counted(models, studies, tmp_path):
    make(studies[1], view_of(models, "txt"), tmp_path)
    assert statistics(tmp_path)["prompts_truncated"] > 0  # the tiny tokenizer spells letter by letter


def test_runs_outside_the_main_thread(models, studies, tmp_path):
    """Signals belong to the main thread; a caller with threads of its own must not be refused."""
    thread = threading.Thread(target=make, args=(studies[1], view_of(models, "txt"), tmp_path))
    thread.start()
    thread.join()
    assert (tmp_path / "0-of-1.tar").exists()


def test_the_statistics_say_where_the_time_went(models, studies, tmp_path):
    make(studies[1], view_of(models, "img"), tmp_path)
    stats = statistics(tmp_path)
    assert set(stats["seconds"]) == {"loading", "encoding", "denoising", "decoding", "writing", "packing", "total"}
    assert stats["requested"] == stats["made"] == len(KEYS) and stats["finished"]
    assert stats["order_independent"] is True
