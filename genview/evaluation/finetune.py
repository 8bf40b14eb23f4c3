"""Stage ``finetune``: the whole network trained on few labels, one JSON per run and dataset.

The semi-supervised protocol of SimCLR (arXiv 2002.05709, section 6) as GenView uses it: 1 % and 10 % of the labels,
20 epochs of SGD with momentum .9, a new classifier with its own learning rate, cosine decay, random resized crops and
flips. Each share is trained with several draws of its images; the result is their mean.
"""

import copy
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from genview import atomic, loading, placement, provenance, randomness
from genview.config.evaluation import Features, Finetune, FinetuneRates
from genview.errors import GenviewError
from genview.evaluation import accuracy, frozen
from genview.evaluation.datasets import Request
from genview.evaluation.frozen import FrozenEncoder
from genview.evaluation.published import MOMENTUM, Augmented, decay
from genview.evaluation.splits import LabelledDataset, Part, seeded_parts
from genview.progress import track

logger = logging.getLogger("genview")


class Network(nn.Module):
    """An encoder's tower and a classifier on its pooled features."""

    def __init__(self, tower: nn.Module, width: int, classes: int, seed: int):
        super().__init__()
        self.tower = tower
        self.classifier = nn.Linear(width, classes)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.classifier.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [B, C] of images [B, 3, S, S]."""
        return self.classifier(self.tower(images).float())


@dataclass(frozen=True)
class Training:
    """One training: its labelled images, rates and seed, and where its unfinished work is kept.

    Attributes:
        part: the labelled images.
        rates: of the classifier and the backbone, at a batch of 256.
        seed: of the classifier, the order and the augmentation.
        work: file of the newest epoch's state; made and removed by the training.
    """

    part: Part
    rates: FinetuneRates
    seed: int
    work: Path


def labelled_subset(dataset: LabelledDataset, share: float, seed: int, names: str | Path | None = None) -> np.ndarray:
    """Positions of the training images whose labels are used, ascending, integers [n].

    Args:
        dataset: whose training part it is.
        share: of each class, rounded, at least one image.
        seed: of the draw.
        names: a file of image names instead, one a line, as the dataset names its images; folders before the name and
            the suffix may be left out.

    Raises:
        GenviewError: a name of the list is not among the images; names the first.
    """
    train = dataset.train
    if names is None:
        if share == 1:
            return np.arange(len(train))
        random = np.random.default_rng([seed, len(train)])
        chosen = []
        for label in np.unique(train.labels):
            members = np.flatnonzero(train.labels == label)
            chosen.append(random.permutation(members)[: max(1, round(len(members) * share))])
        return np.sort(np.concatenate(chosen))
    try:
        lines = Path(names).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GenviewError(f"{names}: the list of labelled images cannot be read: {error}") from error
    places: dict[str, int] = {}
    for index in range(len(train)):
        path = Path(train.name_of(index))
        for name in (str(path), path.name, path.stem):
            places.setdefault(name, index)
    wanted = [line.strip() for line in lines if line.strip()]
    missing = [name for name in wanted if name not in places]
    if missing or not wanted:
        what = f"{missing[0]!r} is not a training image of {dataset.name} ({len(missing)} of {len(wanted)} names)"
        raise GenviewError(f"{names}: {what if missing else 'an empty list'}")
    return np.unique([places[name] for name in wanted])


def _identity(training: Training, encoder: FrozenEncoder, settings: Finetune) -> str:
    """Equal for trainings that give equal networks: unfinished work goes on under its own identity alone."""
    rows = provenance.digest([training.part.rows.tolist(), training.part.labels.tolist()])
    chosen = [settings.epochs, settings.batch_size, settings.weight_decay, settings.minimum_area]
    return provenance.digest([encoder.digest, rows, training.rates.model_dump(), training.seed, chosen])


def train(training: Training, encoder: FrozenEncoder, classes: int, settings: Finetune, workers: int) -> Network:
    """Train a copy of the encoder with a classifier; goes on from the newest epoch of this very training.

    Raises:
        GenviewError: the loss is not finite.
    """
    size = (1, 3, encoder.image_size, encoder.image_size)
    width = encoder.features(torch.zeros(size)).shape[1]
    network = Network(copy.deepcopy(encoder.tower), width, classes, training.seed).to(encoder.device)
    network.requires_grad_(True)
    scale = settings.batch_size / 256
    groups = [
        {"params": list(network.classifier.parameters()), "peak": training.rates.classifier * scale},
        {"params": list(network.tower.parameters()), "peak": training.rates.backbone * scale},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=MOMENTUM, weight_decay=settings.weight_decay)
    data = Augmented([training.part], encoder, settings.minimum_area, training.seed)
    batch = min(settings.batch_size, len(data))
    steps = -(-len(data) // batch) * settings.epochs
    identity = _identity(training, encoder, settings)
    first = _resume(training.work, identity, network, optimizer)
    for epoch in track(range(first, settings.epochs), "finetune", total=settings.epochs - first, unit="epoch"):
        data.epoch = epoch
        order = torch.Generator().manual_seed(randomness.seed("order of the epoch", training.seed, epoch))
        batches = loading.loader(data, batch, workers, shuffle=True, generator=order)
        network.train()
        for number, (images, labels) in enumerate(encoder.counted(batches, times=3)):
            step = epoch * len(batches) + number
            if len(images) == 1 and len(data) > 1:
                continue  # batch norms have no variance of a single image
            torch.manual_seed(randomness.seed("step", training.seed, step))  # stochastic depth and dropout
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * decay(step, steps)
            images = encoder.ready(images)
            with torch.autocast(encoder.device.type, encoder.autocast, enabled=encoder.autocast is not None):
                logits = network(images)
            loss = functional.cross_entropy(logits, labels.to(encoder.device))
            if not torch.isfinite(loss):
                raise GenviewError(f"finetune: the loss of epoch {epoch + 1} is NaN or infinite; give smaller rates")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch + 1 < settings.epochs:
            _keep(training.work, identity, epoch + 1, network, optimizer)
    return network.eval()


def _keep(work: Path, identity: str, epochs: int, network: Network, optimizer: torch.optim.Optimizer) -> None:
    state = {"identity": identity, "epochs": epochs, "network": network.state_dict(), "sgd": optimizer.state_dict()}
    with atomic.writing(work) as partial:
        torch.save(state, partial)


def _resume(work: Path, identity: str, network: Network, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest epoch's state, where there is one of this very training; returns the number of epochs done."""
    if not work.is_file():
        return 0
    state = torch.load(work, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        return 0
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["sgd"])
    logger.info("going on after epoch %d", state["epochs"])
    return int(state["epochs"])


