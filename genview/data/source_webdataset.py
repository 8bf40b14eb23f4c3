"""WebDataset tars as img2dataset writes them: members of one key side by side, images read as slices of the tar."""

import functools
import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from genview.config.dataset import Dataset
from genview.data import keys, processes, tars
from genview.data.listing import Listing
from genview.data.reader import Reader, data_root
from genview.errors import GenviewError

_NAME = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]*)")
"""WebDataset's rule: the key ends at the first dot of the base name; hidden files belong to no sample."""

_JSON_CAPTION = "caption"
"""Where img2dataset keeps the caption."""


class _Sample(NamedTuple):
    """An image of a sample and what stands beside it, or (with a reason) what is wrong with the sample."""

    key: str | None
    source: str
    offset: int = 0
    length: int = 0
    caption: str | None = None
    label: str | None = None
    foreground_share: float | None = None
    reason: str | None = None
    kind: str = "invalid"


class Fields(NamedTuple):
    """Names of the fields of a sample's JSON member that hold caption, label and true foreground share."""

    caption: str
    label: str
    foreground_share: str | None


def collect(dataset: Dataset, listing: Listing) -> None:
    """List the samples of all tars under ``dataset.path`` (or of one tar).

    The caption is the member ``.txt``, else the JSON's caption; the label is the member ``.cls``, else the JSON's.

    Raises:
        GenviewError: no tar, or a compressed one.
    """
    path = Path(dataset.path)
    root = data_root(dataset, "")
    if path.is_dir():
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*.tar"))
        packed = sorted(file.relative_to(path).as_posix() for file in path.rglob("*.tar.*")) if not names else []
        if not names:
            hint = f"; compressed tars such as {packed[0]} must be decompressed first" if packed else ""
            raise GenviewError(f"{dataset.path}: holds no .tar file{hint}")
    elif path.exists():
        names = [path.name]
    else:
        raise GenviewError(f"{dataset.path}: no such tar or folder (dataset.path)")
    for name in names:
        tars.refuse_compressed(root / name, name)
    fields = Fields(dataset.caption_column, dataset.label_column, dataset.foreground_share_column)
    function = functools.partial(_samples, root=root, fields=fields)
    workers = min(processes.available(dataset.workers), len(names))
    for name, samples in zip(names, processes.ordered_map(function, names, workers=workers, crashed=_crashed)):
        for sample in samples:
            if listing.full:
                return
            if sample.reason:
                listing.reject(sample.key, sample.source, sample.reason, sample.kind)
            else:
                listing.add(
                    sample.key,
                    name,
                    sample.source,
                    offset=sample.offset,
                    length=sample.length,
                    caption=sample.caption,
                    label=sample.label,
                    foreground_share=sample.foreground_share,
                )


def _crashed(name: str) -> list[_Sample]:
    return [_Sample(None, name, reason="the process that read this tar died", kind="unreadable")]


def _samples(name: str, root: Path, fields: Fields) -> list[_Sample]:
    """The samples of one tar."""
    reader = Reader(root)
    found: list[_Sample] = []
    try:
        for key, group in groupby(_named(root / name), key=lambda entry: entry[0]):
            parts = [(extension, member) for _, extension, member in group]
            found.extend(_sample(name, key, parts, reader, fields))
    except GenviewError as error:
        # The sample at the damage may lack parts, so it is lost too.
        place = f"after the sample {found[-1].key!r}" if found else "from its start"
        found.append(_Sample(None, name, reason=f"{error}; all {place} is lost", kind="unreadable"))
    return found


def _named(path: Path) -> Iterator[tuple[str, str, tars.Member]]:
    """Key, lower-case extension and member of each file that belongs to a sample."""
    for member in tars.members(path):
        match = _NAME.fullmatch(member.name)
        if match:
            yield match[1].removeprefix("./"), match[2].lower(), member


def _sample(
    tar: str, key: str, parts: list[tuple[str, tars.Member]], reader: Reader, fields: Fields
) -> Iterator[_Sample]:
    pictures = [member for extension, member in parts if f".{extension}" in keys.EXTENSIONS]
    if not pictures:
        yield _Sample(key, f"{tar}: {key}", reason="the sample holds no image")
        return
    try:
        texts = {
            extension: reader.read(tar, member.offset, member.length).decode("utf-8-sig")
            for extension, member in parts
            if extension in ("txt", "json", "cls")
        }
        values = json.loads(texts["json"]) if "json" in texts else {}
        if not isinstance(values, dict):
            raise ValueError("no mapping")
        share = values.get(fields.foreground_share) if fields.foreground_share else None
        if share is not None and not (isinstance(share, (int, float)) and 0 <= share <= 1):
            raise ValueError(f"{fields.foreground_share!r} is no number in [0, 1]")
    except UnicodeDecodeError:
        yield _Sample(key, f"{tar}: {key}", reason="its .txt, .json or .cls member is not UTF-8")
        return
    except ValueError as error:
        yield _Sample(key, f"{tar}: {key}", reason=f"its .json member is damaged: {error}")
        return
    caption = texts.get("txt") or values.get(fields.caption) or values.get(_JSON_CAPTION)
    label = texts.get("cls") or values.get(fields.label)
    # Each image is an item, so that a sample with two of them is found as two images of one key.
    for member in pictures:
        yield _Sample(
            key,
            f"{tar}: {member.name}",
            member.offset,
            member.length,
            str(caption).strip() if caption is not None else None,
            str(label).strip() if label is not None else None,
            share,
        )
