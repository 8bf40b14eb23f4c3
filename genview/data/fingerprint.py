"""What a user's large files hold, told without reading all of them: size and a digest, remembered by place and time.

A workflow that compares times would ingest a collection anew that was merely touched or copied. Files up to 64 MiB are
read whole. Of a larger one the ends and 256 blocks between them are: what a person changes in a tar of images moves
what follows. The digests are kept by inode, size and time, so that a file is read once.
"""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from genview import atomic, provenance
from genview.data import names, source_folder

WHOLE = 64 << 20
"""Bytes up to which a file is read whole."""
BLOCKS, BLOCK = 256, 16 << 10


def of(files: Mapping[str, Path], remembered: Path) -> dict[str, list]:
    """Size and digest of each file, by the name it is given.

    Args:
        files: names, such as paths relative to a collection's folder, and the files.
        remembered: where digests are kept; the result does not depend on it.
    """
    known = _known(remembered)
    kept, found = {}, {}
    for name, path in files.items():
        status = path.stat()
        mark = f"{str(path.absolute())!a} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
        kept[mark] = known.get(mark) or _digest(path, status.st_size)
        found[name] = [status.st_size, kept[mark]]
    if kept.keys() != known.keys():
        with contextlib.suppress(Exception):  # in a read-only folder the files are read again next time
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


def collection(path: str, source: str, watch: int) -> dict[str, Path]:
    """The files of a collection whose content decides what is ingested, by their names in it.

    None where there are more than ``watch``: to look at all would take longer than anybody waits.
    """
    place = Path(path)
    if place.is_file():
        return {place.name: place}
    found = dict(itertools.islice(_files(place, source), watch + 1))
    return found if len(found) <= watch else {}


def _files(place: Path, source: str) -> Iterator[tuple[str, Path]]:
    if source == "folder" and place.is_dir():
        for folder, inside in source_folder.folders(place):
            for name in inside:
                # The ingestion lists what cannot be read.
                path = place / folder / name
                if _counts(name) and path.is_file() and os.access(path, os.R_OK):
                    yield (path.relative_to(place).as_posix().encode("utf-8", "backslashreplace").decode(), path)
        return
    wanted = {"webdataset": (".tar",), "huggingface": (".arrow", ".parquet", ".pq", ".feather", "state.json")}
    endings = wanted.get(source, ())
    if not place.is_dir() or not endings:
        return
    for folder, inner, inside in os.walk(place, followlinks=False):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(inside):
            if name.lower().endswith(endings) and not name.startswith("."):
                file = Path(folder, name)
                yield file.relative_to(place).as_posix(), file


def _counts(name: str) -> bool:
    """Whether the ingestion of a folder takes note of a file of this name."""
    return bool(names.is_image(name) or names.refusal(name) or names.extension(name) == source_folder.TEXT)
