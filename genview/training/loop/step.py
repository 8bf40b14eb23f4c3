"""One optimiser step: gradients of its microbatches, clipping, the update, and what the method changes after it."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from genview.config.training import Run
from genview.training.data.batch import Batch
from genview.training.loop import cached, optimizers
from genview.training.loop.distributed import average_gradients
from genview.training.methods.method import Method, Residue, Step, Terms


class Outcome(NamedTuple):
    """What a step leaves."""

    terms: Terms
    """Losses, averaged over the step's microbatches and draws, of this process."""
    residues: list[Residue]
    """Of each microbatch."""
    gradient_norm: Tensor | None
    """Norm of all gradients before clipping, where it was asked for."""


class Stepper:
    """Takes the steps of a run in one process."""

    def __init__(
        self, run: Run, accelerator: Accelerator, method: Method, wrapped: nn.Module, optimizer: torch.optim.Optimizer
    ):
        """Take what steps need.

        Args:
            run: its settings.
            accelerator: of this process.
            method: as it was built.
            wrapped: the method as the accelerator prepared it.
            optimizer: likewise.
        """
        self.run, self.accelerator = run, accelerator
        self.method, self.wrapped, self.optimizer = method, wrapped, optimizer
        self.parameters = list(method.parameters())

    def gradients(self, microbatches: Sequence[Batch], step: Step) -> tuple[Terms, list[Residue]]:
        """Gradients of one step, averaged over microbatches, draws and processes; a residue of each microbatch."""
        draws = self.method.draws
        sums: Terms = {}
        residues = []
        for number, batch in enumerate(microbatches):
            if self.run.cached_chunk:
                passes = [self._in_chunks(batch, step)]
            else:
                passes = self._drawn(batch, step, microbatches=len(microbatches), last=number == len(microbatches) - 1)
            residues.append(passes[-1][1])
            for terms, _ in passes:
                for name, term in terms.items():
                    sums[name] = sums.get(name, 0) + term.detach() / (len(microbatches) * draws)
        return sums, residues

    def _drawn(self, batch: Batch, step: Step, *, microbatches: int, last: bool) -> list[tuple[Terms, Residue]]:
        """A backward pass for each draw; processes exchange gradients in the very last of a step."""
        with self.accelerator.autocast():
            batch = self.method.prepared(batch)
        passes = []
        for draw in range(self.method.draws):
            exchanged = last and draw == self.method.draws - 1
            with contextlib.nullcontext() if exchanged else self.accelerator.no_sync(self.wrapped):
                with self.accelerator.autocast():
                    terms, residue = self.wrapped(batch, step._replace(draw=draw))
                self.accelerator.backward(terms["loss"] * self.method.share(draw, microbatches))
            passes.append(({name: term.detach() for name, term in terms.items()}, residue))
        return passes

    def _in_chunks(self, batch: Batch, step: Step) -> tuple[Terms, Residue]:
        with self.accelerator.no_sync(self.wrapped), self.accelerator.autocast():
            found = cached.backward(
                self.method,
                batch,
                step,
                chunk=self.run.cached_chunk,
                scaled_backward=self.accelerator.backward,
            )
        average_gradients(self.parameters)
        return found

    def update(self, step: Step, residues: Sequence[Residue], *, measured: bool) -> Tensor | None:
        """Clip the gradients, take the step, let the method follow; returns the norm of the gradients, a scalar.

        Args:
            step: the step that is taken.
            residues: of its microbatches.
            measured: whether the norm of the gradients is wanted.
        """
        for parameter in self.method.held(step):
            parameter.grad = None
        norm = None
        if measured or self.run.optimizer.gradient_clip is not None:
            self.accelerator.unscale_gradients()
        if measured:
            norm = nn.utils.get_total_norm(optimizers.gradients(self.parameters))
        optimizers.clip(self.parameters, self.run.optimizer)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.after_step(step, residues)
        return norm
