"""Stage ``detection``: Mask R-CNN with a feature pyramid on a run's encoder, one JSON per run and dataset.

GenView's transfer to COCO (ECCV 2024; He et al., arXiv 1703.06870): torchvision's detector and losses, all layers
trained. Box and mask AP by COCO's own evaluation through torchmetrics. torchvision ships no training loop in its
package; the one here is a step, a schedule and a saved state.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from genview import atomic, loading, placement, provenance, randomness, usage
from genview.config.evaluation import Detection, Features
from genview.encoders import pyramid
from genview.errors import GenviewError
from genview.evaluation import accuracy, coco, coco_images, frozen
from genview.evaluation.frozen import FrozenEncoder
from genview.progress import track

logger = logging.getLogger("genview")

PYRAMID_WIDTH = 256
DEFAULT_SIZES = (800, 1333)
"""Shorter side, and the longest that the other one may be, in pixels (Detectron)."""


class Backbone(nn.Module):
    """A tower's pyramid and a feature pyramid network on it."""

    def __init__(self, maps: pyramid.StagePyramid | pyramid.SimplePyramid):
        super().__init__()
        self.maps = maps
        self.fpn = FeaturePyramidNetwork(maps.channels, PYRAMID_WIDTH, LastLevelMaxPool())
        self.out_channels = PYRAMID_WIDTH

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps by level, the coarsest a maximum of the one before."""
        return self.fpn({str(level): maps for level, maps in enumerate(self.maps(images))})


def detector(encoder: FrozenEncoder, classes: int, settings: Detection, seed: int) -> MaskRCNN:
    """Mask R-CNN on the encoder's tower, which it trains, with new heads drawn by the seed.

    Args:
        encoder: whose image tower becomes the backbone; it is changed.
        classes: number of categories, without the background.
        settings: sizes and norms.
        seed: of the new layers.

    Raises:
        GenviewError: the tower gives no maps, or needs ``image_size``.
    """
    visual = encoder.model.visual.cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        maps = pyramid.build(visual, settings.image_size or DEFAULT_SIZES[0])
        if isinstance(maps, pyramid.SimplePyramid) and settings.image_size is None:
            raise GenviewError(
                "a tower of one resolution takes images of one size: set evaluation.detection.image_size"
            )
        maps.requires_grad_(True)
        if settings.freeze_norms:
            pyramid.freeze_batch_norms(maps)
        # One size of anchor for each level, four strides wide, as torchvision's own detectors have.
        sizes = tuple((8 * stride,) for stride in (*maps.strides, 2 * maps.strides[-1]))
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
        shorter, longer = (settings.image_size,) * 2 if settings.image_size else DEFAULT_SIZES
        fixed = (settings.image_size,) * 2 if settings.image_size else None
        return MaskRCNN(
            Backbone(maps),
            classes + 1,
            min_size=shorter,
            max_size=longer,
            fixed_size=fixed,
            image_mean=list(encoder.mean),
            image_std=list(encoder.std),
            rpn_anchor_generator=anchors,
            rpn_post_nms_top_n_train=settings.proposals,
            rpn_post_nms_top_n_test=max(1, settings.proposals // 2),
            box_batch_size_per_image=settings.sampled_proposals,
        ).to(encoder.device)


def rate(step: int, settings: Detection) -> float:
    """Factor of the learning rate: linear warm-up, then a tenth after each milestone."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    return 0.1 ** sum(step >= round(share * settings.steps) for share in settings.milestones)


@dataclass(frozen=True)
class Trial:
    """One training of a detector: its data, seed, and the file of its unfinished work."""

    part: coco.DetectionPart
    seed: int
    work: Path
    identity: str


def _batches(
    trial: Trial, settings: Detection, workers: int, first: int, device: torch.device
) -> Iterator[tuple[int, tuple[list, list]]]:
    """Step number and batch on a device, from a step on; an epoch's order and flips depend on its number alone."""
    data = coco_images.Detections(trial.part, flip=True, seed=trial.seed)
    batch = min(settings.batch_size, len(data))
    each = len(data) // batch
    for epoch in range(first // each, -(-settings.steps // each)):
        data.epoch = epoch
        order = torch.Generator().manual_seed(randomness.seed("order of the epoch", trial.seed, epoch))
        batches = loading.loader(
            data, batch, workers, shuffle=True, generator=order, drop_last=True, collate_fn=coco_images.collate
        )
        for number, items in enumerate(usage.reading(loading.ahead(batches, device))):
            step = epoch * each + number
            if first <= step < settings.steps:
                yield step, items


def train(model: MaskRCNN, trial: Trial, settings: Detection, workers: int) -> None:
    """Train a detector in place; goes on from the newest state of this very training.

    Raises:
        GenviewError: the loss is not finite; names step and terms.
    """
    device = next(model.parameters()).device
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=settings.momentum, weight_decay=settings.weight_decay)
    first = _resume(trial, model, optimizer)
    model.train()
    for step, (images, targets) in track(
        _batches(trial, settings, workers, first, device), "detection", total=settings.steps - first, unit="step"
    ):
        torch.manual_seed(randomness.seed("step", trial.seed, step))  # the sampler of proposals
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate(step, settings)
        losses = model(images, targets)
        loss = sum(losses.values())
        if not torch.isfinite(loss):
            terms = ", ".join(f"{name} {float(value.detach()):.3g}" for name, value in losses.items())
            raise GenviewError(f"detection: the loss of step {step + 1} is NaN or infinite ({terms})")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
        optimizer.step()
        done = step + 1
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            state = {"identity": trial.identity, "step": done, "model": model.state_dict()}
            with atomic.writing(trial.work) as partial:
                torch.save({**state, "sgd": optimizer.state_dict()}, partial)


