"""A small study's files for the tests of training: drawn scenes, their manifest, a set of views, quality features."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from safetensors.numpy import save_file

from genview import parquet, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.merge import merged
from genview.config.training import Run
from genview.data import manifest, scenes
from genview.training import assembly
from genview.training.data import quality_features
from genview.training.job import Job, Quality

STAMP = {"stage": "test", "study": "test", "parameters": "p", "code": "c"}

SHARDS = 2

SETTINGS = {
    "epochs": 2,
    "batch_size": 8,
    "log_every_steps": 1,
    "method": {"projector": [32, 32, 16]},
    "model": {"architecture": "tiny"},
    "data": {"augmentation": {"resample": 0}},
    "optimizer": {"base_learning_rate": 0.05, "warmup_epochs": 0.5},
    "checkpoints": {"every_steps": 100},
}


def write_tar(path: Path, images: dict[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Pictures as JPEG members of a tar; returns (offset, length) by key."""
    places = {}
    with tarfile.open(path, "w") as tar:
        for key, pixels in images.items():
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "JPEG", quality=95)
            entry = tarfile.TarInfo(f"{key}.jpg")
            entry.size = len(data.getvalue())
            tar.addfile(entry, io.BytesIO(data.getvalue()))
    with tarfile.open(path) as tar:
        for member in tar:
            places[member.name.removesuffix(".jpg")] = (member.offset_data, member.size)
    return places


def write_manifest(folder: Path, count: int, *, shards: int = SHARDS) -> pa.Table:
    """Scenes with keys ``scene-000`` and so on; the pictures in ``images.tar`` beside the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [scenes.scene(index, seed=11) for index in range(count)]
    names = [f"scene-{index:04d}" for index in range(count)]
    places = write_tar(folder / "images.tar", {name: scene.image for name, scene in zip(names, drawn)})
    columns = {
        "key": names,
        "path": ["images.tar"] * count,
        "offset": [places[name][0] for name in names],
        "length": [places[name][1] for name in names],
        "caption": [scene.caption for scene in drawn],
        "captions": [None] * count,
        "label": [str(scene.class_index) for scene in drawn],
        "width": [32] * count,
        "height": [32] * count,
        "sha256": ["0" * 64] * count,
        "foreground_share": [scene.foreground_share for scene in drawn],
        "attributes": [None] * count,
    }
    schema = pa.schema([field for field in tables.MANIFEST if field.name != "shard"])
    rows = manifest.assemble(pa.table(columns, schema=schema), shards)
    parquet.write(rows, tables.MANIFEST, folder / "manifest.parquet", shards=str(shards), **STAMP)
    return rows


def write_views(folder: Path, images: dict[str, np.ndarray], *, shard: str = "0-of-1") -> tuple[str, str]:
    """One shard of a set of views: the tar and its index."""
    folder.mkdir(parents=True, exist_ok=True)
    tar, index = folder / f"{shard}.tar", folder / f"{shard}.parquet"
    places = write_tar(tar, images)
    columns = {
        "key": list(images),
        "sample": [0] * len(images),
        "offset": [places[key][0] for key in images],
        "length": [places[key][1] for key in images],
        "noise_level": [100] * len(images),
        "guidance_scale": [2.0] * len(images),
        "seed": [1] * len(images),
    }
    parquet.write(columns, tables.VIEWS, index, **STAMP)
    return str(tar), str(index)


def write_shards(folder: Path, images: dict[str, np.ndarray], rows: pa.Table) -> tuple[tuple[str, str], ...]:
    """All shards of a set of views, as the manifest's rows divide them."""
    found = []
    for number in range(SHARDS):
        keys = rows.filter(pc.equal(rows["shard"], number))["key"].to_pylist()
        part = {key: images[key] for key in keys if key in images}
        found.append(write_views(folder, part, shard=f"{number}-of-{SHARDS}"))
    return tuple(found)


def assemble(job: Job) -> assembly.Assembly:
    """The parts of a run, on the CPU."""
    assembly.prepare(job)
    return assembly.assemble(job, torch.device("cpu"))


def write_component(path: Path, width: int) -> None:
    """An oriented principal component in the form that the foreground stage writes."""
    component = np.random.default_rng(5).standard_normal(width).astype(np.float32)
    tensors = {
        "mean": np.zeros(width, np.float32),
        "component": component / np.linalg.norm(component),
        "threshold": np.array(0.0, np.float32),
        "explained_variance_ratio": np.array(0.5, np.float32),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def study(
    folder: Path, *, count: int = 40, views: tuple[str, ...] = ("drawn",), quality: bool = True, **changes
) -> Job:
    """The files of a study and the job of one run in it; ``changes`` go over ``SETTINGS``, block by block."""
    rows = write_manifest(folder / "data", count)
    keys = rows["key"].to_pylist()
    shards = {}
    for number, name in enumerate(views):
        drawn = {key: scenes.scene(1000 * (number + 1) + i, seed=12).image for i, key in enumerate(keys)}
        shards[name] = write_shards(folder / "views" / name, drawn, rows)
    settings = merged(SETTINGS, changes)
    settings["data"] = {**SETTINGS["data"], **changes.get("data", {})}
    settings["data"].setdefault("views", dict.fromkeys(views, 1.0))
    dataset, manifest_path = Dataset(source="scenes"), folder / "data" / "manifest.parquet"
    judge = None
    if quality:
        component = folder / "foreground" / "pca.safetensors"
        write_component(component, 64)
        features = []
        for shard in ("0-of-2", "1-of-2"):
            output = folder / "foreground" / f"{shard}.safetensors"
            quality_features.run(
                dataset,
                Encoder(),
                manifest=manifest_path,
                group=shard,
                component=component,
                output=output,
                stamp=STAMP,
            )
            features.append(str(output))
        judge = Quality(encoder=Encoder(), component=str(component), features=tuple(features))
    return Job(
        run=Run.model_validate(settings),
        name="run",
        dataset=dataset,
        manifest=str(manifest_path),
        views=shards,
        quality=judge,
        model=str(folder / "run" / "model"),
        metrics=str(folder / "run" / "metrics.jsonl"),
        checkpoints=str(folder / "run" / "checkpoints"),
        logs=str(folder / "logs"),
    )


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """The weights of an exported model."""
    from safetensors.torch import load_file

    return load_file(Path(folder) / "open_clip_model.safetensors")
