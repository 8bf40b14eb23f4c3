"""A manifest of millions of rows, made up, within 4 GiB: listed, dealt to shards, written, read, joined, exported.

No image is opened; what is measured is everything around the images: the listing's columns, duplicate keys and bytes,
shards, tables, joins, and the published files. Run it as

    python benchmarks/manifest_scale.py --rows 3000000 --output benchmarks/results/manifest_scale.json
"""

import argparse
import hashlib
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import record

from genview import tables
from genview.data import duplicates, manifest, published
from genview.data.listing import ITEM, Listing

TEXT = "a the red large small dog cat tree house on near under with grass sky old woman man boat street"
WORDS = np.array(TEXT.split())
STEPS: dict[str, float] = {}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Time a step and print it with the peak of memory so far."""
    start = time.perf_counter()
    yield
    STEPS[name] = round(time.perf_counter() - start, 2)
    print(f"{name:<12} {STEPS[name]:8.1f} s   peak {peak() / 2**30:5.2f} GiB", flush=True)


def peak() -> int:
    """Largest resident set so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def listed(rows: int) -> pa.Table:
    """Items as img2dataset's shards of 10,000 would give them: unique keys, captions of about 60 characters."""
    random = np.random.default_rng(0)
    listing = Listing()
    for start in range(0, rows, 10_000):
        captions = WORDS[random.integers(0, len(WORDS), (min(10_000, rows - start), 12))]
        shard = start // 10_000
        for number, words in enumerate(captions):
            key = f"{shard:05d}{number:04d}"
            listing.add(
                key,
                f"{shard:05d}.tar",
                f"{shard:05d}.tar: {key}.jpg",
                offset=number * 40_000,
                length=39_000,
                captions=[" ".join(words)],
                label=words[0],
            )
    return listing.table()


def checked(items: pa.Table) -> pa.Table:
    """The columns that opening images would add, with one image in a thousand a copy of the one before."""
    rows = items.drop_columns(["length"])
    count = len(items)
    digests = (
        pa.array([hashlib.sha256(b"%d" % (i - (i % 1000 == 999))).hexdigest() for i in range(start, end)])
        for start, end in ((start, min(start + 65_536, count)) for start in range(0, count, 65_536))
    )
    rows = rows.append_column("sha256", pa.chunked_array(digests))
    for name, kind, value in [("length", pa.int64(), 39_000), ("width", pa.int32(), 256), ("height", pa.int32(), 256)]:
        rows = rows.append_column(name, pa.array(np.full(count, value), kind))
    return rows


def main() -> None:
    """Run all steps and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--shards", type=int, default=300)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sizes = run(Path(temporary), arguments.rows, arguments.shards)
    result = {
        "rows": arguments.rows,
        "shards": arguments.shards,
        "seconds": STEPS,
        "seconds_in_all": round(sum(STEPS.values()), 1),
        "peak_gib": round(peak() / 2**30, 2),
        "bytes": sizes,
    }
    record.write(result, arguments.output, "pyarrow", "numpy")


def run(folder: Path, count: int, shards: int) -> dict[str, int]:
    """All steps; returns bytes of the files."""
    with step("list"):
        items = listed(count)
        assert len(items) == count and items.schema == ITEM
    with step("digests"):
        rows = checked(items)
        del items
    with step("duplicates"):
        standing = duplicates.same_bytes(rows["sha256"], rows["key"])
        keep = standing == np.arange(count)
        assert count - keep.sum() == count // 1000
        rows = rows.filter(pa.array(keep)).drop_columns(["source"])
    with step("shards"):
        table = manifest.assemble(rows, shards)
        del rows
    with step("write"):
        tables.write(table, tables.MANIFEST, folder / "manifest.parquet", stage="manifest", shards=str(shards))
        kept = len(table)
        del table
    with step("read"):
        everything = manifest.read(folder / "manifest.parquet")
        assert len(everything) == kept
        del everything
    with step("read shard"):
        part = manifest.read(folder / "manifest.parquet", f"{shards // 2}-of-{shards}")
        assert abs(len(part) - kept / shards) <= 1
    with step("conditions"):
        keys = manifest.read(folder / "manifest.parquet", columns=["key"])["key"]
        random = np.random.default_rng(1)
        order = random.permutation(kept)  # a stage's table need not be in the manifest's order
        values = {
            "key": keys.take(pa.array(order)),
            "ratio": pa.array(random.random(kept, np.float32)),
        }
        tables.write(pa.table(values), tables.FOREGROUND_RATIO, folder / "ratio.parquet")
        values = {"key": keys, "noise_level": pa.array(random.integers(0, 5, kept, np.int32) * 100)}
        tables.write(pa.table(values), tables.NOISE_LEVEL, folder / "noise.parquet")
        values = {
            "key": keys,
            "guidance_scale": pa.array(np.full(kept, 6, np.float32)),
            "score": pa.array(np.full(kept, 2, np.int32)),
            "is_default": pa.array(np.zeros(kept, bool)),
        }
        tables.write(pa.table(values), tables.GUIDANCE_SCALE, folder / "scale.parquet")
        del values, keys
    with step("join"):
        rows = manifest.read(folder / "manifest.parquet", columns=["key", "caption"])
        for name, schema in [("ratio", tables.FOREGROUND_RATIO), ("noise", tables.NOISE_LEVEL)]:
            found, missing, unknown = published.align(tables.read(folder / f"{name}.parquet", schema), rows["key"])
            assert not missing and not unknown and found["key"].equals(rows["key"])
        del rows, found
    with step("export"):
        published.export(
            folder / "manifest.parquet",
            folder / "ratio.parquet",
            folder / "noise.parquet",
            folder / "scale.parquet",
            folder,
        )
    with step("import"):
        table = published.read_csv(folder / "infos.csv", "infos")
        assert len(table) == kept and pc.min(table["guidance_scale"]).as_py() == 6
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    main()
