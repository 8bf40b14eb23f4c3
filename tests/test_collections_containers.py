"""Folders, tars and rows with images: companions are left out, members joined, losses counted, keys told apart."""

import gzip
import io
import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collections_of_others import Taken, picture, pictures, tar
from PIL import Image, PngImagePlugin, features

from genview.data import images
from genview.errors import GenviewError


def samples(first, count, **more):
    """Members of samples, picture and caption side by side."""
    members = {}
    for index in range(first, first + count):
        members[f"{index:05d}.png"] = picture(index)
        members[f"{index:05d}.txt"] = f"thing {index}"
    return {**members, **more}


def take(tmp_path, source="webdataset", **block):
    return Taken(tmp_path / "out", source=source, path=str(tmp_path / "set"), **block)


def test_companions_and_hidden_folders_are_left_out_everywhere(tmp_path):
    junk = b"\0\5\26\7" + bytes(100)
    tar(tmp_path / "tars/0.tar", samples(0, 2, **{"./._00000.png": junk, "__MACOSX/._a.png": junk, ".c/b.png": junk}))
    (tmp_path / "tars/._0.tar").write_bytes(junk)
    (tmp_path / "tars/.old").mkdir()
    tar(tmp_path / "tars/.old/1.tar", samples(5, 2))
    taken = Taken(tmp_path / "out", source="webdataset", path=str(tmp_path / "tars"))
    assert set(taken.rows) == {"00000", "00001"} and not taken.refused
    pictures(tmp_path / "set", "a/0.png", "a/._1.png", ".cache/2.png", "b/.ipynb_checkpoints/3.png")
    assert set(take(tmp_path, "folder").rows) == {"a/0"}
    shard = pa.table({"image": [picture(1)]})
    (tmp_path / "shards/.cache").mkdir(parents=True)
    for name in ("0.parquet", "._0.parquet", ".cache/1.parquet"):
        pq.write_table(shard, tmp_path / "shards" / name)
    assert len(Taken(tmp_path / "o", source="huggingface", path=str(tmp_path / "shards")).rows) == 1


def test_names_with_dots_are_samples_of_their_own_but_beside_a_plain_one(tmp_path):
    members = {}
    for index in range(3):
        members[f"scan_1.{index:03d}.png"] = picture(index)
        members[f"scan_1.{index:03d}.txt"] = f"scan {index}"
    members |= {"a.jpg": picture(10, kind="JPEG"), "a.mask.png": picture(11), "a.json": {"caption": "plain"}}
    tar(tmp_path / "set/0.tar", members)
    found = take(tmp_path).column("caption")
    assert found == {"a": "plain", **{f"scan_1.{index:03d}": f"scan {index}" for index in range(3)}}


def test_members_of_a_sample_that_stand_apart_are_joined(tmp_path):
    members = samples(0, 4)
    apart = dict(sorted(members.items(), key=lambda item: item[0].rsplit(".")[1]))
    tar(tmp_path / "set/0.tar", apart)
    assert list(take(tmp_path).column("caption").values()) == [f"thing {index}" for index in range(4)]


def cut(path, count):
    """Cut a tar within its sample number ``count``."""
    path.write_bytes(path.read_bytes()[: count * 3 * 1024 + 700])


