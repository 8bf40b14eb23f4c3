"""Tables as people have them are read, or answered with the line to write; nothing of a table is lost in silence."""

import bz2
import gzip
import lzma

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from collections_of_others import Taken, picture, pictures, table

from genview.config.dataset import Dataset
from genview.data import look
from genview.errors import GenviewError

NAMES = [f"{index}.png" for index in range(4)]
ROWS = [("image", "prompt", "label"), *((name, f"thing, number {name}", "ab"[int(name[0]) % 2]) for name in NAMES)]


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "photos", *NAMES)


def take(folder, name="t.csv", **block):
    return Taken(folder.parent / f"out_{name}", source="table", path=str(folder / name), **block)


def texts(rows=ROWS, end="\n", last=True):
    text = end.join(",".join(f'"{field}"' if "," in field else field for field in row) for row in rows)
    return (text + (end if last else "")).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cr.csv", texts(end="\r")),
        ("crlf.CSV", texts(end="\r\n", last=False)),
        ("blank.csv", b"\n\n" + texts(end="\n\n")),
        ("mark.csv", b"\xef\xbb\xbf" + texts()),
        ("wide.csv", texts().decode().encode("utf-16")),
        ("t.csv.gz", gzip.compress(texts(), mtime=0)),
        ("t.csv.bz2", bz2.compress(texts())),
        ("compressed_by_another_name.csv", lzma.compress(texts())),
        ("zstd.csv", pa.Codec("zstd").compress(texts(), asbytes=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_line_ends_marks_and_compression_change_nothing(folder, name, data):
    (folder / name).write_bytes(data)
    if name == "zstd.csv":
        with pa.CompressedOutputStream(str(folder / name), "zstd") as file:
            file.write(texts())
    taken = take(folder, name)
    assert list(taken.column("caption").values()) == [f"thing, number {name}" for name in NAMES]
    assert look.look(taken.dataset).images == 4


@pytest.mark.parametrize("name", ["T.PARQUET", "t.pq", "t.feather", "t.arrow", "no_suffix"])
def test_arrows_forms_are_told_by_their_content(folder, name):
    made = pa.table({title: [row[place] for row in ROWS[1:]] for place, title in enumerate(ROWS[0])})
    if "feather" in name:
        feather.write_feather(made, folder / name)
    elif "arrow" in name:
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, made.schema) as stream:
            stream.write_table(made)
    else:
        pq.write_table(made, folder / name)
    assert list(take(folder, name).column("label").values()) == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("header", "separator", "block"),
    [
        (("filepath", "title"), "\t", {}),
        (("image", "prompt"), ";", {}),
        (("file_name", "caption"), "|", {}),
        (("photo", "words"), ";", {"image_column": "photo", "caption_column": "words"}),
        (("photo", "words"), "\t", {"image_column": "photo", "caption_column": "words", "separator": "\t"}),
    ],
)
def test_names_of_columns_and_separators_of_others(folder, header, separator, block):
    table(folder / "t.csv", [header, *((name, f"a; b\tc {name}") for name in NAMES)], separator)
    taken = take(folder, **block)
    assert list(taken.column("caption").values()) == [f"a; b\tc {name}" for name in NAMES]
    told = look.look(taken.dataset).told
    assert repr(header[0]) in told and repr(header[1]) in told and "separated by" in told and "no labels" in told


def test_a_header_that_nobody_knows_is_answered_with_the_line_to_write(folder):
    table(folder / "t.csv", [("photo", "words"), ("0.png", "a")], ";")
    with pytest.raises(GenviewError, match=r"no column 'image'.*separated by semicolons.*dataset.image_column: photo"):
        take(folder)
    with pytest.raises(GenviewError, match=r"no column 'image' .*dataset.image_column.*there are photo, words"):
        take(folder, image_column="image")


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('image,prompt\n0.png,a\n1.png,"a dog\n2.png,b\n3.png,c\n', 2),
        ('image,prompt\n0.png,a\n1.png,"a dog\n2.png,"b"\n3.png,c\n', 2),
        ('image,prompt\n0.png,"a\n1.png,b\n2.png,"c, d"\n3.png,e\n', 1),
        ('image\tprompt\n0.png\t"a\n1.png\tb\n', 1),
    ],
)
def test_a_quote_that_is_never_closed_is_an_error_with_its_row(folder, text, row):
    (folder / "t.csv").write_text(text)
    with pytest.raises(GenviewError, match=rf"row {row} \(line {row + 1}\): a quote that is opened is not closed"):
        take(folder)