def _resume(trial: Trial, model: MaskRCNN, optimizer: torch.optim.Optimizer) -> int:
    if not trial.work.is_file():
        return 0
    state = torch.load(trial.work, map_location="cpu", weights_only=True)
    if state["identity"] != trial.identity:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["sgd"])
    logger.info("going on after step %d", state["step"])
    return int(state["step"])


@torch.inference_mode()
def average_precision(model: MaskRCNN, part: coco.DetectionPart, workers: int) -> dict[str, float]:
    """COCO's AP, AP50 and AP75 of boxes and masks, in [0, 1]."""
    device = next(model.parameters()).device
    measure = MeanAveragePrecision(iou_type=("bbox", "segm"))
    data = coco_images.Detections(part, flip=False)
    model.eval()
    batches = loading.loader(data, 4, workers, collate_fn=coco_images.collate)
    for images, targets in track(
        usage.reading(loading.read(batches)), "detection, test", total=len(batches), unit="batch"
    ):
        found = model([image.to(device, non_blocking=True) for image in images])
        predicted = [
            {name: value.cpu() for name, value in each.items()} | {"masks": (each["masks"][:, 0] > 0.5).cpu()}
            for each in found
        ]
        measure.update(predicted, [{**target, "masks": target["masks"].bool()} for target in targets])
    values = measure.compute()
    names = {"box": "bbox", "mask": "segm"}
    return {
        f"{name}_ap{suffix}": float(values[f"{kind}_map{end}"])
        for name, kind in names.items()
        for suffix, end in (("", ""), ("50", "_50"), ("75", "_75"))
    }


def _identity(encoder: FrozenEncoder, part: coco.DetectionPart, settings: Detection, seed: int) -> str:
    data = [(image.path.name, image.objects) for image in part.images]
    block = settings.model_dump(mode="json", exclude={"datasets", "trials", "checkpoint_every"})
    return provenance.digest([encoder.digest, provenance.digest(data), block, seed])


def run(
    name: str,
    folder: str | Path,
    reading: Features,
    settings: Detection,
    *,
    seed: int,
    model: str | Path,
    work: str | Path,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Train the detector once for each trial, measure it, and write the mean.

    Args:
        name: of the dataset.
        folder: in COCO's format.
        reading: loader processes.
        settings: of detector and training.
        seed: of the study; each trial adds its number.
        model: an open_clip model directory.
        work: folder of unfinished trainings, emptied at the end.
        output: the JSON.
        stamp: what made it.

    Raises:
        GenviewError: the model or the data are missing or wrong, or a training diverged.
    """
    train_part, test_part = coco.read(folder, "train"), coco.read(folder, "test")
    if train_part.categories != test_part.categories:
        raise GenviewError(f"{folder}: the categories of the training and the test part differ")
    trials = []
    for number in range(settings.trials):
        encoder = frozen.load(model, device=placement.default())
        network = detector(encoder, len(train_part.categories), settings, seed + number)
        identity = _identity(encoder, train_part, settings, seed + number)
        train(
            network, Trial(train_part, seed + number, Path(work) / f"{number}.pt", identity), settings, reading.loaders
        )
        trials.append(average_precision(network, test_part, reading.loaders))
    rows = []
    for metric in trials[0]:
        values = np.array([trial[metric] for trial in trials])
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
        mean = float(values.mean())
        interval: tuple[float | None, float | None] = (None, None) if half is None else (mean - half, mean + half)
        rows.append(accuracy.row(metric, mean, *interval, len(test_part.images)))
    result: dict[str, Any] = {
        "dataset": name,
        "metric": "box_ap",
        "protocol": f"Mask R-CNN with a feature pyramid, {settings.steps} steps of {settings.batch_size} images",
        "norms": "frozen" if settings.freeze_norms else "trained",
        "results": rows,
        "interval": f"1.96 standard errors over {settings.trials} trials",
        "trials": trials,
        "categories": list(train_part.categories),
        "split": {"train": len(train_part.images), "test": len(test_part.images)},
        "model_digest": encoder.digest,
        "provenance": stamp,
    }
    atomic.write_json(output, result)
    shutil.rmtree(work, ignore_errors=True)
