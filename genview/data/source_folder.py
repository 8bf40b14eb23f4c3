"""A folder of images: class folders or flat, captions in ``.txt`` files beside the images."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from genview.config.dataset import Dataset
from genview.data import keys, names, values
from genview.data.listing import Listing
from genview.errors import GenviewError

log = logging.getLogger(__name__)

TEXT = ".txt"


def collect(dataset: Dataset, listing: Listing) -> None:
    """List the images under ``dataset.path``: all depths, any case of the known extensions, hidden files left out.

    The label is the first folder's name. Links are followed; one that leads back to a folder above it is left out
    with a warning. Pictures in formats that are not opened are listed as refused, but where they lie beside an image
    of the same name.

    Raises:
        GenviewError: the folder is missing or holds no image.
    """
    root = Path(dataset.path)
    if not root.is_dir():
        raise GenviewError(f"{dataset.path}: no such folder (dataset.path)")
    ignored = 0
    found = False
    for folder, files in folders(root):
        images = [name for name in files if names.is_image(name)]
        beside = texts(files)
        stems = {keys.key_of(name) for name in images}
        refused = [name for name in files if names.refusal(name) and keys.stem(name) not in stems]
        ignored += len(files) - len(images) - len(beside) - len(refused)
        for name in sorted([*images, *refused]):
            if listing.full:
                return
            path = f"{folder}/{name}" if folder else name
            if reason := names.refusal(name):
                listing.reject(keys.stem(path), path, reason)
                continue
            found = True
            text = beside.get(names.normal(keys.key_of(name)))
            _add(root, path, text and (f"{folder}/{text}" if folder else text), listing)
    if ignored:
        log.info("%s: %d files are neither images nor captions; left out", dataset.path, ignored)
    if not found:
        other = next((path for path in root.rglob("*.tar") if path.is_file()), None)
        hint = f"; it holds tars, such as {other.name}: write source: webdataset" if other else ""
        other = next((path for path in root.rglob("*.parquet") if path.is_file()), None)
        hint = f"; it holds tables, such as {other.name}: write source: huggingface" if other and not hint else hint
        raise GenviewError(f"{dataset.path}: holds no image; extensions in any case: {' '.join(keys.EXTENSIONS)}{hint}")


def texts(files: list[str]) -> dict[str, str]:
    """Caption files of a folder by the name that they share with their image, in one Unicode form."""
    return {names.normal(keys.stem(name)): name for name in files if names.extension(name) == TEXT}


def folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders under the root, as relative paths with their files' sorted names, in a stable order; no hidden ones."""
    identity = root.stat()
    stack = [("", frozenset({(identity.st_dev, identity.st_ino)}))]
    while stack:
        folder, above = stack.pop()
        files, inner = [], []
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise GenviewError(f"{root / folder}: the folder cannot be read: {error.strerror}") from error
        for entry in entries:
            if names.hidden(entry.name):
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                identity = entry.stat()
                here = (identity.st_dev, identity.st_ino)
                if here in above:
                    log.warning("%s: this link leads back to a folder above it; not followed", path)
                else:
                    inner.append((path, above | {here}))
            else:
                files.append(entry.name)
        yield folder, files
        stack.extend(reversed(inner))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: the image check will say so
        return False


def _add(root: Path, path: str, text: str | None, listing: Listing) -> None:
    key = keys.key_of(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        listing.reject(None, path, "the file's name is not UTF-8; rename it")
        return
    captions = ()
    if text:
        try:
            captions = values.captions((root / text).read_bytes())
        except values.UnusableValue as error:
            listing.reject(key, path, f"the caption {text} {error}; convert it")
            return
        except OSError as error:
            listing.reject(key, path, f"the caption {text} cannot be read: {error.strerror}", "unreadable")
            return
    label = path.split("/", 1)[0] if "/" in path else None
    listing.add(key, path, path, captions=captions, label=label)
