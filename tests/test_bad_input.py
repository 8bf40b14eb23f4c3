"""Bad input, each kind with the message a person gets: what it costs is that image, or the study stops saying why."""

import io
import logging
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genview import parquet, tables
from genview.config.dataset import Dataset
from genview.data import ingest, manifest, published, tars
from genview.errors import GenviewError


def encoded(kind: str = "PNG", mode: str = "RGB", side: int = 20, seed: int = 0, **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bits() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def collection(tmp_path):
    """A folder with one good image, ``good.png``."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded(seed=99))
    return folder


def take(folder, **options):
    """Ingest; returns kept rows by key and reasons of refusals by key."""
    out = folder.parent / "out"
    options = {"source": "folder", "path": str(folder), "maximum_rejects": 1.0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ingest.run(
            Dataset(**options),
            seed=0,
            manifest=out / "manifest.parquet",
            rejected=out / "rejected.parquet",
            images=out / "images.tar",
            stamp={},
        )
    rows = {row["key"]: row for row in manifest.read(out / "manifest.parquet").to_pylist()}
    refused = parquet.read(out / "rejected.parquet", tables.REJECTED).to_pylist()
    return rows, {row["key"] or row["source"]: row["reason"] for row in refused}


def table(folder, text, **options):
    """Ingest a CSV of this text, beside the good image."""
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return take(folder, source="table", path=str(path), **options)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("truncated.jpg", encoded("JPEG", side=64)[:1500], "damaged or cut short"),
        ("zero.jpg", b"", "empty (0 bytes)"),
        ("page.jpg", b"<html>not found</html>", "not an image in a known format"),
        ("program.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image in a known format"),
    ],
)
def test_a_bad_file_costs_that_image_and_is_listed_with_its_reason(collection, name, data, reason):
    (collection / name).write_bytes(data)
    rows, refused = take(collection)
    assert set(rows) == {"good"}
    assert list(refused) == [name.rsplit(".", 1)[0]] and reason in next(iter(refused.values()))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cmyk.jpg", encoded("JPEG", "CMYK")),
        ("sixteen.png", sixteen_bits()),
        ("palette.png", encoded("PNG", "P")),
        ("alpha.png", encoded("PNG", "RGBA")),
        ("animation.gif", encoded("GIF", save_all=True, append_images=[Image.new("RGB", (20, 20))])),
        ("UPPER.JPEG", encoded("JPEG")),
    ],
)
def test_unusual_but_sound_images_are_kept(collection, name, data):
    (collection / name).write_bytes(data)
    rows, refused = take(collection)
    assert not refused and (rows[name.rsplit(".", 1)[0]]["width"], len(rows)) == (20, 2)


def test_size_is_that_of_the_upright_image(collection):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 10)).save(collection / "turned.jpg", exif=exif)
    rows, _ = take(collection)
    assert (rows["turned"]["width"], rows["turned"]["height"]) == (10, 30)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(collection):
    Image.new("1", (20_000, 20_000)).save(collection / "bomb.png")  # 400 million pixels in 60 KB
    rows, refused = take(collection)
    assert set(rows) == {"good"} and "decompression bomb" in refused["bomb"]
    Image.new("1", (3000, 3000)).save(collection / "bomb.png")
    _, refused = take(collection, maximum_pixels=1_000_000)
    assert "3000 x 3000 pixels are more than the 1000000 allowed" in refused["bomb"]


def test_an_image_too_small_is_refused_if_a_side_is_asked_for(collection):
    Image.new("RGB", (5, 50)).save(collection / "thin.png")
    _, refused = take(collection, minimum_side=8)
    assert "shorter side is below 8" in refused["thin"]


def test_two_images_of_one_key_stop_the_study_and_both_are_named(collection):
    (collection / "good.JPG").write_bytes(encoded("JPEG"))
    with pytest.raises(GenviewError, match=r"(?s)1 keys name more than one.*'good': good\.JPG and good\.png"):
        take(collection)
    with pytest.raises(GenviewError, match=r"row 1: good\.png and row 3: \./good\.png"):
        table(collection, "image\ngood.png\nother.png\n./good.png\n")
    for name in ("a", "b"):
        with tars.writing(collection / f"{name}.tar") as tar:
            tar.add("000.png", encoded())
    with pytest.raises(GenviewError, match=r"a\.tar: 000\.png and b\.tar: 000\.png"):
        take(collection, source="webdataset")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("../secret.png", "holds '..'"),
        ("a/../../secret.png", "holds '..'"),
        ("/etc/secret.png", "is an absolute path"),
        ("a\0b.png", "holds a NUL"),
    ],
)
def test_a_key_that_leads_out_of_the_folder_stops_the_study(collection, image, reason):
    with pytest.raises(GenviewError, match=r"row 2: .*") as error:
        table(collection, f"image\ngood.png\n{image}\n")
    assert reason in str(error.value)


def test_a_webdataset_key_that_leads_out_stops_the_study(collection):
    with tars.writing(collection / "a.tar") as tar:
        tar.add("../../etc/x.png", encoded())
    with pytest.raises(GenviewError, match=r"a\.tar: \.\./\.\./etc/x\.png: the key .* holds '\.\.'"):
        take(collection, source="webdataset")


def test_captions_with_commas_quotes_newlines_and_emoji_are_kept(collection):
    rows, _ = table(collection, 'image,prompt\ngood.png,"a ""big"" cat, grey\nsecond line 🐈"\n')
    assert rows["good"]["caption"] == 'a "big" cat, grey\nsecond line 🐈'


@pytest.mark.parametrize("caption", ["", '""', "   "])
def test_an_empty_caption_is_none(collection, caption):
    rows, _ = table(collection, f"image,prompt\ngood.png,{caption}\n")
    assert rows["good"]["caption"] is None


def test_a_missing_column_is_named_with_what_is_there(collection):
    with pytest.raises(GenviewError, match=r"no column 'image'; its header is \['good.png', 'a cat'\].*first line"):
        table(collection, "good.png,a cat\n")
    with pytest.raises(GenviewError, match="no column 'text'"):
        table(collection, "image,prompt\ngood.png,a\n", caption_column="text")
    with pytest.raises(GenviewError, match="no column 'share'"):
        table(collection, "image,prompt\ngood.png,a\n", foreground_share_column="share")


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "1.5", "-0.1", "much"])
def test_a_share_that_is_no_share_is_refused_with_its_row(collection, value):
    with pytest.raises(GenviewError, match=f"row 1: '{value}'"):
        table(collection, f"image,share\ngood.png,{value}\n", foreground_share_column="share")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,prompt\ngood.png,caf\xe9\n".encode("latin1"), "not UTF-8; convert it"),
        ("image,prompt\ngood.png,a,b,c\n", "row 1 has 4 fields, the header 2"),
        ("image,prompt\n", "header but no rows"),
        ("", "not a table with a header"),
        ("image,image\na,b\n", "two columns are named image"),
    ],
)
def test_a_table_that_is_none_is_refused(collection, text, message):
    with pytest.raises(GenviewError, match=message):
        table(collection, text)


def test_files_that_a_table_names_but_are_not_there(collection):
    rows, refused = table(collection, "image\ngood.png\ngone.png\n\nhttp://x.org/y.png\n")
    assert set(rows) == {"good"}
    assert "No such file" in refused["gone"] and len(refused) == 2


def test_links_that_lead_in_circles(collection, caplog):
    (collection / "again").symlink_to(collection)
    (collection / "self.png").symlink_to(collection / "self.png")
    (collection / "dangling.png").symlink_to(collection / "nowhere")
    with caplog.at_level(logging.WARNING):
        rows, refused = take(collection)
    assert set(rows) == {"good"} and "again: this link leads back to a folder above it" in caplog.text
    assert "symbolic links" in refused["self"] and "No such file" in refused["dangling"]


def test_what_is_no_regular_file_is_refused_without_waiting(collection):
    os.mkfifo(collection / "pipe.png")
    (collection / "folder.png").mkdir()
    rows, refused = take(collection)
    assert set(rows) == {"good"} and "pipe" in refused


def test_an_unreadable_file_is_listed():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        for name in ("good", "locked"):
            (folder / f"{name}.png").write_bytes(encoded(seed=len(name)))
        (folder / "locked.png").chmod(0)
        Path(temporary).chmod(0o777)
        if user == 0:
            os.seteuid(65_534)  # root may read every file
        try:
            rows, refused = take(folder, workers=1)
        finally:
            os.seteuid(user)
    assert set(rows) == {"good"} and refused == {"locked": "cannot be opened: Permission denied"}


def test_a_file_name_that_is_not_utf8_is_listed(collection):
    with open(os.fsencode(collection) + b"/caf\xe9.png", "wb") as file:
        file.write(encoded())
    _, refused = take(collection)
    assert "not UTF-8" in refused["caf\\udce9.png"]


def test_a_caption_file_that_is_not_utf8_is_listed(collection):
    (collection / "latin.png").write_bytes(encoded())
    (collection / "latin.txt").write_bytes(b"caf\xe9")
    _, refused = take(collection)
    assert "latin.txt is not UTF-8" in refused["latin"]


def test_one_image_is_a_dataset_with_empty_shards(collection):
    rows, _ = take(collection, shards=3)
    path = collection.parent / "out/manifest.parquet"
    assert [len(manifest.shard_rows(path, f"{i}-of-3")) for i in range(3)] == [1, 0, 0] and set(rows) == {"good"}


def test_an_empty_dataset_says_what_was_looked_for(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(GenviewError, match=r"holds no image; extensions in any case: \.jpg"):
        take(tmp_path / "empty")
    with pytest.raises(GenviewError, match=r"holds no \.tar file"):
        take(tmp_path / "empty", source="webdataset")
    with pytest.raises(GenviewError, match="no such folder"):
        take(tmp_path / "gone")
    with pytest.raises(GenviewError, match="no such table"):
        take(tmp_path, source="table", path=str(tmp_path / "gone.csv"))
    with pytest.raises(GenviewError, match="no dataset saved with save_to_disk"):
        take(tmp_path, source="huggingface", path=str(tmp_path / "empty"))


def test_only_bad_images_is_an_error_even_if_all_may_be_bad(collection):
    (collection / "good.png").write_bytes(b"x")
    with pytest.raises(GenviewError, match=r"(?s)no image is left of 1.*good\.png: not an image"):
        take(collection)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_compressed_tar_is_refused_with_the_remedy(collection, name):
    import gzip

    with tars.writing(collection / "plain") as tar:
        tar.add("0.png", encoded())
    (collection / name).write_bytes(gzip.compress((collection / "plain").read_bytes()))
    with pytest.raises(GenviewError, match=r"(?s)compressed.*(slices|decompressed)"):
        take(collection, source="webdataset")


def test_a_tar_cut_short_loses_only_what_is_cut(collection):
    with tars.writing(collection / "a.tar") as tar:
        for i in range(4):
            tar.add(f"{i}.png", encoded(seed=i))
    data = (collection / "a.tar").read_bytes()
    (collection / "a.tar").write_bytes(data[: 2 * 2048 + 700])
    rows, refused = take(collection, source="webdataset")
    assert set(rows) == {"0", "1"}
    assert list(refused) == ["a.tar"] and "cut short" in refused["a.tar"]
    assert "all after the sample '1' is lost" in refused["a.tar"]


# The published pipeline's files in place of a stage


@pytest.mark.parametrize(
    ("kind", "header", "row", "message"),
    [
        ("fg_ratios", "image,ratio,prompt", "a.jpg,nan,x", "not a finite number"),
        ("fg_ratios", "image,ratio,prompt", "a.jpg,,x", "ratio '': empty"),
        ("fg_ratios", "image,ratio,prompt", "a.jpg,1.01,x", r"outside \[0, 1\]"),
        ("fg_ratios", "image,prompt", "a.jpg,x", "no column 'ratio'"),
        ("noise_level", "image,prompt,noise_level", "a.jpg,x,NaN", "not a finite number"),
        ("noise_level", "image,prompt,noise_level", "a.jpg,x,1000", "no whole number in 0..999"),
        ("noise_level", "image,prompt,noise_level", "a.jpg,x,10.5", "no whole number"),
        ("noise_level", "image,prompt,noise_level", "a.jpg,x,1_0", "not a finite number"),
        ("guidance_scale", "image,prompt,guidance_scale", "a.jpg,x,inf", r"outside \[1, 50\]"),
        ("guidance_scale", "image,prompt,guidance_scale", "a.jpg,x,0.5", r"outside \[1, 50\]"),
        ("guidance_scale", "image,prompt,guidance_scale", "../a.jpg,x,2", r"holds '\.\.'"),
        ("infos", "image,prompt,noise_level", "a.jpg,x,2", "no column 'guidance_scale'"),
    ],
)
def test_a_published_file_with_a_value_that_is_none_is_refused_with_its_row(tmp_path, kind, header, row, message):
    path = tmp_path / "given.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(GenviewError, match=message):
        published.read_csv(path, kind)


def test_a_published_file_that_lists_an_image_twice_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("image,ratio,prompt\na.jpg,0.5,x\nb.jpg,0.5,x\na.png,0.1,x\n")
    with pytest.raises(GenviewError, match="'a': rows 1, 3"):
        published.read_csv(tmp_path / "r.csv", "fg_ratios")
