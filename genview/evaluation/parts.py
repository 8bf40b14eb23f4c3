"""Stage ``probe_parts``: what the invariant and the equivariant part of an encoder's features know, each on its own.

Linear probes by CLeVER's protocol (arXiv 2406.00262): SGD on augmented images, the last epoch reported, then one
forward pass of each perturbed test. The angle by which an image was turned is regressed on the same features.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from genview import atomic, loading, placement, randomness
from genview.config.evaluation import Features
from genview.config.parts import Parts
from genview.encoders import towers
from genview.errors import GenviewError
from genview.evaluation import accuracy, frozen
from genview.evaluation.datasets import Request
from genview.evaluation.frozen import FrozenEncoder
from genview.evaluation.perturb import Perturbed, Turned
from genview.evaluation.published import MOMENTUM, Augmented, decay
from genview.evaluation.splits import LabelledDataset, Part
from genview.progress import track

PENALTIES = 10.0 ** np.arange(-4, 5)
"""Of the ridge regression of the angle on standardised features; one is chosen on a held-out fifth."""

SHOWN = 6
"""Test images that are pictured."""


class BlockFeatures(nn.Module):
    """Normalised images [B, 3, S, S] to the last blocks' class tokens [B, W]."""

    def __init__(self, layer: towers.Layer, blocks: int):
        super().__init__()
        self.visual, self.blocks = layer.visual, blocks

    def forward(self, images: Tensor) -> Tensor:
        """[B, W]"""
        return towers.class_tokens(self.visual, images, self.blocks)


def slices(width: int, last: int, invariant: int) -> dict[str, slice]:
    """Where each part lies in the features.

    Args:
        width: W of all features.
        last: width of the last block's, at their end.
        invariant: where its invariant part ends.
    """
    start, cut = width - last, width - last + invariant
    return {
        "all": slice(0, width),
        "ir": slice(0, cut),
        "ef": slice(cut, width),
        "last": slice(start, width),
        "last_ir": slice(start, cut),
    }


def invariant_channels(model: str | Path, features: int, share: float) -> tuple[int, bool]:
    """Where the invariant part of ``features`` channels ends, and whether the encoder was trained so.

    Raises:
        GenviewError: a part would be empty.
    """
    file = Path(model) / "run.json"
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    trained = "invariant_channels" in record
    found = int(record["invariant_channels"]) if trained else int(share * features)
    if not 0 < found < features:
        raise GenviewError(f"{model}: the invariant part would have {found} of {features} channels")
    return found, trained


@dataclass(frozen=True)
class Setup:
    """What is probed, and how."""

    dataset: LabelledDataset
    encoder: FrozenEncoder
    where: dict[str, slice]
    """Where each part lies in the encoder's features."""
    settings: Parts
    reading: Features
    seed: int


class _Changed(Dataset):
    """Images of a part, each changed by its number: pixels, uint8 [3, S, S]."""

    def __init__(self, part: Part, change: Perturbed | Turned):
        self.part, self.change, self.pixels = part, change, v2.PILToTensor()

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels(self.change(self.part.image(index), index))


def encoded(setup: Setup, part: Part, change: Perturbed | Turned) -> Tensor:
    """Features [n, W] of changed images, on the CPU."""
    batches = loading.loader(_Changed(part, change), setup.reading.batch_size, setup.reading.loaders)
    return torch.cat([setup.encoder.features(images).cpu() for images in setup.encoder.counted(batches)])


