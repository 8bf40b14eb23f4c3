"""Opening every listed image once: size, digest, perceptual hash, or the reason why it is refused."""

import functools
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from PIL import Image

from genview import progress
from genview.config.dataset import Dataset
from genview.data import names, processes
from genview.data.reader import Reader
from genview.errors import GenviewError

CHUNK = 64
"""Images per task: small enough that a crash costs little, large enough that the transfer costs nothing."""

CHECKED = pa.schema(
    [
        ("length", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("perceptual_hash", pa.uint64()),
        ("reason", pa.string()),
        ("kind", pa.string()),
        ("path", pa.string()),
    ]
)
"""What opening an image tells; ``reason`` and ``kind`` are null if the image is good. ``path`` is null but where the
file was found under a name that is written otherwise than in the user's table."""


OPENED = ("length", "width", "height", "sha256", "perceptual_hash")
"""Columns that a row of the manifest takes from there."""


class Rules(NamedTuple):
    """What an image must be."""

    maximum_pixels: int
    minimum_side: int
    maximum_aspect_ratio: float
    perceptual: bool
    written_by_hand: bool
    """Whether paths come from a table, which may write a name otherwise than the disk."""


Reference = tuple[str, int, int]
"""Path, offset, length; length -1 is the whole file."""


def check(items: Iterable[pa.Table], total: int, root: Path, dataset: Dataset) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Open every item, in processes; yield items in their order, and beside each what opening it told (``CHECKED``)."""
    rules = Rules(
        dataset.maximum_pixels,
        dataset.minimum_side,
        dataset.maximum_aspect_ratio,
        dataset.perceptual_duplicates is not None,
        dataset.source == "table",
    )
    function = functools.partial(_examine_chunk, root=root, rules=rules)
    workers = min(processes.available(dataset.workers), -(-total // CHUNK)) or 1

    def crashed(chunk: list[Reference]) -> list[tuple]:
        if len(chunk) == 1:
            return [_refused("the decoder crashed or ran out of memory", "unreadable")]
        single = ([reference] for reference in chunk)
        results = processes.ordered_map(function, single, workers=2, crashed=crashed)
        return [result for part in results for result in part]

    begun: deque[pa.Table] = deque()

    def chunks() -> Iterator[list[Reference]]:
        for piece in items:
            for start in range(0, len(piece), CHUNK):
                begun.append(piece.slice(start, CHUNK))
                yield list(zip(*(begun[-1][name].to_pylist() for name in ("path", "offset", "length"))))

    done: list[pa.Table] = []
    rows: list[tuple] = []
    with progress.bar("ingest", total=total) as bar:
        for results in processes.ordered_map(function, chunks(), workers=workers, crashed=crashed):
            done.append(begun.popleft())
            rows.extend(results)
            bar.update(len(results))
            if len(rows) >= 16_384:
                yield pa.concat_tables(done), _table(rows)
                done, rows = [], []
    if rows:
        yield pa.concat_tables(done), _table(rows)


def _table(rows: list[tuple]) -> pa.Table:
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows), CHECKED)]
    return pa.Table.from_arrays(columns, schema=CHECKED)


def _refused(reason: str, kind: str) -> tuple:
    return (None, None, None, None, None, reason, kind, None)


def _examine_chunk(chunk: list[Reference], root: Path, rules: Rules) -> list[tuple]:
    reader = Reader(root, maximum_pixels=rules.maximum_pixels, maximum_aspect_ratio=rules.maximum_aspect_ratio)
    return [_examine(reader, *reference, rules=rules) for reference in chunk]


def _examine(reader: Reader, path: str, offset: int, length: int, rules: Rules) -> tuple:
    other = None
    try:
        data = reader.read(path, offset, None if length < 0 else length)
    except GenviewError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if not rules.written_by_hand or (reader.root / path).exists():
            return _refused(reason, "unreadable")
        other = names.found(reader.root, path)
        if other is None:
            near = names.nearest(reader.root, path)
            return _refused(f"{reason}{f'; there is {near!r}' if near else ''}", "unreadable")
        try:
            data = reader.read(other, offset)
        except GenviewError as second:
            return _refused(str(second), "unreadable")
    try:
        image = reader.decode(data)
    except GenviewError as error:
        return _refused(str(error), "unreadable")
    width, height = image.size
    if min(width, height) < rules.minimum_side:
        reason = f"{width} x {height} pixels: the shorter side is below {rules.minimum_side} (minimum_side)"
        return _refused(reason, "invalid")
    digest = hashlib.sha256(data).hexdigest()
    return (len(data), width, height, digest, _perceptual_hash(image) if rules.perceptual else None, None, None, other)


def _perceptual_hash(image: Image.Image) -> int:
    import imagehash  # brings SciPy; only where it is asked for

    return int(str(imagehash.phash(image)), 16)
