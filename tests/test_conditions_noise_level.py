"""A level for every image: lost, doubled or drawn by order, they would make views that nobody asked for."""

import numpy as np
import pytest

from genview import parquet, tables
from genview.conditions import noise_level
from genview.config.foreground import NoiseLevel
from genview.errors import GenviewError
from genview.foreground import noise


def test_random_levels_depend_on_key_and_seed_alone():
    keys = [f"key{index}" for index in range(2000)]
    levels = noise_level.draw(keys, noise.LEVELS, seed=1)
    np.testing.assert_array_equal(noise_level.draw(keys[::-1], noise.LEVELS, seed=1)[::-1], levels)
    assert (noise_level.draw(keys, noise.LEVELS, seed=2) != levels).mean() > 0.5
    counts = np.unique(levels, return_counts=True)[1]
    assert len(counts) == 5 and counts.min() > 300


def _ratio_table(path, ratios, tokens="256"):
    keys = [f"k{index}" for index in range(len(ratios))]
    parquet.write({"key": keys, "ratio": ratios}, tables.FOREGROUND_RATIO, path, tokens=tokens)


def _run(config, tmp_path, **arguments):
    noise_level.run(
        config,
        **{"manifest": None, "ratio": tmp_path / "ratio.parquet", "seed": 1, "stamp": {}, **arguments},
        noise_level=tmp_path / "levels.parquet",
    )
    return parquet.read(tmp_path / "levels.parquet", tables.NOISE_LEVEL)


def test_the_stage_maps_a_table(tmp_path):
    _ratio_table(tmp_path / "ratio.parquet", [0.0, 51 / 256, 52 / 256, 1.0])
    found = _run(NoiseLevel(), tmp_path)
    assert found["noise_level"].to_pylist() == [0, 0, 100, 400]
    found = _run(NoiseLevel(levels=(7, 8)), tmp_path)
    assert found["noise_level"].to_pylist() == [7, 7, 7, 8]


def test_a_table_with_a_bad_ratio_stops_the_stage(tmp_path):
    _ratio_table(tmp_path / "ratio.parquet", [0.5, float("nan")])
    with pytest.raises(GenviewError, match="row 1"):
        _run(NoiseLevel(), tmp_path)
    assert not (tmp_path / "levels.parquet").exists()


def test_published_levels_take_the_place_of_the_stage(tmp_path):
    (tmp_path / "noise_level.csv").write_text('image,prompt,noise_level\na/1.jpg,"a, b",100.0\nb.png,,400\n')
    found = _run(NoiseLevel(given=str(tmp_path / "noise_level.csv")), tmp_path, ratio=None)
    assert found.to_pydict() == {"key": ["a/1", "b"], "noise_level": [100, 400]}