def train(setup: Setup) -> dict[str, nn.Linear]:
    """A linear classifier for each part, all trained on the same augmented images.

    Raises:
        GenviewError: one diverged.
    """
    dataset, encoder, settings, where = setup.dataset, setup.encoder, setup.settings, setup.where
    known = [part for part in (dataset.train, dataset.validation) if part is not None]
    data = Augmented(known, encoder, settings.minimum_area, setup.seed, v2.InterpolationMode.BILINEAR)
    order = torch.Generator().manual_seed(setup.seed)
    batches = loading.loader(data, settings.batch_size, setup.reading.loaders, shuffle=True, generator=order)
    rate = settings.learning_rate * settings.batch_size / 256
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.seed("probes of parts", setup.seed))
        heads = {}
        for name in settings.parts:
            head = nn.Linear(where[name].stop - where[name].start, len(dataset.classes))
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            heads[name] = head.to(encoder.device)
    optimizer = torch.optim.SGD(
        [p for head in heads.values() for p in head.parameters()], lr=rate, momentum=MOMENTUM, weight_decay=0
    )
    for epoch in track(range(settings.epochs), "probes of parts", total=settings.epochs, unit="epoch"):
        data.epoch = epoch
        for group in optimizer.param_groups:
            group["lr"] = rate * decay(epoch, settings.epochs)
        for images, labels in encoder.counted(batches):
            features, labels = encoder.features(images).clone(), labels.to(encoder.device)
            losses = [
                nn.functional.cross_entropy(head(features[:, where[name]]), labels) for name, head in heads.items()
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
    for name, head in heads.items():
        if not torch.isfinite(head.weight).all():
            raise GenviewError(f"the probe of part {name} diverged; give a smaller evaluation.parts.learning_rate")
    return heads


def interval(
    metric: str, correct: np.ndarray, labels: np.ndarray, settings: Parts, seed: int
) -> tuple[float | None, float | None]:
    """Percentile interval over resamples of test images; ``correct`` [draws, n] bool, ``labels`` [n]."""
    if settings.bootstrap == 0:
        return None, None
    if len(correct) == 1 or correct.all() or not correct.any():
        return accuracy.bootstrap(metric, correct[0], labels, settings.bootstrap, seed)
    random, mean = np.random.default_rng(seed), correct.mean(axis=0)
    values = []
    for _ in range(settings.bootstrap):
        rows = random.integers(len(labels), size=len(labels))
        values.append(accuracy.value(metric, mean[rows], labels[rows]))
    low, high = np.quantile(values, [(1 - accuracy.LEVEL) / 2, (1 + accuracy.LEVEL) / 2])
    return float(low), float(high)


def tested(setup: Setup, heads: dict[str, nn.Linear]) -> dict[str, list[dict[str, Any]]]:
    """Rows of each part: the accuracy on every perturbed test, its draws and their spread."""
    settings, encoder, test = setup.settings, setup.encoder, setup.dataset.test
    labels, metric = test.labels, setup.dataset.metric
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in heads}
    for name in settings.perturbations:
        draws = 1 if name == "ori" else settings.draws
        correct: dict[str, list[np.ndarray]] = {part: [] for part in heads}
        for draw in range(draws):
            features = encoded(setup, test, Perturbed(name, encoder.image_size, seed=setup.seed, draw=draw))
            for part, head in heads.items():
                with torch.inference_mode():
                    scores = head(features[:, setup.where[part]].to(encoder.device)).cpu().numpy()
                correct[part].append(accuracy.hits(scores, labels, 1))
        shown = metric if name == "ori" else f"{metric}: {name}"
        for part, each in correct.items():
            values = [accuracy.value(metric, one, labels) for one in each]
            low, high = interval(metric, np.stack(each), labels, settings, setup.seed)
            row = accuracy.row(shown, float(np.mean(values)), low, high, len(labels))
            spread = float(np.std(values, ddof=1)) if draws > 1 else None
            rows[part].append({**row, "draws": values, "spread": spread})
    return rows


def squared_residuals(
    train: np.ndarray, angles: np.ndarray, test: np.ndarray, truth: np.ndarray, seed: int
) -> np.ndarray:
    """Squared residuals [n] of a ridge regression's predictions, its penalty chosen on a held-out fifth.

    Args:
        train, test: features float64 [m, W], [n, W].
        angles, truth: [m], [n].
        seed: of the fifth.
    """
    order = np.random.default_rng(seed).permutation(len(train))
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]

    def fitted(rows: np.ndarray, penalty: float):
        mean, scale = train[rows].mean(axis=0), train[rows].std(axis=0)
        scale = np.where(scale > 1e-6, scale, np.inf)
        inputs, centre = (train[rows] - mean) / scale, angles[rows].mean()
        gram = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
        weights = np.linalg.solve(gram, inputs.T @ (angles[rows] - centre))
        return lambda features: (features - mean) / scale @ weights + centre

    errors = [np.square(fitted(rest, penalty)(train[held]) - angles[held]).mean() for penalty in PENALTIES]
    return np.square(fitted(order, PENALTIES[int(np.argmin(errors))])(test) - truth)


