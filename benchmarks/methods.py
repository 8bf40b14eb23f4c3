"""The training step of each method beside lightly's own modules and losses, assembled in the plain way of its examples.

    python benchmarks/methods.py                                      # ResNet-18 at 224 px, on a CPU
    python benchmarks/methods.py --architecture resnet50 --batch 64   # a GPU

Both sides have the same tower, heads of the same widths, the same crops (of SwAV and DINO those of a size in one pass,
as their authors do it, where lightly's examples pass each alone) and torch's SGD; steps alternate, so that both
see the same load of the machine, and the ratio is of their medians. A step is everything after the data: forward,
backward, optimiser, momentum networks, centres, queues. Then what only we have: the share of a step that the quality
weights take (with CLIP's ViT-B/32 as the quality encoder), and CLeVER beside DINO: samples a second, and the largest
memory of a process of its own that takes steps of one of them.

lightly has no loss of MoCo v3; its NT-Xent stands in, in both directions, whose matrix of logits is twice as wide.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightly.loss
import record
import torch
from lightly.models.modules import heads
from lightly.models.utils import update_momentum
from torch import Tensor, nn

from genview.config.augmentation import PRESETS
from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.encoders import build, look
from genview.encoders.architecture import describe
from genview.training.assembly import METHODS
from genview.training.data.batch import Batch, Group
from genview.training.methods.method import Method, Step
from genview.training.scoring import Scorer

OUTPUT = record.RESULTS / "methods.json"
COMPARED = ("simclr", "mocov2", "mocov3", "simsiam", "byol", "swav", "dino")
OUTPUTS = 65_536
"""DINO's prototypes."""
LIKE_LIGHTLY = {"swav": {"queue": None}, "mocov2": {"batchnorm_groups": 1}}
"""Settings without which a method does more than lightly's: a queue, normalisation in eight parts on one device."""
STEP = Step(number=1000, total=10_000, per_epoch=100)
"""In the middle of a run: nothing is frozen any more."""
RATE = {"lr": 1e-3, "momentum": 0.9}


def run_of(name: str, architecture: str, **changes) -> Run:
    """A run of a method with its published settings."""
    settings = {"name": name, **LIKE_LIGHTLY.get(name, {}), **changes}
    return Run.model_validate({"method": settings, "model": {"architecture": architecture}})


def crops(name: str, batch: int, size: int) -> list[Tensor]:
    """Random views [V, B, 3, S, S], one tensor for each size of the method's published crops."""
    torch.manual_seed(0)
    slots = PRESETS.get({"dino": "baug", "clever": "baug"}.get(name, name), [{}, {}])
    counts: dict[int, int] = {}
    for slot in slots:
        side = round(slot.get("image_size", 224) * size / 224)
        counts[side] = counts.get(side, 0) + slot.get("crops", 1)
    return [torch.randn(count, batch, 3, side, side) for side, count in counts.items()]


def batch_of(views: list[Tensor], device: torch.device) -> Batch:
    """The crops as our methods take them."""
    groups, start = [], 0
    for group in views:
        generated = torch.zeros(group.shape[:2], dtype=torch.bool)
        slots = tuple(range(start, start + len(group)))
        groups.append(Group(group.to(device), group.to(device), slots, generated))
        start += len(group)
    return Batch([str(index) for index in range(views[0].shape[1])], tuple(groups))


def tower(architecture: str, size: int) -> nn.Module:
    """The image model of a run, with random weights."""
    model = Run.model_validate({"model": {"architecture": architecture}}).model
    return build.build(describe(model, text=False, image_size=size), model, seed=0)


def judge(device: torch.device) -> Scorer:
    """CLIP's ViT-B/32 with random weights as the quality encoder."""
    encoder = look.load(Encoder(model="ViT-B-32", pretrained="random"), device)
    return Scorer(encoder, torch.randn(encoder.token_dim), encoder.mean, encoder.std)


def ours(method: Method, batch: Batch) -> Callable[[], None]:
    """A whole step of one of our methods."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], **RATE)

    def step() -> None:
        terms, residue = method(batch, STEP)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        method.after_step(STEP, [residue])

    return step


def widths(name: str, architecture: str) -> dict:
    """The widths of a method's heads."""
    return run_of(name, architecture).method.model_dump()


