"""The published linear probe: ten learning rates at once on augmented images, which the encoder sees in each epoch.

As StableRep and GenView++ do: random resized crop and flip, SGD with momentum 0.9 and no weight decay, cosine decay
over the true number of steps, base rates scaled by batch / 256. Ours: the rate is chosen at the end of training on a
held-out part, all training data is then used, and the test part is read once. ``selection: test`` names the published
choice on the test part; there the rate is chosen after the last epoch, not the best of all epochs.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset
from torchvision.transforms import v2

from genview import atomic, loading, placement, randomness
from genview.config.evaluation import Features, Probe
from genview.errors import GenviewError
from genview.evaluation import frozen, linear, logistic, probe, store
from genview.evaluation.datasets import Request
from genview.evaluation.features import encode
from genview.evaluation.frozen import FrozenEncoder
from genview.evaluation.splits import LabelledDataset, Part, seeded_parts
from genview.progress import track

MOMENTUM = 0.9


class Augmented(Dataset):
    """Images with the published augmentation, drawn from (seed, epoch, index) alone; pixels, uint8 [3, S, S]."""

    def __init__(
        self,
        parts: list[Part],
        encoder: FrozenEncoder,
        minimum_area: float,
        seed: int,
        interpolation: v2.InterpolationMode = v2.InterpolationMode.BICUBIC,
    ):
        self.parts, self.seed, self.epoch = parts, seed, 0
        self.starts = [sum(len(part) for part in parts[:index]) for index in range(len(parts))]
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(
                    encoder.image_size,
                    scale=(minimum_area, 1.0),
                    interpolation=interpolation,
                    antialias=True,
                ),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number = max(n for n, start in enumerate(self.starts) if start <= index)
        part, row = self.parts[number], index - self.starts[number]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.seed("augmentation", self.seed, self.epoch, index))
            return self.transform(part.image(row)), int(part.labels[row])


class _Heads(torch.nn.Module):
    """One linear classifier per learning rate, behind one normalisation without parameters (as in MAE's probe)."""

    def __init__(self, dimensions: int, classes: int, count: int, seed: int):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(dimensions, affine=False, eps=1e-6)
        generator = torch.Generator().manual_seed(seed)
        weights = torch.zeros(count, dimensions + 1, classes)
        # Every candidate starts from the same place, so that only its rate tells it apart.
        weights[:, :-1] = torch.randn(dimensions, classes, generator=generator) * 0.01
        self.weights = torch.nn.Parameter(weights)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [K, N, C]."""
        return logistic.logits(self.norm(features), self.weights)


def decay(step: int, steps: int) -> float:
    """Cosine factor of the learning rate: 1 at step 0, 0 after ``steps``."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def train_heads(
    parts: list[Part], encoder: FrozenEncoder, classes: int, rates: Tensor, settings: Probe, workers: int, seed: int
) -> _Heads:
    """Train one head per rate, ``rates`` [R], on augmented images."""
    data = Augmented(parts, encoder, settings.minimum_area, seed)
    order = torch.Generator().manual_seed(seed)
    batches = loading.loader(data, settings.batch_size, workers, shuffle=True, generator=order)
    steps = len(batches) * settings.epochs
    scaled = (rates * settings.batch_size / 256).to(encoder.device).view(-1, 1, 1).float()
    heads, velocity, step = None, None, 0
    for epoch in track(range(settings.epochs), "published probe", total=settings.epochs, unit="epoch"):
        data.epoch = epoch
        for images, labels in encoder.counted(batches):
            # Left inference mode behind: the heads' gradient needs ordinary tensors.
            features = encoder.features(images).clone()
            if heads is None:
                heads = _Heads(features.shape[1], classes, len(rates), seed).to(encoder.device).train()
                velocity = torch.zeros_like(heads.weights)
            if len(features) == 1 and settings.batch_size > 1:
                step += 1  # a single image has no variance to normalise with
                continue
            logits = heads(features)
            labels = labels.to(encoder.device)
            # Summed over the heads: each has its own weights, so each gets its own gradient.
            loss = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(rates))) * len(rates)
            (gradient,) = torch.autograd.grad(loss, heads.weights)
            with torch.no_grad():
                velocity.mul_(MOMENTUM).add_(gradient)
                heads.weights -= scaled * decay(step, steps) * velocity
            step += 1
    if heads is None or not torch.isfinite(heads.weights).all(dim=2).all(dim=1).any():
        raise GenviewError("every learning rate of the published probe diverged; give smaller probe.learning_rates")
    return heads.eval()


