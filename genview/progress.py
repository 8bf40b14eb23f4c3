"""What a person sees while a stage runs: done of total, rate, time spent and left. A line every ten seconds in a log.

The last line of a running job's log is shown by the workflow's terminal display (``snakemake_logger_plugin_genview``).
"""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS = 10.0
"""Between two lines in a log."""
LINE = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {elapsed} spent, {remaining} left"


class _Lines(tqdm):  # type: ignore[type-arg]  # the stubs alone know tqdm[...]
    """Whole lines, for files: a log that is read while it grows."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        last = [""]

        def write(text: str) -> None:
            if text.strip() and text != last[0]:
                file.write(f"{text}\n")
                file.flush()
                last[0] = text

        return write


def configure_logging(level: int = logging.INFO) -> None:
    """Plain messages on standard error; wall-clock times belong in logs only."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, force=True)
    for noisy in ("httpx", "PIL", "matplotlib", "fontTools", "huggingface_hub", "absl"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _bar(items: Iterable[Item] | None, description: str, unit: str, **values: Any) -> "tqdm[Any]":
    if sys.stderr.isatty():
        return tqdm(items, desc=description, unit=f" {unit}", mininterval=0.5, dynamic_ncols=True, **values)
    return _Lines(
        items, desc=description, unit=f" {unit}", mininterval=SECONDS, maxinterval=SECONDS, bar_format=LINE, **values
    )


def track(items: Iterable[Item], description: str, *, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Iterate with a progress line on standard error: live in a terminal, line by line in a log file."""
    yield from _bar(items, description, unit, total=total)


def bar(description: str, *, total: int, initial: int = 0, unit: str = "image", silent: bool = False) -> "tqdm[Any]":
    """A progress line that the caller advances with ``update(n)``; a context manager. Silent: nothing is shown."""
    return _bar(None, description, unit, total=total, initial=initial, disable=silent)
