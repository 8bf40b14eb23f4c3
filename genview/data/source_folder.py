"""A folder of images: class folders or flat, captions in ``.txt`` files beside the images."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from genview.config.dataset import Dataset
from genview.data import keys
from genview.data.listing import Listing
from genview.errors import GenviewError

log = logging.getLogger(__name__)


def collect(dataset: Dataset, listing: Listing) -> None:
    """List the images under ``dataset.path``: all depths, any case of the known extensions, hidden files left out.

    The label is the first folder's name. Links are followed; one that leads back to a folder above it is left out
    with a warning.

    Raises:
        GenviewError: the folder is missing or holds no image.
    """
    root = Path(dataset.path)
    if not root.is_dir():
        raise GenviewError(f"{dataset.path}: no such folder (dataset.path)")
    ignored = 0
    found = False
    for folder, names in _folders(root):
        images = [name for name in names if name.lower().endswith(keys.EXTENSIONS)]
        texts = {name for name in names if name.endswith(".txt")}
        ignored += len(names) - len(images) - len(texts)
        for name in images:
            if listing.full:
                return
            found = True
            path = f"{folder}/{name}" if folder else name
            _add(root, path, keys.key_of(name) + ".txt" in texts, listing)
    if ignored:
        log.info("%s: %d files are no images and no captions; left out", dataset.path, ignored)
    if not found:
        raise GenviewError(f"{dataset.path}: holds no image; extensions in any case: {' '.join(keys.EXTENSIONS)}")


def _folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders under the root, as relative paths with their files' sorted names, in a stable order."""
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
            if entry.name.startswith("."):
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


def _add(root: Path, path: str, has_text: bool, listing: Listing) -> None:
    key = keys.key_of(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        listing.reject(None, path, "the file's name is not UTF-8; rename it")
        return
    caption = None
    if has_text:
        try:
            caption = (root / f"{key}.txt").read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError:
            listing.reject(key, path, f"the caption {key}.txt is not UTF-8; convert it")
            return
        except OSError as error:
            listing.reject(key, path, f"the caption {key}.txt cannot be read: {error.strerror}", "unreadable")
            return
    label = path.split("/", 1)[0] if "/" in path else None
    listing.add(key, path, path, caption=caption, label=label)
