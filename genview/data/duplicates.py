"""Images that are there twice: the same bytes, or perceptual hashes that differ in few bits."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from genview.spill import Database

ROWS = pa.schema(
    [
        ("row", pa.int64()),
        ("key", pa.string()),
        ("sha256", pa.string()),
        ("perceptual_hash", pa.uint64()),
        ("digest", pa.uint64()),
    ]
)
"""What the table ``rows`` of a database holds of each image; ``digest`` is its key's (`keys.digests`)."""

DROPPED = pa.schema([("row", pa.int64()), ("standing", pa.string()), ("near", pa.bool_())])
"""Rows that another image stands for, by its key: by its bytes, or (``near``) by its perceptual hash."""


def same_bytes(base: Database) -> Iterator[pa.Table]:
    """The images of ``rows`` that have the bytes of another, as ``DROPPED``; the one with the smallest key stands."""
    # By a short hash first: groups of numbers need little memory, and few images are left to be sorted.
    base.make("repeated", "SELECT hash(sha256) AS short FROM rows GROUP BY short HAVING count(*) > 1")
    base.make("several", "SELECT row, key, sha256 FROM rows SEMI JOIN repeated ON hash(rows.sha256) = repeated.short")
    base.keep("same", _standing(base.rows("SELECT row, key, sha256 FROM several ORDER BY sha256, key")), DROPPED)
    return (piece.cast(DROPPED) for piece in base.rows("SELECT * FROM same ORDER BY row"))


def _standing(ordered: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """``DROPPED`` of rows in the order of their bytes and keys: all but the first of equal bytes."""
    bytes_before, standing = None, None
    for piece in ordered:
        rows: dict[str, list] = {"row": [], "standing": []}
        for row, key, sha256 in zip(*(piece[name].to_pylist() for name in ("row", "key", "sha256"))):
            if sha256 != bytes_before:
                bytes_before, standing = sha256, key
            else:
                rows["row"].append(row)
                rows["standing"].append(standing)
        yield pa.table({**rows, "near": pa.repeat(False, len(rows["row"]))}, schema=DROPPED)


def look_alike(base: Database, distance: int) -> pa.Table:
    """The images of ``rows`` that look like another, as ``DROPPED``, but for those that are in ``dropped``.

    All perceptual hashes and their keys are held in memory. Of images that are alike the smallest key stands.
    """
    query = "SELECT row, key, perceptual_hash FROM rows ANTI JOIN dropped USING (row) ORDER BY key"
    kept = pa.concat_tables([pa.schema([ROWS.field(0), ROWS.field(1), ROWS.field(3)]).empty_table(), *base.rows(query)])
    standing = near(kept["perceptual_hash"].to_numpy(), distance)
    repeated = np.flatnonzero(standing != np.arange(len(standing)))
    rows = {
        "row": kept["row"].take(repeated),
        "standing": kept["key"].take(standing[repeated]),
        "near": pa.repeat(True, len(repeated)),
    }
    return pa.table(rows, schema=DROPPED).sort_by("row")


def near(hashes: np.ndarray, distance: int) -> np.ndarray:
    """For each image the row of the earlier image that stands for it, int64 [n]; itself if none is near.

    Images are taken in order; one is dropped if an image that was kept differs from it in at most ``distance`` bits.
    Pairs are found by the pigeonhole principle: hashes that differ in at most d of 64 bits agree in at least one of
    d + 1 bands, so only hashes that share a band are compared. Large distances make bands short and the search slow.

    Args:
        hashes: uint64 [n], in the order in which images are kept.
        distance: largest number of differing bits, 0..32.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    by_age = np.argsort(first)
    unique, age = unique[by_age], np.argsort(by_age)
    standing = np.arange(len(unique))
    earlier, later = _close_pairs(unique, distance)
    order = np.lexsort((earlier, later))
    for first_row, second_row in zip(earlier[order], later[order]):
        # All pairs of a row come together, by age: the oldest kept neighbour stands for it.
        if standing[second_row] == second_row and standing[first_row] == first_row:
            standing[second_row] = first_row
    return np.sort(first)[standing[age[inverse]]]


def _close_pairs(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (i, j), i < j, of distinct hashes that differ in at most ``distance`` bits; each pair once."""
    bounds = np.linspace(0, 64, distance + 2).round().astype(int) if distance < 64 else np.arange(65)
    found: list[np.ndarray] = []
    for low, high in itertools.pairwise(bounds):
        mask = np.uint64((1 << int(high - low)) - 1)
        band = (hashes >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.diff(band[order])) + 1
        for rows in np.split(order, edges):
            found.extend(_pairs_within(hashes, rows, distance))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _pairs_within(hashes: np.ndarray, rows: np.ndarray, distance: int) -> list[np.ndarray]:
    found = []
    for start in range(0, len(rows) - 1, 512):
        block = rows[start : start + 512]
        others = rows[start:]
        bits = np.bitwise_count(hashes[block][:, None] ^ hashes[others][None, :])
        i, j = np.nonzero((bits <= distance) & (np.arange(len(others))[None, :] > np.arange(len(block))[:, None]))
        if len(i):
            found.append(np.sort(np.stack([block[i], others[j]], axis=1), axis=1))
    return found
