"""DINO (arXiv 2104.14294) and CLeVER (arXiv 2406.00262), which is DINO on a part of the feature, and a second head.

The student sees all crops, the teacher, a momentum network, the two large ones. CLeVER cuts the feature in two: the
first channels are trained as in DINO, the others so that different views of an image have orthogonal outputs; they may
keep what the augmentation changed. GenView's weight of a sample is that of its two large crops' pair; it multiplies all
its cross-entropies. The teacher is what is exported.
"""

from collections.abc import Iterable, Sequence

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import Parameter

from genview.config.training import Run
from genview.training.data.batch import Batch
from genview.training.losses import head_balance, orthogonality, self_distillation, update_center
from genview.training.methods.heads import DINOHead
from genview.training.methods.method import (
    Method,
    Residue,
    Step,
    Terms,
    each_size,
    first_pair,
    follow,
    momentum,
    momentum_copy,
    pair_weights,
    residue_of,
)
from genview.training.scoring import Scorer

LARGE = 2
"""Crops that the teacher sees: the first two slots."""


def drop_paths(model: nn.Module, rate: float) -> None:
    """Stochastic depth of a timm vision transformer, growing with the depth up to ``rate``; others have none."""
    blocks = [part for part in model.modules() if hasattr(part, "drop_path1") and hasattr(part, "drop_path2")]
    for depth, block in enumerate(blocks):
        share = rate * depth / max(len(blocks) - 1, 1)
        block.drop_path1, block.drop_path2 = DropPath(share), DropPath(share)


class DINO(Method):
    """One head on the whole feature, or two heads on its two parts.

    Attributes:
        heads: [invariant] or [invariant, equivariant].
        teacher: momentum copy of ``[model, *heads]``, in training mode, with running statistics of its own.
        center_0, center_1: [K] of each head.
    """

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__(run, model, scorer)
        settings, features = self.settings, model.num_features
        second = settings.equivariant
        self.split = features if second is None else int(second.invariant_share * features)
        self.heads = nn.ModuleList([DINOHead(self.split, settings.head, settings.outputs)])
        if second is not None:
            self.heads.append(DINOHead(features - self.split, settings.head, second.outputs))
        self.teacher = momentum_copy(nn.ModuleList([model, *self.heads]))
        for number, head in enumerate(self.heads):
            self.register_buffer(f"center_{number}", torch.zeros(len(head.gain)))
        drop_paths(model, settings.drop_path)

    def _outputs(self, heads: Iterable[nn.Module], features: Tensor) -> list[Tensor]:
        """Each head's outputs [V, B, K] of its part of features [V, B, F]."""
        parts = features.split([self.split, features.shape[-1] - self.split], dim=-1)
        return [head(part.flatten(0, 1)).unflatten(0, part.shape[:2]) for head, part in zip(heads, parts)]

    def teacher_temperature(self, step: Step) -> float:
        """Linear from the warm-up's value."""
        settings = self.settings
        start, epochs = settings.warmup_teacher_temperature, settings.warmup_teacher_epochs
        if start is None or step.epoch >= epochs:
            return settings.teacher_temperature
        return start + (settings.teacher_temperature - start) * step.epoch / epochs

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """Distillation, and with a second head orthogonality and balance."""
        features = torch.cat(each_size(self.model, batch))
        students = self._outputs(self.heads, features)
        with torch.no_grad():
            model, *heads = self.teacher
            large = first_pair(batch)
            seen = model.pooled(large.flatten(0, 1)).unflatten(0, large.shape[:2])
            teachers = self._outputs(heads, seen)
        temperatures = {
            "teacher_temperature": self.teacher_temperature(step),
            "student_temperature": self.settings.student_temperature,
        }
        weights = pair_weights(self, batch)
        distillation = self_distillation(teachers[0], students[0], self.center_0, **temperatures, weights=weights)
        residue = residue_of(features[:LARGE], students[0][:LARGE], weights)
        residue |= {f"teacher_{number}": outputs.detach() for number, outputs in enumerate(teachers)}
        second = self.settings.equivariant
        if second is None:
            return {"loss": distillation}, residue
        apart = orthogonality(teachers[1], students[1], self.center_1, **temperatures, chunk=second.chunk)
        balance = head_balance(*(self._balanced(head) for head in self.heads))
        loss = distillation + second.separation * apart + second.balance * balance
        terms = {"loss": loss, "distillation": distillation, "orthogonality": apart, "balance": balance}
        return terms, residue

    def _balanced(self, head: nn.Module) -> list[Parameter]:
        last = () if self.settings.equivariant.balance_all else ("gain", "direction")
        return [parameter for name, parameter in head.named_parameters() if name not in last]

    @torch.no_grad()
    def after_step(self, step: Step, residues: Sequence[Residue]) -> None:
        """Centres move to the teacher's mean outputs; the teacher follows the student."""
        for number in range(len(self.heads)):
            center = getattr(self, f"center_{number}")
            outputs = torch.cat([residue[f"teacher_{number}"] for residue in residues], dim=1)
            center.copy_(update_center(center, outputs, momentum=self.settings.center_momentum))
        share = momentum(self.settings.momentum, step.number, step.total)
        follow(self.teacher, nn.ModuleList([self.model, *self.heads]), share, buffers=False)

    def held(self, step: Step) -> Iterable[Parameter]:
        """The last layers, in the first epochs."""
        return [head.direction for head in self.heads] if step.epoch < self.settings.freeze_last_layer_epochs else []

    def exported(self) -> nn.Module:
        """The teacher's model."""
        return self.teacher[0]

    def networks(self) -> Iterable[nn.Module]:
        """Student and teacher."""
        return [self.model, self.teacher[0]]

    def record(self) -> dict[str, int]:
        """Where the invariant part of the feature ends."""
        return {} if self.settings.equivariant is None else {"invariant_channels": self.split}
