"""Generation of views: full batches against the published way, one diffusers call an image that encodes it again.

Both make the same images (same weights, conditions and noise) in one run on one machine, in turns, and what they made
is compared. Ours is the whole stage, from the tables to the packed shard, without loading the pipeline; theirs is the
official pipeline's call and saving the JPEG, without loading either. On a machine that others use too, look at the
processor's seconds (of ours with loading, of all threads): they do not count the waiting.

    python benchmarks/generation.py --output benchmarks/results/generation.json
    python benchmarks/generation.py --size full --precision fp16 --steps 20 --images 64      # SD-2.1-unCLIP, on a GPU
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from genview import parquet, placement, tables
from genview.config.views import ViewSet
from genview.data import manifest, scenes, tars
from genview.data.reader import Reader
from genview.generation import embeddings, pipelines, views
from genview.generation.plan import ViewRequest, requests
from genview.generation.sampler import Sampler

sys.path.insert(0, str(Path(__file__).parent))
import record
from unclip_architecture import save_random

LEVELS, SCALES = (0, 100, 200, 300, 400), (8.0, 6.0, 4.0, 2.0)
STAMP = {"stage": "benchmark", "study": "benchmark", "parameters": "", "code": ""}


def write_study(folder: Path, count: int, size: int, loaded: pipelines.LoadedPipeline, batch_size: int) -> None:
    """Drawn scenes with manifest, mixed conditions, and the embeddings of the foreground pass."""
    rows, pictures = [], []
    with tars.writing(folder / "images.tar") as tar:
        for index in range(count):
            scene = scenes.scene(index, seed=11, size=size)
            buffer = io.BytesIO()
            pictures.append(Image.fromarray(scene.image))
            pictures[-1].save(buffer, "PNG")
            data = buffer.getvalue()
            rows.append({
                "key": f"{index:06}", "path": "images.tar", "offset": tar.add(f"{index:06}.png", data),
                "length": len(data), "caption": scene.caption, "label": None, "width": size, "height": size,
                "sha256": "0" * 64, "foreground_share": None, "attributes": None,
            })  # fmt: skip
    schema = pa.schema([field for field in tables.MANIFEST if field.name != "shard"])
    listed = manifest.assemble(pa.Table.from_pylist(rows, schema), 1)
    parquet.write(listed, tables.MANIFEST, folder / "manifest.parquet", **STAMP, shards="1")
    conditions = {
        "key": listed["key"],
        "caption": listed["caption"],
        "noise_level": [LEVELS[i % 5] for i in range(count)],
        "guidance_scale": [SCALES[i % 4] for i in range(count)],
        "noise_level_from": ["given"] * count,
        "guidance_scale_from": ["given"] * count,
    }
    parquet.write(conditions, tables.CONDITIONS, folder / "conditions.parquet", **STAMP)
    values = {
        "key": [row["key"] for row in rows],
        "scores": [np.zeros(1, np.float16)] * count,
        "embedding": list(embeddings.encode(loaded, pictures, batch_size)),
    }
    parquet.write(values, tables.SCORES, folder / "scores.parquet", **STAMP)


def ours(folder: Path, view: ViewSet, threads: int) -> tuple[float, float, dict, dict[str, bytes]]:
    """Seconds of the stage without loading, the processor's seconds with it, its statistics, and the JPEGs by key."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        job = views.Shard(
            name="benchmark", view=view, shard="0-of-1", seed=1, manifest=folder / "manifest.parquet",
            conditions=folder / "conditions.parquet", root=folder, scores=folder / "scores.parquet",
            tar=Path(out) / "0.tar", index=Path(out) / "0.parquet", statistics=Path(out) / "0.json",
            work=Path(out) / "work", stamp=STAMP, threads=threads,
        )  # fmt: skip
        start = time.process_time()
        views.run(job)
        processor = time.process_time() - start
        stats = json.loads(job.statistics.read_text())
        reader = Reader(out)
        rows = parquet.read(job.index, tables.VIEWS).to_pylist()
        jpegs = {row["key"]: reader.read("0.tar", row["offset"], row["length"]) for row in rows}
    return stats["seconds"]["total"] - stats["seconds"]["loading"], processor, stats, jpegs


def theirs(
    folder: Path, view: ViewSet, loaded: pipelines.LoadedPipeline, wanted: list[ViewRequest]
) -> tuple[float, float, dict[str, bytes]]:
    """Seconds, the processor's seconds, and JPEGs of one official call an image, which encodes the original anew."""
    rows = {row["key"]: row for row in parquet.read(folder / "manifest.parquet", tables.MANIFEST).to_pylist()}
    reader, jpegs = Reader(folder), {}
    loaded.pipeline.set_progress_bar_config(disable=True)
    start, processor = time.perf_counter(), time.process_time()
    for request in wanted:
        row = rows[request.key]
        made = loaded.pipeline(
            image=[reader.image(row["path"], row["offset"], row["length"])],
            prompt=[request.prompt],
            noise_level=request.noise_level,
            guidance_scale=request.guidance_scale,
            num_inference_steps=view.steps,
            generator=[torch.Generator("cpu").manual_seed(request.seed)],
        ).images[0]
        path = folder / f"{request.key}.jpg"
        made.save(path, quality=view.jpeg_quality)
        jpegs[request.key] = path
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return seconds, processor, {key: path.read_bytes() for key, path in jpegs.items()}


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product: the best of ten; on a CPU, a processor's second."""
    side, clock = (8192, time.perf_counter) if device.type == "cuda" else (1024, time.process_time)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        start = clock()
        for _ in range(5):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 5 * 2 * side**3 / (clock() - start))
    return best