@torch.inference_mode()
def scores(network: Network, part: Part, encoder: FrozenEncoder, settings: Finetune, workers: int) -> np.ndarray:
    """Logits float32 [n, C] of a part, in its order, without augmentation."""
    batches = loading.loader(_Plain(part, encoder), settings.batch_size, workers)
    found = []
    for images in map(encoder.ready, encoder.counted(batches)):
        with torch.autocast(encoder.device.type, encoder.autocast, enabled=encoder.autocast is not None):
            found.append(network(images).float().cpu())
    return torch.cat(found).numpy()


class _Plain(torch.utils.data.Dataset):
    def __init__(self, part: Part, encoder: FrozenEncoder):
        self.part, self.transform = part, encoder.transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform.pixels(self.part.image(index))


def over_seeds(
    metric: str, correct: np.ndarray, labels: np.ndarray, *, resamples: int, seed: int
) -> tuple[float, float | None, float | None]:
    """Mean of a metric over trainings, and its 95 % interval: trainings are drawn anew, then test images.

    Args:
        metric: ``top1`` or ``mean_per_class``.
        correct: bool [trainings, n].
        labels: int [n].
        resamples: 0: no interval.
        seed: of the resamples.
    """
    mean = float(np.mean([accuracy.value(metric, row, labels) for row in correct]))
    if resamples == 0:
        return mean, None, None
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for index in range(resamples):
        images = random.integers(len(labels), size=len(labels))
        rows = correct[random.integers(len(correct), size=len(correct))]
        values[index] = np.mean([accuracy.value(metric, row[images], labels[images]) for row in rows])
    low, high = np.quantile(values, [(1 - accuracy.LEVEL) / 2, (1 + accuracy.LEVEL) / 2])
    return mean, float(low), float(high)