def test_what_is_no_table_is_named_as_what_it_is(folder):
    for data, words in ((b"PK\x03\x04....", "spreadsheet"), (b"SQLite format 3\0", "SQLite"), (b"", "empty")):
        (folder / "t.csv").write_bytes(data)
        with pytest.raises(GenviewError, match=words):
            take(folder)
    (folder / "t.csv.gz").write_bytes(gzip.compress(texts() * 50)[:-20])
    with pytest.raises(GenviewError, match="cut short or damaged"):
        take(folder, "t.csv.gz")
    (folder / "t.parquet").write_bytes(b"image,prompt\n")
    with pytest.raises(GenviewError, match="not a parquet file"):
        take(folder, "t.parquet")


@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_images_within_a_table_are_pointed_to_the_source_that_reads_them(folder, kind):
    data = [picture(index) for index in range(3)]
    column = data if kind == "bytes" else [{"bytes": one, "path": None} for one in data]
    pq.write_table(pa.table({"image": column, "prompt": ["a", "b", "c"]}), folder / "t.parquet")
    with pytest.raises(GenviewError, match="holds the images themselves, not paths; write source: huggingface"):
        take(folder, "t.parquet")
    taken = Taken(folder.parent / "out", source="huggingface", path=str(folder / "t.parquet"))
    assert list(taken.column("caption").values()) == ["a", "b", "c"]


def test_rows_of_one_image_with_different_captions_are_one_image(folder):
    rows = [("image", "prompt", "label"), *((name, f"{name} from {side}", "x") for side in "ab" for name in NAMES)]
    table(folder / "t.csv", rows)
    taken = take(folder)
    assert len(taken.rows) == 4 and not taken.refused
    assert taken.rows["2"]["captions"] == ["2.png from a", "2.png from b"]
    table(folder / "t.csv", [*rows, ("2.png", "another", "y")])
    with pytest.raises(GenviewError, match=r"'2': row 3: 2\.png and row 7: 2\.png and row 9: 2\.png"):
        take(folder)


@pytest.mark.parametrize(
    ("disk", "written"),
    [
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("cafe\u0301/a\u0308.png", "caf\u00e9/a\u0308.png"),
        ("photos/cat.png", "photos\\cat.png"),
        ("a.png", "  a.png "),
    ],
)
def test_a_name_that_is_written_otherwise_than_on_the_disk_is_found(tmp_path, disk, written):
    pictures(tmp_path / "set", disk)
    table(tmp_path / "set/t.csv", [("image", "prompt"), (written, "a thing")])
    taken = Taken(tmp_path / "out", source="table", path=str(tmp_path / "set/t.csv"))
    ((_, row),) = taken.rows.items()
    assert row["path"] == disk and row["caption"] == "a thing"


def test_a_missing_file_is_told_with_what_is_there_instead(folder):
    (folder / "Dog.JPG").write_bytes(picture(9, kind="JPEG"))
    table(folder / "t.csv", [("image",), ("0.png",), ("dog.jpg",), ("http://a.org/b.png",)])
    refused = take(folder).refused
    assert "there is 'Dog.JPG'" in refused["row 2: dog.jpg"]
    assert "an address, not a file" in refused["row 3: http://a.org/b.png"]


def test_a_table_beside_the_wrong_folder_is_found_by_the_first_look(tmp_path):
    table(tmp_path / "t.csv", [("image",), ("0.png",), ("1.png",)])
    with pytest.raises(GenviewError, match=r"none of the first 2 images is there.*dataset.image_root"):
        look.look(Dataset(source="table", path=str(tmp_path / "t.csv")))