class Plain(nn.Module):
    """A method as lightly's examples assemble it: backbone, head, loss; a momentum copy where it has one."""

    def __init__(self, name: str, backbone: nn.Module, settings: dict, device: torch.device):
        super().__init__()
        features = backbone.num_features
        self.name, self.backbone, self.head = name, backbone, nn.Identity()
        self.predictor: nn.Module | None = None
        match name:
            case "simclr":
                hidden, _, out = settings["projector"]
                self.head = heads.SimCLRProjectionHead(features, hidden, out, num_layers=3)
                self.loss: nn.Module = lightly.loss.NTXentLoss(settings["temperature"])
            case "mocov2":
                hidden, out = settings["projector"]
                self.head = heads.MoCoProjectionHead(features, hidden, out)
                self.loss = lightly.loss.NTXentLoss(settings["temperature"], (settings["queue"], out))
            case "mocov3":
                hidden, out = settings["projector"]
                self.head = heads.BYOLProjectionHead(features, hidden, out)
                self.predictor = heads.BYOLPredictionHead(out, *settings["predictor"])
                self.loss = lightly.loss.NTXentLoss(settings["temperature"])
            case "simsiam":
                self.head = heads.SimSiamProjectionHead(features, *settings["projector"][1:])
                self.predictor = heads.SimSiamPredictionHead(settings["projector"][-1], *settings["predictor"])
                self.loss = lightly.loss.NegativeCosineSimilarity()
            case "byol":
                self.head = heads.BYOLProjectionHead(features, *settings["projector"])
                self.predictor = heads.BYOLPredictionHead(settings["projector"][-1], *settings["predictor"])
                self.loss = lightly.loss.NegativeCosineSimilarity()
            case "swav":
                self.head = heads.SwaVProjectionHead(features, *settings["projector"])
                self.prototypes = heads.SwaVPrototypes(settings["projector"][-1], settings["prototypes"])
                self.loss = lightly.loss.SwaVLoss(settings["temperature"])
            case "dino":
                hidden, _, bottleneck = settings["head"]
                self.head = heads.DINOProjectionHead(features, hidden, bottleneck, settings["outputs"])
                self.loss = lightly.loss.DINOLoss(settings["outputs"], warmup_teacher_temp_epochs=0).to(device)
        self.slow = None
        if name == "dino":  # its weight norm cannot be copied; lightly's example makes a second head
            second = heads.DINOProjectionHead(features, hidden, bottleneck, settings["outputs"])
            self.slow = nn.ModuleList([copy.deepcopy(backbone), second]).requires_grad_(False)
        elif name in ("mocov2", "mocov3", "byol"):
            self.slow = copy.deepcopy(nn.ModuleList([backbone, self.head])).requires_grad_(False)

    def seen(self, images: Tensor, slow: bool = False) -> Tensor:
        """[B, 3, S, S] to projections [B, D]."""
        backbone, head = self.slow if slow and self.slow is not None else (self.backbone, self.head)
        return head(backbone.pooled(images))

    def together(self, groups: list[Tensor], slow: bool = False) -> list[Tensor]:
        """Projections [B, D] of each view, the crops of a size in one pass, as SwAV's and DINO's authors do it."""
        return [one for group in groups for one in self.seen(group.flatten(0, 1), slow).unflatten(0, group.shape[:2])]

    def forward(self, groups: list[Tensor]) -> Tensor:
        """The loss of views [V, B, 3, S, S] by size."""
        views = [view for group in groups for view in group]
        match self.name:
            case "simclr":
                return self.loss(self.seen(views[0]), self.seen(views[1]))
            case "mocov2":
                with torch.no_grad():
                    key = self.seen(views[1], slow=True)
                return self.loss(self.seen(views[0]), key)
            case "swav":
                scores = [self.prototypes(nn.functional.normalize(one, dim=1)) for one in self.together(groups)]
                return self.loss(scores[:2], scores[2:])
            case "dino":
                with torch.no_grad():
                    teacher = self.together(groups[:1], slow=True)
                return self.loss(teacher, self.together(groups), epoch=STEP.epoch)
        projected = [self.seen(view) for view in views]
        predicted = [self.predictor(one) for one in projected]
        if self.slow is None:
            targets = [one.detach() for one in projected]
        else:
            with torch.no_grad():
                targets = [self.seen(view, slow=True) for view in views]
        return (self.loss(predicted[0], targets[1]) + self.loss(predicted[1], targets[0])) / 2


