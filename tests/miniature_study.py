"""A results folder of a small study, written through the package's own tables, for tests of what reads results.

Images, masks, captions and shares are those of the drawn scenes; token scores are the scenes' own masks on a 8 x 8
grid with noise, so that threshold, ratio and true share belong together. Views are scenes of the same class.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import safetensors.numpy

from genview import parquet, tables
from genview.data import scenes
from genview.report import build

GRID = 8
RUNS = {"originals": 0.81, "all_views": 0.93}


def _jpeg(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _tar(path: Path, members: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            information = tarfile.TarInfo(name)
            information.size = len(data)
            archive.addfile(information, io.BytesIO(data))
    with tarfile.open(path) as archive:
        return {member.name: (member.offset_data, member.size) for member in archive}


def configuration(results: Path, name: str = "miniature", **changes: object) -> dict:
    """The effective configuration of the study."""
    from genview.config import load

    values = {
        "study": name,
        "results": str(results),
        "dataset": {"source": "scenes", "count": 60, "shards": 2},
        "views": {"img": {"mode": "img"}, "txt": {"mode": "txt"}},
        "runs": {run: {"epochs": 2} for run in RUNS},
        "evaluation": {
            "probe": {"datasets": ["digits"]},
            "zeroshot": {"datasets": ["scene_class"]},
            "retrieval": {"datasets": ["scene_class"]},
        },
        **changes,
    }
    return load.parse(values).model_dump(mode="json")


def write(results: Path, images: int = 60, name: str = "miniature", **changes: object) -> dict:
    """Write the study's artifacts below ``results / name`` and return its configuration."""
    folder, values = results / name, configuration(results, name, **changes)
    random = np.random.default_rng(0)
    drawn = {f"{index:06d}": scenes.scene(index) for index in range(images)}
    pictures = {key: _jpeg(scene.image) for key, scene in drawn.items()}
    places = _tar(folder / "data/images.tar", {f"{key}.jpg": data for key, data in pictures.items()})
    parquet.write(
        {
            "key": list(drawn),
            "path": ["images.tar"] * images,
            "offset": [places[f"{key}.jpg"][0] for key in drawn],
            "length": [places[f"{key}.jpg"][1] for key in drawn],
            "caption": [scene.caption for scene in drawn.values()],
            "label": [scenes.CLASSES[scene.class_index] for scene in drawn.values()],
            "width": [32] * images,
            "height": [32] * images,
            "shard": [index % 2 for index in range(images)],
            "sha256": ["0" * 64] * images,
            "foreground_share": [scene.foreground_share for scene in drawn.values()],
            "attributes": [None] * images,
        },
        tables.MANIFEST,
        folder / "data/manifest.parquet",
        stage="manifest",
    )
    parquet.write(
        {"key": [None], "source": ["broken/<b>.jpg"], "reason": ["truncated"], "kind": ["unreadable"]},
        tables.REJECTED,
        folder / "data/rejected.parquet",
    )

    cell = 32 // GRID
    masks = {key: scene.mask.reshape(GRID, cell, GRID, cell).mean((1, 3)).ravel() for key, scene in drawn.items()}
    scores = {key: mask * 4 - 2 + random.normal(0, 0.4, mask.shape) for key, mask in masks.items()}
    ratio = {key: float((value > 0).mean()) for key, value in scores.items()}
    encoder = folder / "foreground/small"
    for shard in range(2):
        keys = list(drawn)[shard::2]
        parquet.write(
            {
                "key": keys,
                "scores": [scores[key].astype(np.float16) for key in keys],
                "embedding": [random.normal(size=4).astype(np.float32) for _ in keys],
            },
            tables.SCORES,
            encoder / f"scores/{shard}-of-2.parquet",
        )
    component = {"mean": np.zeros(16, np.float32), "component": np.full(16, 0.25, np.float32)}
    safetensors.numpy.save_file({**component, "threshold": np.zeros((), np.float32)}, encoder / "pca.safetensors")
    _json(
        encoder / "pca.json",
        {"grid": [GRID, GRID], "images": images, "orientation": {"flipped": False, "margin": 0.8, "weak": False}},
    )
    parquet.write(
        {"key": list(ratio), "ratio": list(ratio.values())},
        tables.FOREGROUND_RATIO,
        encoder / "foreground_ratio.parquet",
    )

    level = {key: min(int(5 * value), 4) * 100 for key, value in ratio.items()}
    scale = {key: (8.0, 6.0, 6.0, 6.0, 4.0, 4.0, 4.0, 2.0, 2.0)[scene.constraints] for key, scene in drawn.items()}
    parquet.write(
        {
            "key": list(drawn),
            "caption": [scene.caption for scene in drawn.values()],
            "noise_level": list(level.values()),
            "guidance_scale": list(scale.values()),
            "noise_level_from": ["adaptive"] * images,
            "guidance_scale_from": ["adaptive"] * (images - 1) + ["default"],
        },
        tables.CONDITIONS,
        folder / "conditions/conditions.parquet",
    )
    for view, offset in (("img", 1000), ("txt", 2000)):
        for shard in range(2):
            keys = list(drawn)[shard::2]
            made = {f"{key}.0.jpg": _jpeg(scenes.scene(offset + int(key)).image) for key in keys}
            places = _tar(folder / f"views/{view}/{shard}-of-2.tar", made)
            parquet.write(
                {
                    "key": keys,
                    "sample": [0] * len(keys),
                    "offset": [places[f"{key}.0.jpg"][0] for key in keys],
                    "length": [places[f"{key}.0.jpg"][1] for key in keys],
                    "noise_level": [level[key] if view == "img" else None for key in keys],
                    "guidance_scale": [scale[key] if view == "txt" else 2.5 for key in keys],
                    "seed": list(range(len(keys))),
                },
                tables.VIEWS,
                folder / f"views/{view}/{shard}-of-2.parquet",
            )
        rows = [{"metric": "clip_cosine", "value": 0.8, "low": 0.78, "high": 0.82, "count": images}]
        if view == "img":
            rows += [
                {
                    "metric": "clip_cosine",
                    "noise_level": n,
                    "value": 0.9 - n / 2000,
                    "low": 0.6,
                    "high": 0.95,
                    "count": 12,
                }
                for n in (0, 100, 200, 300, 400)
            ]
        _json(folder / f"views/{view}/quality.json", {"results": rows})

    for number, (run, accuracy) in enumerate(RUNS.items()):
        lines = [
            {
                "step": step,
                "epoch": step / 25,
                "loss": 4 / (1 + step / 20) + number,
                "image_text_loss": 2 / (1 + step / 9),
                "learning_rate": 1e-3 * (1 - step / 50),
            }
            for step in range(50)
        ]
        path = folder / "runs" / run / "metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        rows = [
            {"metric": "top1", "value": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02, "count": 1000},
            {"metric": "knn_top1", "value": 0.7, "low": 0.68, "high": 0.72, "count": 1000},
        ]
        record = {
            "results": rows,
            "protocol": "cached",
            "selection": "validation",
            "split": {"train": 80, "test": 1000},
        }
        _json(folder / f"probes/{run}/digits.json", record)
        _json(folder / f"zeroshot/{run}/scene_class.json", {"results": [{"metric": "top1", "value": 0.5, "count": 9}]})
        recall = [{"metric": "image_recall_at_1", "value": 0.1 + accuracy / 2, "low": 0.1, "high": 0.9, "count": 500}]
        _json(folder / f"retrieval/{run}/scene_class.json", {"results": recall})
    shares = [
        {"metric": "exact_share", "value": 0.002, "count": 1000},
        {"metric": "near_share", "value": 0.0, "count": 1000},
    ]
    pairs = [{"train": "000001", "test": "7", "cosine": 1.0, "kind": "exact"}]
    _json(folder / "evaluation/duplicates/digits.json", {"results": shares, "threshold": 0.97, "pairs": pairs})
    cost = folder / "costs/data/manifest.tsv"
    cost.parent.mkdir(parents=True, exist_ok=True)
    cost.write_text("s\th:m:s\tmax_rss\tcpu_time\n12.5\t0:00:12\t310.5\t11.0\n")
    return values


def report(values: dict, folder: Path) -> None:
    """Make the report of a written study, in its folder, as the workflow does."""
    build.run(
        values,
        results=folder,
        page_file=folder / "report.html",
        summary_file=folder / "summary.csv",
        figures=folder / "figures",
        configuration_file=folder / "configuration.json",
    )


def finished(results: Path, name: str, **changes: object) -> Path:
    """The folder of a study with its report."""
    values = write(results, 12, name, **changes)
    folder = results / name
    report(values, folder)
    return folder