def angle_rows(setup: Setup) -> dict[str, dict[str, Any]]:
    """R2 of the angle by which test images were turned, for each part; the interval is over test images."""
    settings, encoder, seed = setup.settings, setup.encoder, setup.seed
    if settings.rotation is None:
        return {}
    parts, turns = [], []
    for name, part in (("train", setup.dataset.train), ("test", setup.dataset.test)):
        change = Turned(encoder.image_size, settings.rotation, seed=randomness.seed("turned", seed, name))
        parts.append(encoded(setup, part, change).double().numpy())
        turns.append(np.array([change.angle(index) for index in range(len(part))]))
    random, rows = np.random.default_rng(seed), {}
    drawn = random.integers(len(turns[1]), size=(settings.bootstrap, len(turns[1])))
    spread = np.square(turns[1] - turns[1].mean())
    for name in settings.parts:
        train_features, test_features = (features[:, setup.where[name]] for features in parts)
        left = squared_residuals(train_features, turns[0], test_features, turns[1], seed)
        low = high = None
        if settings.bootstrap:
            shares = 1 - left[drawn].sum(axis=1) / spread[drawn].sum(axis=1)
            low, high = map(float, np.quantile(shares, [(1 - accuracy.LEVEL) / 2, (1 + accuracy.LEVEL) / 2]))
        rows[name] = accuracy.row("angle_r2", float(1 - left.sum() / spread.sum()), low, high, len(left))
    return rows


def picture(setup: Setup) -> Image.Image:
    """The first test images, a row for each test."""
    test, size, settings = setup.dataset.test, setup.encoder.image_size, setup.settings
    count = min(SHOWN, len(test))
    page = Image.new("RGB", (count * size, len(settings.perturbations) * size))
    for row, name in enumerate(settings.perturbations):
        change = Perturbed(name, size, seed=setup.seed)
        for column in range(count):
            page.paste(change(test.image(column), column), (column * size, row * size))
    return page


def run(
    request: Request,
    reading: Features,
    settings: Parts,
    *,
    model: str | Path,
    outputs: dict[str, str | Path],
    examples: str | Path,
    stamp: dict[str, str],
) -> None:
    """Probe the parts of an encoder and write a result for each.

    Args:
        outputs: a file for each part.
        examples: where the picture of perturbed images goes.

    Raises:
        GenviewError: the dataset or the model is missing or wrong, or a probe diverged.
    """
    encoder = frozen.load(model, precision=reading.precision, device=placement.default())
    encoder.tower = BlockFeatures(encoder.tower, settings.blocks)
    probe = encoder.features(torch.zeros(1, 3, encoder.image_size, encoder.image_size))
    last = towers.width(encoder.tower.visual)
    invariant, trained = invariant_channels(model, last, settings.invariant_share)
    where, dataset, seed = slices(probe.shape[1], last, invariant), request.load(), request.seed
    setup = Setup(dataset, encoder, where, settings, reading, seed)
    rows = tested(setup, train(setup))
    angles = angle_rows(setup)
    with atomic.writing(examples) as partial:
        picture(setup).save(partial, format="PNG")
    for name, path in outputs.items():
        result = {
            "dataset": dataset.name,
            "part": name,
            "channels": [where[name].start, where[name].stop],
            "cut": "as trained" if trained else f"at {settings.invariant_share:g} of the last block's, as a control",
            "classes": len(dataset.classes),
            "metric": dataset.metric,
            "results": [*rows[name], *([angles[name]] if angles else [])],
            "protocol": f"SGD, {settings.epochs} epochs, the last",
            "interval": f"95 %, percentiles of {settings.bootstrap} resamples of the test images",
            "split_rule": dataset.split_rule,
            "model_digest": encoder.digest,
            "seed": seed,
        }
        atomic.write_json(path, {**result, "provenance": stamp})