def theirs(plain: Plain, groups: list[Tensor]) -> Callable[[], None]:
    """A whole step of lightly's."""
    optimizer = torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], **RATE)

    def step() -> None:
        if plain.slow is not None:
            update_momentum(plain.backbone, plain.slow[0], 0.99)
            update_momentum(plain.head, plain.slow[1], 0.99)
        if plain.name == "swav":
            plain.prototypes.normalize()
        loss = plain(groups)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def alternate(steps: dict[str, Callable[[], None]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, taken in turns; the first round of each is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(name: str, options: argparse.Namespace, device: torch.device) -> dict:
    """One method: lightly's step, ours, ours with quality weights."""
    views = crops(name, options.batch, options.size)
    groups = [group.to(device) for group in views]
    batch, weighted = batch_of(views, device), {"quality": {"gamma": 1.0}}

    def method(**changes) -> Method:
        run = run_of(name, options.architecture, **changes)
        built = METHODS[name](run, tower(options.architecture, options.size), judge(device) if changes else None)
        return built.to(device).train()

    backbone = tower(options.architecture, options.size).to(device).train()
    plain = Plain(name, backbone, widths(name, options.architecture), device).to(device).train()
    steps = {
        "lightly": theirs(plain, groups),
        "ours": ours(method(), batch),
        "weighted": ours(method(**weighted), batch),
    }
    seconds = alternate(steps, options.repeats, device)
    return {
        "seconds": seconds,
        "ratio_to_lightly": seconds["ours"] / seconds["lightly"],
        "share_of_the_weights": 1 - seconds["ours"] / seconds["weighted"],
        "samples_per_second": options.batch / seconds["ours"],
    }


def largest_memory() -> int:
    """Bytes that this process held at most (not those of its parent, which ``getrusage`` counts too)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def alone(name: str, options: argparse.Namespace, device: torch.device) -> dict:
    """Steps of DINO or CLeVER in this process: seconds, the largest memory, and what the heads hold."""
    views = crops(name, options.batch, options.size)
    chunk = {"chunk": options.chunk} if options.chunk else {}
    second = {"equivariant": {"outputs": OUTPUTS, **chunk}} if name == "clever" else {}
    run = run_of(name, options.architecture, outputs=OUTPUTS, **second)
    method = METHODS[name](run, tower(options.architecture, options.size), None).to(device).train()
    seconds = alternate({name: ours(method, batch_of(views, device))}, options.repeats, device)[name]
    held = torch.cuda.max_memory_allocated() if device.type == "cuda" else largest_memory()
    return {
        "samples_per_second": options.batch / seconds,
        "peak_memory_bytes": held,
        "bytes_of_heads": sum(p.nbytes for head in method.heads for p in head.parameters()),
    }


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="side of the large crops in pixels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--methods", nargs="*", default=COMPARED)
    parser.add_argument("--alone", choices=["dino", "clever"], help="one of these, in this process; prints it alone")
    parser.add_argument("--chunk", type=int, help="with --alone clever: samples whose cosines are computed at once")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.alone:
        print(json.dumps(alone(options.alone, options, device)))
        return
    found: dict = {
        "architecture": options.architecture, "pixels": options.size, "batch": options.batch, "methods": {},
        "quality_encoder": "ViT-B-32, random weights",
    }  # fmt: skip
    for name in options.methods:
        found["methods"][name] = compare(name, options, device)
        print(name, json.dumps(found["methods"][name]), file=sys.stderr, flush=True)
    pair = {}
    for label, extra in (("dino", []), ("clever", []), ("clever, chunks of 2", ["--chunk", "2"])):
        arguments = [f"--{name}={getattr(options, name)}" for name in ("architecture", "batch", "size", "repeats")]
        command = [sys.executable, __file__, "--alone", label.split(",")[0], *extra, *arguments]
        pair[label] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found["clever_beside_dino"] = pair
    record.write(found, options.output, "lightly", "timm", "open_clip_torch")


if __name__ == "__main__":
    main()
