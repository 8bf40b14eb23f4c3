"""Where each key's generated views are: references into a set's shards, beside the manifest's rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import parquet, tables
from genview.data.reader import Reader
from genview.errors import GenviewError

MISSING = -1
_PARTS = (("shard", pa.int32()), ("offset", pa.int64()), ("length", pa.int32()))


def columns(name: str) -> list[str]:
    """Names of a view set's columns in a run's index."""
    return [f"{name}.{part}" for part, _ in _PARTS]


def fields(name: str, samples: int) -> list[pa.Field]:
    """A view set's columns: for each of the samples number of the shard (-1: missing), first byte, number of bytes."""
    return [pa.field(column, pa.list_(kind, samples)) for column, (_, kind) in zip(columns(name), _PARTS)]


def places(keys: pa.ChunkedArray, index: str | Path, number: int, samples: int) -> list[pa.Array]:
    """The columns of one shard.

    Args:
        keys: of the shard's images, in the manifest's order.
        index: the shard's table of views.
        number: the shard's.
        samples: images per key.

    Raises:
        GenviewError: a view's key is not among the shard's images.
    """
    part = parquet.read(index, tables.VIEWS, ("key", "sample", "offset", "length"))
    values = {name: np.full((len(keys), samples), MISSING, kind.to_pandas_dtype()) for name, kind in _PARTS}
    if len(part):
        rows = pc.index_in(part["key"], value_set=keys.combine_chunks())
        if rows.null_count:
            unknown = part["key"].filter(pc.is_null(rows))[0].as_py()
            raise GenviewError(
                f"{index}: view of {unknown!r}, which is not in this shard of the manifest (and "
                f"{rows.null_count - 1} more); the views were made for other images: generate them again"
            )
        place = (rows.to_numpy(), part["sample"].to_numpy())
        values["shard"][place] = number
        values["offset"][place] = part["offset"].to_numpy()
        values["length"][place] = part["length"].to_numpy()
    return [pa.FixedSizeListArray.from_arrays(pa.array(values[name].ravel(), kind), samples) for name, kind in _PARTS]


class ViewIndex:
    """References of one set of views.

    Attributes:
        samples: images per key.
        missing: number of (key, sample) pairs of the manifest that have no image.
    """

    def __init__(self, name: str, tars: Sequence[str | Path], rows: pa.Table):
        """Take the set's columns of a run's index.

        Args:
            name: of the view set.
            tars: of its shards.
            rows: its `columns`, a row for each of the manifest's.
        """
        self.name = name
        self.tars = [Path(tar) for tar in tars]
        self.reader = Reader(Path())
        self._rows = rows
        self.samples = rows.schema.field(0).type.list_size
        self.missing = sum(int(gaps.sum()) for gaps in self._gaps())

    def _gaps(self) -> list[np.ndarray]:
        """Whether an image is missing, bool [n, samples], of neighbouring rows each."""
        chunks = self._rows.column(0).chunks
        return [(chunk.flatten().to_numpy() == MISSING).reshape(-1, self.samples) for chunk in chunks]

    def first_missing(self, count: int) -> list[int]:
        """The first rows of the manifest that lack a view."""
        found: list[int] = []
        start = 0
        for gaps in self._gaps():
            found += (start + np.flatnonzero(gaps.any(axis=1))[: count - len(found)]).tolist()
            start += len(gaps)
        return found

    def reference(self, row: int, draw: int) -> tuple[str, int, int] | None:
        """(path, offset, length) of one of the key's samples; None where that one is missing."""
        sample = draw % self.samples
        shard, offset, length = (column[row][sample].as_py() for column in self._rows.columns)
        return None if shard == MISSING else (str(self.tars[shard]), offset, length)

    def image(self, row: int, draw: int):
        """The view as an RGB image; None where it is missing.

        Raises:
            GenviewError: the shard cannot be read; names it.
        """
        reference = self.reference(row, draw)
        return None if reference is None else self.reader.image(*reference)
