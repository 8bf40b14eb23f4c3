"""Bytes and pixels by reference: (path, offset, length) under a root, from plain files and uncompressed tars alike."""

import os
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from genview.config.dataset import Dataset
from genview.data import images
from genview.errors import GenviewError


def data_root(dataset: Dataset, manifest_path: str | Path) -> Path:
    """The folder that the manifest's paths are relative to.

    It is the user's folder where images stay where they are, and the manifest's own folder for sources whose images
    the ingestion wrote to ``images.tar``.
    """
    if dataset.source == "folder":
        return Path(dataset.path)
    if dataset.source == "webdataset":
        path = Path(dataset.path)
        return path if path.is_dir() else path.parent
    if dataset.source == "table":
        return Path(dataset.image_root) if dataset.image_root else Path(dataset.path).parent
    return Path(manifest_path).parent


class _Handle:
    """An open file that closes when the last user lets go of it; opening a pipe or a device does not wait."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def __del__(self):
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Reader:
    """Reads references under one root; opens files lazily and keeps the most recently used open.

    Reads are positional, so a reader may be shared by threads, used after a fork, and pickled. Ingestion checks a
    study's own limit of pixels. A reader of ingested images has Pillow's limit alone.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        handles: int = 16,
        maximum_pixels: int = images.MOST_PIXELS,
        maximum_aspect_ratio: float | None = None,
    ):
        self.root = Path(root)
        self._capacity = handles
        self._maximum_pixels = maximum_pixels
        self._maximum_aspect_ratio = maximum_aspect_ratio
        self._open: OrderedDict[str, _Handle] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self):
        return {
            "root": self.root,
            "handles": self._capacity,
            "maximum_pixels": self._maximum_pixels,
            "maximum_aspect_ratio": self._maximum_aspect_ratio,
        }

    def __setstate__(self, state):
        self.__init__(**state)

    def _handle(self, path: str) -> _Handle:
        with self._lock:
            handle = self._open.get(path)
            if handle is None:
                try:
                    handle = _Handle(self.root / path)
                except OSError as error:
                    raise GenviewError(f"{path}: cannot be opened: {error.strerror}") from error
                self._open[path] = handle
                if len(self._open) > self._capacity:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(path)
            return handle

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes of a reference; without a length, all from the offset on.

        Raises:
            GenviewError: the file cannot be opened or read, or ends before the reference does.
        """
        handle = self._handle(path)
        try:
            if length is None:
                length = os.fstat(handle.descriptor).st_size - offset
            data = os.pread(handle.descriptor, length, offset)
            while len(data) < length:
                more = os.pread(handle.descriptor, length - len(data), offset + len(data))
                if not more:
                    raise GenviewError(
                        f"{path}: ends {length - len(data)} bytes before the reference at {offset} + {length} does; "
                        "the file has changed since it was ingested: ingest again"
                    )
                data += more
        except OSError as error:
            raise GenviewError(f"{path}: cannot be read: {error.strerror}") from error
        return data

    def decode(self, data: bytes, least: images.Least = None) -> Image.Image:
        """The upright RGB image of a file's bytes, within this reader's limits; ``least`` as in `images.decode`.

        Raises:
            GenviewError: the bytes cannot be decoded.
        """
        limits = {"maximum_pixels": self._maximum_pixels, "maximum_aspect_ratio": self._maximum_aspect_ratio}
        return images.decode(data, **limits, least=least)

    def image(
        self, path: str, offset: int = 0, length: int | None = None, *, least: images.Least = None
    ) -> Image.Image:
        """The upright RGB image of a reference; ``least`` as in `images.decode`.

        Raises:
            GenviewError: the bytes cannot be read or decoded; names the file.
        """
        data = self.read(path, offset, length)
        try:
            return self.decode(data, least)
        except GenviewError as error:
            where = f"{path} at byte {offset}" if offset else path
            raise GenviewError(f"{where}: {error}") from error
