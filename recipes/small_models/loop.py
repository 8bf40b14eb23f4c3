"""One training loop for every part of the family: a schedule in steps, seeded per step, checkpointed, resumable."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel

from genview import atomic
from genview.errors import GenviewError

Loss = Callable[[torch.Generator, int], tuple[torch.Tensor, dict[str, torch.Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """Learning rate over steps: linear warm-up, constant up to `flat` of the run, cosine to a hundredth."""

    steps: int
    peak: float
    warmup: int = 80
    flat: float = 0.3

    def factor(self, step: int) -> float:
        """Learning rate at `step` as a part of the peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = max(0.0, (step / self.steps - self.flat) / (1 - self.flat))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class Options:
    """What a user may set for every part: folder, seed, device, the budget of this call in minutes."""

    output: Path
    seed: int = 0
    device: str = "cpu"
    minutes: float | None = None
    checkpoint_seconds: float = 120.0


def train(
    name: str,
    model: torch.nn.Module,
    loss: Loss,
    schedule: Schedule,
    options: Options,
    *,
    betas: tuple[float, float] = (0.9, 0.98),
    weight_decay: float = 0.0,
    clip: float = 1.0,
    average: float | None = None,
) -> dict:
    """Train `model` in place; returns {"steps", "seconds", "losses"}; ends with the averaged weights if asked.

    A call that ends early leaves a checkpoint, at most `checkpoint_seconds` old, and the next call goes on from it.
    Raises GenviewError when the budget ran out before the schedule did.
    """
    folder = options.output / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pt"
    optimizer = torch.optim.AdamW(_parameter_groups(model, weight_decay), lr=schedule.peak, betas=betas, fused=True)
    averaged = None
    if average:
        averaged = EMAModel(model.parameters(), decay=average, use_ema_warmup=True, power=0.75, foreach=True)
    step, seconds, history = 0, 0.0, []
    identity = {**vars(schedule), "seed": options.seed}
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=options.device)
        if state["identity"] != identity:
            raise GenviewError(
                f"{path}: made with other settings ({state['identity']}), so it cannot be continued with "
                f"{identity}. Remove it, or choose another output folder."
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if averaged:
            averaged.load_state_dict(state["average"])
        step, seconds, history = state["step"], state["seconds"], state["history"]

    def save() -> None:
        state = {
            "identity": identity,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": averaged.state_dict() if averaged else None,
            "step": step,
            "seconds": seconds + time.monotonic() - started,
            "history": history,
        }
        with atomic.writing(path) as partial:
            torch.save(state, partial)

    started = saved = time.monotonic()
    every = min(max(schedule.steps // 60, 10), 100)
    running: dict[str, float] = {}
    model.train()
    while step < schedule.steps:
        for group in optimizer.param_groups:
            group["lr"] = schedule.peak * schedule.factor(step)
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        value, parts = loss(generator, step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip, foreach=True)
        optimizer.step()
        if averaged:
            averaged.step(model.parameters())
        step += 1
        for key, part in {"loss": value, **parts}.items():
            running[key] = running.get(key, 0.0) + float(part.detach()) / every
        if step % every == 0:
            history.append({"step": step, **{key: round(total, 5) for key, total in running.items()}})
            running = {}
            spent = seconds + time.monotonic() - started
            print(json.dumps({"part": name, "seconds": round(spent, 1), **history[-1]}), flush=True)
        now = time.monotonic()
        if now - saved > options.checkpoint_seconds:
            save()
            saved = now
        if options.minutes and now - started > 60 * options.minutes and step < schedule.steps:
            save()
            raise GenviewError(
                f"{name}: the budget of {options.minutes:g} minutes ended at step {step} of {schedule.steps}. "
                "The same command continues from there."
            )
    save()
    if averaged:
        averaged.copy_to(model.parameters())
    model.eval()
    return {"steps": step, "seconds": round(seconds + time.monotonic() - started, 1), "losses": history}


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
