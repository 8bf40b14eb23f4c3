"""Everything a training run is given, settings and explicit paths: the workflow writes it, the processes read it."""

from pathlib import Path
from typing import Any

from genview import provenance
from genview.config.base import Block
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.encoders import find

LAYOUT = {"gpus_per_node", "nodes"}
"""Keys of a run that do not enter its numbers (the number of processes does, and is compared as such)."""


class Quality(Block):
    """What the quality weights are made of."""

    encoder: Encoder
    component: str
    """The encoder's ``pca.safetensors``."""
    features: tuple[str, ...] = ()
    """Shards of ``quality_features``; needed by the image-text quality term alone."""


class Job(Block):
    """One training run, on this machine or as a part of a larger one."""

    run: Run
    name: str
    study: str = "default"
    seed: int = 42
    """The study's seed; the run's own is combined with it."""
    code: str | None = None
    """Digest of the code, where a workflow knows it; null: it is found when the run starts."""
    dataset: Dataset
    manifest: str
    views: dict[str, tuple[tuple[str, str], ...]] = {}
    """View set -> (tar, index) of each shard."""
    quality: Quality | None = None
    initial: Encoder | None = None
    """Whose weights the run starts from."""
    model: str
    """Where the trained model's directory goes."""
    metrics: str
    """Where the finished ``metrics.jsonl`` goes."""
    checkpoints: str
    """Folder of the unfinished work: checkpoints and metrics so far."""
    logs: str
    """Folder of what holds times: throughput and TensorBoard's events."""

    @property
    def index(self) -> str:
        """Where the run's index lies while it is trained (`data.index`)."""
        return str(Path(self.checkpoints).with_name("index.arrow"))


def identity(job: Job, code: str) -> dict[str, Any]:
    """What a run is made of: equal identities give equal numbers, and a checkpoint goes on under its own alone.

    Args:
        job: paths play no part; the contents of what they name do.
        code: digest of the code.
    """
    run = {name: value for name, value in job.run.fingerprint().items() if name not in LAYOUT}
    data: dict[str, Any] = {"manifest": provenance.file_sha256(job.manifest)}
    for name in job.run.data.views:
        data[f"views {name}"] = provenance.combined_file_digest(index for _, index in job.views[name])
    if job.quality:
        data["quality encoder"] = job.quality.encoder.fingerprint()
        data["quality component"] = provenance.file_sha256(Path(job.quality.component))
        data["quality features"] = provenance.combined_file_digest(job.quality.features)
    if job.initial:
        found = find.weights(job.initial)
        data["initial weights"] = found.sha256
        data["initial activation"] = found.quick_gelu
    return {
        "run": run,
        "processes": job.run.world_size,
        "seed": job.seed,
        "maximum_pixels": job.dataset.maximum_pixels,
        "data": data,
        "code": code,
    }
