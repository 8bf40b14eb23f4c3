"""A process that ends with the one that started it."""

import ctypes
import os
import signal
import sys

PARENT = "GENVIEW_PARENT"
"""Set by a job for the processes that it starts: its number."""

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have Linux send SIGTERM to this process when the one that started it is killed.

    Left behind, it would write the same files as the process that the workflow starts in its stead. One whose parent
    has said its number, and is gone already, ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    said = os.environ.get(PARENT)
    if said is not None and int(said) != os.getppid():
        sys.exit(128 + signal.SIGTERM)


def told(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a process that is to end with this one."""
    return {**environment, PARENT: str(os.getpid())}
