"""Collections of many millions of images, made up: peak memory and time of every stage that is not about pixels.

No image is opened. Each stage runs in a process of its own, through the functions that its job calls, on the tables
that the stages before it wrote; the shards' tables of scores and views are made up in passing and not measured. Run as

    python benchmarks/scale.py --rows 3000000 30000000 --output benchmarks/results/scale.json

Thirty million rows take a quarter of an hour and 30 GB of disk in the folder given by ``--folder``. ``--part
ingestion`` ends with the manifest; ``--part rest`` makes the manifest up and begins after it: a hundred million rows
then take three quarters of an hour and 40 GB.
"""

import argparse
import hashlib
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import record

from genview import parquet, spill, tables
from genview.conditions import guidance_scale, merge, noise_level
from genview.config.dataset import Dataset
from genview.config.foreground import NoiseLevel
from genview.config.guidance import Guidance
from genview.config.views import ViewSet
from genview.data import ingest, keys, manifest
from genview.data.listing import Listing
from genview.data.unique import unique
from genview.foreground import pca, ratio
from genview.generation import embeddings, plan
from genview.training.data import index
from genview.training.data.samples import Order

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import miniature_study

TEXT = "a the red large small dog cat tree house on near under with grass sky old woman man boat street"
WORDS = np.array(TEXT.split())
PIECE = 65_536
TOKENS = 16
WIDTH = 8
"""Of the embeddings; a real encoder has 256 tokens and 1,024 numbers, of which one piece is in memory at a time."""

STAMP = {"stage": "scale", "study": "scale", "parameters": "p", "code": "c", "encoder": "e"}
MODES = {"img": "img"}
ENCODER = "small"


class Study:
    """A made-up study's files.

    Args:
        folder: its results.
        rows: images.
    """

    def __init__(self, folder: Path, rows: int):
        self.folder, self.rows = folder, rows
        self.shards = max(rows // 30_000, 16)
        self.dataset = Dataset(source="webdataset", path="/nowhere", shards=self.shards)
        self.manifest = folder / "data/manifest.parquet"
        self.ratio = folder / f"foreground/{ENCODER}/foreground_ratio.parquet"
        self.component = folder / f"foreground/{ENCODER}/pca.safetensors"
        self.noise_level = folder / "conditions/noise_level.parquet"
        self.guidance_scale = folder / "conditions/guidance_scale.parquet"
        self.conditions = folder / "conditions/conditions.parquet"
        groups = keys.group_names(self.shards)
        self.scores = [folder / f"foreground/{ENCODER}/scores/{name}.parquet" for name in groups]
        self.guidance = [folder / f"guidance/{name}.parquet" for name in groups]
        names = keys.shard_names(self.shards)
        self.views = [(folder / f"views/img/{name}.tar", folder / f"views/img/{name}.parquet") for name in names]


def _lists(values: np.ndarray) -> pa.Array:
    bounds = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(values.ravel()))


# The stages


def listing(study: Study) -> None:
    """Items as img2dataset's shards of 10,000 would give them, with captions of 60 characters; keys are checked."""
    random = np.random.default_rng(0)
    with spill.folder(study.manifest) as folder:
        listed = Listing(folder=folder)
        for start in range(0, study.rows, 10_000):
            captions = WORDS[random.integers(0, len(WORDS), (min(10_000, study.rows - start), 12))]
            shard = f"{start // 10_000:05d}"
            for number, words in enumerate(captions):
                key = f"{shard}{number:04d}"
                place, text = {"offset": number * 40_000, "length": 39_000}, " ".join(words)
                listed.add(key, f"{shard}.tar", f"{shard}.tar: {key}.jpg", captions=[text], label=words[0], **place)
        listed.require_keys()
        items = pa.OSFile(str(study.folder / "items"), "wb")
        with items, pa.ipc.new_stream(items, listed.rows.schema) as file:
            for piece in unique(listed.rows, folder, "rename one"):
                file.write_table(piece)


