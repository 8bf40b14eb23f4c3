"""SIGTERM, a cluster's warning before the end: what is finished is kept, and the job ends with an error."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)


@contextmanager
def stopping_gently() -> Iterator[None]:
    """Turn SIGTERM into ``SystemExit(143)``, so that images under way are still written; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        # A second signal finds the default: whoever insists is obeyed at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logger.warning("SIGTERM: stopping; finished images are kept, and the same command goes on from them")
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
