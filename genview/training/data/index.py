"""A run's index: an Arrow file with a row for each original, which says where it and its generated views are.

All processes of a run map the same file: they share its pages, and hold nothing of it themselves. It is written when
the run starts, shard by shard, and goes when the run is done.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from genview import atomic, parquet, tables
from genview.data import manifest as manifests
from genview.errors import GenviewError
from genview.training.data import views as view_sets
from genview.training.data.views import ViewIndex

COLUMNS = ("key", "path", "offset", "length", "caption")
"""Of the manifest."""

Shards = Sequence[tuple[str | Path, str | Path]]
"""(tar, index in Parquet) of each shard of a set of views."""


class Index:
    """The mapped file.

    Attributes:
        rows: a row for each original, in the manifest's order: ``COLUMNS``.
        views: where the images of each set of views are.
    """

    def __init__(self, path: Path, sets: Mapping[str, Shards]):
        """Map a file that `write` wrote.

        Args:
            path: the file.
            sets: the run's sets of views.
        """
        # Mapped pages are the file's own: no row is decoded before it is asked for.
        whole = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self.rows = whole.select(COLUMNS)
        self.views = {
            name: ViewIndex(name, [tar for tar, _ in shards], whole.select(view_sets.columns(name)))
            for name, shards in sets.items()
        }


def write(path: Path, manifest: str | Path, sets: Mapping[str, Shards]) -> None:
    """Write a run's index, complete or not at all.

    Args:
        path: the file.
        manifest: ``manifest.parquet``.
        sets: the run's sets of views.

    Raises:
        GenviewError: an index of views is missing, shards were not made alike or are not those of the manifest, or a
            view's key is not among its shard's images.
    """
    count = int(parquet.metadata(manifest).get("shards", 1))
    samples = {}
    for name, shards in sets.items():
        indexes = [index for _, index in shards]
        parquet.require_alike(indexes)
        if len(shards) != count:
            raise GenviewError(
                f"view set {name}: {len(shards)} shards, but {manifest} was made for {count}; generate the views again"
            )
        numbers = (pc.max(piece["sample"]).as_py() for piece in parquet.batches(indexes, tables.VIEWS, ["sample"]))
        samples[name] = max(numbers, default=0) + 1
    fields = [tables.MANIFEST.field(name) for name in COLUMNS]
    fields += [field for name in sets for field in view_sets.fields(name, samples[name])]
    schema = pa.schema(pa.field(field.name, field.type) for field in fields)
    with atomic.writing(path) as partial, pa.ipc.new_file(str(partial), schema) as file:
        for number, rows in enumerate(manifests.by_shard(manifest, COLUMNS)):
            columns = [rows[name] for name in COLUMNS]
            for name, shards in sets.items():
                columns += view_sets.places(rows["key"], shards[number][1], number, samples[name])
            file.write_table(pa.Table.from_arrays(columns, schema=schema), max_chunksize=parquet.ROW_GROUP)
