"""The full foreground pass: projected at once, against tokens that are saved and read again for the ratio.

The published pipeline writes each image's tokens to a file of its own and reads all files again to count tokens above a
threshold. Both are run here on the same images with the same encoder (random weights of the real architecture where
``--model`` names one), on the same disk, in one run, together with the two bounds: the loader alone (images decoded and
preprocessed, nothing encoded) and the encoder alone (images already in memory).

    python benchmarks/foreground_pass.py --output benchmarks/results/foreground_pass.json
"""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import record
import torch
from PIL import Image

from genview import parquet, tables
from genview.config.encoders import Encoder
from genview.data import scenes
from genview.data.reader import Reader
from genview.encoders import loader, look
from genview.foreground import ratio
from genview.foreground.token_scores import as_lists


def draw(folder: Path, count: int, size: int) -> pa.Table:
    """JPEG files of drawn scenes, and their rows as a manifest has them."""
    columns = {"key": [], "path": [], "offset": [], "length": []}
    for index in range(count):
        buffer = io.BytesIO()
        Image.fromarray(scenes.scene(index, seed=0, size=size).image).save(buffer, "JPEG", quality=90)
        name = f"{index:06}.jpg"
        (folder / name).write_bytes(buffer.getvalue())
        for column, value in zip(columns, (name.removesuffix(".jpg"), name, 0, len(buffer.getvalue()))):
            columns[column].append(value)
    return pa.table(columns)


def finish() -> None:
    """Wait for the device, so that the clock stops when the work is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def projected(rows, reader, encoder, vector, batch_size, workers, folder: Path) -> dict:
    """Ours: encode, project, keep scores and embedding; then ratios from the table."""
    start = time.perf_counter()
    parts, embeddings, encoding = [], [], 0.0
    for images in loader.batches(rows, reader, encoder, batch_size, workers):
        before = time.perf_counter()
        tokens, embedding = loader.encode_padded(encoder, images, batch_size)
        parts.append((tokens @ vector).half().cpu().numpy())
        embeddings.append(embedding.cpu().numpy())
        encoding += time.perf_counter() - before
    columns = {"key": rows["key"], "scores": as_lists(np.concatenate(parts))}
    columns["embedding"] = as_lists(np.concatenate(embeddings))
    path = folder / "scores.parquet"
    parquet.write(pa.table(columns), tables.SCORES, path)
    passed = time.perf_counter()
    _, scores = ratio.read_scores(path)
    found = ratio.foreground_ratio(scores, 0.0)
    size = path.stat().st_size
    return {
        "seconds": time.perf_counter() - start,
        "seconds_ratio": time.perf_counter() - passed,
        "encoder_share": encoding / (passed - start),
        "bytes": size,
        "bytes_beside_embedding": size - 4 * encoder.embedding_dim * len(rows),
        "ratios": found,
    }


def saved(rows, reader, encoder, vector, batch_size, workers, folder: Path) -> dict:
    """The published way: one file of tokens an image in half precision; then each is read again for the ratio."""
    start = time.perf_counter()
    keys = iter(rows["key"].to_pylist())
    for images in loader.batches(rows, reader, encoder, batch_size, workers):
        tokens, _ = loader.encode_padded(encoder, images, batch_size)
        for values in tokens.half().cpu().numpy():
            np.save(folder / f"{next(keys)}.npy", values)
    os.sync()
    passed = time.perf_counter()
    found = []
    direction = vector.cpu().numpy()
    for key in rows["key"].to_pylist():
        values = np.load(folder / f"{key}.npy").astype(np.float32)
        found.append(float(((values @ direction) > 0).mean()))
    size = sum(path.stat().st_size for path in folder.glob("*.npy"))
    return {
        "seconds": time.perf_counter() - start,
        "seconds_ratio": time.perf_counter() - passed,
        "bytes": size,
        "ratios": np.array(found),
    }


def measure(options) -> dict:
    """All figures of one encoder."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pretrained = None if options.model.startswith("small/") else "random"
    settings = Encoder(model=options.model, pretrained=pretrained, precision=options.precision)
    encoder = look.load(settings, device)
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(encoder.token_dim, generator=generator)
    vector = (vector / vector.norm()).to(device)
    arguments = (encoder, vector, options.batch_size, options.workers)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        images, ours, theirs = (Path(scratch) / name for name in ("images", "ours", "theirs"))
        for folder in (images, ours, theirs):
            folder.mkdir()
        rows = draw(images, options.images, options.size)
        reader = Reader(images)
        warm = rows.slice(0, options.batch_size)
        projected(warm, reader, *arguments, ours)
        start = time.perf_counter()
        batches = list(loader.batches(rows, reader, encoder, options.batch_size, options.workers))
        loading = time.perf_counter() - start
        start = time.perf_counter()
        for batch in batches:
            loader.encode_padded(encoder, batch, options.batch_size)
        finish()
        encoding = time.perf_counter() - start
        del batches
        first = saved(rows, reader, *arguments, theirs)
        second = projected(rows, reader, *arguments, ours)
    agreement = float(np.abs(first.pop("ratios") - second.pop("ratios")).max())
    count = options.images
    return {
        "model": options.model,
        "precision": encoder.record["precision"],
        "tokens": encoder.num_tokens,
        "token_dim": encoder.token_dim,
        "embedding_dim": encoder.embedding_dim,
        "images": count,
        "image_pixels": options.size,
        "batch_size": options.batch_size,
        "loader_processes": options.workers,
        "milliseconds_an_image": {
            "projected": 1e3 * second["seconds"] / count,
            "saved_then_ratio": 1e3 * first["seconds"] / count,
            "loader_alone": 1e3 * loading / count,
            "encoder_alone": 1e3 * encoding / count,
            "ratio_from_scores": 1e3 * second["seconds_ratio"] / count,
            "ratio_from_saved_tokens": 1e3 * first["seconds_ratio"] / count,
        },
        "bytes_an_image": {
            "projected": second["bytes"] / count,
            "projected_beside_embedding": second["bytes_beside_embedding"] / count,
            "saved_tokens": first["bytes"] / count,
        },
        "encoder_share_of_time": second["encoder_share"],
        "bound_by": "loader" if loading > encoding else "encoder",
        "ratios": {
            "time": first["seconds"] / second["seconds"],
            "bytes": first["bytes"] / second["bytes"],
            "ratio_step": first["seconds_ratio"] / second["seconds_ratio"],
        },
        "largest_difference_of_ratios": agreement,
    }


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small/clip", help="an encoder that ships, or an open_clip architecture")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256, help="side of the JPEG files in pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--scratch", help="folder for temporary files; default: the system's")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    record.write(measure(options), options.output, "open_clip_torch", "timm", "pyarrow")


if __name__ == "__main__":
    main()
