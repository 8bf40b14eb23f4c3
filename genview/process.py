"""How a process of a study ends: warned by a signal, with whoever started it, or stopped with its work saved.

And how it holds memory that it has freed.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

WARNINGS = (signal.SIGTERM, signal.SIGUSR1)
"""What a cluster sends before a time limit, and before it takes a node away."""

STOPPED = 75
"""Exit status of a process that was warned and has saved its work (EX_TEMPFAIL): the same command goes on from it."""

STARTER = "GENVIEW_STARTER"
"""Set for processes that are to end with the one that starts them: its number."""


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Numbers of the settings in glibc's ``mallopt``."""
KEPT = 128 << 20
"""Bytes that a process keeps for itself after it has freed them."""


def keep_freed_memory() -> None:
    """Let glibc keep blocks of up to 32 MB that are freed, instead of giving each back to the kernel at once.

    Images and features of a CPU's batch are such blocks: taking each from the kernel anew, page by page, makes the
    augmentation of a view three times slower. Without glibc nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_TRIM_THRESHOLD, KEPT)


class Stopped(Exception):
    """The process was warned and has saved its work."""


@contextmanager
def on_warning(action: Callable[[int], None]) -> Iterator[None]:
    """Call ``action`` with the signal's number at each warning; in another thread than the main one, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: Any) -> None:
        action(number)

    before = {number: signal.signal(number, handle) for number in WARNINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_at_warning(number: int) -> None:
    """An action for `on_warning`: unwind, so that work under way is still written; a second warning ends at once.

    Raises:
        SystemExit: with the status of a process that the signal ended.
    """
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def end_children() -> None:
    """At the end of this process: the end of children that ignore warnings would be waited for, for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a loader takes the end of its processes for an error
    for child in multiprocessing.active_children():
        child.kill()


def ignore_warnings(_worker: int = 0) -> None:
    """Leave warnings to the process that started this one: for workers, which get a group's signals too."""
    for number in WARNINGS:
        signal.signal(number, signal.SIG_IGN)


def end_with_starter() -> None:
    """Have Linux send SIGTERM when the process that started this one is killed; end at once if it is gone already.

    Left behind, it would write the same files as the process that the workflow starts in its stead.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    starter = os.environ.get(STARTER)
    if starter is not None and int(starter) != os.getppid():
        sys.exit(128 + signal.SIGTERM)


def as_starter(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of processes that are to end with this one."""
    return {**environment, STARTER: str(os.getpid())}


def end_with_pool() -> None:
    """End a worker when the process of its pool does, however that ends: a killed job leaves no process behind."""

    pool = multiprocessing.parent_process()
    if pool is None:
        return

    def watch() -> None:
        connection.wait([pool.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