def duplicates_shards_and_manifest(study: Study) -> None:
    """What follows when all images were opened; one in a thousand is a copy of the one before."""
    with spill.folder(study.manifest) as folder:
        good, count = spill.Rows(ingest.ROWS, folder / "good"), 0
        with pa.OSFile(str(study.folder / "items")) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                good.extend(_as_opened(pa.Table.from_batches([batch]), count))
                count += len(batch)
        (study.folder / "items").unlink()
        refusals = Listing(folder=folder).refusals
        ingest.write(good, refusals, study.dataset, study.manifest, folder, STAMP)
        assert len(refusals) == study.rows // 1000


def _as_opened(items: pa.Table, first: int) -> pa.Table:
    numbers = range(first, first + len(items))
    digests = [hashlib.sha256(b"%d" % (number - (number % 1000 == 999))).hexdigest() for number in numbers]
    columns = {name: items[name] for name in ingest.ROWS.names if name in items.column_names}
    columns |= {"sha256": digests, "perceptual_hash": pa.nulls(len(items), pa.uint64())}
    columns |= {"width": pa.repeat(256, len(items)), "height": pa.repeat(256, len(items))}
    return pa.table({name: columns[name] for name in ingest.ROWS.names}, schema=ingest.ROWS)


def foreground_ratio(study: Study) -> None:
    """The ratio of all images from the shards of scores."""
    ratio.run(study.scores, component=study.component, ratio=study.ratio, stamp=STAMP)


def adaptive_noise_level(study: Study) -> None:
    """Levels by ratio."""
    noise_level.run(
        NoiseLevel(), manifest=study.manifest, ratio=study.ratio, noise_level=study.noise_level, seed=1, stamp=STAMP
    )


def adaptive_guidance_scale(study: Study) -> None:
    """Scales by score."""
    guidance_scale.run(
        Guidance(strategy="adaptive"),
        manifest=study.manifest,
        scores=study.guidance,
        output=study.guidance_scale,
        seed=1,
        stamp=STAMP,
    )


def conditions(study: Study) -> None:
    """The merge of both."""
    merge.run(
        manifest=study.manifest,
        noise_level=merge.Values(study.noise_level, "adaptive"),
        guidance_scale=merge.Values(study.guidance_scale, "adaptive"),
        modes=MODES,
        seed=1,
        conditions=study.conditions,
        unmatched=study.conditions.with_name("unmatched.json"),
        stamp=STAMP,
    )


def conditions_of_tables_in_another_order(study: Study) -> None:
    """The merge where a table has to be sorted first."""
    conditions(study)


def start_of_a_generation_job(study: Study) -> None:
    """What a job reads before its first image: its rows, their conditions, their embeddings."""
    shard = f"{study.shards // 2}-of-{study.shards}"
    rows = manifest.shard_rows(study.manifest, shard)
    place = manifest.place(study.manifest, shard)
    found = parquet.read_rows(study.conditions, tables.CONDITIONS, *place, plan.COLUMNS)
    requests = plan.requests(rows["key"].to_pylist(), found, "img", ViewSet(mode="img"), seed=1)
    scores = study.scores[keys.parse_shard(keys.group_of(shard))[0]]
    vectors = embeddings.kept(scores, rows["key"], manifest.place_in_group(study.manifest, shard))
    assert len(requests) == len(vectors) == len(rows)


def index_of_a_training(study: Study) -> None:
    """The index of originals and views, written and mapped, and the first batch of the first epoch."""
    path, sets = study.folder / "index.arrow", {"img": study.views}
    index.write(path, study.manifest, sets)
    found = index.Index(path, sets)
    assert found.views["img"].missing == 0
    order = Order(len(found.rows), batch_size=512, accumulate=1, world_size=8, seed=1)
    for _, row in next(order.batches(0, 0, 1)):
        assert found.rows["key"][row].as_py() and found.views["img"].reference(row, 0)
    path.unlink()


def report(study: Study) -> None:
    """The whole report; the pictures in it are those of forty drawn scenes."""
    values = json.loads((study.folder / "values.json").read_text())
    miniature_study.report(values, study.folder)


STAGES: tuple[Callable[[Study], None], ...] = (
    listing,
    duplicates_shards_and_manifest,
    foreground_ratio,
    adaptive_noise_level,
    adaptive_guidance_scale,
    conditions,
    conditions_of_tables_in_another_order,
    start_of_a_generation_job,
    index_of_a_training,
    report,
)


