"""MMVP-VLM: which pairs count as right, and what a model that knows nothing scores."""

import numpy as np
import pytest
import torch

from genview.evaluation import mmvp


def outcomes(similarities: np.ndarray) -> list[bool]:
    """The published rule, spelled out: a softmax over two images, more than one half is image 1."""
    right = []
    for pair in similarities:
        chosen = []
        for statement in range(2):
            exponentials = np.exp(pair[:, statement] - pair[:, statement].max())
            chosen.append(1 if exponentials[0] / exponentials.sum() > 0.5 else 2)
        right.append(chosen == [1, 2])
    return right


def test_a_pair_counts_only_if_both_statements_choose_right():
    random = np.random.default_rng(0)
    similarities = random.integers(-1, 2, (500, 2, 2)).astype(float)  # ties among them
    assert mmvp.score(similarities).tolist() == outcomes(similarities)
    assert mmvp.score(torch.from_numpy(similarities)).tolist() == outcomes(similarities)


def test_scores_of_constructed_similarities():
    perfect = np.tile(np.eye(2), (135, 1, 1))
    always_first = np.tile([[1.0, 1.0], [0.0, 0.0]], (135, 1, 1))
    guesses = np.random.default_rng(0).normal(size=(100_000, 2, 2))
    assert mmvp.pattern_scores(mmvp.score(perfect))[1] == 100
    assert mmvp.pattern_scores(mmvp.score(always_first))[1] == 0
    assert mmvp.score(guesses).mean() == pytest.approx(0.25, abs=0.005)


def test_patterns_are_fifteen_pairs_in_a_row():
    correct = np.zeros(135, bool)
    correct[15:18] = True
    scores, mean = mmvp.pattern_scores(correct)
    assert scores.tolist() == [0, 20, 0, 0, 0, 0, 0, 0, 0] and mean == pytest.approx(20 / 9)
    with pytest.raises(ValueError, match="135"):
        mmvp.pattern_scores(correct[:134])
