"""The cached probe against the published one on the same frozen encoder and data, and what baselines reach.

    python benchmarks/probe.py                  # seconds of both protocols, and the validation accuracy of each
    python benchmarks/probe.py --figures        # digits and Fashion-MNIST: trained and random encoder, raw pixels

The published probe is transcribed plainly: each epoch decodes, augments and encodes every training image, ten linear
heads are trained with SGD at ten rates, and each epoch ends with an evaluation.
"""

import argparse
import time

import record
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from genview import placement
from genview.config.evaluation import Features, Probe
from genview.evaluation import features, frozen, linear, logistic, probe
from genview.evaluation.datasets import Request
from genview.evaluation.published import Augmented, decay
from genview.evaluation.splits import LabelledDataset, seeded_parts
from genview.models import load as models

SEED = 42


def timed(function):
    """The value of a function with its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = function()
    return value, {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def published(dataset: LabelledDataset, encoder: frozen.FrozenEncoder, epochs: int, batch_size: int) -> float:
    """Best validation accuracy over rates and epochs, as the published probe reports it (there on the test split)."""
    first, second = seeded_parts(dataset.train.labels, seed=SEED, second_share=0.2)
    train = Augmented([dataset.train.take(first)], encoder, 0.08, SEED)
    held_out = dataset.train.take(second)
    plain = v2.Compose([encoder.transform])
    batches = DataLoader(train, batch_size, shuffle=True, generator=torch.Generator().manual_seed(SEED))
    rates = [rate * batch_size / 256 for rate in Probe().learning_rates]
    heads, optimizers, best = None, None, 0.0
    for epoch in range(epochs):
        train.epoch = epoch
        for step, (images, labels) in enumerate(batches):
            found = encoder.features(images).clone()
            if heads is None:
                heads = [torch.nn.Linear(found.shape[1], len(dataset.classes)) for _ in rates]
                for head in heads:
                    torch.nn.init.normal_(head.weight, std=0.01)
                    torch.nn.init.zeros_(head.bias)
                optimizers = [torch.optim.SGD(h.parameters(), rate, momentum=0.9) for h, rate in zip(heads, rates)]
            factor = decay(epoch * len(batches) + step, epochs * len(batches))
            for head, optimizer, rate in zip(heads, optimizers, rates):
                optimizer.param_groups[0]["lr"] = rate * factor
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(head(found), labels).backward()
                optimizer.step()
        right = torch.zeros(len(rates))
        with torch.no_grad():
            for start in range(0, len(held_out), batch_size):
                rows = range(start, min(start + batch_size, len(held_out)))
                found = encoder.features(torch.stack([plain(held_out.image(row)) for row in rows]))
                labels = torch.from_numpy(held_out.labels[start : start + batch_size])
                right += torch.tensor([float((head(found).argmax(1) == labels).sum()) for head in heads])
        best = max(best, float(right.max()) / len(held_out))
    return best


def cached(dataset: LabelledDataset, encoder: frozen.FrozenEncoder) -> tuple[float, dict]:
    """Validation accuracy of the chosen candidate, from images to the end of the refit; and features a second."""
    encoded, encoding = timed(lambda: features.extract(dataset, encoder, Features()))
    outcome = linear.fit(encoded, Probe(), seed=SEED, device=encoder.device)
    images = len(dataset.train) + len(dataset.test)
    parts = {"encoding": encoding, "images_per_cpu_second": images / encoding["cpu_seconds"]}
    return max(candidate["validation_top1"] for candidate in outcome.grid), parts


def encoder_alone(encoder: frozen.FrozenEncoder, batches: int = 8, batch_size: int = 256) -> float:
    """Images a CPU second of the encoder on ready batches."""
    images = torch.randn(batch_size, 3, encoder.image_size, encoder.image_size)
    encoder.features(images)
    _, cost = timed(lambda: [encoder.features(images) for _ in range(batches)])
    return batches * batch_size / cost["cpu_seconds"]


def compare(name: str, epochs: int) -> dict:
    """Both protocols on one dataset, in one run."""
    dataset = Request(name, seed=SEED).load()
    encoder = frozen.load(models.small_directory("small/clip"), device=placement.default())
    encoder.features(torch.randn(8, 3, encoder.image_size, encoder.image_size))
    logistic.fit(torch.randn(64, 8), torch.arange(64) % 4, torch.tensor([1e-2]), 4)
    (ours, parts), cost = timed(lambda: cached(dataset, encoder))
    theirs, their_cost = timed(lambda: published(dataset, encoder, epochs, 256))
    return {
        "dataset": name,
        "training_images": len(dataset.train),
        "epochs": epochs,
        "cached": {**cost, "validation_top1": ours, **parts},
        "published": {**their_cost, "validation_top1": theirs},
        "ratio_wall": their_cost["wall_seconds"] / cost["wall_seconds"],
        "ratio_cpu": their_cost["cpu_seconds"] / cost["cpu_seconds"],
        "encoder_alone_images_per_cpu_second": encoder_alone(encoder),
    }


def figures(train: int, test: int) -> dict:
    """Test accuracy of the trained encoder, the same with random weights, and raw pixels."""
    folder = models.small_directory("small/clip")
    encoders = {
        "trained": frozen.load(folder),
        "random": frozen.load(folder, random_weights=SEED),
        "raw pixels, 16 x 16": frozen.raw_pixels(16),
    }
    rows = []
    for name in ("digits", "fashion_mnist"):
        whole = Request(name, seed=SEED).load()
        _, few = seeded_parts(whole.train.labels, seed=SEED, second_share=min(1.0, train / len(whole.train)))
        _, some = seeded_parts(whole.test.labels, seed=SEED, second_share=min(1.0, test / len(whole.test)))
        take = len(whole.train) > train
        dataset = LabelledDataset(
            name, whole.classes, whole.metric, whole.train.take(few) if take else whole.train,
            whole.test.take(some) if take else whole.test, None, whole.split_rule,
        )  # fmt: skip
        for label, encoder in encoders.items():
            encoded = features.extract(dataset, encoder, Features())
            result = probe.cached(encoded, Probe(), seed=SEED, device=encoder.device)
            rows.append({"encoder": label, "dataset": name, **{k: result[k] for k in ("split", "results", "choice")}})
            top1, knn = (next(r for r in result["results"] if r["metric"] == m) for m in ("top1", "knn_top1"))
            print(
                f"{name:14} {label:20} probe {top1['value']:.3f} [{top1['low']:.3f}, {top1['high']:.3f}]  "
                f"k-NN {knn['value']:.3f} [{knn['low']:.3f}, {knn['high']:.3f}]",
                flush=True,
            )
    return {"figures": rows}


def main() -> None:
    """Measure and write JSON beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--train", type=int, default=60_000, help="training images at most, with --figures")
    parser.add_argument("--test", type=int, default=10_000, help="test images at most, with --figures")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    if arguments.figures:
        value, name = figures(arguments.train, arguments.test), "probe_figures.json"
    else:
        value, name = compare(arguments.dataset, arguments.epochs), "probe.json"
    record.write(value, record.RESULTS / name, "timm")


if __name__ == "__main__":
    main()
