"""DINO's self-distillation (arXiv 2104.14294) and what CLeVER adds to it (arXiv 2406.00262).

Shapes: G views of the teacher, which are the student's first G; V views of the student; B samples per process; K
outputs of a head. Pairs are a teacher's and a student's view that are not the same view.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genview.training.loop.distributed import world_size
from genview.training.losses.precision import HALF, full_precision, mean_over_samples


def _pairs(teacher: Tensor, student: Tensor) -> list[tuple[int, int]]:
    pairs = [(g, v) for g in range(len(teacher)) for v in range(len(student)) if g != v]
    if not pairs:
        raise ValueError(f"no pair of different views: teacher {len(teacher)}, student {len(student)}")
    return pairs


def _targets(teacher: Tensor, center: Tensor, temperature: float) -> Tensor:
    return ((teacher.detach() - center.detach().to(teacher.dtype)) / temperature).softmax(dim=-1)


@full_precision
def self_distillation(
    teacher: Tensor,
    student: Tensor,
    center: Tensor,
    *,
    teacher_temperature: float,
    student_temperature: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the student's view with the teacher's other view, centred and sharpened (DINO, eq. 1-3).

    Args:
        teacher: [G, B, K]; no gradient.
        student: [V, B, K].
        center: [K], subtracted from the teacher's outputs; no gradient.
        teacher_temperature: sharpens the targets; student_temperature: of the predictions.
        weights: [B] constants, one for each sample.

    Returns:
        Scalar: mean over pairs and over this process's samples.
    """
    pairs = _pairs(teacher, student)
    targets = _targets(teacher, center, teacher_temperature).unbind()
    predictions = F.log_softmax(student / student_temperature, dim=-1)
    # The cross-entropy is linear in the predictions: one product for each of the teacher's views, with all others' sum.
    everything, own = predictions.sum(dim=0), predictions.unbind()
    others = [everything - own[g] if g < len(own) else everything for g in range(len(targets))]
    terms = sum(-(target * other).sum(dim=-1) for target, other in zip(targets, others)) / len(pairs)
    return mean_over_samples(terms, weights)


@full_precision
def orthogonality(
    teacher: Tensor,
    student: Tensor,
    center: Tensor,
    *,
    teacher_temperature: float,
    student_temperature: float,
    chunk: int | None = None,
) -> Tensor:
    """CLeVER's term of the equivariant part: different views should have orthogonal outputs.

    Args:
        teacher: [G, B, K]; no gradient.
        student: [V, B, K].
        center: [K]; no gradient.
        teacher_temperature: of the teacher's probabilities; student_temperature: of the student's.
        chunk: samples whose probabilities are held at once; they are computed again in the backward pass. None: all.

    Returns:
        Scalar in [0, 1]: mean over pairs of |mean over samples of the cosine between the two views' probabilities|.
    """
    pairs = _pairs(teacher, student)

    def cosines(teacher_part: Tensor, student_part: Tensor) -> Tensor:
        # Unbound: the gradient of an index would be a tensor of all views, once for each pair.
        targets = F.normalize(_targets(teacher_part, center, teacher_temperature), dim=-1).unbind()
        predictions = F.normalize((student_part / student_temperature).softmax(dim=-1), dim=-1).unbind()
        return torch.stack([(targets[g] * predictions[v]).sum(dim=-1) for g, v in pairs])

    if chunk is None:
        found = cosines(teacher, student)
    else:
        parts = zip(teacher.split(chunk, dim=1), student.split(chunk, dim=1))
        found = torch.cat([checkpoint(cosines, *part, use_reentrant=False) for part in parts], dim=1)
    return found.mean(dim=1).abs().mean()


@full_precision
@torch.no_grad()
def update_center(center: Tensor, teacher: Tensor, *, momentum: float) -> Tensor:
    """The centre after a step: a moving average of the teacher's mean output over all processes (DINO, eq. 4).

    Args:
        center: [K].
        teacher: [G, B, K].
        momentum: share of the old centre that stays.

    Returns:
        [K], a new tensor, equal on all processes.
    """
    mean = teacher.to(center.dtype).mean(dim=(0, 1))
    if world_size() > 1:
        dist.all_reduce(mean)
        mean = mean / world_size()
    return momentum * center + (1 - momentum) * mean


@full_precision
def head_balance(head_a: nn.Module | Iterable[Tensor], head_b: nn.Module | Iterable[Tensor]) -> Tensor:
    """CLeVER's term that keeps two heads alike: |sum of squares of the parameters of one - of the other|.

    Args:
        head_a: a module or its parameters; all count, those without gradient too.
        head_b: likewise.

    Returns:
        Scalar.
    """

    return (_sum_of_squares(head_a) - _sum_of_squares(head_b)).abs()


def _sum_of_squares(head: nn.Module | Iterable[Tensor]) -> Tensor:
    parameters = head.parameters() if isinstance(head, nn.Module) else head
    sums = [(p.float() if p.dtype in HALF else p).square().sum() for p in parameters]
    return torch.stack(sums).sum() if sums else torch.zeros(())