@dataclass(frozen=True)
class _Study:
    """What all trainings of a run on a dataset share."""

    dataset: LabelledDataset
    encoder: FrozenEncoder
    settings: Finetune
    workers: int
    work: Path

    def network(self, rows: np.ndarray, rates: FinetuneRates, seed: int) -> Network:
        """The network trained on these images."""
        training = Training(self.dataset.train.take(rows), rates, seed, self.work)
        return train(training, self.encoder, len(self.dataset.classes), self.settings, self.workers)

    def choose(self, rows: np.ndarray, candidates: Sequence[FinetuneRates], seed: int) -> FinetuneRates:
        """The rates that are best on a held-out part; the smallest of equally good ones."""
        if len(candidates) == 1:
            return candidates[0]
        first, held_out = rows, self.dataset.validation
        if held_out is None:
            labels = self.dataset.train.labels[rows]
            kept, second = seeded_parts(labels, seed=seed, second_share=self.settings.validation_share)
            first, held_out = rows[kept], self.dataset.train.take(rows[second])
        measured = []
        for rates in sorted(candidates, key=lambda rates: (rates.backbone, rates.classifier)):
            network = self.network(first, rates, seed)
            hits = accuracy.hits(self.scores(network, held_out), held_out.labels, 1)
            measured.append((accuracy.value(self.dataset.metric, hits, held_out.labels), rates))
        return max(measured, key=lambda pair: pair[0])[1]

    def scores(self, network: Network, part: Part) -> np.ndarray:
        """Logits of a part."""
        return scores(network, part, self.encoder, self.settings, self.workers)


def run(
    request: Request,
    reading: Features,
    settings: Finetune,
    *,
    model: str | Path,
    work: str | Path,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Fine-tune a run's model on each share of a dataset's labels and write the result.

    Args:
        request: the dataset.
        reading: precision and loader processes.
        settings: of the protocol.
        model: an open_clip model directory.
        work: folder of unfinished trainings, removed at the end.
        output: the JSON.
        stamp: what made it.

    Raises:
        GenviewError: the dataset, the model or a list is missing, or a training diverged.
    """
    dataset = request.load()
    if dataset.test is None or not len(dataset.test):
        raise GenviewError(f"dataset {dataset.name}: it has no test images")
    encoder = frozen.load(model, layer="pooled", precision=reading.precision, device=placement.default())
    labels, metric = dataset.test.labels, dataset.metric
    rows: list[dict[str, Any]] = []
    trainings: list[dict[str, Any]] = []
    for share in settings.shares:
        correct = []
        for seed in settings.subset_seeds:
            study = _Study(dataset, encoder, settings, reading.loaders, Path(work) / f"{share:g}-{seed}.pt")
            chosen = labelled_subset(dataset, share, seed, settings.lists.get(f"{share:g}"))
            rates = study.choose(chosen, settings.rates_of(share), seed)
            hits = accuracy.hits(study.scores(study.network(chosen, rates, seed), dataset.test), labels, 1)
            correct.append(hits)
            value = accuracy.value(metric, hits, labels)
            trainings.append({"share": share, "seed": seed, "images": len(chosen), metric: value, **rates.model_dump()})
        mean, low, high = over_seeds(metric, np.stack(correct), labels, resamples=settings.bootstrap, seed=request.seed)
        rows.append(accuracy.row(f"{metric}_at_{share:g}", mean, low, high, len(labels)))
    atomic.write_json(
        output,
        {
            "dataset": dataset.name,
            "metric": metric,
            "classes": list(dataset.classes),
            "protocol": f"whole network, {settings.epochs} epochs of SGD, batch {settings.batch_size}",
            "results": rows,
            "interval": f"95 %, percentiles of {settings.bootstrap} resamples of trainings and test images",
            "trainings": trainings,
            "split": {"train": len(dataset.train), "test": len(labels)},
            "split_rule": dataset.split_rule,
            "model_digest": encoder.digest,
            "provenance": stamp,
        },
    )
    shutil.rmtree(work, ignore_errors=True)
