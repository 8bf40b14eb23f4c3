"""The training step against a plain transcription of the published one, on the same weights, batch and losses.

    python benchmarks/training.py                              # small family, CPU
    python benchmarks/training.py --architecture base --encoder convnext_base_w --batch 256 --precision bf16   # a GPU

The published step (GenView++, mended where it cannot run): the image tower once per view; the quality encoder twice per
view where captions count, and on the untouched original and the caption at every step; every loss term gathers,
normalises and compares on its own; each term is read back to the CPU. Ours: all views in one pass, one pass of the
quality encoder, originals and captions precomputed.

Steps of the two alternate, so that both see the same load of the machine; the ratio is of their medians.
"""

import argparse
import statistics
import time
from pathlib import Path

import record
import torch
import torch.nn.functional as F

from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.data import scenes
from genview.encoders import build, look
from genview.encoders.architecture import describe
from genview.training import losses, quality
from genview.training.data.batch import Batch, Group
from genview.training.loop import optimizers
from genview.training.methods.genviewpp import GenViewPlusPlus
from genview.training.methods.method import Step, sample_labels
from genview.training.scoring import Scorer

VIEWS = 4
ALL = {"image_image": 1, "image_image_quality": 1, "image_text": 1, "image_text_quality": 1}


class Clock:
    """Seconds by part; on a GPU each part ends with the device idle."""

    def __init__(self, device):
        self.device, self.parts = device, {}

    def __call__(self, name, function, *arguments, **named):
        """Call a function and add its seconds to a part."""
        start = time.perf_counter()
        result = function(*arguments, **named)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.parts.setdefault(name, []).append(time.perf_counter() - start)
        return result


def make_batch(built, count, device):
    """Drawn scenes as views (timing does not care what they show), and their captions."""
    drawn = [scenes.scene(index, seed=9, size=built.image_size) for index in range(count * VIEWS)]
    pixels = torch.stack([torch.as_tensor(scene.image).permute(2, 0, 1) / 255 for scene in drawn]).float()
    mean, std = (torch.tensor(built.preprocess_cfg[name])[:, None, None] for name in ("mean", "std"))
    views = ((pixels - mean) / std).unflatten(0, (VIEWS, count)).to(device)
    captions = [scene.caption for scene in drawn[:count]]
    text = built.tokenizer()(captions).to(device)
    group = Group(views, None, tuple(range(len(views))), torch.zeros(views.shape[:2], dtype=torch.bool))
    return Batch([str(index) for index in range(count)], (group,), text), captions


def published_losses(method, batch, captions, original, labels, clock, autocast):
    """Forward of one published step; returns the total."""
    encoder, component = method.scorer.encoder, method.scorer.component

    def judge():
        tokens, embeddings = [], []
        for view in batch.views:
            prepared = method.scorer.prepared(view)
            tokens.append(encoder.encode(prepared)[0])
            embeddings.append(encoder.encode(prepared)[1])
        real = encoder.encode(method.scorer.prepared(original))[0]
        return torch.stack(tokens), torch.stack(embeddings), real, encoder.encode_text(captions)

    tokens, embeddings, real, text_embeddings = clock("quality encoder", judge)

    def forward():
        with autocast():
            features = [method.model.visual.trunk(view) for view in batch.views]
            projections = torch.cat([method.head(feature) for feature in features]).float()
            image = torch.cat([method.model.visual.head(feature) for feature in features]).float()
            text = method.model.encode_text(batch.text).float()
        scale = method.model.logit_scale.exp()
        settings, samples = method.settings, labels[: len(batch.keys)]
        weights = quality.image_image_weights(tokens, component, labels, gamma=settings.gamma_image_image)
        text_weights = quality.image_text_weights(
            tokens, embeddings, real, text_embeddings, component, labels, samples, gamma=settings.gamma_image_text
        )
        terms = [
            losses.multi_positive_loss(projections, labels, temperature=settings.temperature),
            losses.multi_positive_loss(projections, labels, temperature=settings.temperature, weights=weights),
            losses.image_text_loss(image, text, labels, samples, logit_scale=scale),
            losses.image_text_loss(image, text, labels, samples, logit_scale=scale, weights=text_weights),
        ]
        _ = [term.item() for term in terms]
        return sum(terms)

    return clock("forward", forward)


