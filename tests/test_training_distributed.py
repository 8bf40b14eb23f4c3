"""Wrong gradients across processes would make eight GPUs learn something else than one, and nobody would notice."""

import pytest
import torch
from processes import WORLD, in_two_processes
from torch import nn

from genview.training.loop.batchnorm import GatheredBatchNorm, synchronised
from genview.training.loop.distributed import average_gradients, gather_rows
from genview.training.losses import image_text_loss, multi_positive_loss
from genview.training.quality import softmax_weights

VIEWS, SAMPLES, WIDTH = 3, 4, 6


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(labels):
    """Two processes' inputs, and the same rows in one process: process after process, in each view after view."""
    inputs = numbers(WORLD, VIEWS * SAMPLES, WIDTH, seed=0)
    texts = numbers(WORLD, SAMPLES, WIDTH, seed=1)
    weights = numbers(WORLD, VIEWS * SAMPLES, VIEWS * SAMPLES, seed=2).abs()
    text_weights = numbers(WORLD, VIEWS * SAMPLES, SAMPLES, seed=3).abs()
    text_labels = torch.tensor(labels)
    image_labels = text_labels.repeat(1, VIEWS)
    return inputs, texts, weights, text_weights, image_labels, text_labels


def model():
    return nn.Parameter(numbers(WIDTH, WIDTH, seed=4)), nn.Parameter(torch.tensor(2.0, dtype=torch.float64))


def losses(inputs, texts, weights, text_weights, image_labels, text_labels, matrix, scale):
    images = inputs @ matrix
    common = (images, texts @ matrix, image_labels, text_labels)
    return (
        multi_positive_loss(images, image_labels, temperature=0.2)
        + 1.5 * multi_positive_loss(images, image_labels, temperature=0.2, weights=weights)
        + 0.7 * image_text_loss(*common, logit_scale=scale.exp())
        + 0.3 * image_text_loss(*common, logit_scale=scale.exp(), weights=text_weights)
    )


def _process(rank, labels):
    matrix, scale = model()
    loss = losses(*(part[rank] for part in batch(labels)), matrix=matrix, scale=scale)
    loss.backward()
    average_gradients([matrix, scale])
    return loss.item(), matrix.grad.numpy(), scale.grad.item()


@pytest.mark.parametrize(
    "labels",
    [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 1, 3], [4, 5, 6, 7]], [[0, 1, 2, 3], [3, 5, 0, 5]]],
    ids=["unique", "repeated in a process", "repeated across processes"],
)
def test_two_processes_give_the_loss_and_the_gradients_of_one_with_the_whole_batch(labels):
    inputs, texts, weights, text_weights, image_labels, text_labels = batch(labels)
    matrix, scale = model()
    # In one process the weights of pairs across processes, which nobody scored, are 1.
    everything = torch.ones(weights.shape[1] * 2, weights.shape[2] * 2, dtype=torch.float64)
    every_text = torch.ones(text_weights.shape[1] * 2, text_weights.shape[2] * 2, dtype=torch.float64)
    for rank in range(WORLD):
        rows = slice(rank * VIEWS * SAMPLES, (rank + 1) * VIEWS * SAMPLES)
        everything[rows, rows] = weights[rank]
        every_text[rows, rank * SAMPLES : (rank + 1) * SAMPLES] = text_weights[rank]
    expected = losses(
        inputs.flatten(0, 1),
        texts.flatten(0, 1),
        everything,
        every_text,
        image_labels.flatten(),
        text_labels.flatten(),
        matrix,
        scale,
    )
    expected.backward()
    results = in_two_processes(_process, labels)
    assert sum(loss for loss, _, _ in results) / WORLD == pytest.approx(expected.item(), rel=1e-9)
    for _, matrix_gradient, scale_gradient in results:
        torch.testing.assert_close(torch.as_tensor(matrix_gradient), matrix.grad, rtol=1e-9, atol=1e-12)
        assert scale_gradient == pytest.approx(scale.grad.item(), rel=1e-9)


def _gathered(rank):
    rows = torch.full((2, 3), float(rank), requires_grad=True)
    everyone = gather_rows(rows)
    (everyone * torch.arange(1.0, 5)[:, None] * (rank + 1)).sum().backward()
    return everyone.detach().numpy(), rows.grad.numpy()


def test_a_gathered_row_collects_the_gradients_of_all_processes():
    for rank, (everyone, gradient) in enumerate(in_two_processes(_gathered)):
        assert everyone[:2].max() == 0 and everyone[2:].min() == 1
        expected = torch.tensor([[1.0], [2.0]]) * 3 if rank == 0 else torch.tensor([[3.0], [4.0]]) * 3
        torch.testing.assert_close(torch.as_tensor(gradient), expected.expand(2, 3))


def _normalised(rank):
    norm = synchronised(nn.Sequential(nn.BatchNorm1d(3)).double(), torch.device("cpu"))
    assert isinstance(norm[0], GatheredBatchNorm)
    rows = numbers(2, 5, 3, seed=6)[rank].requires_grad_()
    result = norm(rows)
    (result * numbers(2, 5, 3, seed=7)[rank]).sum().backward()
    state = {name: value.numpy() for name, value in norm.state_dict().items()}
    return result.detach().numpy(), rows.grad.numpy(), state


def test_batch_normalisation_is_over_all_processes():
    norm = nn.Sequential(nn.BatchNorm1d(3)).double()
    rows = numbers(2, 5, 3, seed=6).requires_grad_()
    expected = norm(rows.flatten(0, 1)).view_as(rows)
    (expected * numbers(2, 5, 3, seed=7)).sum().backward()
    for rank, (result, gradient, state) in enumerate(in_two_processes(_normalised)):
        torch.testing.assert_close(torch.as_tensor(result), expected[rank].detach())
        torch.testing.assert_close(torch.as_tensor(gradient), rows.grad[rank])
        assert state.keys() == norm.state_dict().keys()
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(torch.as_tensor(state[name]), value)


def _softmax(rank):
    tokens = numbers(2, 2, 5, 4, WIDTH, seed=8)[rank]
    component = torch.ones(WIDTH, dtype=torch.float64)
    return [softmax_weights(tokens, component, gamma=1.0, over_all_processes=scope).numpy() for scope in (False, True)]


def test_the_scope_of_genview_s_softmax_is_the_process_or_all_processes():
    tokens = numbers(2, 2, 5, 4, WIDTH, seed=8)
    component = torch.ones(WIDTH, dtype=torch.float64)
    together = softmax_weights(torch.cat([*tokens], dim=1), component, gamma=1.0, over_all_processes=False)
    for rank, (local, everywhere) in enumerate(in_two_processes(_softmax)):
        alone = softmax_weights(tokens[rank], component, gamma=1.0, over_all_processes=False)
        torch.testing.assert_close(torch.as_tensor(local), alone)
        torch.testing.assert_close(torch.as_tensor(everywhere), together[rank * 5 : rank * 5 + 5])
