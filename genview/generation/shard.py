"""One shard of a set of views: planned, sampled, kept image by image, packed; taken up again after any interruption."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from genview import atomic, progress, provenance, tables
from genview.config.views import ViewSet
from genview.data import manifest as manifests
from genview.data import tars
from genview.data.images import MAXIMUM_PIXELS
from genview.data.reader import Reader
from genview.generation import embeddings, interruption, members, pipelines, plan
from genview.generation.embeddings import Embeddings
from genview.generation.plan import Request
from genview.generation.sampler import Sampler
from genview.generation.statistics import Statistics
from genview.generation.work import Work, Writer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
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
    levels: Sequence[int] = ()
    """Noise levels that the random strategy draws from."""
    scales: Sequence[float] = ()
    """Guidance scales that the random strategy draws from."""
    maximum_rejects: float = 0.01
    """Share of the shard's images that may fail."""
    maximum_pixels: int = MAXIMUM_PIXELS
    """Originals with more pixels are not decoded."""
    threads: int = 1
    """Threads of the tensor library on the CPU; another number may change the last bit of an image."""
    metadata: dict[Request, dict[str, Any]] = field(default_factory=dict, init=False, compare=False)
    """What each image is made from."""


def run(job: Job) -> None:
    """Make one shard: the tar, its index and the statistics.

    Raises:
        GenviewError: conditions or captions missing or out of range, an unfit pipeline, too many failures, disk full.
        SystemExit: SIGTERM; what is finished is kept and taken up by the next run.
    """
    torch.set_num_threads(job.threads)
    began = time.perf_counter()
    statistics = Statistics(job.maximum_rejects)
    try:
        with interruption.stopping_gently():
            _make(job, statistics)
    finally:
        statistics.seconds["total"] = time.perf_counter() - began
        atomic.write_json(job.statistics, statistics.to_json())


def _make(job: Job, statistics: Statistics) -> None:
    rows = manifests.shard_rows(job.manifest, job.shard)
    conditions = tables.read(job.conditions, tables.CONDITIONS, ["key", "caption", "noise_level", "guidance_scale"])
    began = time.perf_counter()
    loaded = pipelines.load(job.view, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    statistics.seconds["loading"] += time.perf_counter() - began
    requests = plan.requests(
        rows["key"].to_pylist(),
        conditions,
        job.name,
        job.view,
        seed=job.seed,
        levels=job.levels,
        scales=job.scales,
        maximum_level=loaded.maximum_level,
    )
    statistics.requested = len(requests)
    began = time.perf_counter()
    reader = Reader(job.root, maximum_pixels=job.maximum_pixels)
    vectors = embeddings.of_shard(loaded, rows, job.scores, reader, job.view.batch_size)
    statistics.embedding_from = vectors.origin
    statistics.seconds["encoding"] += time.perf_counter() - began
    for request in requests:
        job.metadata[request] = members.metadata(request, job.view, loaded, vectors.digest(request.key), vectors.origin)

    work = Work(job.work, job.shard, provenance.digest(dict(job.stamp)))
    finished = work.finished()
    pending = [request for request in requests if work.path(job.metadata[request]).name not in finished]
    statistics.resumed = len(requests) - len(pending)
    for request in pending:
        if request.key in vectors.failed:
            statistics.fail(request, vectors.failed[request.key])
    wanted = [request for request in pending if request not in statistics.failed]
    logger.info(
        "%s %s: %d images to make, %d finished before, on %s",
        job.name, job.shard, len(wanted), statistics.resumed, loaded.device,
    )  # fmt: skip
    _sample(job, Sampler(loaded, job.view), wanted, vectors, work, statistics)

    began = time.perf_counter()
    _pack(job, [request for request in requests if request not in statistics.failed], work)
    statistics.seconds["packing"] += time.perf_counter() - began
    statistics.finished = True
    work.remove()


def _sample(
    job: Job, sampler: Sampler, wanted: Sequence[Request], vectors: Embeddings, work: Work, statistics: Statistics
) -> None:
    """Make the images that are wanted, in batches, while threads write those of the batch before."""
    size = job.view.batch_size
    bar = progress.bar(f"{job.name} {job.shard}", total=statistics.requested, initial=statistics.resumed)
    writer = Writer(work, job.view, limit=2 * size)
    try:
        with bar, writer:
            for start in range(0, len(wanted), size):
                batch = wanted[start : start + size]
                inputs = None
                if sampler.loaded.mode != "txt":
                    inputs = torch.from_numpy(np.stack([vectors.values[request.key] for request in batch]))
                if start == 0:
                    _look_at_order(job, sampler, batch, inputs, statistics)
                for request, pixels in zip(batch, sampler.sample(batch, inputs)):
                    if pixels is None:
                        statistics.fail(request, "the generated image holds values that are not finite")
                    else:
                        writer.put(job.metadata[request], pixels)
                        statistics.made += 1
                bar.update(len(batch))
    finally:
        statistics.seconds.update(sampler.seconds)
        statistics.seconds["writing"] += writer.seconds
        statistics.prompts_truncated = sampler.prompts_truncated


def _look_at_order(
    job: Job, sampler: Sampler, batch: Sequence[Request], inputs: torch.Tensor | None, statistics: Statistics
) -> None:
    """Say so if this machine's arithmetic depends on an image's place in the batch."""
    if len(batch) < 2:
        return
    statistics.order_independent = sampler.is_order_independent(batch, inputs)
    if not statistics.order_independent:
        logger.warning(
            "%s: on this device the last bits of an image depend on its place in the batch; images are the same for "
            "any number of shards only within rounding (batch_size 1 makes them equal bit for bit)",
            job.name,
        )


def _pack(job: Job, requests: Sequence[Request], work: Work) -> None:
    """Write the tar in the order of the manifest, and its index."""
    places = []
    with tars.writing(job.tar) as tar:
        for request in requests:
            name = members.member_name(request.key, request.sample, job.view.samples)
            data = work.path(job.metadata[request]).read_bytes()
            places.append((tar.add(f"{name}.jpg", data), len(data)))
            tar.add(f"{name}.json", members.to_json(job.metadata[request]))
    table = {
        "key": [request.key for request in requests],
        "sample": [request.sample for request in requests],
        "offset": [offset for offset, _ in places],
        "length": [length for _, length in places],
        "noise_level": [request.noise_level for request in requests],
        "guidance_scale": [request.guidance_scale for request in requests],
        "seed": pa.array([request.seed for request in requests], pa.uint64()),
    }
    tables.write(table, tables.VIEWS, job.index, **job.stamp)
