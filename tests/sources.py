"""The small study as a whole on what people have: a table of two columns, img2dataset's tars, a data set, a folder.

``python tests/sources.py`` runs all of it on each and prints a line; ``--plan`` ingests them and plans the rest, as the
test suite does.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import collections_of_others as others
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from workspace import Workspace

from genview.data import scenes

COUNT = 40


def pictures(kind: str = "PNG") -> list[tuple[str, bytes, str, str]]:
    """Name, encoded picture, caption and class of each."""
    found = []
    for index in range(COUNT):
        drawn = scenes.scene(index, size=64)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(drawn.image)).save(buffer, kind)
        found.append((f"{index:05d}", buffer.getvalue(), drawn.caption, scenes.CLASSES[drawn.class_index]))
    return found


def table(folder: Path) -> dict:
    """A CSV of images and captions, and nothing else."""
    rows = [("image", "caption")]
    for name, data, caption, _ in pictures():
        (folder / f"{name}.png").write_bytes(data)
        rows.append((f"{name}.png", caption))
    return {"source": "table", "path": str(others.table(folder / "captions.csv", rows))}


def img2dataset(folder: Path) -> dict:
    """Two tars with a caption and a JSON beside each image, their tables and counts beside them."""
    for part in range(2):
        members: dict[str, bytes | str | object] = {}
        for name, data, caption, _ in pictures("JPEG")[part::2]:
            members |= {f"{name}.jpg": data, f"{name}.txt": caption}
            members[f"{name}.json"] = {"caption": caption, "url": f"http://example.org/{name}", "status": "success"}
        others.tar(folder / f"{part:05d}.tar", members)
        counts = {"count": COUNT // 2, "successes": COUNT // 2, "failed_to_download": 0}
        (folder / f"{part:05d}_stats.json").write_text(json.dumps(counts))
        pq.write_table(pa.table({"url": ["http://example.org"]}), folder / f"{part:05d}.parquet")
    return {"source": "webdataset", "path": str(folder)}


def huggingface(folder: Path) -> dict:
    """A Parquet file as the hub has it: images as bytes with a path, features in the schema's metadata."""
    rows = pictures()
    images = [{"bytes": data, "path": f"{name}.png"} for name, data, _, _ in rows]
    classes = sorted({label for *_, label in rows})
    columns = {"image": images, "text": [row[2] for row in rows], "label": [classes.index(row[3]) for row in rows]}
    features = {
        "image": {"_type": "Image"},
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": classes, "_type": "ClassLabel"},
    }
    written = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(written, folder / "train-00000-of-00001.parquet")
    return {"source": "huggingface", "path": str(folder)}


def classes(folder: Path) -> dict:
    """Folders of classes with a caption beside each image."""
    for name, data, caption, label in pictures():
        (folder / label).mkdir(exist_ok=True)
        (folder / label / f"{name}.png").write_bytes(data)
        (folder / label / f"{name}.txt").write_text(caption)
    return {"source": "folder", "path": str(folder)}


SOURCES: dict[str, Callable[[Path], dict]] = {
    "table": table,
    "img2dataset": img2dataset,
    "huggingface": huggingface,
    "folder": classes,
}
LABELLED = ("huggingface", "folder")


def study(work: Workspace, source: str) -> list[str]:
    """Write a collection and the small study on it; the options of snakemake for it."""
    images = work.root / "collection" / source
    images.mkdir(parents=True)
    dataset = SOURCES[source](images)
    values = {
        "extends": "config/smoke.yaml",
        "study": source,
        "dataset": {**dataset, "count": 1000},
        "pca": {"sample": COUNT},
    }
    if source in LABELLED:
        values["evaluation"] = {"datasets": {"own": {"kind": "own_labels"}}, "probe": {"datasets": ["own"]}}
    (work.root / f"{source}.yaml").write_text(json.dumps(values))
    return ["--configfile", f"{source}.yaml", "--cores", "2"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", action="store_true", help="ingest, and plan the rest")
    parser.add_argument("sources", nargs="*", default=list(SOURCES), metavar="SOURCE", help=f"of {', '.join(SOURCES)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Workspace(Path(directory))
        for source in options.sources:
            start, arguments = time.monotonic(), study(work, source)
            target = [f"results/{source}/data/manifest.parquet"] if options.plan else []
            work.snakemake(*target, *arguments, timeout=1800)
            planned = work.planned(*arguments)
            print(f"{source}: {time.monotonic() - start:.0f} s, {sum(planned.values())} jobs left", flush=True)


if __name__ == "__main__":
    main()
