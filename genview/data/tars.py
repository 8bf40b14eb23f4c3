"""Uncompressed tars: where each member's bytes lie, and writing tars whose bytes depend on their contents alone."""

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from genview import atomic
from genview.errors import GenviewError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


MAXIMUM_PADDING = 1 << 20
"""Bytes after a tar's last member, at most; a longer end of zeros is a download that was never finished."""


class Member(NamedTuple):
    """A file in a tar: its name, and the place and number of its bytes."""

    name: str
    offset: int
    length: int


def refuse_compressed(path: str | Path, name: str | None = None) -> None:
    """Stop at a compressed tar, whose members have no bytes of their own in the file.

    Raises:
        GenviewError: the file is compressed, or cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError as error:
        raise GenviewError(f"{name or path}: cannot be opened: {error.strerror}") from error
    for magic, compression in _COMPRESSED.items():
        if head.startswith(magic):
            raise GenviewError(
                f"{name or path}: compressed with {compression}; images are read as slices of the tar, so it must not "
                "be compressed: decompress it once (JPEG files gain nothing from a second compression)"
            )


def members(path: str | Path) -> Iterator[Member]:
    """Regular files of an uncompressed tar, in order; only headers are read.

    Raises:
        GenviewError: the tar is cut short or damaged; the members before the damage have been yielded by then.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # no attribute in the stubs; the library keeps every header it has seen
                if info.isreg() and not info.issparse():
                    yield Member(info.name, info.offset_data, info.size)
            # At a damaged header the library stops as if the tar had ended: two blocks of zeros say that it has.
            tar.fileobj.seek(tar.offset)
            end = tar.fileobj.read(tarfile.BLOCKSIZE)
            if end.strip(b"\0"):
                raise GenviewError(f"damaged at byte {tar.offset}: what follows is not a header of a member")
            empty = os.fstat(tar.fileobj.fileno()).st_size - tar.offset  # type: ignore[attr-defined]  # a plain file
            if empty > MAXIMUM_PADDING:
                raise GenviewError(f"damaged at byte {tar.offset}: {empty} bytes that hold nothing follow")
            if len(end) < tarfile.BLOCKSIZE:
                raise GenviewError(f"cut short at byte {tar.offset}: the mark of a tar's end is missing")
    except (tarfile.TarError, EOFError) as error:
        raise GenviewError(f"no uncompressed tar, or cut short: {error}") from error
    except OSError as error:
        raise GenviewError(f"cannot be read: {error.strerror}") from error


class Writer:
    """Appends members with fixed times, owners and modes, and tells where their bytes lie."""

    def __init__(self, file: BinaryIO):
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by close()

    def add(self, name: str, data: bytes) -> int:
        """Append a file; returns the offset of its first byte in the tar."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        header = info.tobuf(self._tar.format, self._tar.encoding, self._tar.errors)
        offset = self._tar.offset + len(header)
        self._tar.addfile(info, io.BytesIO(data))
        self._tar.members.clear()  # type: ignore[attr-defined]  # no attribute in the stubs
        return offset

    def close(self) -> None:
        """Write the end of the tar; the file stays open."""
        self._tar.close()


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Writer]:
    """Write a tar, complete or not at all."""
    with atomic.writing(path) as partial, open(partial, "wb") as file:
        writer = Writer(file)
        yield writer
        writer.close()
