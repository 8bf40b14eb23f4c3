"""Ingestion from every source: each image is kept with its caption and reference, or listed with its reason."""

import csv
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genview import parquet, tables
from genview.config.dataset import Dataset
from genview.data import duplicates, ingest, keys, manifest, scenes, tars
from genview.data.reader import Reader, data_root
from genview.errors import GenviewError

CAPTION = 'a "large" red star, on grey\nsecond line 🙂'


def png(seed: int, side: int = 12) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Study:
    """A folder in which collections are ingested."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder / "out"

    def ingest(self, **dataset):
        self.dataset = Dataset(**dataset)
        ingest.run(
            self.dataset,
            seed=42,
            manifest=self.out / "manifest.parquet",
            rejected=self.out / "rejected.parquet",
            images=self.out / "images.tar",
            stamp={"stage": "manifest"},
            failures=self.out / "failures.csv",
        )
        return {row["key"]: row for row in manifest.read(self.out / "manifest.parquet").to_pylist()}

    @property
    def rejected(self):
        return parquet.read(self.out / "rejected.parquet", tables.REJECTED).to_pylist()

    def data(self, row):
        reader = Reader(data_root(self.dataset, self.out / "manifest.parquet"))
        return reader.read(row["path"], row["offset"], row["length"])


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# Sources


def test_class_folders_give_labels_and_captions_beside_images(study):
    root = study.folder / "images"
    write(root / "cat/1.JPEG", png(1))
    write(root / "cat/1.txt", f"{CAPTION}\n".encode())
    write(root / "dog/deep/1.webp", png(2))
    write(root / "dog/deep/notes.md", b"no image")
    write(root / "top.png", png(3))
    write(root / "top.txt", b" \n")
    write(root / "dog/._1.jpg", b"a Mac's shadow file")
    rows = study.ingest(source="folder", path=str(root))
    assert set(rows) == {"cat/1", "dog/deep/1", "top"} and study.rejected == []
    assert [rows[key]["label"] for key in ("cat/1", "dog/deep/1", "top")] == ["cat", "dog", None]
    assert [rows[key]["caption"] for key in ("cat/1", "dog/deep/1", "top")] == [CAPTION, None, None]
    assert rows["cat/1"]["path"] == "cat/1.JPEG" and study.data(rows["cat/1"]) == png(1)
    assert rows["cat/1"]["length"] == len(png(1)) and (rows["cat/1"]["width"], rows["cat/1"]["height"]) == (12, 12)


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet"])
def test_tables_keep_every_character_of_a_caption(study, kind):
    for i in range(4):
        write(study.folder / f"images/{i}.png", png(i))
    columns = {
        "label": ["x", "", "z", "3"],
        "image": ["0.png", "./1.png", str(study.folder / "images/2.png"), "3.png"],
        "prompt": [CAPTION, "", "NA", "  "],
        "share": ["0.25", "", "1", "0"],
    }
    path = study.folder / f"table{kind}"
    if kind == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, delimiter="," if kind == ".csv" else "\t")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values()))
    rows = study.ingest(
        source="table", path=str(path), image_root=str(study.folder / "images"), foreground_share_column="share"
    )
    assert [rows[str(i)]["caption"] for i in range(4)] == [CAPTION, None, "NA", None]
    assert [rows[str(i)]["label"] for i in range(4)] == ["x", None, "z", "3"]
    assert [rows[str(i)]["foreground_share"] for i in range(4)] == [0.25, None, 1.0, 0.0]
    assert [study.data(rows[str(i)]) for i in range(4)] == [png(i) for i in range(4)]


def test_a_table_without_captions_and_labels_is_accepted(study):
    write(study.folder / "a.png", png(1))
    write(study.folder / "t.csv", b"\xef\xbb\xbfimage\na.png\n")
    assert study.ingest(source="table", path=str(study.folder / "t.csv"))["a"]["caption"] is None


def img2dataset_tar(path: Path, first: int, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tars.writing(path) as tar:
        for i in range(first, first + count):
            tar.add(f"{i:09d}.jpg", png(i))
            tar.add(f"{i:09d}.json", json.dumps({"caption": f"from json {i}", "label": f"l{i}", "url": "x"}).encode())
            if i % 2:
                tar.add(f"{i:09d}.txt", CAPTION.encode())


def test_webdataset_references_are_slices_of_the_tars(study):
    img2dataset_tar(study.folder / "shards/00000.tar", 0, 5)
    img2dataset_tar(study.folder / "shards/00001.tar", 5, 5)
    rows = study.ingest(source="webdataset", path=str(study.folder / "shards"))
    assert sorted(rows) == [f"{i:09d}" for i in range(10)]
    for key, row in rows.items():
        i = int(key)
        assert study.data(row) == png(i)
        assert row["caption"] == (CAPTION if i % 2 else f"from json {i}") and row["label"] == f"l{i}"
        assert row["path"] == f"0000{i // 5}.tar"
    assert study.ingest(source="webdataset", path=str(study.folder / "shards/00001.tar")).keys() == {
        f"{i:09d}" for i in range(5, 10)
    }


def test_webdataset_reads_what_the_webdataset_library_writes(study):
    import webdataset

    with webdataset.TarWriter(str(study.folder / "a.tar")) as writer:
        for i in range(3):
            writer.write({"__key__": f"dir.x/sample{i}", "png": png(i), "txt": f"caption {i}", "cls": i})
    rows = study.ingest(source="webdataset", path=str(study.folder / "a.tar"))
    assert {key: (row["caption"], row["label"]) for key, row in rows.items()} == {
        f"dir.x/sample{i}": (f"caption {i}", str(i)) for i in range(3)
    }


def test_samples_without_an_image_and_with_damaged_parts_are_listed(study):
    with tars.writing(study.folder / "a.tar") as tar:
        tar.add("good.jpg", png(0))
        tar.add("alone.txt", b"no image here")
        tar.add("latin.jpg", png(1))
        tar.add("latin.txt", "é".encode("latin1"))
        tar.add("broken.jpg", png(2))
        tar.add("broken.json", b"{")
        tar.add(".hidden.jpg", b"")
    rows = study.ingest(source="webdataset", path=str(study.folder / "a.tar"), maximum_rejects=1)
    assert set(rows) == {"good"}
    reasons = {row["key"]: row["reason"] for row in study.rejected}
    assert "no image" in reasons["alone"] and "not UTF-8" in reasons["latin"] and "damaged" in reasons["broken"]


def test_hugging_face_datasets_on_disk(study):
    import datasets

    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "prompt": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    images = [{"bytes": png(i), "path": None} for i in range(4)]
    images[2] = {"bytes": b"no image", "path": None}
    rows = {"picture": images, "prompt": ["a", None, "c", CAPTION], "label": [0, 1, 1, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(study.folder / "hf"))
    kept = study.ingest(source="huggingface", path=str(study.folder / "hf"), maximum_rejects=0.5)
    assert [(row["caption"], row["label"]) for _, row in sorted(kept.items())] == [
        ("a", "cat"),
        (None, "dog"),
        (CAPTION, "dog"),
    ]
    assert study.data(kept["000000003"]) == png(3)
    assert [row["source"] for row in study.rejected] == ["row 2"]
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features=features)).save_to_disk(
        str(study.folder / "splits")
    )
    with pytest.raises(GenviewError, match=r"holds splits; name one: .*/splits/train"):
        study.ingest(source="huggingface", path=str(study.folder / "splits"))


def test_scenes_are_the_drawn_ones_with_all_that_is_known(study):
    rows = study.ingest(source="scenes", count=20)
    assert len(rows) == 20
    for key, row in rows.items():
        scene = scenes.scene(int(key), seed=42)
        image = Image.open(io.BytesIO(study.data(row)))
        assert (np.asarray(image) == scene.image).all() and row["caption"] == scene.caption
        assert row["foreground_share"] == pytest.approx(scene.foreground_share)
        attributes = json.loads(row["attributes"])
        assert attributes["constraints"] == scene.constraints
        assert row["label"] == attributes["class"] == scenes.CLASSES[scene.class_index]
    with tarfile.open(study.out / "images.tar") as tar:
        assert len(tar.getnames()) == 20


def test_digits(study):
    rows = study.ingest(source="digits", count=10)
    assert [rows[f"{i:04d}"]["label"] for i in range(10)] == [str(i) for i in range(10)]
    assert rows["0003"]["caption"] == "a handwritten digit three"


def test_count_takes_the_first_items(study):
    for i in range(9):
        write(study.folder / f"images/{i}.png", png(i))
    assert set(study.ingest(source="folder", path=str(study.folder / "images"), count=3)) == {"0", "1", "2"}


# Promises


def test_the_same_collection_gives_the_same_bytes_with_any_number_of_processes(study, monkeypatch):
    for i in range(150):
        write(study.folder / f"images/{i}.png", png(i % 140, 4) if i % 50 else b"bad")
    digests = []
    for workers in (1, 3):
        study.ingest(source="folder", path=str(study.folder / "images"), maximum_rejects=0.1, workers=workers)
        digests.append([(study.out / name).read_bytes() for name in ("manifest.parquet", "rejected.parquet")])
    assert digests[0] == digests[1]


def test_tables_hold_no_absolute_path(study):
    write(study.folder / "images/a.png", png(1))
    write(study.folder / "images/bad.png", b"")
    study.ingest(source="folder", path=str(study.folder / "images"), maximum_rejects=0.5)
    for name in ("manifest.parquet", "rejected.parquet"):
        assert str(study.folder).encode() not in (study.out / name).read_bytes()
        assert str(study.folder) not in str(pq.read_table(study.out / name).to_pylist())


def test_a_shard_is_read_alone_and_shards_make_up_the_whole(study):
    study.ingest(source="scenes", count=10, shards=4)
    path = study.out / "manifest.parquet"
    parts = [manifest.shard_rows(path, f"{i}-of-4") for i in range(4)]
    assert pa.concat_tables(parts).equals(manifest.read(path))
    assert sorted(len(part) for part in parts) == [2, 2, 3, 3]
    with pytest.raises(GenviewError, match="made for 4 shards"):
        manifest.shard_rows(path, "0-of-2")


@pytest.mark.parametrize("group", [1, 2, 3, 65_536])
def test_a_shards_place_is_where_its_rows_are(study, group, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", group)
    study.ingest(source="scenes", count=11, shards=4)
    path = study.out / "manifest.parquet"
    whole = manifest.read(path)
    for number in range(4):
        first, end = manifest.place(path, f"{number}-of-4")
        assert whole.slice(first, end - first).equals(manifest.shard_rows(path, f"{number}-of-4"))


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_groups_of_neighbouring_shards_make_up_the_whole(study, groups, monkeypatch):
    monkeypatch.setattr(keys, "MAXIMUM_GROUPS", groups)
    study.ingest(source="scenes", count=10, shards=4)
    path = study.out / "manifest.parquet"
    names = keys.group_names(4)
    parts = [manifest.read_group(path, name) for name in names]
    for name, part in zip(names, parts):
        assert {keys.group_of(f"{shard}-of-4") for shard in part["shard"].to_pylist()} == {name}
    assert pa.concat_tables(parts).equals(manifest.read(path)) and all(len(part) for part in parts)
    shards = [shard for part in parts for shard in set(part["shard"].to_pylist())]
    assert sorted(shards) == [0, 1, 2, 3], "a shard is in two groups"
    with pytest.raises(GenviewError, match="made for 4 shards"):
        manifest.read_group(path, "0-of-5")


def test_equal_bytes_are_kept_once_and_listed(study):
    for name, seed in [("b", 1), ("a", 1), ("c", 2), ("d", 1)]:
        write(study.folder / f"images/{name}.png", png(seed))
    rows = study.ingest(source="folder", path=str(study.folder / "images"))
    assert set(rows) == {"a", "c"}
    assert {row["key"]: (row["kind"], row["reason"]) for row in study.rejected} == {
        "b": ("duplicate", "has the same bytes as 'a'"),
        "d": ("duplicate", "has the same bytes as 'a'"),
    }
    rows = study.ingest(source="folder", path=str(study.folder / "images"), drop_duplicates=False)
    assert set(rows) == {"a", "b", "c", "d"} and study.rejected == []


def test_images_that_look_alike_are_dropped_on_request(study):
    scene = Image.fromarray(scenes.scene(3, size=64).image)
    for name, image in [("a", scene), ("b", scene.resize((200, 200))), ("c", Image.fromarray(scenes.scene(4).image))]:
        (study.folder / "images").mkdir(exist_ok=True)
        image.save(study.folder / f"images/{name}.png")
    rows = study.ingest(source="folder", path=str(study.folder / "images"), perceptual_duplicates=4)
    assert set(rows) == {"a", "c"}
    assert study.rejected[0]["key"] == "b" and "looks like 'a'" in study.rejected[0]["reason"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 20), st.randoms(use_true_random=False))
def test_near_duplicates_equal_those_of_comparing_all_pairs(hashes, distance, random):
    hashes += [value ^ (1 << random.randrange(64)) ^ (1 << random.randrange(64)) for value in hashes]
    random.shuffle(hashes)
    expected, kept = [], []
    for row, value in enumerate(hashes):
        near = [old for old in kept if (hashes[old] ^ value).bit_count() <= distance]
        # An equal hash is never compared again: whatever stood for it stands for it now.
        equal = [old for old in range(row) if hashes[old] == value]
        expected.append(expected[equal[0]] if equal else near[0] if near else row)
        if expected[-1] == row:
            kept.append(row)
    assert duplicates.near(np.array(hashes, np.uint64), distance).tolist() == expected


def test_excluded_keys_are_left_out_and_do_not_count_as_failures(study):
    for i in range(4):
        write(study.folder / f"images/{i}.png", png(i))
    for name, text in [("keys.txt", "1\n3\ngone\n"), ("keys.csv", "score,key\n0.9,1\n0.98,3\n")]:
        listed = write(study.folder / name, text.encode())
        rows = study.ingest(source="folder", path=str(study.folder / "images"), exclude=str(listed), maximum_rejects=0)
        assert set(rows) == {"0", "2"}
        assert [(row["key"], row["kind"]) for row in study.rejected] == [("1", "leaked"), ("3", "leaked")]


def test_too_many_bad_images_stop_the_study_with_the_list(study):
    for i in range(30):
        write(study.folder / f"images/{i:02d}.png", png(i) if i < 5 else b"bad")
    with pytest.raises(GenviewError) as error:
        study.ingest(source="folder", path=str(study.folder / "images"), maximum_rejects=0.5)
    text = str(error.value)
    assert "25 of 30 images are bad" in text and "05.png: not an image" in text and "and 5 more" in text
    with open(study.out / "failures.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 25
    assert not (study.out / "manifest.parquet").exists()
    assert len(study.ingest(source="folder", path=str(study.folder / "images"), maximum_rejects=0.9)) == 5


def test_an_image_that_kills_its_process_costs_that_image_alone(study, monkeypatch):
    for i in range(200):
        write(study.folder / f"images/{i:03d}.png", png(i, 4))
    deadly = png(77, 4)
    decode = Reader.decode
    monkeypatch.setattr(Reader, "decode", lambda self, data: os._exit(9) if data == deadly else decode(self, data))
    rows = study.ingest(source="folder", path=str(study.folder / "images"), workers=2)
    assert len(rows) == 199
    assert [(row["key"], row["kind"]) for row in study.rejected] == [("077", "unreadable")]
    assert "crashed" in study.rejected[0]["reason"]
