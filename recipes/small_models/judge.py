"""Training of the judge on real, blurred and noised scenes, so that imperfect drawings are judged fairly."""

from __future__ import annotations

import torch
from torch.nn import functional

from genview.data import scenes
from genview.models.judge import Judge
from recipes.small_models.collection import Collection, unit_range
from recipes.small_models.loop import Options, Schedule, train

HEADS = {
    "class": list(scenes.CLASSES),
    "colour": list(scenes.COLOURS),
    "background": list(scenes.BACKGROUNDS),
}


def build() -> Judge:
    """Judge of class, colour and background, untrained."""
    return Judge(HEADS)


def fit(data: Collection, options: Options, *, steps: int = 4000, batch: int = 48) -> tuple[Judge, dict]:
    """Train; the scenes must be others than the rest of the family sees, else the judge is not independent."""
    torch.manual_seed(options.seed)
    judge = build().to(options.device)
    targets = {name: data.column(f"{name}_index") for name in HEADS}

    def loss(generator: torch.Generator, step: int):
        rows = torch.randint(len(data), (batch,), generator=generator)
        pixels = unit_range(data.images[rows])
        part = batch // 3
        pixels[:part] = functional.avg_pool2d(pixels[:part], 3, 1, 1, count_include_pad=False)
        strength = 0.25 * torch.rand(batch, 1, 1, 1, generator=generator)
        noise = torch.randn(pixels.shape, generator=generator) * strength
        noise[::3] = 0
        logits = judge((pixels + noise).to(options.device))
        losses = {
            name: functional.cross_entropy(logits[name], targets[name][rows].to(options.device)) for name in HEADS
        }
        correct = (logits["class"].argmax(-1).cpu() == targets["class"][rows]).float().mean()
        value = 2 * losses["class"] + losses["colour"] + losses["background"]
        return value, {"class_accuracy": correct}

    report = train("judge", judge, loss, Schedule(steps, peak=2e-3), options, weight_decay=0.02)
    return judge, report
