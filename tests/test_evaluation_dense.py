"""Saliency by a normalised cut, and labels that travel from frame to frame."""

import numpy as np
import pytest
import torch
from scipy import linalg

from genview.data.scenes import scene
from genview.evaluation import label_propagation, saliency
from genview.evaluation.label_propagation import Propagation
from genview.foreground.token_cut import enlarged, token_cut


def patches(image: np.ndarray, side: int = 4) -> np.ndarray:
    """Mean colour of each patch, centred: tokens of a tower that sees colours only; [T, 3]."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    tokens = image.reshape(rows, side, columns, side, 3).mean(axis=(1, 3)).reshape(-1, 3) / 127.5 - 1
    return tokens - tokens.mean(axis=0)


def test_the_cut_is_the_second_solution_of_its_eigenproblem():
    tokens = np.random.default_rng(0).normal(size=(12, 5))
    cut = token_cut(tokens, (3, 4))
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    weights = np.where(unit @ unit.T > 0.2, 1, 1e-5)
    degrees = np.diag(weights.sum(axis=1))
    _, vectors = linalg.eigh(degrees - weights, degrees)
    expected = vectors[:, 1] * np.sign(vectors[:, 1] @ cut.eigenvector)
    np.testing.assert_allclose(cut.eigenvector, expected, atol=1e-6)
    assert cut.foreground[cut.seed] and np.abs(cut.eigenvector).argmax() == cut.seed


def test_the_cut_finds_drawn_objects():
    found = []
    for index in range(40):
        drawn = scene(index, seed=3, size=64)
        if 0.1 < drawn.foreground_share < 0.45 and drawn.pattern_index == 0:
            cut = token_cut(patches(drawn.image.astype(float)), (16, 16))
            found.append(saliency.compare(enlarged(cut.object, 64, 64), drawn.mask > 0.5).iou)
    assert len(found) > 5 and np.median(found) > 0.6


def test_tokens_that_are_all_alike_are_no_error():
    cut = token_cut(np.ones((9, 4)), (3, 3))
    assert cut.object.any() and np.isfinite(cut.eigenvector).all()
    with pytest.raises(ValueError, match="grid of 2 x 4"):
        token_cut(np.ones((9, 4)), (2, 4))


def test_measures_of_a_mask():
    truth = np.zeros((4, 4), bool)
    truth[:2] = True
    mask = np.zeros((4, 4), bool)
    mask[1:3] = True
    measures = saliency.compare(mask, truth)
    assert (measures.iou, measures.accuracy) == (pytest.approx(1 / 3), 0.5)
    assert measures.f_measure == pytest.approx(1.3 * 0.25 / (0.3 * 0.5 + 0.5))
    nothing = np.zeros((4, 4), bool)
    assert saliency.compare(nothing, nothing).iou == 1 and saliency.compare(nothing, truth).f_measure == 0
    assert saliency.maximum_f([mask.astype(float)], [truth]) == pytest.approx(measures.f_measure)


def test_maximum_f_is_the_best_of_all_thresholds():
    random = np.random.default_rng(1)
    maps, truths = [random.random((6, 5)) for _ in range(4)], [random.random((6, 5)) > 0.6 for _ in range(4)]
    best = 0
    for threshold in np.arange(255) / 255:
        precision, recall = [], []
        for saliency_map, truth in zip(maps, truths):
            chosen = saliency_map > threshold
            precision.append((chosen & truth).sum() / max(chosen.sum(), 1))
            recall.append((chosen & truth).sum() / truth.sum())
        p, r = np.mean(precision), np.mean(recall)
        best = max(best, 1.3 * p * r / (0.3 * p + r) if p + r else 0)
    assert saliency.maximum_f(maps, truths) == pytest.approx(best)


def moving(frames: int = 6, size: int = 32) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two squares that move on a grey ground: images [size, size, 3] and masks."""
    images, masks = [], []
    for frame in range(frames):
        image, mask = np.full((size, size, 3), 128.0), np.zeros((size, size), int)
        for number, (x, y, colour) in enumerate(
            [(4 + 2 * frame, 4, (220, 40, 40)), (20, 24 - 2 * frame, (40, 40, 220))]
        ):
            image[y : y + 8, x : x + 8] = colour
            mask[y : y + 8, x : x + 8] = number + 1
        images.append(image)
        masks.append(mask)
    return images, masks


def test_labels_follow_moving_objects():
    images, truths = moving()
    tokens = [torch.from_numpy(patches(image, 2)) for image in images]
    # A constant channel keeps the ground apart from nothing: its centred colour alone has no direction.
    tokens = [torch.cat([t, torch.full((len(t), 1), 0.3)], dim=1).float() for t in tokens]
    masks = label_propagation.propagate(tokens, (16, 16), truths[0])
    result = label_propagation.score(masks, truths)
    assert result.region > 0.8 and result.contour > 0.9
    still = label_propagation.score([truths[0]] * len(truths), truths)
    assert still.region < 0.5  # a mask that does not move is not an answer


def test_a_step_looks_no_farther_than_its_radius():
    near = label_propagation.neighbourhood(3, 4, 1)
    assert near[0].reshape(3, 4).tolist() == [[True, True, False, False], [True, True, False, False], [False] * 4]
    tokens = torch.eye(12)
    labels = torch.nn.functional.one_hot(torch.arange(12), 12).float()[None]
    moved = tokens.roll(1, 0)  # each token's equal lies one place before
    result = label_propagation.step(moved, tokens[None], labels, near, Propagation(neighbours=1))
    assert result[1].argmax() == 0 and result.sum(dim=1).allclose(torch.ones(12))


def test_regions_and_contours():
    truth = np.zeros((50, 60), bool)
    truth[10:30, 10:30] = True
    shifted = np.roll(truth, 1, axis=1)
    assert label_propagation.region_similarity(shifted, truth) == pytest.approx(19 / 21)
    assert label_propagation.contour_accuracy(shifted, truth) == 1  # within .008 of the diagonal, one pixel
    assert label_propagation.contour_accuracy(np.roll(truth, 8, axis=1), truth) < 0.7
    nothing = np.zeros_like(truth)
    assert label_propagation.contour_accuracy(nothing, nothing) == 1
    assert label_propagation.contour_accuracy(nothing, truth) == 0
    with pytest.raises(ValueError, match="three frames"):
        label_propagation.score([truth.astype(int)] * 2, [truth.astype(int)] * 2)
