"""The same value means the same in every source: a list is several captions, nothing is nothing, -1 is not a class."""

import json
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collections_of_others import Taken, picture, pictures, tar
from hypothesis import given, settings
from hypothesis import strategies as st

from genview.config.dataset import Dataset
from genview.data import look, values
from genview.errors import GenviewError

NAN = float("nan")


def sources(folder: Path, captions: list, labels: list) -> dict[str, dict]:
    """The same captions and labels, of three images, in every source that can hold them."""
    pictures(folder / "table", "0.png", "1.png", "2.png")
    names = [f"{index}.png" for index in range(3)]
    columns = {"image": names, "caption": captions, "label": labels}
    pq.write_table(pa.table(columns), folder / "table/t.parquet")
    members = {}
    for index in range(3):
        members[f"{index}.png"] = picture(index)
        members[f"{index}.json"] = {"caption": captions[index], "label": labels[index]}
    tar(folder / "0.tar", members)
    shard = {**columns, "image": [{"bytes": picture(index), "path": names[index]} for index in range(3)]}
    pq.write_table(pa.table(shard), folder / "shard.parquet")
    return {
        "table": {"source": "table", "path": str(folder / "table/t.parquet")},
        "webdataset": {"source": "webdataset", "path": str(folder / "0.tar")},
        "huggingface": {"source": "huggingface", "path": str(folder / "shard.parquet")},
    }


def found(folder: Path, captions: list, labels: list) -> list[dict]:
    """What each source makes of them: captions and labels in the order of the images."""
    made = []
    for name, block in sources(folder, captions, labels).items():
        taken = Taken(folder / name, **block)
        made.append({column: list(taken.column(column).values()) for column in ("caption", "captions", "label")})
    assert made[0] == made[1] == made[2]
    return made


def test_nothing_is_no_value_in_every_source(tmp_path):
    (one, *_) = found(tmp_path, [None, "  ", "a dog"], [NAN, 3.0, -1.0])
    assert one == {"caption": [None, None, "a dog"], "captions": [None] * 3, "label": [None, "3", None]}


def test_a_list_of_captions_is_kept_and_its_first_is_the_caption(tmp_path):
    (one, *_) = found(tmp_path, [["a dog", "a brown dog", "a dog"], [], ["one", None, " "]], ["x", "x", "y"])
    assert one["caption"] == ["a dog", None, "one"]
    assert one["captions"] == [["a dog", "a brown dog"], None, None]


def test_several_labels_cost_their_image_and_are_named(tmp_path):
    for name, block in sources(tmp_path, ["a", "b", "c"], [["x"], ["x", "y"], ["y"]]).items():
        taken = Taken(tmp_path / name, **block)
        assert sorted(taken.column("label").values()) == ["x", "y"]
        ((source, reason),) = taken.refused.items()
        assert "label" in reason and "2 labels" in reason and ("1" in source or "row 2" in source)


def test_a_mapping_by_language_asks_which_and_takes_the_one_that_is_stated(tmp_path):
    captions = [{"en": f"a dog {index}", "de": "ein Hund"} for index in range(3)]
    for name, block in sources(tmp_path, captions, ["x", "y", "x"]).items():
        with pytest.raises(values.GenviewError, match=r"mapping \(.*en.*\).*dataset.caption_column: caption\."):
            Taken(tmp_path / name, **block)
        taken = Taken(tmp_path / name, **block, caption_column="caption.en")
        assert list(taken.column("caption").values()) == ["a dog 0", "a dog 1", "a dog 2"]


@pytest.mark.parametrize("field", ["caption", "label"])
def test_half_a_character_costs_at_most_its_sample(tmp_path, field):
    members = {"a.png": picture(1), "a.json": {"caption": "good", "label": "x"}, "b.png": picture(2)}
    members["b.json"] = json.dumps({"caption": "sun", "label": "sun"}).replace(
        f'"{field}": "sun', f'"{field}": "sun \\ud83c'
    )
    taken = Taken(tmp_path / "out", source="webdataset", path=str(tar(tmp_path / "0.tar", members)))
    if field == "caption":
        assert taken.column("caption") == {"a": "good", "b": "sun"} and not taken.refused
    else:
        assert set(taken.rows) == {"a"} and "half a character" in taken.refused["0.tar: b"]


def test_text_of_parquet_that_is_not_utf8_costs_its_row(tmp_path):
    pictures(tmp_path, "0.png", "1.png")
    broken = pa.array([b"caf\xe9", b"tea"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": ["0.png", "1.png"], "prompt": broken}), tmp_path / "t.parquet")
    taken = Taken(tmp_path / "out", source="table", path=str(tmp_path / "t.parquet"))
    assert taken.column("caption") == {"1": "tea"} and "is not UTF-8" in taken.refused["row 1: 0.png"]


def test_classes_of_hugging_face_are_named_and_minus_one_is_none(tmp_path):
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    rows = {"image": [{"bytes": picture(index), "path": None} for index in range(3)], "label": [1, -1, 0]}
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    made.save_to_disk(str(tmp_path / "saved"))
    made.to_parquet(str(tmp_path / "shards/train-00000-of-00001.parquet"))
    for name in ("saved", "shards"):
        taken = Taken(tmp_path / f"out_{name}", source="huggingface", path=str(tmp_path / name))
        assert list(taken.column("label").values()) == ["dog", None, "cat"]


def test_minus_one_beside_an_image_of_a_tar_is_no_class(tmp_path):
    members = {
        "a.png": picture(1),
        "a.cls": "-1",
        "b.png": picture(2),
        "b.cls": "7",
        "c.png": picture(3),
        "c.cls": "\n",
    }
    taken = Taken(tmp_path / "out", source="webdataset", path=str(tar(tmp_path / "0.tar", members)))
    assert taken.column("label") == {"a": None, "b": "7", "c": None}


@settings(deadline=None, max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.binary(), st.lists, max_leaves=5))
def test_no_value_whatever_becomes_the_printed_form_of_a_list(value):
    try:
        texts = values.captions(value)
    except values.UnusableValue:
        return
    for text in texts:
        assert text == text.strip() and text and text.lower() != "nan"
        text.encode()
    if isinstance(value, list):
        assert len(texts) <= len(value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_what_the_check_passes_ingestion_accepts_and_the_other_way_round(data):
    """Tables of all kinds of damage: rows too short, quotes that stay open, keys twice, shares of nonsense."""
    with tempfile.TemporaryDirectory() as name:
        folder = pictures(Path(name), "0.png", "1.png", "2.png")
        header = data.draw(
            st.sampled_from(["image,prompt", "image", "filepath;title", "image,prompt,share", "x,y", ""])
        )
        field = (
            st.sampled_from(
                ["0.png", "1.png", " 2.png", "", "a dog", '"', '"a ""b"""', "0.5", "nan", "\n", "http://a/b"]
            )
            | TEXT
        )
        rows = data.draw(st.lists(st.lists(field, min_size=1, max_size=3), max_size=4))
        text = "\n".join([header, *(",".join(row) for row in rows)])
        (folder / "t.csv").write_text(text, encoding="utf-8", newline="")
        block = {"source": "table", "path": str(folder / "t.csv"), "maximum_rejects": 1.0, "minimum_side": 1}
        if "share" in header:
            block["foreground_share_column"] = "share"
        try:
            look.look(Dataset(**block))
            passes = None
        except GenviewError as error:
            passes = str(error)
        try:
            Taken(folder / "out", **block)
            accepts = None
        except GenviewError as error:
            accepts = str(error)
        if accepts is None or "no image is left" not in accepts:
            assert (passes is None) == (accepts is None), (text, passes, accepts)
