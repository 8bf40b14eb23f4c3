"""Tables are the contract between stages: a wrong column or a mixed set of shards must stop a study, not bend it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genview import __version__, parquet, tables
from genview.errors import GenviewError

ROWS = {"key": ["a", "b"], "ratio": [0.25, 1.0]}


def test_a_table_is_read_back_with_its_stamp(tmp_path):
    parquet.write(ROWS, tables.FOREGROUND_RATIO, tmp_path / "t.parquet", stage="ratio", study="s")
    assert parquet.read(tmp_path / "t.parquet", tables.FOREGROUND_RATIO).to_pydict() == ROWS
    assert parquet.metadata(tmp_path / "t.parquet") == {"stage": "ratio", "study": "s", "version": __version__}


def test_types_and_meanings_are_those_documented(tmp_path):
    table = pa.table({"ratio": pa.array([0.5], pa.float64()), "key": ["a"]})  # other order, other width
    parquet.write(table, tables.FOREGROUND_RATIO, tmp_path / "t.parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.names == ["key", "ratio"] and schema.field("ratio").type == pa.float32()
    assert not schema.field("key").nullable and b"share of tokens" in schema.field("ratio").metadata[b"meaning"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"key": ["a"]}, r"columns missing \['ratio'\]"),
        ({"key": ["a"], "ratio": [1], "more": [2]}, r"unknown \['more'\]"),
        ({"key": ["a", None], "ratio": [1.0, 1.0]}, "row 1: column 'key' may not be empty"),
        ({"key": ["a"], "ratio": ["much"]}, "t.parquet: "),
        ({"key": ["a", "b"], "ratio": [1.0]}, "t.parquet: "),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, rows, message):
    with pytest.raises(GenviewError, match=message):
        parquet.write(rows, tables.FOREGROUND_RATIO, tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_noise_levels_are_whole_numbers(tmp_path):
    with pytest.raises(GenviewError):
        parquet.write({"key": ["a"], "noise_level": [100.5]}, tables.NOISE_LEVEL, tmp_path / "t.parquet")


def test_an_empty_table_keeps_its_columns(tmp_path):
    parquet.write({"key": [], "ratio": []}, tables.FOREGROUND_RATIO, tmp_path / "t.parquet")
    assert parquet.read(tmp_path / "t.parquet", tables.FOREGROUND_RATIO).schema.names == ["key", "ratio"]


def test_rows_and_columns_are_chosen(tmp_path):
    parquet.write(ROWS, tables.FOREGROUND_RATIO, tmp_path / "t.parquet")
    table = parquet.read(tmp_path / "t.parquet", tables.FOREGROUND_RATIO, ["key"], [("ratio", ">", 0.5)])
    assert table.to_pydict() == {"key": ["b"]}


def test_what_is_no_table_of_ours_is_refused_by_name(tmp_path):
    with pytest.raises(GenviewError, match=r"gone\.parquet: no such file"):
        parquet.read(tmp_path / "gone.parquet", tables.FOREGROUND_RATIO)
    (tmp_path / "text.parquet").write_text("image,ratio\n")
    with pytest.raises(GenviewError, match="not a Parquet file"):
        parquet.read(tmp_path / "text.parquet", tables.FOREGROUND_RATIO)
    pq.write_table(pa.table({"key": ["a"], "ratio": [1]}), tmp_path / "int.parquet")
    with pytest.raises(GenviewError, match=r"columns \['ratio'\] are not as documented"):
        parquet.read(tmp_path / "int.parquet", tables.FOREGROUND_RATIO)
    with pytest.raises(GenviewError, match="not written by this package"):
        parquet.metadata(tmp_path / "int.parquet")


def test_shards_made_differently_are_not_mixed(tmp_path):
    for shard, parameters in [("0", "x"), ("1", "x"), ("2", "y")]:
        rows = {"key": [shard], "ratio": [0.5]}
        path = tmp_path / f"{shard}.parquet"
        parquet.write(rows, tables.FOREGROUND_RATIO, path, shard=shard, parameters=parameters)
    paths = [tmp_path / f"{shard}.parquet" for shard in "012"]
    assert parquet.read_shards(paths[:2], tables.FOREGROUND_RATIO)["key"].to_pylist() == ["0", "1"]
    with pytest.raises(GenviewError, match=r"2\.parquet and .*0\.parquet were not made alike \(parameters differ\)"):
        parquet.read_shards(paths, tables.FOREGROUND_RATIO)


def test_equal_rows_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        parquet.write(ROWS, tables.FOREGROUND_RATIO, tmp_path / name, stage="x")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_column_has_a_meaning():
    schemas = {name: value for name, value in vars(tables).items() if isinstance(value, pa.Schema)}
    assert len(schemas) >= 8
    for name, schema in schemas.items():
        for field in schema:
            assert field.metadata[b"meaning"], f"{name}.{field.name}"


def test_neighbouring_rows_are_read_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 7)
    path = tmp_path / "ratio.parquet"
    values = {"key": [f"k{i:03d}" for i in range(50)], "ratio": np.linspace(0, 1, 50)}
    parquet.write(values, tables.FOREGROUND_RATIO, path)
    whole = parquet.read(path, tables.FOREGROUND_RATIO)
    for first, end in ((0, 50), (0, 7), (6, 8), (13, 14), (20, 41), (49, 50), (30, 30), (50, 50), (0, 0)):
        assert parquet.read_rows(path, tables.FOREGROUND_RATIO, first, end, ["key"]).equals(
            whole.select(["key"]).slice(first, end - first)
        ), (first, end)
    with pytest.raises(GenviewError, match="no such file"):
        parquet.read_rows(tmp_path / "none.parquet", tables.FOREGROUND_RATIO, 0, 1, ["key"])