@torch.inference_mode()
def _scores(heads: _Heads, part: store.PartFeatures, device: torch.device) -> Tensor:
    return heads(torch.from_numpy(part.features).to(device))


def fit(
    dataset: LabelledDataset,
    features: store.Features,
    encoder: FrozenEncoder,
    settings: Probe,
    reading: Features,
    *,
    seed: int,
) -> linear.Outcome:
    """Run the published protocol; ``features`` are the plain ones, on which accuracies are measured."""
    metric, classes = dataset.metric, len(dataset.classes)
    if dataset.validation is not None:
        train, validation = dataset.train, dataset.validation
    else:
        first, second = seeded_parts(dataset.train.labels, seed=seed, second_share=settings.validation_share)
        train, validation = dataset.train.take(first), dataset.train.take(second)
    rates = torch.tensor(sorted(settings.learning_rates))
    test = features.parts["test"]
    common = (encoder, classes)
    if settings.selection == "validation":
        heads = train_heads([train], *common, rates, settings, reading.loaders, seed)
        decides = encode(validation, encoder, reading, "validation")
    else:
        heads = train_heads([train, validation], *common, rates, settings, reading.loaders, seed)
        decides = test
    scores = _scores(heads, decides, encoder.device)
    measured = linear.best(metric, scores, decides.labels)
    finite = scores.isfinite().all(dim=2).all(dim=1).tolist()
    # Of equally good rates the smallest; a rate that diverged does not count.
    chosen = max(range(len(rates)), key=lambda index: (finite[index], measured[index], -index))
    grid = [
        {"learning_rate": float(rate), f"{settings.selection}_{metric}": score, "finite": ok}
        for rate, score, ok in zip(rates, measured, finite)
    ]
    if settings.selection == "validation":
        heads = train_heads([train, validation], *common, rates[chosen : chosen + 1], settings, reading.loaders, seed)
        final = _scores(heads, test, encoder.device)[0]
    else:
        final = scores[chosen]
    choice: dict[str, Any] = {"learning_rate": float(rates[chosen]), "at_edge": chosen in (0, len(rates) - 1)}
    split = {"train": len(train), "validation": len(validation), "test": len(test)}
    return linear.Outcome(final.cpu().numpy(), grid, choice, split)


def run(
    request: Request,
    reading: Features,
    settings: Probe,
    *,
    model: str | Path,
    features: str | Path,
    output: str | Path,
    images: str | Path | None = None,
    stamp: dict[str, str],
) -> None:
    """Probe a run with the published protocol and write the result.

    Raises:
        GenviewError: the dataset or the model is missing, parts overlap, or every learning rate diverged.
    """
    plain = store.load(features)
    overlapping = probe.check_overlap(plain, settings.allowed_overlap)
    device = placement.default()
    encoder = frozen.load(model, layer=reading.layer, precision=reading.precision, device=device)
    if encoder.digest != plain.details["model_digest"]:
        raise GenviewError(f"{features}: made with another model than {model} is now; make them again")
    outcome = fit(request.load(), plain, encoder, settings, reading, seed=request.seed)
    result = probe.report(plain, settings, outcome, overlapping=overlapping, seed=request.seed, device=device)
    result |= {"epochs": settings.epochs, "batch_size": settings.batch_size}
    if images:
        probe.write_outcomes(plain, outcome.scores, settings, images, device, stamp)
    atomic.write_json(output, {**result, "provenance": stamp})
