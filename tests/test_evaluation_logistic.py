"""The probe's classifier: if it were wrong, every accuracy of every study would be."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from genview import neighbours
from genview.evaluation import accuracy, logistic


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    features = StandardScaler().fit_transform(data.data)
    return features[:600], data.target[:600], features[600:900], data.target[600:900]


def test_every_candidate_agrees_with_scikit_learn(digits):
    features, labels, test, _ = digits
    penalties = torch.tensor([1e-3, 1e-2, 1e-1], dtype=torch.float64)
    fit = logistic.fit(torch.tensor(features), torch.tensor(labels), penalties, 10, iterations=500, tolerance=1e-8)
    assert fit.converged.all()
    ours = torch.softmax(logistic.logits(torch.tensor(test), fit.weights), dim=2).numpy()
    for index, penalty in enumerate(penalties.tolist()):
        reference = LogisticRegression(C=1 / (penalty * len(features)), tol=1e-10, max_iter=10_000).fit(
            features, labels
        )
        assert np.abs(ours[index] - reference.predict_proba(test)).max() < 2e-5


def test_a_candidate_does_not_depend_on_the_others(digits):
    features, labels, _, _ = digits
    data, target = torch.tensor(features), torch.tensor(labels)
    penalties = torch.tensor([1e-3, 1.0])
    together = logistic.fit(data, target, penalties, 10, tolerance=1e-7)
    alone = logistic.fit(data, target, penalties[:1], 10, tolerance=1e-7)
    assert torch.allclose(together.weights[0], alone.weights[0], atol=1e-5)


def test_rows_in_chunks_give_the_same_objective(digits, monkeypatch):
    features, labels, _, _ = digits
    data, target = torch.tensor(features), torch.tensor(labels)
    weights = torch.randn(2, 65, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 10
    penalties = torch.tensor([0.1, 0.01])
    whole = logistic.objective(data, target, weights, penalties)
    monkeypatch.setattr(logistic, "LOGITS_AT_ONCE", 20 * 77)
    parts = logistic.objective(data, target, weights, penalties)
    assert torch.allclose(whole[0], parts[0]) and torch.allclose(whole[1], parts[1])


def test_the_gradient_is_that_of_the_objective(digits):
    features, labels, _, _ = digits
    data, target = torch.tensor(features[:50]), torch.tensor(labels[:50])
    weights = torch.randn(1, 65, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 10
    leaf = weights.clone().requires_grad_()
    scores = logistic.logits(data, leaf)[0]
    loss = torch.nn.functional.cross_entropy(scores, target) + 0.05 * leaf[:, :-1].square().sum()
    loss.backward()
    ours = logistic.objective(data, target, weights, torch.tensor([0.1]))
    assert torch.allclose(ours[0], loss.detach().double()) and torch.allclose(ours[1], leaf.grad)


def test_neighbours_agree_with_scikit_learn(digits):
    features, labels, test, _ = digits
    votes = neighbours.votes(torch.tensor(features), torch.tensor(labels), torch.tensor(test), 10, neighbours=20)
    weights = lambda distance: np.exp((1 - distance) / neighbours.TEMPERATURE)  # noqa: E731
    reference = KNeighborsClassifier(20, metric="cosine", weights=weights).fit(features, labels)
    assert np.array_equal(votes.argmax(1).numpy(), reference.predict(test))


def test_accuracies_by_hand():
    scores = np.array([[3.0, 2, 1], [1, 3, 2], [1, 3, 2], [0, 0, 0]])
    labels = np.array([0, 1, 2, 0])
    assert accuracy.hits(scores, labels, 1).tolist() == [True, True, False, False]  # a tie is not a hit
    assert accuracy.hits(scores, labels, 2).tolist() == [True, True, True, False]
    assert accuracy.mean_per_class(accuracy.hits(scores, labels, 1), labels) == pytest.approx((0.5 + 1 + 0) / 3)


def test_the_bootstrap_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        correct = random.random(300) < 0.8
        low, high = accuracy.bootstrap("top1", correct, np.zeros(300, int), 200, trial)
        covered += low <= 0.8 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_a_perfect_score_is_no_certainty():
    low, high = accuracy.bootstrap("top1", np.ones(100, bool), np.zeros(100, int), 100, 0)
    assert low == pytest.approx(0.963, abs=1e-3) and high == 1.0
