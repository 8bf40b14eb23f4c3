"""DIVA (arXiv 2407.20171): the noise that a frozen diffusion model fails to predict corrects an image tower.

What the tower says of an image stands in place of the prompt: global and local tokens, projected, on a constant prior.
A step takes several draws of timestep and noise for each image, each a forward and a backward pass of its own, so that
memory is that of one. Only the image tower and the projection learn; the projection is in the checkpoints alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genview import randomness
from genview.config.training import Run
from genview.diva.condition import Recap
from genview.training.data.batch import Batch
from genview.training.methods.method import Method, Residue, Step, Terms, residue_of

if TYPE_CHECKING:
    from genview.diva.teacher import Teacher


@dataclass
class Encoded(Batch):
    """A batch with its images' latents, float32 [B, c, s, s]."""

    latents: Tensor | None = None


class DIVA(Method):
    """The tower, the projection, and the diffusion model beside them.

    Attributes:
        recap: from tokens to context; its projection is trained.
        teacher: the diffusion model; not a part of the module, so that no checkpoint holds it.
        image_size: side of the tower's input in pixels; views have the diffusion model's size.
        seed: of the run; the noise of an image is a function of (seed, epoch, key, draw).
    """

    def __init__(
        self, run: Run, model: nn.Module, teacher: "Teacher", preprocess: dict[str, Any], *, image_size: int, seed: int
    ):
        """Take a tower and a teacher.

        Args:
            run: the run; model: of ``encoders.build``; teacher: on its device.
            preprocess: ``mean`` and ``std`` that the views are normalised with, the tower's own.
            image_size: of the tower; seed: of the run and its study.

        Raises:
            GenviewError: the tower gives no local tokens, or the condition does not fit it.
        """
        super().__init__(run, model, None)
        self.draws = self.settings.draws
        self.teacher, self.image_size, self.seed = teacher, image_size, seed
        for name in ("mean", "std"):
            values = torch.tensor(preprocess[name]).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        training = model.training
        with torch.no_grad():
            token, local = model.eval().dense(torch.zeros(1, 3, image_size, image_size))
        model.train(training)
        self.tokens = local.shape[1]
        self.recap = Recap(token.shape[1], teacher.prior.cpu(), self.settings.condition, tokens=self.tokens)

    def pixels(self, batch: Batch) -> Tensor:
        """The images [B, 3, S, S] in [0, 1], as the diffusion model takes them."""
        return batch.views[0] * self.std + self.mean

    def prepared(self, batch: Batch) -> Encoded:
        """The batch with its latents, which all draws share."""
        values = {field.name: getattr(batch, field.name) for field in fields(Batch)}
        return Encoded(**values, latents=self.teacher.latents(self.pixels(batch)))

    def share(self, draw: int, microbatches: int) -> float:
        """The mean, or the published code's: only a microbatch's last draw is divided by the number of microbatches."""
        if self.settings.weighting == "mean":
            return super().share(draw, microbatches)
        return 1 / microbatches if draw == self.draws - 1 else 1.0

    def forward(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        """The diffusion model's error for one draw of noise and tokens."""
        encoded = batch if isinstance(batch, Encoded) else self.prepared(batch)
        images = batch.views[0]
        if images.shape[-1] != self.image_size:
            images = F.interpolate(images, (self.image_size, self.image_size), mode="bilinear", antialias=True)
        token, local = self.model.dense(images)
        context = self.recap(token, local, self._seeds(batch.keys, step, "tokens"))
        draw = self.teacher.draw(encoded.latents.shape, self._seeds(batch.keys, step, "noise"))
        return {"loss": self.teacher.error(encoded.latents, context, draw)}, residue_of(token[None], token[None], None)

    def _seeds(self, keys: Sequence[str], step: Step, what: str) -> list[int]:
        return [randomness.seed(f"diva {what}", self.seed, step.epoch, key, step.draw) for key in keys]

    def record(self) -> dict[str, Any]:
        """The diffusion model, and the length of its context."""
        length = self.settings.condition.context_length(self.tokens)
        return {"diffusion_model": self.teacher.model, "context_length": length}
