"""Keys: the stable unique name of each image, and the shard that a key belongs to."""

import bisect
import hashlib
import posixpath
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from genview.errors import GenviewError

EXTENSIONS = (
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif",
)  # fmt: skip
"""Image files, in any case; what of them the installed Pillow cannot open is refused by name when it is opened."""

MAXIMUM_PART_BYTES = 240
"""Longest part of a key between slashes, in UTF-8 bytes: with an extension it must still fit a file name (255)."""

MAXIMUM_GROUPS = 100
"""Jobs of a stage that works through neighbouring shards at once."""

_SHARD = re.compile(r"(\d+)-of-(\d+)")


def key_of(path: str) -> str:
    """Key of an image file: its path under the root, with forward slashes, without an image extension.

    Other suffixes stay: ``1.2.JPG`` has the key ``1.2``, and ``1.2`` has the key ``1.2`` too.
    """
    lowered = path.lower()
    for extension in EXTENSIONS:
        if lowered.endswith(extension) and not lowered.endswith("/" + extension) and len(path) > len(extension):
            return path[: -len(extension)]
    return path


def stem(path: str) -> str:
    """A path without the last suffix of its name."""
    return posixpath.splitext(path)[0]


def problem(key: str) -> str | None:
    """What is wrong with a key, or None: it becomes a file's name, so nothing in it may lead out of a folder."""
    if not key:
        return "is empty"
    if "\0" in key:
        return "holds a NUL character"
    if key.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", key):
        return "is an absolute path"
    parts = key.split("/")
    if ".." in parts or ".." in key.split("\\"):
        return "holds '..'"
    if "" in parts or "." in parts:
        return "has an empty part or a part '.'"
    try:
        encoded = [part.encode() for part in parts]
    except UnicodeEncodeError:
        return "is not valid Unicode (a file name that is not UTF-8?)"
    if max(map(len, encoded)) > MAXIMUM_PART_BYTES:
        return f"has a part longer than {MAXIMUM_PART_BYTES} bytes"
    return None


def digests(keys: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
    """First 64 bits of each key's SHA-256, uint64 [n]: the order in which keys are dealt to shards."""
    values = np.empty(len(keys), np.dtype(">u8"))
    chunks = keys.chunks if isinstance(keys, pa.ChunkedArray) else [keys]
    position = 0
    for chunk in chunks:
        for start in range(0, len(chunk), 65_536):
            part = chunk[start : start + 65_536]
            texts = part.to_pylist() if isinstance(part, pa.Array) else part
            joined = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts)
            values[position : position + len(texts)] = np.frombuffer(joined, ">u8")
            position += len(texts)
    return values.astype(np.uint64)


class Cuts:
    """Deals keys to shards: a function of the set of keys and the number of shards alone.

    Keys are ordered by their digest and cut into equal runs, so that sizes differ by one at most, each shard is a
    random mixture of the collection, and a few added images move a few keys only, those next to a cut. With more
    shards than keys some shards are empty.

    Args:
        ordered: digests [n] and names of some keys each, together all in the order of (digest, key).
        count: number of keys.
        shards: number of shards.

    Raises:
        ValueError: ``shards`` is not positive.
    """

    def __init__(self, ordered: Iterable[tuple[np.ndarray, pa.ChunkedArray]], count: int, shards: int):
        if shards < 1:
            raise ValueError("shards must be positive")
        self.count, self.shards = count, shards
        self._first: list[tuple[int, str]] = []
        first_ranks = [-(-shard * count // shards) for shard in range(1, shards)]
        stop = 0
        for digests, names in ordered:
            start, stop = stop, stop + len(digests)
            for rank in first_ranks[len(self._first) :]:
                if rank >= stop:
                    break
                self._first.append((int(digests[rank - start]), names[rank - start].as_py()))
        self._digests = np.array([digest for digest, _ in self._first], np.uint64)

    def shard_of(self, digests: np.ndarray, names: pa.ChunkedArray) -> np.ndarray:
        """Shard of each key, int32 [n] in [0, shards), from its digest [n] and itself."""
        found = np.searchsorted(self._digests, digests, side="right").astype(np.int32)
        # Keys whose digest is that of a shard's first key: itself, or, should it ever happen, another with this digest.
        for place in np.flatnonzero(np.isin(digests, self._digests)):
            pair = (int(digests[place]), names[int(place)].as_py())
            found[place] = bisect.bisect_right(self._first, pair)
        return found


def shard_of(keys: Sequence[str] | pa.ChunkedArray, shards: int) -> np.ndarray:
    """Shard of each key, int32 [n] in [0, shards) (`Cuts`)."""
    names = keys if isinstance(keys, pa.ChunkedArray) else pa.chunked_array([pa.array(keys, pa.string())])
    values = digests(names)
    columns = pa.table({"digest": values, "key": names})
    ordered = columns.sort_by([("digest", "ascending"), ("key", "ascending")])
    return Cuts([(ordered["digest"].to_numpy(), ordered["key"])], len(names), shards).shard_of(values, names)


def shard_names(count: int) -> list[str]:
    """Names of shards, in order: ``0-of-2``, ``1-of-2``."""
    return [f"{index}-of-{count}" for index in range(count)]


def group_names(shards: int) -> list[str]:
    """Names of the groups of neighbouring shards, 100 at most, for stages that start longer than one shard takes.

    Of up to 100 shards each is a group of its own, by the same name.
    """
    return shard_names(min(shards, MAXIMUM_GROUPS))


def group_of(shard: str) -> str:
    """Name of the group that a shard belongs to: ``"37-of-1000"`` is in ``"3-of-100"``.

    Raises:
        GenviewError: no name of a shard.
    """
    index, shards = parse_shard(shard)
    groups = min(shards, MAXIMUM_GROUPS)
    return f"{index * groups // shards}-of-{groups}"


def parse_shard(name: str) -> tuple[int, int]:
    """Index and count of a shard's name: ``"1-of-4"`` is (1, 4).

    Raises:
        GenviewError: the name has another form, or the index is not below the count.
    """
    match = _SHARD.fullmatch(name)
    if not match or int(match[1]) >= int(match[2]):
        raise GenviewError(f"{name!r} names no shard; shards are named 0-of-4 to 3-of-4")
    return int(match[1]), int(match[2])