def our_losses(method, batch, clock, autocast):
    """Forward of one step of ours; the quality encoder is timed apart, inside."""
    scorer = method.scorer
    method.scorer = _Timed(scorer, clock)
    try:
        with autocast():
            start = time.perf_counter()
            total = method(batch, Step(0, 1, 1))[0]["loss"]
            if batch.views.device.type == "cuda":
                torch.cuda.synchronize()
        seconds = time.perf_counter() - start - clock.parts["quality encoder"][-1]
        clock.parts.setdefault("forward", []).append(seconds)
    finally:
        method.scorer = scorer
    return total


class _Timed:
    def __init__(self, scorer, clock):
        self.scorer, self.clock, self.component = scorer, clock, scorer.component

    def __call__(self, views, *, chunk=None):
        return self.clock("quality encoder", self.scorer, views, chunk=chunk)


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="tiny")
    parser.add_argument("--encoder", default="small/clip")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32")
    parser.add_argument("--output", type=Path, default=record.RESULTS / "training.json")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    projector = (256, 256, 64) if options.architecture == "tiny" else (4096, 4096, 256)
    run = Run.model_validate(
        {"model": {"architecture": options.architecture}, "method": {"early": ALL, "projector": projector}}
    )
    built = describe(run.model, text=True)
    pretrained = None if options.encoder.startswith("small/") else "random"
    judge = look.load(Encoder(model=options.encoder, pretrained=pretrained, precision=options.precision), device)
    component = F.normalize(torch.randn(judge.token_dim, generator=torch.Generator().manual_seed(1)), dim=0)
    scorer = Scorer(judge, component, built.preprocess_cfg["mean"], built.preprocess_cfg["std"])
    method = GenViewPlusPlus(run, build.build(built, run.model, seed=1), scorer).to(device)
    optimizer = optimizers.build(run.optimizer, method)
    batch, captions = make_batch(built, options.batch, device)
    labels = sample_labels(VIEWS, options.batch, device)
    original = batch.views[0]
    real = judge.encode(scorer.prepared(original))[0]
    batch.original_background = quality.pooled(real, scorer.component)[1]
    batch.caption_embedding = F.normalize(judge.encode_text(captions), dim=-1)
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(options.precision)

    def autocast():
        return torch.autocast(device.type, half, enabled=half is not None)

    clocks, whole, values = {"published": Clock(device), "ours": Clock(device)}, {"published": [], "ours": []}, {}
    for step in range(options.steps + 2):  # two steps to warm up
        for name, clock in clocks.items():
            if step == 2:
                clock.parts.clear(), whole[name].clear()
            start = time.perf_counter()
            if name == "published":
                loss = published_losses(method, batch, captions, original, labels, clock, autocast)
            else:
                loss = our_losses(method, batch, clock, autocast)
            values.setdefault(name, float(loss.detach()))
            clock("backward", loss.backward)
            clock("optimizer", optimizer.step)
            optimizer.zero_grad()
            whole[name].append(time.perf_counter() - start)
    result = {
        "architecture": options.architecture,
        "encoder": options.encoder,
        "views": VIEWS,
        "batch": options.batch,
        "precision": options.precision,
        "first_loss": values,
    }
    for name in clocks:
        seconds = statistics.median(whole[name])
        parts = {part: statistics.median(times) for part, times in clocks[name].parts.items()}
        result[name] = {
            "seconds_per_step": seconds,
            "samples_per_second": options.batch / seconds,
            "seconds_by_part": parts,
            "quality_share": parts["quality encoder"] / seconds,
        }
    result["speedup"] = result["published"]["seconds_per_step"] / result["ours"]["seconds_per_step"]
    if device.type == "cuda":
        result["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    record.write(result, options.output, "accelerate", "timm", "open_clip_torch")


if __name__ == "__main__":
    main()
