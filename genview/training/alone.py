"""One training at a time works on a run: whoever comes second waits until the first has saved its work and ended."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from genview.errors import GenviewError

logger = logging.getLogger("genview")

PATIENCE = 600.0
"""Seconds that a training whose job was killed is given to save its checkpoint."""


@contextlib.contextmanager
def in_folder(checkpoints: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a run's unfinished work; the lock ends with the process.

    Raises:
        GenviewError: another process still holds it after ``patience`` seconds.
    """
    path = checkpoints.with_name(f".{checkpoints.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise GenviewError(f"{checkpoints}: another training still works on this run; end it first")
            if deadline - time.monotonic() > patience - 0.5:
                logger.info("an earlier training of this run has not ended yet; waiting for its checkpoint")
            time.sleep(0.5)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks: go on without one
        logger.info("no lock on %s: %s", descriptor, error)
    return True
