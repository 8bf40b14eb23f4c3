"""The report of a study of millions of images, made up, within 4 GiB and a few minutes.

The tables have their full length; the pictures behind them are those of forty drawn scenes. Run it as

    python benchmarks/report_scale.py --rows 3000000 --output benchmarks/results/report_scale.json
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import record

from genview import tables

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import miniature_study

SHARDS = 16
TOKENS = 256
VIEWS = ("img", "txt", "imgtxt")


def lists(values: np.ndarray, length: int) -> pa.Array:
    """A column of lists of one length."""
    bounds = np.arange(0, len(values) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(values))


def lengthen(folder: Path, rows: int) -> None:
    """Give every table of the miniature study in ``folder`` as many rows; images and views are repeated."""
    random = np.random.default_rng(0)
    keys = pa.array([f"cc3m/{index // 10_000:05d}/{index:09d}" for index in range(rows)])
    words = np.array(["a", "the", "photo", "of", "large", "red", "house", "hill", "near", "sea", "people", "grass"])
    captions = pa.array([" ".join(random.choice(words, 12)) for _ in range(5000)])
    captions = captions.take(pa.array(random.integers(0, len(captions), rows)))
    shard = np.sort(random.integers(0, SHARDS, rows)).astype(np.int32)
    ratio = random.random(rows, np.float32)
    level = (np.minimum(np.floor(5 * ratio), 4) * 100).astype(np.int32)
    scale = random.choice(np.array([2, 4, 6, 8], np.float32), rows)
    adaptive = pa.repeat("adaptive", rows)

    file = folder / "data/manifest.parquet"
    few = tables.read(file, tables.MANIFEST)
    repeated = few.take(pa.array(random.integers(0, few.num_rows, rows)))
    columns = {name: repeated[name] for name in repeated.column_names}
    digests = pa.array([random.bytes(32).hex() for _ in range(rows)])
    columns |= {"key": keys, "caption": captions, "shard": pa.array(shard), "sha256": digests}
    columns |= {"foreground_share": pa.array(ratio), "width": pa.array(random.integers(200, 800, rows, np.int32))}
    tables.write(columns, tables.MANIFEST, file)
    tables.write({"key": keys, "ratio": pa.array(ratio)}, tables.FOREGROUND_RATIO,
                 folder / "foreground/small/foreground_ratio.parquet")  # fmt: skip
    conditions = {"key": keys, "caption": captions, "noise_level": pa.array(level), "guidance_scale": pa.array(scale)}
    conditions |= {"noise_level_from": adaptive, "guidance_scale_from": adaptive}
    tables.write(conditions, tables.CONDITIONS, folder / "conditions/conditions.parquet")
    few, tar = tables.read(folder / "views/img/0-of-2.parquet", tables.VIEWS), folder / "views/img/0-of-2.tar"
    images = tar.read_bytes()
    pca = folder / "foreground/small/pca.json"
    pca.write_text(json.dumps({**json.loads(pca.read_text()), "grid": [16, 16]}))
    shutil.rmtree(folder / "foreground/small/scores")
    for view in VIEWS:
        shutil.rmtree(folder / "views" / view, ignore_errors=True)
    for number in range(SHARDS):
        chosen = np.nonzero(shard == number)[0]
        count, part = len(chosen), keys.take(pa.array(chosen))
        scores = lists(random.standard_normal(count * TOKENS, np.float32).astype(np.float16), TOKENS)
        embeddings = lists(random.standard_normal(count * 8, np.float32), 8)
        name = f"{number}-of-{SHARDS}.parquet"
        tables.write({"key": part, "scores": scores, "embedding": embeddings}, tables.SCORES,
                     folder / "foreground/small/scores" / name)  # fmt: skip
        repeated = few.take(pa.array(np.arange(count) % few.num_rows))
        for view in VIEWS:
            columns = {name: repeated[name] for name in repeated.column_names}
            columns |= {"key": part, "guidance_scale": pa.array(scale[chosen])}
            columns["noise_level"] = pa.nulls(count, pa.int32()) if view == "txt" else pa.array(level[chosen])
            path = folder / "views" / view / name
            tables.write(columns, tables.VIEWS, path)
            path.with_suffix(".tar").write_bytes(images)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        values = miniature_study.write(Path(directory), 40, views={view: {"mode": view} for view in VIEWS})
        folder = Path(directory) / "miniature"
        # In a process of its own: what is measured is the report.
        maker = multiprocessing.get_context("spawn").Process(target=lengthen, args=(folder, options.rows))
        maker.start()
        maker.join()
        assert maker.exitcode == 0
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        miniature_study.report(values, folder)
        result = {
            "rows": options.rows,
            "tokens": TOKENS,
            "view_sets": len(VIEWS),
            "seconds": round(time.perf_counter() - start, 1),
            "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "gib_before": round(before / 2**20, 2),
            "page_megabytes": round((folder / "report.html").stat().st_size / 1e6, 2),
        }
    record.write(result, options.output, "pyarrow")


if __name__ == "__main__":
    main()
