"""What a user's large files hold, told without reading all of them: size and a digest, remembered by place and time.

A workflow that compares times would ingest a collection anew that was merely touched or copied. Files up to 64 MiB are
read whole. Of a larger one the ends and 256 blocks between them are: what a person changes in a tar of images moves
what follows. The digests are kept by inode, size and time, so that a file is read once.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from genview import atomic, provenance

WHOLE = 64 << 20
"""Bytes up to which a file is read whole."""
BLOCKS, BLOCK = 256, 16 << 10


def of(files: Mapping[str, Path], remembered: Path) -> dict[str, list]:
    """Size and digest of each file, by the name it is given.

    Args:
        files: names, such as paths relative to a collection's folder, and the files.
        remembered: where digests are kept; of no matter to the result.
    """
    known = _known(remembered)
    kept, found = {}, {}
    for name, path in files.items():
        status = path.stat()
        mark = f"{path.absolute()} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
        kept[mark] = known.get(mark) or _digest(path, status.st_size)
        found[name] = [status.st_size, kept[mark]]
    if kept.keys() != known.keys():
        with contextlib.suppress(Exception):  # a read-only folder costs the reading, not the study
            atomic.write_json(remembered, kept)
    return found


def _known(remembered: Path) -> dict[str, str]:
    try:
        return json.loads(remembered.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _digest(path: Path, size: int) -> str:
    if size <= WHOLE:
        return provenance.file_sha256(path)
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for number in range(BLOCKS):
            file.seek(number * (size - BLOCK) // (BLOCKS - 1))
            found.update(file.read(BLOCK))
    return found.hexdigest()


def collection(path: str, source: str) -> dict[str, Path]:
    """The files of a collection whose content decides what is ingested, by their names in it; none of a folder."""
    place = Path(path)
    if place.is_file():
        return {place.name: place}
    wanted = {"webdataset": (".tar",), "huggingface": (".arrow", ".parquet", ".pq", ".feather", "state.json")}
    endings = wanted.get(source, ())
    if not place.is_dir() or not endings:
        return {}
    found = {}
    for folder, inner, names in os.walk(place, followlinks=False):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(endings) and not name.startswith("."):
                file = Path(folder, name)
                found[file.relative_to(place).as_posix()] = file
    return found
