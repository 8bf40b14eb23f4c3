"""An image that is not a file of its own, on its way into ``images.tar``."""

from collections.abc import Sequence
from typing import NamedTuple


class Picture(NamedTuple):
    """An encoded image and what is known about it; with a reason instead of data where there is none."""

    key: str
    data: bytes | None
    extension: str
    source: str
    captions: Sequence[str] = ()
    label: str | None = None
    foreground_share: float | None = None
    attributes: str | None = None
    reason: str | None = None
