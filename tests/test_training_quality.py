"""Wrong quality weights would favour the pairs that the method means to hold back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genview.training import quality

ORACLE = Path(__file__).parent / "data" / "oracle" / "qd_pairwise.npz"


@pytest.fixture(scope="module")
def oracle():
    with np.load(ORACLE) as file:
        return {key.removeprefix("A."): torch.as_tensor(file[key]) for key in file.files}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("gamma_images", "gamma_text"), [(1.0, 1.0), (2.0, 2.0), (1.0, 2.0), (0.5, 3.0)])
def test_weights_equal_the_published_ones(oracle, dtype, gamma_images, gamma_text):
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in oracle.items()}
    tokens, component, labels = cast["in.view_tokens"], cast["in.pca_vector"], cast["in.labels"]
    images = quality.image_image_weights(tokens, component, labels, gamma=gamma_images)
    text = quality.image_text_weights(
        tokens,
        cast["in.view_embs"],
        cast["in.real_tokens"],
        cast["in.text_embs"],
        component,
        labels,
        cast["in.text_labels"],
        gamma=gamma_text,
    )
    name = f"gamma_ii{gamma_images}_it{gamma_text}.out"
    for found, expected in [
        (images, oracle[f"{name}.loss_weight"]),
        (text, oracle[f"{name}.loss_weight_img_txt"]),
    ]:
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-6)


def test_flipping_the_component_inverts_the_weights():
    tokens = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    component, labels = torch.randn(8, generator=torch.Generator().manual_seed(1)).double(), torch.arange(4).repeat(2)
    one = quality.image_image_weights(tokens, component, labels, gamma=1.0)
    other = quality.image_image_weights(tokens, -component, labels, gamma=1.0)
    product = (one * other)[one > 0]
    torch.testing.assert_close(product, torch.full_like(product, product.mean()), rtol=1e-5, atol=0)
    assert (one[one > 0].std() > 1e-3) and ((one > 0) == (other > 0)).all()


def test_maps_sum_to_one_and_a_constant_projection_has_no_foreground():
    tokens = torch.randn(3, 16, 6, generator=torch.Generator().manual_seed(0))
    tokens[2] = 1.0
    foreground, background = quality.attention_maps(tokens, torch.ones(6))
    torch.testing.assert_close(background.sum(1), torch.ones(3))
    torch.testing.assert_close(foreground.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(background[2], torch.full((16,), 1 / 16))


def test_one_view_has_no_pairs_and_gives_zeros_not_nan():
    weights = quality.image_image_weights(torch.randn(1, 5, 4, 3), torch.ones(3), torch.arange(5), gamma=2.0)
    assert weights.shape == (5, 5) and not weights.any()


def test_a_negligible_weight_is_still_a_positive_in_the_mean():
    tokens = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    weights = quality.image_image_weights(tokens, torch.ones(5), torch.arange(3).repeat(2), gamma=100.0)
    assert float(weights.sum()) == pytest.approx(6.0, rel=1e-5)


def test_half_precision_tokens_are_computed_in_float32():
    tokens = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2)).half()
    labels = torch.arange(3).repeat(2)
    found = quality.image_image_weights(tokens, torch.ones(5).half(), labels, gamma=2.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, quality.image_image_weights(tokens.float(), torch.ones(5), labels, gamma=2.0))


def test_genview_weights_are_a_softmax_over_the_batch_with_mean_one():
    tokens = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    component = torch.ones(5, dtype=torch.float64)
    (f1, b1), (f2, b2) = (quality.pooled(view, component) for view in tokens)
    score = torch.stack([f1[i] @ f2[i] - b1[i] @ b2[i] for i in range(6)])
    expected = 6 * torch.exp(1.5 * score) / torch.exp(1.5 * score).sum()
    found = quality.softmax_weights(tokens, component, gamma=1.5, over_all_processes=False)
    torch.testing.assert_close(found, expected)
