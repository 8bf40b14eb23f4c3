"""Where each key's generated views are: references into a set's shards, aligned to the manifest's rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import tables
from genview.data.reader import Reader
from genview.errors import GenviewError

MISSING = -1


class ViewIndex:
    """References of one set of views; 16 bytes per image in memory.

    Attributes:
        samples: images per key.
        missing: number of (key, sample) pairs of the manifest that have no image.
    """

    def __init__(self, name: str, shards: Sequence[tuple[str | Path, str | Path]], keys: pa.ChunkedArray):
        """Read the indexes.

        Args:
            name: of the view set.
            shards: (tar, index in Parquet) of each shard.
            keys: the manifest's keys, in its order.

        Raises:
            GenviewError: an index is missing, shards were not made alike, or a view's key is not in the manifest.
        """
        self.name = name
        self.tars = [Path(tar) for tar, _ in shards]
        self.reader = Reader(Path())
        columns = ("key", "sample", "offset", "length")
        tables.read_shards([index for _, index in shards], tables.VIEWS, ["sample"])  # made alike, or refused
        parts = [tables.read(index, tables.VIEWS, columns) for _, index in shards]
        self.samples = max((pc.max(part["sample"]).as_py() + 1 for part in parts if len(part)), default=1)
        self._shard = np.full((len(keys), self.samples), MISSING, np.int32)
        self._offset = np.zeros((len(keys), self.samples), np.int64)
        self._length = np.zeros((len(keys), self.samples), np.int32)
        value_set = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
        for number, part in enumerate(parts):
            if not len(part):
                continue
            rows = pc.index_in(part["key"], value_set=value_set)
            if rows.null_count:
                unknown = part["key"].filter(pc.is_null(rows))[0].as_py()
                raise GenviewError(
                    f"{shards[number][1]}: view of {unknown!r}, which is not in the manifest (and "
                    f"{rows.null_count - 1} more); the views were made for other images: generate them again"
                )
            place = (rows.to_numpy(), part["sample"].to_numpy())
            self._shard[place] = number
            self._offset[place] = part["offset"].to_numpy()
            self._length[place] = part["length"].to_numpy()
        self.missing = int((self._shard == MISSING).sum())

    def rows_missing(self) -> np.ndarray:
        """Rows of the manifest that lack a view, int64 [n]."""
        return np.flatnonzero((self._shard == MISSING).any(axis=1))

    def reference(self, row: int, draw: int) -> tuple[str, int, int] | None:
        """(path, offset, length) of one of the key's samples; None where that one is missing."""
        sample = draw % self.samples
        shard = self._shard[row, sample]
        if shard == MISSING:
            return None
        return str(self.tars[shard]), int(self._offset[row, sample]), int(self._length[row, sample])

    def image(self, row: int, draw: int):
        """The view as an RGB image; None where it is missing.

        Raises:
            GenviewError: the shard cannot be read; names it.
        """
        reference = self.reference(row, draw)
        return None if reference is None else self.reader.image(*reference)
