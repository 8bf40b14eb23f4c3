"""What a source lists before any image is opened: items and refusals, in compact columns."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from genview import spill, tables
from genview.data import keys
from genview.errors import GenviewError

ITEM = pa.schema(
    [
        ("key", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("caption", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("label", pa.string()),
        ("foreground_share", pa.float32()),
        ("attributes", pa.string()),
        ("source", pa.string()),
    ]
)
"""An image as its source names it; length -1: the whole file. ``source`` is what a person would look for."""

SHOWN = 20
"""Problems that a message shows; it counts the others."""


FAILURES = ("unreadable", "invalid")
"""Kinds of refusals that count towards ``maximum_rejects``."""


def shown(lines: Sequence[str], total: int | None = None) -> str:
    """The first lines of a list, indented, and how many more there are."""
    total = len(lines) if total is None else total
    text = "".join(f"\n  {line}" for line in lines[:SHOWN])
    return text + (f"\n  ... and {total - SHOWN} more" if total > SHOWN else "")


class Refusals:
    """What is refused, as rows of ``tables.REJECTED``.

    Args:
        path: file that holds them in the meantime; None: they stay in memory.
    """

    def __init__(self, path: Path | None = None):
        self.rows = spill.Rows(tables.REJECTED, path)
        self.counts: Counter[str] = Counter()
        """Number of each kind."""
        self.first: list[str] = []
        """The first failures, in words."""
        self.others: list[str] = []
        """The first that are not failures."""

    def add(self, key: str | None, source: str, reason: str, kind: str) -> None:
        """Refuse an item; text that is not Unicode is kept escaped."""
        self.counts[kind] += 1
        shown = self.first if kind in FAILURES else self.others
        if len(shown) < SHOWN:
            shown.append(f"{source}: {reason}")
        texts = (key, source, reason, kind)
        self.rows.append(
            tuple(None if text is None else text.encode("utf-8", "backslashreplace").decode() for text in texts)
        )

    @property
    def failed(self) -> int:
        """How many count towards ``maximum_rejects``."""
        return sum(self.counts[kind] for kind in FAILURES)

    def __len__(self) -> int:
        return len(self.rows)


class Listing:
    """Collects items and refusals.

    Args:
        limit: number of items and refusals after which it is full.
        folder: what is listed lies there in the meantime; None: in memory.
    """

    def __init__(self, limit: int | None = None, folder: Path | None = None):
        self._limit = limit
        self._count = 0
        self._bad_keys: list[str] = []
        self._bad_key_count = 0
        self.rows = spill.Rows(ITEM, folder and folder / "items")
        self.refusals = Refusals(folder and folder / "refusals")

    @property
    def full(self) -> bool:
        """Whether as many items are there as were asked for."""
        return self._limit is not None and self._count >= self._limit

    def add(
        self,
        key: str,
        path: str,
        source: str,
        *,
        offset: int = 0,
        length: int = -1,
        captions: Sequence[str] = (),
        label: str | None = None,
        foreground_share: float | None = None,
        attributes: str | None = None,
    ) -> None:
        """Add an image; captions and label are as `values` gives them."""
        wrong = keys.problem(key)
        if wrong:
            self._bad_key_count += 1
            if len(self._bad_keys) < SHOWN:
                self._bad_keys.append(f"{source}: the key {key!r} {wrong}")
            return
        caption, several = (captions[0] if captions else None), (list(captions) if len(captions) > 1 else None)
        self.rows.append((key, path, offset, length, caption, several, label, foreground_share, attributes, source))
        self._count += 1

    def reject(self, key: str | None, source: str, reason: str, kind: str = "invalid") -> None:
        """List an item that is not an image of the study; it counts towards ``count`` like any other."""
        self.refusals.add(key, source, reason, kind)
        self._count += 1

    def require_keys(self) -> None:
        """Check that all keys can name a file.

        Raises:
            GenviewError: a key leads out of its folder, is absolute or otherwise unusable.
        """
        if self._bad_keys:
            raise GenviewError(
                f"{self._bad_key_count} images have keys that cannot name a file; rename or remove them:"
                + shown(self._bad_keys, self._bad_key_count)
            )
