"""Earlier artifacts of a sharded stage, beside the ones that count, for a collection that grows.

The workflow removes an artifact before a job makes it again. So each finished one is linked (no bytes are copied) to
``.kept/<generation>/``, a generation being a manifest, with a table of what each of its rows was made from. A job looks
there for the rows that it wants, in its own shard's files first, since a key may come from another shard. A generation
makes room for the next once that is whole.
"""

import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import parquet, provenance, tables
from genview.data.keys import parse_shard, shard_names
from genview.errors import GenviewError

FOLDER = ".kept"
ROWS = ".rows"
"""Suffix of the table that says what each row was made from."""
NOTHING = ""
"""What a row was made from that must not be taken over."""

log = logging.getLogger("genview")


class Place(NamedTuple):
    """Where an earlier row is."""

    files: Path
    """Path of the kept files without their suffixes."""
    row: int


class Earlier:
    """The earlier artifacts that a job may take rows from.

    Args:
        artifact: what the job makes, its first output, named after its shard.
        code: digest of today's code.
        accepted: (name of an artifact in the same folder, digest of the code that made it) that were accepted.
    """

    def __init__(self, artifact: str | Path, code: str, accepted: Collection[tuple[str, str]] = ()):
        self.artifact, self.code, self.accepted = Path(artifact), code, frozenset(accepted)
        self.folder = self.artifact.parent / FOLDER

    def find(self, wanted: Sequence[str], binding: str) -> dict[str, Place]:
        """Where rows are that were made from the same.

        Args:
            wanted: for each row a digest of all that it alone is made from.
            binding: digest of what all rows are made from, but for the code.
        """
        missing, found = set(wanted) - {NOTHING}, {}
        for file in self._tables() if missing else ():
            try:
                stamp = parquet.metadata(file)
                if stamp["binding"] != binding or not self._stands(file, stamp["made_by"]):
                    continue
                made_from = parquet.read(file, tables.KEPT)["made_from"]
            except (GenviewError, KeyError):  # another version's, or lost in a crash: it is made again
                continue
            for row in np.flatnonzero(pc.is_in(made_from, value_set=pa.array(sorted(missing), pa.string()))):
                name = made_from[int(row)].as_py()
                found[name] = Place(file.with_suffix(""), int(row))
                missing.discard(name)
            if not missing:
                break
        return found

    def _tables(self) -> Iterator[Path]:
        files = sorted(self.folder.glob(f"*/*{ROWS}"))
        yield from sorted(files, key=lambda file: file.stem != self.artifact.stem)

    def _stands(self, file: Path, code: str) -> bool:
        return code == self.code or (file.stem + self.artifact.suffix, code) in self.accepted

    def table(self, wanted: Sequence[str], binding: str, schema: pa.Schema) -> tuple[pa.Table, list[int]]:
        """Rows of earlier tables, and which of the wanted ones they are."""
        places = self.find(wanted, binding)
        rows: dict[Path, list[tuple[int, int]]] = {}
        for position, name in enumerate(wanted):
            if name in places:
                rows.setdefault(places[name].files, []).append((places[name].row, position))
        parts, positions = [schema.empty_table()], []
        for files, pairs in rows.items():
            table = parquet.read(files.with_name(f"{files.name}.parquet"), schema)
            parts.append(table.replace_schema_metadata().take([row for row, _ in pairs]).cast(schema))
            positions += [position for _, position in pairs]
        return pa.concat_tables(parts), positions

    def keep(self, manifest: str | Path, outputs: Sequence[str | Path], made_from: Sequence[str], binding: str) -> None:
        """Link finished artifacts, so that the next generation can take rows over.

        Args:
            manifest: the study's manifest, whose content names the generation.
            outputs: the artifact's files, named after its shard.
            made_from: a digest for each row, as for `find`; ``NOTHING``: the row is not to be taken over.
            binding: as for `find`.
        """
        folder = self.folder / provenance.file_sha256(manifest)[:16]
        rows = folder / f"{self.artifact.stem}{ROWS}"
        folder.mkdir(parents=True, exist_ok=True)
        rows.unlink(missing_ok=True)
        try:
            for output in map(Path, outputs):
                (folder / output.name).unlink(missing_ok=True)
                os.link(output, folder / output.name)
        except OSError as error:
            log.info("%s: no links can be made here (%s): a collection that grows is made anew", folder, error.strerror)
            return
        parquet.write({"made_from": made_from}, tables.KEPT, rows, binding=binding, made_by=self.code)
        _, count = parse_shard(self.artifact.stem)
        if all((folder / f"{name}{ROWS}").is_file() for name in shard_names(count)):
            for other in self.folder.iterdir():
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)


def in_order(taken: pa.Table, positions: Sequence[int], new: pa.Table) -> pa.Table:
    """Rows taken over and new ones in one table: the taken ones at their positions, the new ones in the gaps."""
    count = len(taken) + len(new)
    order = np.empty(count, np.int64)
    gaps = np.setdiff1d(np.arange(count), np.asarray(positions, np.int64))
    order[np.asarray(positions, np.int64)] = np.arange(len(taken))
    order[gaps] = np.arange(len(taken), count)
    return pa.concat_tables([taken, new.cast(taken.schema)]).take(pa.array(order)).combine_chunks()
