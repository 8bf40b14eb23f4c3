"""Wrong numbers or gradients in a loss would train a worse encoder without any error message."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genview.training.losses import image_text_loss, multi_positive_loss
from genview.training.schedule import learning_rate, peak_learning_rate

ORACLE = Path(__file__).parent / "data" / "oracle"
TOLERANCE = {torch.float64: (1e-6, 1e-5), torch.float32: (2e-5, 1e-3)}


def _oracle(name):
    with np.load(ORACLE / name) as file:
        return {key.removeprefix("A."): torch.as_tensor(file[key]) for key in file.files}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["loss_image_image.npz", "loss_image_text.npz", "loss_multimodal.npz"])
def test_values_and_gradients_equal_the_published_formula(name, dtype):
    oracle = _oracle(name)
    inputs = {key.removeprefix("in."): value for key, value in oracle.items() if key.startswith("in.")}
    value_rtol, gradient_rtol = TOLERANCE[dtype]
    for row, coefficients in enumerate(oracle["coefs"]):
        leaves = {
            key: inputs[key].to(dtype, copy=True).requires_grad_()
            for key in ("feats", "image_emb", "text_emb", "logit_scale")
            if key in inputs
        }
        labels, zero = inputs["image_labels"], torch.zeros((), dtype=dtype)
        plain_image = weighted_image = plain_text = weighted_text = zero
        if "feats" in leaves:
            weights = inputs["loss_weight"].to(dtype)
            plain_image = multi_positive_loss(leaves["feats"], labels, temperature=0.1)
            weighted_image = multi_positive_loss(leaves["feats"], labels, temperature=0.1, weights=weights)
        if "text_emb" in leaves:
            arguments = (leaves["image_emb"], leaves["text_emb"], labels, inputs["text_labels"])
            scale, weights = leaves["logit_scale"], inputs["loss_weight_img_txt"].to(dtype)
            plain_text = image_text_loss(*arguments, logit_scale=scale)
            weighted_text = image_text_loss(*arguments, logit_scale=scale, weights=weights)
        parts = [plain_image, weighted_image, plain_text, weighted_text]
        total = sum(float(c) * part for c, part in zip(coefficients, parts) if c)
        assert float(total.detach()) == pytest.approx(float(oracle["out.loss"][row]), rel=value_rtol)
        total.backward()
        for key, leaf in leaves.items():
            expected = oracle.get(f"grad.{row}.{key}")
            if expected is None:
                continue
            found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            scale = float(expected.abs().max()) or 1.0
            torch.testing.assert_close(found.double(), expected, rtol=gradient_rtol, atol=gradient_rtol * scale)


def slow_multi_positive(features, labels, temperature, weights=None):
    """One pair at a time, from the definition."""
    features = features / features.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(features)):
        others = [j for j in range(len(features)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        denominator = torch.logsumexp(torch.stack([features[i] @ features[j] / temperature for j in others]), 0)
        for j in positives:
            weight = 1.0 if weights is None else weights[i, j]
            total = total - weight * (features[i] @ features[j] / temperature - denominator) / len(positives)
    return total / len(features)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2], [0, 0, 1, 0, 0, 1], [0, 1, 2, 3, 4, 5], [7] * 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_duplicate_labels_and_single_views_are_right(labels, weighted):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    weights = torch.rand(6, 6, generator=generator, dtype=torch.float64) if weighted else None
    labels = torch.tensor(labels)
    one, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    found = multi_positive_loss(one, labels, temperature=0.2, weights=weights)
    expected = slow_multi_positive(other, labels, 0.2, weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)
    found.backward()
    if len(set(labels.tolist())) < 6:
        expected.backward()
        torch.testing.assert_close(one.grad, other.grad)
    else:
        assert float(found) == 0 and not one.grad.any()


def test_a_second_batch_with_other_labels_is_not_scored_with_the_first_ones_mask():
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    first = multi_positive_loss(features, torch.tensor([0, 1, 0, 1]), temperature=0.1)
    second = multi_positive_loss(features, torch.tensor([0, 0, 1, 1]), temperature=0.1)
    assert float(first) != pytest.approx(float(second))


def test_one_row_alone_is_finite():
    loss = multi_positive_loss(torch.ones(1, 3, requires_grad=True), torch.tensor([0]), temperature=0.1)
    loss.backward()
    assert float(loss) == 0


def test_weights_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(4, 4\)"):
        multi_positive_loss(torch.ones(4, 3), torch.arange(4), temperature=0.1, weights=torch.ones(3, 4))
    with pytest.raises(ValueError, match="expected"):
        image_text_loss(
            torch.ones(4, 3),
            torch.ones(2, 3),
            torch.tensor([0, 1, 0, 1]),
            torch.arange(2),
            logit_scale=1.0,
            weights=torch.ones(4, 4),
        )


def test_the_image_text_loss_of_one_view_is_clip_s():
    image, text = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = 7.0 * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    expected = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    found = image_text_loss(image, text, torch.arange(6), torch.arange(6), logit_scale=7.0)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_learning_rates_equal_the_published_schedule():
    rows = list(csv.DictReader((ORACLE / "lr_schedule.csv").open()))
    assert len(rows) > 20
    for row in rows:
        value = {key: float(text) for key, text in row.items()}
        peak = peak_learning_rate(
            value["blr"], images=int(value["n_img"]), crops=int(value["num_crop"]), global_batch=int(value["eff_batch"])
        )
        assert peak == pytest.approx(value["peak_lr"], rel=1e-9)
        found = learning_rate(
            value["epoch"],
            epochs=value["epochs"],
            warmup_epochs=value["warmup_epochs"],
            peak=peak,
            minimum=value["min_lr"],
        )
        assert found == pytest.approx(value["lr"], rel=1e-9, abs=1e-18)