def test_what_a_cut_tar_loses_is_counted_and_said_in_the_terminal(tmp_path, caplog):
    for number in range(3):
        tar(tmp_path / f"set/{number}.tar", samples(100 * number, 40))
    size = (tmp_path / "set/2.tar").stat().st_size
    (tmp_path / "set/2.tar").write_bytes((tmp_path / "set/2.tar").read_bytes()[: size // 4])
    with caplog.at_level(logging.WARNING):
        taken = take(tmp_path)
    kept = len(taken.rows) - 80
    assert 5 < kept < 12 and len(taken.refused) == 40 - kept
    (told,) = [record for record in caplog.records if "cut short" in record.getMessage()]
    assert told.terminal and f"{40 - kept} samples are lost (estimated: the other tars hold 40)" in told.getMessage()
    with pytest.raises(GenviewError, match=rf"{40 - kept} of 120 images are bad"):
        take(tmp_path, maximum_rejects=0.1)


def test_img2datasets_own_count_is_believed_before_an_estimate(tmp_path):
    tar(tmp_path / "set/00000.tar", samples(0, 20))
    (tmp_path / "set/00000_stats.json").write_text(json.dumps({"successes": 20, "count": 25}))
    data = (tmp_path / "set/00000.tar").read_bytes()
    (tmp_path / "set/00000.tar").write_bytes(data[: len(data) // 2])
    taken = take(tmp_path)
    assert len(taken.rows) + len(taken.refused) == 20 and len(taken.rows) < 12


@pytest.mark.parametrize("kind", ["damaged", "zeros"])
def test_damage_in_the_middle_is_estimated_from_what_follows(tmp_path, kind):
    path = tar(tmp_path / "set/0.tar", {**samples(0, 60), **{f"big{n}.png": picture(n + 900, 400) for n in range(8)}})
    data = bytearray(path.read_bytes())
    half = len(data) // 2 // 512 * 512
    data[half:] = b"\xff" * (len(data) - half) if kind == "damaged" else bytes(len(data) - half)
    path.write_bytes(data)
    taken = take(tmp_path)
    assert any("damaged at byte" in reason or "cut short" in reason for reason in taken.refused.values())
    assert len(taken.refused) > 1


def test_tars_that_count_from_0_again_are_told_apart_by_a_prefix(tmp_path):
    for folder in ("first", "second"):
        for number in range(2):
            members = {f"{index}.png": picture(hash((folder, number, index)) % 10_000) for index in range(2)}
            tar(tmp_path / f"set/{folder}/{number}.tar", members)
    with pytest.raises(GenviewError, match=r"dataset.key_prefix: folder \(or tar\)"):
        take(tmp_path)
    with pytest.raises(GenviewError, match="'first/0'"):
        take(tmp_path, key_prefix="folder")
    assert len(take(tmp_path, key_prefix="tar").rows) == 8
    assert "first/1/0" in take(tmp_path, key_prefix="tar").rows


def test_a_field_that_no_sample_has_is_named_with_those_there_are(tmp_path):
    tar(tmp_path / "set/0.tar", {"a.png": picture(1), "a.json": {"TEXT": "a dog"}})
    with pytest.raises(GenviewError, match=r"no sample has a field 'text' .*there are TEXT"):
        take(tmp_path, caption_column="text")
    assert take(tmp_path, caption_column="TEXT").column("caption") == {"a": "a dog"}


def test_parts_of_a_hub_dataset_are_not_mixed(tmp_path):
    (tmp_path / "set/data").mkdir(parents=True)
    for part in ("train", "test"):
        pq.write_table(
            pa.table({"image": [picture(ord(part[1]))]}), tmp_path / f"set/data/{part}-00000-of-00001.parquet"
        )
    with pytest.raises(GenviewError, match=r"holds several parts; name one: .*data/test-\*, .*data/train-\*"):
        take(tmp_path, "huggingface")
    path = str(tmp_path / "set/data/train-*")
    assert len(Taken(tmp_path / "out", source="huggingface", path=path).rows) == 1


def test_a_collection_of_another_kind_is_pointed_to_its_source(tmp_path):
    tar(tmp_path / "set/0.tar", samples(0, 1))
    with pytest.raises(GenviewError, match="write source: webdataset"):
        take(tmp_path, "folder")
    (tmp_path / "set/0.tar").rename(tmp_path / "set/0.tar.old")
    (tmp_path / "set/0.tar.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(GenviewError, match=r"compressed tars such as 0\.tar\.gz"):
        take(tmp_path)


# Pictures


def test_every_name_of_a_format_is_read_and_none_is_left_out_in_silence(tmp_path):
    for name in ("a.jfif", "b.JPE", "c.jpeg"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(picture(ord(name[0]), kind="JPEG"))
    for name in ("d.heic", "e.jp2", "f.CR2", "a.cr2", "notes.md"):
        (tmp_path / "set" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    taken = take(tmp_path, "folder")
    assert set(taken.rows) == {"a", "b", "c"}
    assert set(taken.refused) == {"d.heic", "e.jp2", "f.CR2"}, "a raw file beside its JPEG is a companion"
    assert "HEIC" in taken.refused["d.heic"] and "convert" in taken.refused["e.jp2"]
    members = {"a.jfif": picture(1, kind="JPEG"), "a.txt": "a", "b.jp2": b"x", "b.txt": "b"}
    tar(tmp_path / "tars/0.tar", members)
    taken = Taken(tmp_path / "o", source="webdataset", path=str(tmp_path / "tars"))
    assert set(taken.rows) == {"a"} and ".jp2 files are not opened" in taken.refused["0.tar: b"]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_where_pillow_can(tmp_path):
    pictures(tmp_path / "set", "a.png")
    (tmp_path / "set/b.avif").write_bytes(picture(2, kind="AVIF"))
    assert set(take(tmp_path, "folder").rows) == {"a", "b"}


def test_metadata_beyond_pillows_limits_is_no_damage():
    text, many = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    text.add_text("raw", "x" * 2_000_000, zip=True)
    for number in range(80):
        many.add_text(f"k{number}", "y" * 900_000, zip=True)
    plain = Image.open(io.BytesIO(picture(3))).convert("RGB")
    for options in ({"pnginfo": text}, {"pnginfo": many}, {"icc_profile": bytes(2_000_000)}):
        assert images.decode(picture(3, **options)).tobytes() == plain.tobytes()
    broken = picture(3, pnginfo=text).replace(b"zTXt", b"zTXt", 1)
    place = broken.index(b"zTXt") + 12
    assert images.decode(broken[:place] + b"\xff\xff\xff" + broken[place + 3 :]).tobytes() == plain.tobytes()


def test_a_very_thin_picture_is_refused_with_its_sides_and_the_setting(tmp_path):
    pictures(tmp_path / "set", "a.png")
    Image.new("RGB", (1, 60_000)).save(tmp_path / "set/thin.png")
    Image.new("RGB", (40, 1)).save(tmp_path / "set/line.png")
    taken = take(tmp_path, "folder")
    assert set(taken.rows) == {"a"} and "1 x 60000 pixels" in taken.refused["thin.png"]
    assert "maximum_aspect_ratio" in taken.refused["line.png"]
    assert set(take(tmp_path, "folder", maximum_aspect_ratio=50).rows) == {"a", "line"}


def test_of_a_thin_picture_of_an_evaluation_set_the_middle_is_taken():
    strip = Image.new("RGB", (1, 60_000))
    strip.putpixel((0, 30_000), (255, 0, 0))
    middle = images.middle(strip)
    assert middle.size == (1, 32) and middle.getpixel((0, 16)) == (255, 0, 0)
    assert images.middle(Image.new("RGB", (320, 10))).size == (320, 10)