# What is made up


def make_study(study: Study) -> None:
    """A small study with pictures, whose tables are made anew at full length."""
    values = miniature_study.write(study.folder.parent, 40, study.folder.name, views={"img": {"mode": "img"}})
    values["dataset"]["shards"] = study.shards
    shutil.rmtree(study.folder / f"foreground/{ENCODER}/scores")
    (study.folder / "values.json").write_text(json.dumps(values))
    few = parquet.read(study.manifest, tables.MANIFEST).to_pylist()
    (study.folder / "few.json").write_text(json.dumps([[row["path"], row["offset"], row["length"]] for row in few]))
    details = json.loads((study.folder / f"foreground/{ENCODER}/pca.json").read_text())
    (study.folder / f"foreground/{ENCODER}/pca.json").write_text(json.dumps({**details, "grid": [4, 4]}))
    found = pca.load(study.component)
    pca.write_tensors(
        {name: np.asarray(getattr(found, name), np.float32) for name in ("component", "mean", "threshold", "sign")},
        study.component,
        {**found.details, "encoder_digest": STAMP["encoder"]},
    )


def make_manifest(study: Study) -> None:
    """A manifest in its own order, of rows as ingestion writes them."""
    random, made = np.random.default_rng(0), 0
    captions = pa.array([" ".join(random.choice(WORDS, 12)) for _ in range(PIECE)])
    digests = pa.array([random.bytes(32).hex() for _ in range(PIECE)])
    with parquet.writing(tables.MANIFEST, study.manifest, shards=str(study.shards), **STAMP) as writer:
        for shard in range(study.shards):
            count = study.rows * (shard + 1) // study.shards - made
            columns = {name: pa.nulls(count, tables.MANIFEST.field(name).type) for name in MAY_BE_NULL}
            columns |= {name: pa.repeat(value, count) for name, value in SAME.items()}
            columns |= {"shard": pa.repeat(shard, count), "path": pa.repeat(f"{shard:05d}.tar", count)}
            numbers = pc.utf8_lpad(pa.array(np.arange(count)).cast(pa.string()), 5, "0")
            columns["key"] = pc.binary_join_element_wise(f"{shard:05d}", numbers, "")
            for name, values in (("caption", captions), ("sha256", digests)):
                columns[name] = values.take(pa.array(random.integers(0, PIECE, count)))
            writer.write(pa.table(columns))
            made += count


def make_shards(study: Study) -> None:
    """Tables of scores, guidance scores and views, shard by shard; the manifest's rows point at the few pictures."""
    random = np.random.default_rng(1)
    for number, (scores, guidance) in enumerate(zip(study.scores, study.guidance)):
        names = manifest.read_group(study.manifest, f"{number}-of-{len(study.scores)}", ["key"])["key"]
        count = len(names)
        values = random.standard_normal((count, TOKENS), np.float32).astype(np.float16)
        columns = {
            "key": names,
            "scores": _lists(values),
            "embedding": _lists(random.random((count, WIDTH), np.float32)),
        }
        parquet.write(columns, tables.SCORES, scores, **STAMP)
        empty = {name: pa.nulls(count, tables.GUIDANCE.field(name).type) for name in tables.GUIDANCE.names[2:]}
        answers = {"key": names, "score": pa.array(random.integers(1, 5, count, np.int32)), **empty}
        parquet.write(answers, tables.GUIDANCE, guidance, **STAMP)
    few = parquet.read(study.folder / "views/img/0-of-2.parquet", tables.VIEWS)
    images = (study.folder / "views/img/0-of-2.tar").read_bytes()
    for number, (tar, table) in enumerate(study.views):
        names = manifest.read(study.manifest, f"{number}-of-{study.shards}", ["key"])["key"]
        rows = few.take(np.arange(len(names)) % len(few))
        columns = {name: rows[name] for name in rows.column_names} | {"key": names, "sample": pa.repeat(0, len(names))}
        parquet.write(columns, tables.VIEWS, table, **STAMP)
        tar.write_bytes(images)


