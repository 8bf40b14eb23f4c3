"""One shard of a set of views: planned, sampled, kept image by image, packed; taken up again after any interruption."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from genview import atomic, parquet, placement, process, progress, provenance, tables
from genview.config.views import ViewSet
from genview.data import manifest as manifests
from genview.data import tars
from genview.data.images import MAXIMUM_PIXELS
from genview.data.reader import Reader
from genview.generation import embeddings, members, pipelines, plan
from genview.generation.embeddings import Embeddings
from genview.generation.plan import ViewRequest
from genview.generation.sampler import Sampler
from genview.generation.statistics import Statistics
from genview.generation.work import Work, Writer
from genview.kept import Earlier, Place

logger = logging.getLogger(__name__)

BINDING = "views"
"""All that an image is made from but the code is in its own metadata."""

MadeFrom = Mapping[ViewRequest, dict[str, Any]]
"""What each image is made from."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard to be made: what, from what, to where."""

    name: str
    """Name of the view set."""
    view: ViewSet
    shard: str
    """Name of the shard, such as ``0-of-2``."""
    seed: int
    """The study's seed."""
    manifest: Path
    conditions: Path
    root: Path
    """Folder that the manifest's paths are relative to."""
    scores: Path | None
    """This shard of the foreground pass, whose embeddings are used if they are the pipeline's own."""
    tar: Path
    index: Path
    """The index of the tar: a table of ``tables.VIEWS``."""
    statistics: Path
    """A JSON of counts and times, for the log."""
    work: Path
    """Folder of the unfinished shards of this view set."""
    stamp: Mapping[str, str]
    """Metadata of the index."""
    maximum_rejects: float = 0.01
    """Share of the shard's images that may fail."""
    maximum_pixels: int = MAXIMUM_PIXELS
    """Originals with more pixels are not decoded."""
    earlier: Earlier | None = None
    """Shards made before, whose unchanged images are taken over byte by byte; None: none are kept."""
    threads: int = 1
    """Cores of the job. With a GPU all but one decode originals that have to be encoded; without one they are threads
    of the tensor library, and another number may change the last bit of an image."""


def run(what: Shard) -> None:
    """Make one shard: the tar, its index and the statistics.

    Raises:
        GenviewError: conditions or captions missing or out of range, an unfit pipeline, too many failures, disk full.
        SystemExit: a warning (SIGTERM, SIGUSR1); what is finished is kept and taken up by the next run.
    """
    torch.set_num_threads(1 if torch.cuda.is_available() else what.threads)
    began = time.perf_counter()
    statistics = Statistics(what.maximum_rejects)
    try:
        with process.on_warning(_stop):
            _make(what, statistics)
    finally:
        statistics.seconds["total"] = time.perf_counter() - began
        atomic.write_json(what.statistics, statistics.to_json())


def _stop(number: int) -> None:
    logger.warning("signal %d: stopping; finished images are kept, and the same command goes on from them", number)
    process.leave_at_warning(number)


def _conditions(what: Shard, keys: pa.ChunkedArray) -> pa.Table:
    """The shard's rows of the conditions, which have a row for each of the manifest's, in its order."""
    found = parquet.read_rows(
        what.conditions, tables.CONDITIONS, *manifests.place(what.manifest, what.shard), plan.COLUMNS
    )
    if found["key"].combine_chunks().equals(keys.combine_chunks()):
        return found
    return parquet.read(what.conditions, tables.CONDITIONS, plan.COLUMNS)  # a table that was put there in another order


def _make(what: Shard, statistics: Statistics) -> None:
    rows = manifests.shard_rows(what.manifest, what.shard)
    conditions = _conditions(what, rows["key"])
    began = time.perf_counter()
    loaded = pipelines.load(what.view, placement.default())
    statistics.seconds["loading"] += time.perf_counter() - began
    requests = plan.requests(
        rows["key"].to_pylist(),
        conditions,
        what.name,
        what.view,
        seed=what.seed,
        maximum_level=loaded.maximum_level,
    )
    statistics.requested = len(requests)
    began = time.perf_counter()
    reader = Reader(what.root, maximum_pixels=what.maximum_pixels)
    scores = None
    if what.scores:
        scores = embeddings.Scores(what.scores, manifests.place_in_group(what.manifest, what.shard))
    workers = what.threads - 1 if loaded.device.type == "cuda" else 0
    vectors = embeddings.of_shard(loaded, rows, scores, reader, what.view.batch_size, workers)
    statistics.embedding_from = vectors.origin
    statistics.seconds["encoding"] += time.perf_counter() - began
    made_from = {
        request: members.metadata(request, what.view, loaded, vectors.digest(request.key), vectors.origin)
        for request in requests
    }

    decided = {request: members.made_from(made_from[request]) for request in requests}
    before = what.earlier.find(list(decided.values()), BINDING) if what.earlier else {}
    taken = {request: before[name] for request, name in decided.items() if name in before}
    statistics.taken_over = len(taken)
    work = Work(what.work, what.shard, provenance.digest(dict(what.stamp)))
    finished = work.finished()
    rest = [request for request in requests if request not in taken]
    pending = [request for request in rest if work.path(made_from[request]).name not in finished]
    statistics.resumed = len(rest) - len(pending)
    for request in pending:
        if request.key in vectors.failed:
            statistics.fail(request, vectors.failed[request.key])
    wanted = {request: made_from[request] for request in pending if request not in statistics.failed}
    logger.info(
        "%s %s: %d images to make, %d finished before, %d taken over, on %s",
        what.name, what.shard, len(wanted), statistics.resumed, statistics.taken_over, loaded.device,
    )  # fmt: skip
    _sample(what, Sampler(loaded, what.view), wanted, vectors, work, statistics)

    began = time.perf_counter()
    packed = [request for request in requests if request not in statistics.failed]
    _pack(what, {request: made_from[request] for request in packed}, work, taken)
    if what.earlier:
        names = [decided[request] for request in packed]
        what.earlier.keep(what.manifest, [what.tar, what.index], names, BINDING)
    statistics.seconds["packing"] += time.perf_counter() - began
    statistics.finished = True
    work.remove()


