"""If these fail, an answer that a model gave is not understood, or one that it did not give is."""

import math

import numpy as np
import pytest

from genview.conditions import guidance_scale
from genview.guidance import scale
from genview.guidance.answers import from_probabilities, parse


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("[score: 3]", 3),
        ("score: 3, explanation: five things", 3),
        ("Score: 3", 3),
        ("3.0", 3),
        ("3", 3),
        ("**2**", 2),
        ("[score: 4] because 5 things are named", 4),
        ("The score is 2.", 2),
        ("Score = **1**", 1),
        ("**Score:** 2", 2),
        ("rating: 3/4", 3),
        ("2. The prompt names a colour.", 2),
        ("<think>maybe score: 4?</think>[score: 2]", 2),
        ("[score: 2] I repeat: score: 2", 2),
        ("3,", 3),
        ("", None),
        ("many", None),
        ("5", None),
        ("[score: 5]", None),
        ("[score: 12]", None),
        ("score: 3.5", None),
        ("[score: 2] or [score: 3]", None),
        ("There are 3 dogs", None),
        ("<think>score: 4", None),
    ],
)
def test_scores_in_words(text, score):
    assert parse(text) == score


def test_the_published_scales():
    np.testing.assert_array_equal(scale([1, 2, 3, 4]), [8, 6, 4, 2])
    np.testing.assert_array_equal(scale(np.array([4, 1, 1]), scales=(9, 8, 7, 6)), [6, 9, 9])


@pytest.mark.parametrize("wrong", [[0], [5], [2.5], [math.nan], [-1]])
def test_other_scores_are_refused(wrong):
    with pytest.raises(ValueError, match="1, 2, 3 or 4"):
        scale(wrong)


def test_the_most_probable_score_counts_and_the_expectation_is_kept():
    answer = from_probabilities([0.1, 0.2, 0.6, 0.1])
    assert answer.score == 3 and answer.expectation == pytest.approx(2.7)


def test_random_scales_depend_on_seed_and_key_alone_and_are_even():
    keys = [f"image/{n}" for n in range(4000)]
    drawn = guidance_scale.draw(keys, [8, 6, 4, 2], seed=1).tolist()
    assert drawn[::-1] == guidance_scale.draw(keys[::-1], [8, 6, 4, 2], seed=1).tolist()
    assert drawn != guidance_scale.draw(keys, [8, 6, 4, 2], seed=2).tolist()
    for value in (8, 6, 4, 2):
        assert abs(drawn.count(value) - 1000) < 5 * math.sqrt(4000 * 0.25 * 0.75)