def reorder_noise_levels(study: Study) -> None:
    """The second half of the noise levels before the first, as a table that others made may be."""
    aside, half = study.noise_level.with_name("as_it_was.parquet"), study.rows // 2
    study.noise_level.rename(aside)
    with parquet.writing(tables.NOISE_LEVEL, study.noise_level, **STAMP) as writer:
        for first, end in ((half, study.rows), (0, half)):
            start = 0
            for piece in parquet.batches(aside, tables.NOISE_LEVEL, tables.NOISE_LEVEL.names):
                inside = slice(max(first - start, 0), max(min(end - start, len(piece)), 0))
                writer.write(piece.slice(inside.start, max(inside.stop - inside.start, 0)))
                start += len(piece)


def put_back(study: Study) -> None:
    """The noise levels as they were."""
    study.noise_level.with_name("as_it_was.parquet").replace(study.noise_level)


def point_at_pictures(study: Study) -> None:
    """Let the manifest's rows name pictures that exist, for the report to show."""
    few = json.loads((study.folder / "few.json").read_text())
    paths, offsets, lengths = (np.array(column) for column in zip(*few))
    aside = study.manifest.with_name("as_it_was.parquet")
    study.manifest.rename(aside)
    with parquet.writing(tables.MANIFEST, study.manifest, shards=str(study.shards), **STAMP) as writer:
        for piece in parquet.batches(aside, tables.MANIFEST, tables.MANIFEST.names):
            which = np.arange(len(piece)) % len(few)
            columns = {name: piece[name] for name in piece.column_names}
            columns |= {"path": paths[which], "offset": offsets[which], "length": lengths[which]}
            writer.write(columns)
    aside.unlink()


MAY_BE_NULL = ("captions", "foreground_share", "attributes")
SAME = {"offset": 0, "length": 39_000, "label": "dog", "width": 256, "height": 256}

PARTS = {"all": STAGES, "ingestion": STAGES[:2], "rest": STAGES[2:]}

BEFORE = {
    listing: make_study,
    foreground_ratio: make_shards,
    conditions_of_tables_in_another_order: reorder_noise_levels,
    start_of_a_generation_job: put_back,
    report: point_at_pictures,
}
"""What is made up before a stage."""


def _measured(function: Callable[[Study], None], folder: Path, rows: int, answer: Any) -> None:
    start = time.perf_counter()
    function(Study(folder, rows))
    seconds = time.perf_counter() - start
    answer.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def alone(function: Callable[[Study], None], folder: Path, rows: int) -> tuple[float, float]:
    """Seconds and peak memory in GiB of a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(function, folder, rows, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__} of {rows} rows failed") from None
    finally:
        process.join()


def nothing(_: Study) -> None:
    """What the libraries take."""


def measured(folder: Path, rows: int, part: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Seconds and peak memory of each stage of a part."""
    _, idle = alone(nothing, folder, rows)
    yield "libraries alone", {"seconds": 0.0, "peak_gib": round(idle, 2)}
    if part == "rest":
        alone(make_study, folder, rows)
        alone(make_manifest, folder, rows)
    for stage in PARTS[part]:
        if stage in BEFORE:
            alone(BEFORE[stage], folder, rows)
        seconds, peak = alone(stage, folder, rows)
        yield stage.__name__.replace("_", " "), {"seconds": round(seconds, 1), "peak_gib": round(peak, 2)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000_000, 30_000_000])
    parser.add_argument("--folder", type=Path, help="where the made-up tables lie; default: the system's temporary one")
    parser.add_argument("--part", choices=PARTS, default="all", help="which stages; default: all")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    sizes: dict[str, dict[str, dict[str, float]]] = {}
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found = sizes[f"{rows}"] = {}
            for name, figures in measured(Path(folder) / "study", rows, options.part):
                found[name] = figures
                print(f"{rows:>12,} {name:<42} {figures['seconds']:8.1f} s {figures['peak_gib']:6.2f} GiB", flush=True)
    record.write({"tokens": TOKENS, "rows": sizes}, options.output, "pyarrow", "duckdb")


if __name__ == "__main__":
    main()