def operations(
    loaded: pipelines.LoadedPipeline, view: ViewSet, wanted: list[ViewRequest], vectors: np.ndarray
) -> float:
    """Floating-point operations of one image: all steps of the UNet, with guidance, and the decoder."""
    plain = view.model_copy(update={"batch_size": 1, "decode_batch_size": None, "compile": False})
    sampler = Sampler(loaded, plain)
    with FlopCounterMode(display=False) as counter:
        sampler.sample(wanted[:1], torch.from_numpy(vectors[:1]))
    return float(counter.get_total_flops())


def measure(options: argparse.Namespace) -> dict:
    """All figures."""
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = (
            None if options.size == "small" else str(save_random(folder / "model", placement.DTYPES[options.precision]))
        )
        view = ViewSet(
            mode="imgtxt", model=model, steps=options.steps, batch_size=options.batch_size,
            precision=options.precision, compile=options.compile, decode_batch_size=options.decode_batch_size,
        )  # fmt: skip
        loaded = pipelines.load(view.model_copy(update={"compile": False}), device)
        write_study(folder, options.images, min(loaded.size, 256), loaded, options.batch_size)
        conditions = parquet.read(folder / "conditions.parquet", tables.CONDITIONS)
        wanted = requests(conditions["key"].to_pylist(), conditions, "benchmark", view, seed=1)
        few = wanted[: options.one_at_a_time]
        vectors = np.stack([embeddings.kept(folder / "scores.parquet", conditions["key"])[few[0].key]])
        work = operations(loaded, view, few, vectors)
        theirs(folder, view, loaded, few[:1])  # warm
        slow, fast, slow_processor, fast_processor = [], [], [], []
        for _ in range(options.repeats):
            seconds, processor, official = theirs(folder, view, loaded, few)
            slow.append(seconds / len(few))
            slow_processor.append(processor / len(few))
            seconds, processor, found, batched = ours(folder, view, options.threads)
            fast.append(seconds / len(wanted))
            fast_processor.append(processor / len(wanted))
        rate = matrix_rate(device, loaded.dtype)
    pixels = [
        np.abs(np.asarray(Image.open(io.BytesIO(data)), int) - np.asarray(Image.open(io.BytesIO(batched[key]))))
        for key, data in official.items()
    ]
    limited = (fast, slow) if device.type == "cuda" else (fast_processor, slow_processor)
    return {
        "model": "SD-2.1-unCLIP architecture, random weights" if model else "small/unclip",
        "pixels": loaded.size,
        "steps": options.steps,
        "mode": view.mode,
        "precision": options.precision,
        "compiled": options.compile,
        "batch_size": options.batch_size,
        "images": {"ours": len(wanted), "one_at_a_time": len(few), "repeats": options.repeats},
        "seconds_an_image": {
            "ours": statistics.median(fast), "one_at_a_time": statistics.median(slow),
            "ours_each": fast, "one_at_a_time_each": slow,
        },
        "processor_seconds_an_image": {
            "ours": statistics.median(fast_processor), "one_at_a_time": statistics.median(slow_processor),
            "ours_each": fast_processor, "one_at_a_time_each": slow_processor,
        },
        "ratio": statistics.median(slow) / statistics.median(fast),
        "ratio_of_processor_seconds": statistics.median(slow_processor) / statistics.median(fast_processor),
        "seconds_by_part_of_ours": found["seconds"],
        "operations_an_image": work,
        "matrix_operations_a_second": rate,
        "share_of_matrix_rate": {
            "ours": work / min(limited[0]) / rate, "one_at_a_time": work / min(limited[1]) / rate,
        },
        "agreement": {
            "equal_files": sum(data == batched[key] for key, data in official.items()) / len(official),
            "largest_difference_of_255": int(max(difference.max() for difference in pixels)),
            "share_of_different_values": float(np.mean([(difference > 0).mean() for difference in pixels])),
        },
    }  # fmt: skip


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["small", "full"], default="small", help="small/unclip, or SD-2.1-unCLIP")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--one-at-a-time", type=int, default=16, help="images of the official calls")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--decode-batch-size", type=int)
    parser.add_argument("--precision", default="fp32", choices=list(placement.DTYPES))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    record.write(measure(options), options.output, "diffusers", "transformers")


if __name__ == "__main__":
    main()
