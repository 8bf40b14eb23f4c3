"""Wrong numbers or gradients in a self-supervised loss would train a worse encoder without any error message.

Each loss is held to an oracle that is written another way: NumPy from the definition, lightly's, and stored values.
"""

from pathlib import Path

import lightly.loss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import in_two_processes
from torch import nn

from genview.training import losses, schedule

ORACLE = np.load(Path(__file__).parent / "data" / "oracle" / "ssl_sample.npz")


def stored(function):
    """Inputs and arguments of a function's stored case."""
    inputs, arguments = {}, {}
    for name in ORACLE.files:
        if name.startswith(f"{function}.0.in."):
            inputs[name.removeprefix(f"{function}.0.in.")] = torch.as_tensor(ORACLE[name])
        elif name.startswith(f"{function}.0.arg."):
            value = ORACLE[name].tolist()
            arguments[name.removeprefix(f"{function}.0.arg.")] = value
    return inputs, arguments


def call(function, inputs, arguments):
    """A loss of named inputs; what is a list of tensors there is joined first."""
    if function == "swapped_prediction":
        scores = [inputs[name] for name in sorted(inputs) if name.startswith("scores.")]
        return losses.swapped_prediction(scores, weights=inputs["weights"], **arguments)
    if function == "head_balance":
        heads = [[value for name, value in inputs.items() if name.startswith(side)] for side in ("a.", "b.")]
        return losses.head_balance(*heads)
    return getattr(losses, function)(**inputs, **arguments)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "function",
    [
        "info_nce",
        "in_batch_contrast",
        "negative_cosine",
        "self_distillation",
        "orthogonality",
        "sinkhorn",
        "swapped_prediction",
        "update_center",
        "head_balance",
    ],
)
def test_values_and_gradients_equal_stored_ones_and_nothing_else_gets_a_gradient(function, dtype):
    inputs, arguments = stored(function)
    frozen = {f"{side}.{i}" for side in "ab" for i in arguments.pop(f"frozen_{side}", [])}
    leaves = {name: value.to(dtype, copy=True).requires_grad_(name not in frozen) for name, value in inputs.items()}
    found = call(function, leaves, arguments)
    rtol = 1e-9 if dtype == torch.float64 else 1e-4
    assert found.dtype == dtype
    np.testing.assert_allclose(found.detach().numpy(), ORACLE[f"{function}.0.out"], rtol=rtol, atol=1e-6 * rtol)
    if found.requires_grad:
        found.backward()
    for name, leaf in leaves.items():
        key = f"{function}.0.grad.{name}"
        if key in ORACLE.files:
            expected = ORACLE[key]
            np.testing.assert_allclose(
                leaf.grad.numpy(), expected, rtol=10 * rtol, atol=10 * rtol * abs(expected).max()
            )
        else:
            assert leaf.grad is None, f"{name} is a constant, but got a gradient"


def _share(rank, function):
    inputs, arguments = stored(f"two_process.{function}")

    def half(value):
        rows = -2 if function == "update_center" and value.ndim == 3 else 0
        return value if value.ndim == 1 and function == "update_center" else value.chunk(2, dim=rows)[rank]

    leaves = {name: half(value).clone().requires_grad_(name != "weights") for name, value in inputs.items()}
    found = call(function, leaves, arguments)
    if found.requires_grad:
        found.backward()
    gradients = {name: leaf.grad.numpy() for name, leaf in leaves.items() if leaf.grad is not None}
    return found.detach().numpy(), gradients


def _shares(rank):
    return {
        name: _share(rank, name) for name in ("in_batch_contrast", "sinkhorn", "swapped_prediction", "update_center")
    }


def test_two_processes_give_what_one_gives_with_the_whole_batch():
    each = in_two_processes(_shares)
    for function in each[0]:
        prefix = f"two_process.{function}.0"
        values = [result[function][0] for result in each]
        if function == "sinkhorn":
            np.testing.assert_allclose(np.concatenate(values), ORACLE[f"{prefix}.out"], rtol=1e-9)
        elif function == "update_center":
            np.testing.assert_allclose(values, [ORACLE[f"{prefix}.out"]] * 2, rtol=1e-9)
        else:
            np.testing.assert_allclose(values, ORACLE[f"{prefix}.out_each"], rtol=1e-9)
            np.testing.assert_allclose(np.mean(values), ORACLE[f"{prefix}.out"], rtol=1e-9)
        for name in each[0][function][1]:
            # A row belongs to one process, and the average over two halves what it got there.
            found = np.concatenate([result[function][1][name] for result in each]) / 2
            np.testing.assert_allclose(found, ORACLE[f"{prefix}.grad.{name}"], rtol=1e-8, atol=1e-12)


