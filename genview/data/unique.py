"""One row for an image, and no key twice."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genview import spill
from genview.data.listing import ITEM, SHOWN, shown
from genview.errors import GenviewError

ADVICE = defaultdict(
    lambda: "rename or remove one of each",
    webdataset="tars that count from 0 again are told apart by dataset.key_prefix: folder (or tar), which puts the "
    "folder's (or the tar's) name before each key",
    table="remove all rows of an image but one, or rename one of two files",
)
"""What to do about equal keys, by the source."""

_CHANGES = pa.schema([spill.ROW, ITEM.field("captions"), ("kept", pa.bool_())])


def unique(items: spill.Rows, folder: Path, advice: str) -> Iterator[pa.Table]:
    """Items in their order; rows of a table that name one file and differ in captions become one row with all of these.

    Args:
        items: columns of ``ITEM``.
        folder: what does not fit into memory lies there in the meantime.
        advice: what to do about equal keys.

    Raises:
        GenviewError: a key names two images.
    """
    changes = _changes(items, folder, advice)
    return _applied(items, changes)


def _changes(items: spill.Rows, folder: Path, advice: str) -> spill.Rows:
    """What becomes of the rows whose key is there more than once, in the order of the rows."""
    ordered = spill.Rows(_CHANGES, folder / "changes")
    with spill.database(folder) as base:
        base.keep("keys", spill.numbered(items.pieces(["key"])), pa.schema([spill.ROW, ITEM.field("key")]))
        base.make("repeated", "SELECT key FROM keys GROUP BY key HAVING count(*) > 1")
        if not base.number("SELECT count(*) FROM repeated"):
            return ordered
        columns = ["key", "path", "length", "caption", "captions", "label"]
        schema = pa.schema([spill.ROW, *(ITEM.field(name) for name in columns)])
        base.keep("items", spill.numbered(items.pieces(columns)), schema)
        base.make("several", "SELECT * FROM items SEMI JOIN repeated USING (key) WHERE length = -1")
        by_key = spill.Rows(_CHANGES, folder / "changes_by_key")
        together = base.rows("SELECT * FROM several ORDER BY key, row")
        for _, rows in itertools.groupby(_dicts(together), itemgetter("key")):
            for change in _merged(list(rows)):
                by_key.append(change)
        base.keep("changes", by_key.pieces(), _CHANGES)
        _require_unique(base, items, advice)
        for piece in base.rows("SELECT * FROM changes ORDER BY row"):
            ordered.extend(piece.cast(_CHANGES))
    return ordered


def _applied(items: spill.Rows, changes: spill.Rows) -> Iterator[pa.Table]:
    ordered, position = spill.Cursor(changes.pieces()), 0
    for piece in items.pieces():
        yield _changed(piece, position, ordered)
        position += len(piece)


def _dicts(pieces: Iterable[pa.Table]) -> Iterator[dict]:
    for piece in pieces:
        yield from piece.to_pylist()


def _merged(rows: list[dict]) -> Iterator[tuple[int, list[str] | None, bool]]:
    """Changes of the rows of one key, in their order: the first gets all captions, the others go."""
    first = rows[0]
    texts = [caption for row in rows for caption in row["captions"] or filter(None, [row["caption"]])]
    distinct = list(dict.fromkeys(texts))
    same = all((row["path"], row["label"]) == (first["path"], first["label"]) for row in rows)
    if same and len(distinct) > 1:
        yield first["row"], distinct, True
        for row in rows[1:]:
            yield row["row"], None, False


def _changed(piece: pa.Table, position: int, changes: spill.Cursor) -> pa.Table:
    found = {row - position: (captions, kept) for row, captions, kept in changes.below(position + len(piece))}
    if not found:
        return piece
    texts, mask = piece["captions"].to_pylist(), np.ones(len(piece), bool)
    for place, (captions, kept) in found.items():
        mask[place] = kept
        texts[place] = captions
    field = ITEM.field("captions")
    column = pa.array(texts, field.type)
    return piece.set_column(piece.schema.get_field_index("captions"), field, column).filter(pa.array(mask))


def _require_unique(base: spill.Database, items: spill.Rows, advice: str) -> None:
    base.make("left_over", "SELECT key FROM keys ANTI JOIN (SELECT row FROM changes WHERE NOT kept) USING (row)")
    repeated = base.some("SELECT key FROM left_over GROUP BY key HAVING count(*) > 1 ORDER BY key")
    if not repeated.count:
        return
    sources: dict[str, list[str]] = {key: [] for key in repeated.first[:SHOWN]}
    for piece in items.pieces(["key", "source"]):
        rows = piece.filter(pc.is_in(piece["key"], value_set=pa.array(sources, pa.string()))).to_pydict()
        for key, source in zip(rows["key"], rows["source"]):
            sources[key].append(source)
    lines = [f"{key!r}: {' and '.join(found[:5])}" for key, found in sources.items()]
    raise GenviewError(
        f"{repeated.count} keys name more than one image; a key is the path without its extension (or the __key__ of a "
        f"WebDataset), and must be unique: {advice}:" + shown(lines, repeated.count)
    )
