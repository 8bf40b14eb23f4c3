"""The published pipeline's files: a lab that has them starts from them, a lab that wants them gets ours."""

import csv

import pyarrow as pa
import pytest

from genview import parquet, tables
from genview.data import manifest, published
from genview.errors import GenviewError


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


PROMPTS = ['a "big" cat, grey\nline two 🐈', None, "NA", "trailing space "]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("fg_ratios", {"ratio": [0.0, 0.3213, 1.0, 0.2]}),
        ("noise_level", {"noise_level": [0, 100, 400, 999]}),
        ("guidance_scale", {"guidance_scale": [8.0, 6.0, 2.5, None]}),
        ("infos", {"noise_level": [0, None, 400, 999], "guidance_scale": [8.0, 6.0, None, 2.0]}),
    ],
)
def test_what_is_written_is_read_back(tmp_path, kind, values):
    images = ["a/0.jpg", "a/1.JPEG", 'odd, "name".png', "3.2.webp"]
    published.write_csv(tmp_path / "t.csv", kind, [{"image": images, "prompt": PROMPTS, **values}])
    read = published.read_csv(tmp_path / "t.csv", kind).to_pydict()
    assert read["key"] == ["a/0", "a/1", 'odd, "name"', "3.2"] and read["prompt"] == PROMPTS
    for name, column in values.items():
        assert read[name] == [value if value is None else pytest.approx(value, rel=1e-7) for value in column]


def test_the_merge_s_floats_for_whole_numbers_are_levels(tmp_path):
    (tmp_path / "i.csv").write_text("image,prompt,noise_level,guidance_scale\na.jpg,x,100.0,6.0\nb.jpg,y,,2\n")
    read = published.read_csv(tmp_path / "i.csv", "infos")
    assert read["noise_level"].to_pylist() == [100, None] and read["noise_level"].type == pa.int32()


def test_answers_that_the_scorer_left_are_null_not_numbers(tmp_path):
    (tmp_path / "g.csv").write_text(
        'image,prompt,guidance_scale\na.jpg,x,"3,"\nb.jpg,y,\nc.jpg,z,I think 2\nd.jpg,w,4\n'
    )
    assert published.read_csv(tmp_path / "g.csv", "guidance_scale")["guidance_scale"].to_pylist() == [None] * 3 + [4]


def test_columns_are_found_by_name_and_absolute_paths_by_root(tmp_path):
    (tmp_path / "r.csv").write_text(f"prompt,extra,ratio,image\nx,1,0.5,{tmp_path}/a/b.jpg\ny,2,0.25,./c.PNG\n")
    read = published.read_csv(tmp_path / "r.csv", "fg_ratios", image_root=tmp_path).to_pydict()
    assert read["key"] == ["a/b", "c"] and read["ratio"] == [0.5, 0.25]
    with pytest.raises(GenviewError, match="absolute path"):
        published.read_csv(tmp_path / "r.csv", "fg_ratios")


def test_a_file_that_cannot_be_used_is_left_out(tmp_path):
    with pytest.raises(GenviewError, match="no values for the columns"):
        published.write_csv(tmp_path / "x.csv", "fg_ratios", [{"image": ["a"], "prompt": ["b"]}])
    assert not list(tmp_path.iterdir())


def test_a_study_s_conditions_are_exported(tmp_path):
    count = 5
    keys = [f"k{i}" for i in range(count)]
    rows = pa.table(
        {
            "key": keys,
            "path": ["shard.tar", "k1.JPG", "k2.png", "k3.png", "k4.png"],
            "caption": pa.array(["a, b", None, "c", "d", "e"]),
            "label": pa.nulls(count, pa.string()),
            "sha256": [""] * count,
            "foreground_share": pa.nulls(count, pa.float32()),
            "attributes": pa.nulls(count, pa.string()),
            **{name: [1] * count for name in ("offset", "length", "width", "height")},
        }
    )
    parquet.write(manifest.assemble(rows, 2), tables.MANIFEST, tmp_path / "manifest.parquet")
    reverse = keys[::-1]
    parquet.write({"key": reverse, "ratio": [0.5, 0.4, 0.3, 0.2, 0.1]}, tables.FOREGROUND_RATIO, tmp_path / "r.parquet")
    parquet.write({"key": reverse, "noise_level": [4, 3, 2, 1, 0]}, tables.NOISE_LEVEL, tmp_path / "n.parquet")
    scales = {"key": keys, "guidance_scale": [2.0] * 5, "score": [None] * 5, "is_default": [False] * 5}
    parquet.write(scales, tables.GUIDANCE_SCALE, tmp_path / "g.parquet")
    published.export(*(tmp_path / f"{name}.parquet" for name in ("manifest", "r", "n", "g")), folder=tmp_path / "out")
    infos = {row["image"]: row for row in rows_of(tmp_path / "out/infos.csv")}
    assert set(infos) == {"k0.jpg", "k1.JPG", "k2.png", "k3.png", "k4.png"}
    assert infos["k0.jpg"] == {"image": "k0.jpg", "prompt": "a, b", "noise_level": "0", "guidance_scale": "2"}
    ratios = {row["image"]: row["ratio"] for row in rows_of(tmp_path / "out/fg_ratios.csv")}
    assert ratios["k4.png"] == "0.5" and ratios["k1.JPG"] == "0.2"
    parquet.write({"key": keys[:4], "ratio": [0.5] * 4}, tables.FOREGROUND_RATIO, tmp_path / "r.parquet")
    with pytest.raises(GenviewError, match=r"1 images of the manifest are missing: k4"):
        published.export(
            *(tmp_path / f"{name}.parquet" for name in ("manifest", "r", "n", "g")), folder=tmp_path / "out"
        )