# Definitions, row by row in NumPy


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def probabilities(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


small = st.integers(2, 6)


@settings(max_examples=25, deadline=None)
@given(samples=small, negatives=st.integers(1, 9), seed=st.integers(0, 10**6), temperature=st.floats(0.05, 2))
def test_the_contrasts_equal_their_definitions(samples, negatives, seed, temperature):
    queries, keys, others = (numbers(seed + i, n, 5) for i, n in enumerate((samples, samples, negatives)))
    weights = abs(numbers(seed + 3, samples))
    queue, batch = [], []
    for query, key, weight in zip(unit(queries), unit(keys), weights):
        queue.append(-weight * np.log(probabilities(np.r_[query @ key, unit(others) @ query] / temperature)[0]))
        own = np.flatnonzero((unit(keys) == key).all(axis=1))[0]
        batch.append(-weight * np.log(probabilities(unit(keys) @ query / temperature)[own]))
    q, k, n, w = map(torch.as_tensor, (queries, keys, others, weights))
    assert float(losses.info_nce(q, k, n, temperature=temperature, weights=w)) == pytest.approx(np.mean(queue))
    found = float(losses.in_batch_contrast(q, k, temperature=temperature, weights=w))
    assert found == pytest.approx(2 * temperature * np.mean(batch))
    cosine = float(losses.negative_cosine(q, k, weights=w))
    assert cosine == pytest.approx(-np.mean(weights * (unit(queries) * unit(keys)).sum(axis=1)))


@settings(max_examples=25, deadline=None)
@given(teachers=st.integers(1, 3), views=st.integers(2, 5), samples=small, seed=st.integers(0, 10**6))
def test_the_distillation_terms_equal_their_definitions(teachers, views, samples, seed):
    teacher, student, center = numbers(seed, teachers, samples, 6), numbers(seed + 1, views, samples, 6), numbers(1, 6)
    weights = abs(numbers(seed + 2, samples))
    entropies, cosines = [], []
    for g in range(teachers):
        for v in range(views):
            if g != v:
                targets, predictions = probabilities((teacher[g] - center) / 0.07), probabilities(student[v] / 0.2)
                entropies.append(np.mean(weights * -(targets * np.log(predictions)).sum(axis=1)))
                cosines.append(abs(np.mean((unit(targets) * unit(predictions)).sum(axis=1))))
    tensors = [torch.as_tensor(value) for value in (teacher, student, center)]
    common = {"teacher_temperature": 0.07, "student_temperature": 0.2}
    found = losses.self_distillation(*tensors, **common, weights=torch.as_tensor(weights))
    assert float(found) == pytest.approx(np.mean(entropies))
    assert float(losses.orthogonality(*tensors, **common)) == pytest.approx(np.mean(cosines))
    centered = losses.update_center(tensors[2], tensors[0], momentum=0.9)
    np.testing.assert_allclose(centered.numpy(), 0.9 * center + 0.1 * teacher.reshape(-1, 6).mean(axis=0))


@settings(max_examples=25, deadline=None)
@given(samples=small, prototypes=small, seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_assignments_use_all_prototypes_alike_and_do_not_overflow(samples, prototypes, seed, scale):
    scores = scale * numbers(seed, samples, prototypes)
    found = losses.sinkhorn(torch.as_tensor(scores), epsilon=0.05, iterations=3).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.isfinite(found).all()
    if scale < 30:
        share = np.exp(scores / 0.05 - (scores / 0.05).max())
        for _ in range(3):
            share = share / share.sum(axis=0, keepdims=True) / prototypes
            share = share / share.sum(axis=1, keepdims=True) / samples
        np.testing.assert_allclose(found, share * samples, rtol=1e-6, atol=1e-12)
    single = losses.sinkhorn(torch.as_tensor(scores, dtype=torch.float32), epsilon=0.01)
    assert torch.isfinite(single).all()


def test_with_weights_of_one_the_losses_are_lightly_s():
    view, other, negatives = (torch.as_tensor(numbers(i, n, 8)) for i, n in enumerate((6, 6, 10)))
    cosine = lightly.loss.NegativeCosineSimilarity()(view, other)
    torch.testing.assert_close(losses.negative_cosine(view, other, weights=torch.ones(6)), cosine)
    queue = lightly.loss.NTXentLoss(0.2, memory_bank_size=(10, 8))
    queue.memory_bank.bank = nn.functional.normalize(negatives, dim=1)
    queue.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    expected = queue(view, other.clone().requires_grad_(False))
    torch.testing.assert_close(losses.info_nce(view, other, negatives, temperature=0.2), expected)
    scores = [torch.as_tensor(numbers(10 + crop, 6, 7)).clamp(-1, 1) for crop in range(4)]
    queues = [torch.as_tensor(numbers(20 + crop, 9, 7)).clamp(-1, 1) for crop in range(2)]
    for queue_scores in (None, queues):
        expected = lightly.loss.SwaVLoss(0.1)(scores[:2], scores[2:], queue_scores)
        found = losses.swapped_prediction(
            scores, temperature=0.1, weights={(0, 1): torch.ones(6)}, queue_scores=queue_scores
        )
        torch.testing.assert_close(found, expected.squeeze())
    dino = lightly.loss.DINOLoss(7, warmup_teacher_temp_epochs=0)
    dino.center = torch.as_tensor(numbers(30, 1, 1, 7)).float()
    center = dino.center.flatten().clone()
    teacher, student = torch.stack(scores[:2]).float(), torch.stack(scores).float()
    expected = dino(list(teacher), list(student), teacher_temp=0.04)
    found = losses.self_distillation(teacher, student, center, teacher_temperature=0.04, student_temperature=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.update_center(center, teacher, momentum=0.9), dino.center.flatten())


def test_a_pair_s_own_weights_enter_the_swapped_prediction_once():
    scores = [torch.as_tensor(numbers(crop, 4, 5)) for crop in range(3)]
    terms = {}
    for pair in [(0, 1), (0, 2), (1, 0), (1, 2)]:
        zero = {other: torch.full((4,), float(other == pair)) for other in [(0, 1), (0, 2), (1, 0), (1, 2)]}
        terms[pair] = losses.swapped_prediction(scores, temperature=0.1, weights=zero)
    weights = {(0, 1): torch.full((4,), 3.0), (1, 2): torch.full((4,), 0.5)}
    expected = 3 * terms[0, 1] + terms[0, 2] + terms[1, 0] + 0.5 * terms[1, 2]
    torch.testing.assert_close(losses.swapped_prediction(scores, temperature=0.1, weights=weights), expected)


def test_identical_one_hot_outputs_are_not_orthogonal_and_disjoint_ones_are():
    first, second = torch.full((2, 1, 3, 4), -1e3)
    first[..., 0], second[..., 1] = 1e3, 1e3
    common = {"center": torch.zeros(4), "teacher_temperature": 0.04, "student_temperature": 0.1}
    assert float(losses.orthogonality(first, torch.cat([first, first]), **common)) == pytest.approx(1)
    assert float(losses.orthogonality(first, torch.cat([first, second]), **common)) == pytest.approx(0)


def test_losses_of_half_precision_and_under_autocast_are_those_of_float32():
    view, other, negatives = (torch.as_tensor(numbers(i, n, 64)).bfloat16() for i, n in enumerate((6, 6, 40)))
    expected = losses.info_nce(view.float(), other.float(), negatives.float(), temperature=0.05)
    assert losses.info_nce(view, other, negatives, temperature=0.05).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        found = losses.info_nce(view, other, negatives, temperature=0.05)
        queries = losses.in_batch_contrast(view.float(), other.float(), temperature=0.05)
    assert float(found) == float(expected)
    assert float(queries) == float(losses.in_batch_contrast(view, other, temperature=0.05))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("info_nce", {"queries": (4, 3), "keys": (4, 3), "negatives": (5, 3)}),
        ("negative_cosine", {"predictions": (4, 3), "targets": (4, 3)}),
    ],
)
def test_weights_of_another_length_are_refused(function, arguments):
    tensors = {name: torch.ones(shape) for name, shape in arguments.items()}
    temperature = {"temperature": 0.1} if function == "info_nce" else {}
    with pytest.raises(ValueError, match=r"weights have shape \(3,\); expected \(4,\)"):
        getattr(losses, function)(**tensors, **temperature, weights=torch.ones(3))


@pytest.mark.parametrize("function", ["momentum", "cosine"])
def test_schedules_equal_stored_ones_and_stay_at_their_end(function):
    inputs, arguments = stored(function)
    found = [getattr(schedule, function)(step, **arguments) for step in inputs["step"].tolist()]
    np.testing.assert_allclose(found, ORACLE[f"{function}.0.out"], rtol=1e-12)
    assert getattr(schedule, function)(arguments["total"] + 5, **arguments) == found[-1]
