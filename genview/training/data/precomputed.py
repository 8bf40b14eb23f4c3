"""What the quality weights need of an original and its caption, read row by row from memory-mapped files."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch
from safetensors import safe_open
from torch import Tensor

from genview import provenance
from genview.errors import GenviewError


class PrecomputedQuality:
    """Rows of ``quality_features``, in the manifest's order, without reading the files into memory.

    ``quality[row]`` is (background of the original [D], caption embedding [E]), float32, L2-normalised.
    """

    def __init__(self, paths: Sequence[str | Path], keys: pa.ChunkedArray):
        """Check that the files belong together and to these keys.

        Args:
            paths: one file per group of shards, in their order.
            keys: the manifest's keys, in its order.

        Raises:
            GenviewError: a file is missing or damaged, was made by other parameters, or is about other images.
        """
        self.paths = [str(path) for path in paths]
        self._files: list | None = None
        self._starts = [0]
        stamps = set()
        for path in self.paths:
            try:
                with safe_open(path, "pt") as file:
                    metadata = json.loads(file.metadata()["genview"])
                    count = file.get_slice("background").get_shape()[0]
            except (OSError, RuntimeError, ValueError) as error:
                raise GenviewError(f"{path}: cannot be read: {error}; make it again") from error
            start = self._starts[-1]
            if metadata["keys"] != provenance.digest(keys.slice(start, count).to_pylist()):
                raise GenviewError(f"{path}: made for other images than the manifest's; make it again")
            stamps.add(metadata["parameters"])  # code may differ by acceptance, see `genview.parquet.MAY_DIFFER`
            self._starts.append(start + count)
        if len(stamps) > 1 or self._starts[-1] != len(keys):
            raise GenviewError(f"{self.paths[0]} and its sisters do not belong together; make them again")

    def __getstate__(self):
        return {**vars(self), "_files": None}

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        if self._files is None:
            self._files = [safe_open(path, "pt") for path in self.paths]
        shard = next(i for i in range(len(self.paths)) if row < self._starts[i + 1])
        place = row - self._starts[shard]
        return tuple(
            torch.as_tensor(self._files[shard].get_slice(name)[place : place + 1][0]).float()
            for name in ("background", "caption")
        )
