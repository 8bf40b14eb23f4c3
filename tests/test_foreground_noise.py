"""From ratio to noise level: a level off by one interval changes what every view of an image shows."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genview import tables
from genview.config.foreground import NoiseLevel
from genview.errors import GenviewError
from genview.foreground import noise

ORACLE = Path(__file__).parent / "data" / "oracle" / "noise_level_map.csv"


def test_published_map_where_it_is_defined():
    rows = list(csv.DictReader(ORACLE.open()))
    inside = [(float(row["fg_ratio"]), int(row["noise_level"])) for row in rows if float(row["fg_ratio"]) <= 1]
    assert len(inside) > 100
    ratios, levels = zip(*inside)
    np.testing.assert_array_equal(noise.adaptive_level(np.array(ratios)), levels)
    # The published code maps a ratio above 1 to a level of its own, 500; here it is an error.
    outside = [float(row["fg_ratio"]) for row in rows if float(row["fg_ratio"]) > 1]
    for value in outside:
        with pytest.raises(GenviewError, match=r"\[0, 1\]"):
            noise.adaptive_level(np.array([value]))


@pytest.mark.parametrize("tokens", [1, 9, 25, 49, 64, 100, 196, 256, 400, 576, 1369])
def test_every_count_of_tokens_gives_the_integer_formula(tokens):
    foreground = np.arange(tokens + 1)
    expected = np.minimum(5 * foreground // tokens, 4) * 100
    ratios = (foreground / tokens).astype(np.float32)
    np.testing.assert_array_equal(noise.adaptive_level(ratios, tokens=tokens), expected)
    # Without the number of tokens, the published intervals agree, because float32 rounds the edges up.
    np.testing.assert_array_equal(noise.adaptive_level(ratios), expected)


@given(tokens=st.integers(1, 3000), data=st.data(), count=st.integers(1, 12))
def test_any_number_of_intervals_is_exact(tokens, data, count):
    foreground = data.draw(st.integers(0, tokens))
    levels = tuple(range(0, 10 * count, 10))
    ratio = np.array([foreground / tokens], np.float32)
    exact = min(int(Fraction(count * foreground, tokens)), count - 1)
    assert noise.adaptive_level(ratio, levels, tokens=tokens)[0] == levels[exact]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_more_foreground_never_means_less_noise(ratios):
    levels = noise.adaptive_level(np.sort(np.array(ratios)))
    assert (np.diff(levels) >= 0).all()
    assert set(levels) <= set(noise.LEVELS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.01, 1.0001])
def test_what_is_no_ratio_is_refused(bad):
    with pytest.raises(GenviewError, match="the first is row 1"):
        noise.adaptive_level(np.array([0.5, bad]))


def test_ratios_of_another_number_of_tokens_are_refused():
    with pytest.raises(GenviewError, match="no multiples of 1/49"):
        noise.adaptive_level(np.array([0.5]), tokens=49)


def test_random_levels_depend_on_key_and_seed_alone():
    keys = [f"key{index}" for index in range(2000)]
    levels = noise.random_level(keys, seed=1)
    np.testing.assert_array_equal(noise.random_level(keys[::-1], seed=1)[::-1], levels)
    assert (noise.random_level(keys, seed=2) != levels).mean() > 0.5
    counts = np.unique(levels, return_counts=True)[1]
    assert len(counts) == 5 and counts.min() > 300


def _ratio_table(path, ratios, tokens="256"):
    keys = [f"k{index}" for index in range(len(ratios))]
    tables.write({"key": keys, "ratio": ratios}, tables.FOREGROUND_RATIO, path, tokens=tokens)


def _run(config, tmp_path, **arguments):
    noise.run(
        config,
        **{"manifest": None, "ratio": tmp_path / "ratio.parquet", "seed": 1, "stamp": {}, **arguments},
        noise_level=tmp_path / "levels.parquet",
    )
    return tables.read(tmp_path / "levels.parquet", tables.NOISE_LEVEL)


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
