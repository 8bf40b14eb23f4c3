"""What a person sees while a stage runs: stage, done of total, rate, time left. One line a minute in a log."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def configure_logging(level: int = logging.INFO) -> None:
    """Plain messages on standard error; wall-clock times belong in logs only."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, force=True)
    for noisy in ("httpx", "PIL", "matplotlib", "fontTools", "huggingface_hub", "absl"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def track(items: Iterable[Item], description: str, *, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Iterate with a progress line on standard error: live in a terminal, once a minute in a log file."""
    interval = 0.5 if sys.stderr.isatty() else 60.0
    yield from tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
    )


def bar(description: str, *, total: int, initial: int = 0, unit: str = "image") -> tqdm:
    """A progress line that the caller advances with ``update(n)``; a context manager."""
    interval = 0.5 if sys.stderr.isatty() else 60.0
    return tqdm(
        desc=description,
        total=total,
        initial=initial,
        unit=unit,
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
    )
