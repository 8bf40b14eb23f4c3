"""The images of an unfinished shard: kept one by one, complete or absent, bound to what they were made from."""

import shutil
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from genview import atomic, provenance
from genview.config.views import ViewSet
from genview.generation import jpeg

THREADS = 2
"""Threads that encode and write JPEGs while the next batch is denoised."""


class Work:
    """Folder of the finished images of a shard that is being made.

    Each image is a file named by the digest of its metadata, so that an image is only ever taken up by the very request
    that it answers. Folders of the same shard made by other settings or other code are removed.

    Args:
        parent: folder of all unfinished shards of a view set.
        shard: name of the shard, such as ``0-of-2``.
        digest: digest of settings and code.
    """

    def __init__(self, parent: str | Path, shard: str, digest: str):
        self.parent = Path(parent)
        self.folder = self.parent / f"{shard}-{digest}"
        for other in self.parent.glob(f"{shard}-*"):
            if other != self.folder:
                shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, metadata: dict[str, Any]) -> Path:
        """Where the JPEG of this metadata is, once it is finished."""
        return self.folder / f"{provenance.digest(metadata)}.jpg"

    def finished(self) -> set[str]:
        """Names of all finished files."""
        return {path.name for path in self.folder.glob("*.jpg")}

    def keep(self, metadata: dict[str, Any], data: bytes) -> None:
        """Add a finished image; safe to call from several threads."""
        atomic.write_bytes(self.path(metadata), data)

    def remove(self) -> None:
        """Delete the folder, and its parent with the last one."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.parent.rmdir()
        except OSError:  # other shards are still at work there
            return


class Writer:
    """Encodes and keeps images in threads; a context manager that waits for all of them.

    Args:
        work: where they are kept.
        view: size and quality of the JPEGs.
        limit: images that may wait; beyond, ``put`` waits for the oldest.
    """

    def __init__(self, work: Work, view: ViewSet, limit: int):
        self.seconds = 0.0
        self._work, self._view, self._limit = work, view, limit
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="write")
        self._pending: deque[Future] = deque()
        self._lock = threading.Lock()

    def put(self, metadata: dict[str, Any], pixels: np.ndarray) -> None:
        """Hand over an image, uint8 [H, W, 3]; an error of an earlier one is raised here."""
        self._pending.append(self._pool.submit(self._write, metadata, pixels))
        while len(self._pending) > self._limit:
            self._pending.popleft().result()

    def _write(self, metadata: dict[str, Any], pixels: np.ndarray) -> None:
        start = time.perf_counter()
        self._work.keep(metadata, jpeg.encode(pixels, self._view))
        with self._lock:
            self.seconds += time.perf_counter() - start

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            while self._pending:
                self._pending.popleft().result()