def _sample(
    what: Shard, sampler: Sampler, wanted: MadeFrom, vectors: Embeddings, work: Work, statistics: Statistics
) -> None:
    """Make the images that are wanted, in batches, while threads write those of the batch before."""
    size, requests = what.view.batch_size, list(wanted)
    there = statistics.resumed + statistics.taken_over
    bar = progress.bar(f"{what.name} {what.shard}", total=statistics.requested, initial=there)
    writer = Writer(work, what.view, limit=2 * size)
    try:
        with bar, writer:
            for start in range(0, len(wanted), size):
                batch = requests[start : start + size]
                inputs = None
                if sampler.loaded.mode != "txt":
                    inputs = torch.from_numpy(np.stack([vectors.values[request.key] for request in batch]))
                if start == 0:
                    _look_at_order(what, sampler, batch, inputs, statistics)
                for request, pixels in zip(batch, sampler.sample(batch, inputs)):
                    if pixels is None:
                        statistics.fail(request, "the generated image holds values that are not finite")
                    else:
                        writer.put(wanted[request], pixels)
                        statistics.made += 1
                bar.update(len(batch))
    finally:
        statistics.seconds.update(sampler.seconds)
        statistics.seconds["writing"] += writer.seconds
        statistics.prompts_truncated = sampler.prompts_truncated


def _look_at_order(
    what: Shard, sampler: Sampler, batch: Sequence[ViewRequest], inputs: torch.Tensor | None, statistics: Statistics
) -> None:
    """Say so if this machine's arithmetic depends on an image's place in the batch."""
    if len(batch) < 2:
        return
    statistics.order_independent = sampler.is_order_independent(batch, inputs)
    if not statistics.order_independent:
        logger.warning(
            "%s: on this device the last bits of an image depend on its place in the batch; images are the same for "
            "any number of shards only within rounding (batch_size 1 makes them equal bit for bit)",
            what.name,
        )


class _Taken:
    """The bytes of images of earlier shards."""

    def __init__(self, places: Mapping[ViewRequest, Place], opened: contextlib.ExitStack):
        self.places, self.opened = places, opened
        self.tables: dict[Path, pa.Table] = {}
        self.tars: dict[Path, Any] = {}

    def read(self, request: ViewRequest) -> bytes:
        files, row = self.places[request]
        if files not in self.tables:
            index = files.with_name(f"{files.name}.parquet")
            self.tables[files] = parquet.read(index, tables.VIEWS, ["offset", "length"])
            self.tars[files] = self.opened.enter_context(files.with_name(f"{files.name}.tar").open("rb"))
        offset, length = (self.tables[files][name][row].as_py() for name in ("offset", "length"))
        self.tars[files].seek(offset)
        return self.tars[files].read(length)


def _pack(what: Shard, made_from: MadeFrom, work: Work, taken: Mapping[ViewRequest, Place]) -> None:
    """Write the tar in the order of the manifest, and its index."""
    with contextlib.ExitStack() as opened:
        _write(what, made_from, work, _Taken(taken, opened))


def _write(what: Shard, made_from: MadeFrom, work: Work, taken: _Taken) -> None:
    places = []
    with tars.writing(what.tar) as tar:
        for request, metadata in made_from.items():
            name = members.member_name(request.key, request.sample, what.view.samples)
            data = taken.read(request) if request in taken.places else work.path(metadata).read_bytes()
            places.append((tar.add(f"{name}.jpg", data), len(data)))
            tar.add(f"{name}.json", members.to_json(metadata))
    table = {
        "key": [request.key for request in made_from],
        "sample": [request.sample for request in made_from],
        "offset": [offset for offset, _ in places],
        "length": [length for _, length in places],
        "noise_level": [request.noise_level for request in made_from],
        "guidance_scale": [request.guidance_scale for request in made_from],
        "seed": pa.array([request.seed for request in made_from], pa.uint64()),
    }
    parquet.write(table, tables.VIEWS, what.index, **what.stamp)
