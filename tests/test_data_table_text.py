"""Text in tables must come through unchanged: a shifted column or a swallowed row pairs captions with wrong images."""

import csv
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genview.config.dataset import Dataset
from genview.data import source_table
from genview.data.listing import Listing
from genview.data.unique import unique
from genview.errors import GenviewError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=20), st.sampled_from([".csv", ".tsv"]))
@example([('"', "\n"), ("\r\n", ","), ("'", "\t"), ("NA", "null"), ("1e5", "007")], ".csv")
def test_any_text_comes_through_a_delimited_table(rows, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        with open(path, "w", newline="", encoding="utf-8") as file:
            # A row of one empty field would be an empty line, which is not a row in CSV: the third column prevents it.
            writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", quoting=csv.QUOTE_ALL)
            writer.writerows([("image", "prompt", "n"), *((a, b, 1) for a, b in rows)])
        found = [row for batch in source_table.text_batches(path, ["image", "prompt"]) for row in batch.to_pylist()]
    assert [(row["image"], row["prompt"]) for row in found] == rows


def listed(path, **options) -> list[dict]:
    listing = Listing()
    source_table.collect(Dataset(source="table", path=str(path), **options), listing)
    listing.require_keys()
    return pa.concat_tables(unique(listing.rows, path.parent, "")).to_pylist()


def test_numbers_categories_and_nulls_of_parquet(tmp_path):
    columns = {
        "image": ["a.png", "b.png", "c.png"],
        "prompt": pa.array(["x", None, "y"]).dictionary_encode(),
        "label": pa.array([3, None, 5], pa.int16()),
        "share": pa.array([0.1, None, 1.0], pa.float32()),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    rows = listed(tmp_path / "t.parquet", foreground_share_column="share")
    assert [row["caption"] for row in rows] == ["x", None, "y"]
    assert [row["label"] for row in rows] == ["3", None, "5"]
    assert [row["foreground_share"] for row in rows] == [pytest.approx(0.1), None, 1.0]


def test_nan_in_a_numeric_column_is_refused_with_its_row(tmp_path):
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "share": [0.5, float("nan")]}), tmp_path / "t.parquet")
    with pytest.raises(GenviewError, match=r"1 values of 'share' are not numbers in .*\n  row 2: 'nan'"):
        listed(tmp_path / "t.parquet", foreground_share_column="share")


def test_a_table_larger_than_a_block_loses_no_row_at_the_seams(tmp_path):
    count = 40_000
    caption = 'words, "words"\nand more words' * 3
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt"])
        writer.writerows((f"{i}.png", f"{i} {caption}") for i in range(count))
    assert (tmp_path / "t.csv").stat().st_size > 3 * 2**20  # Arrow's blocks have one MiB
    rows = listed(tmp_path / "t.csv")
    assert [row["key"] for row in rows] == [str(i) for i in range(count)]
    assert all(row["caption"] == f"{i} {caption}" for i, row in enumerate(rows))
