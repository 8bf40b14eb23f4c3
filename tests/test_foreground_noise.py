"""From ratio to noise level: a level off by one interval changes what every view of an image shows."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    with pytest.raises(GenviewError, match="not multiples of 1/49"):
        noise.adaptive_level(np.array([0.5]), tokens=49)
