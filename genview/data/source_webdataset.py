"""WebDataset tars as img2dataset writes them: members of one key are a sample, images are slices of the tar."""

import functools
import json
import logging
import math
import posixpath
import re
import statistics
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from genview.config.dataset import Dataset
from genview.data import keys, names, processes, tars, values
from genview.data.listing import Listing
from genview.data.reader import Reader, data_root
from genview.errors import GenviewError

log = logging.getLogger(__name__)

_NAME = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]*)")
"""WebDataset's rule: the key ends at the first dot of the base name."""

_TEXTS = ("txt", "json", "cls")

Parts = list[tuple[str, tars.Member]]
"""Extension, without its first dot and in small letters, and member."""


class _Sample(NamedTuple):
    """An image of a sample and what stands beside it, or (with a reason) what is wrong with the sample."""

    key: str | None
    source: str
    offset: int = 0
    length: int = 0
    captions: tuple[str, ...] = ()
    label: str | None = None
    foreground_share: float | None = None
    reason: str | None = None
    kind: str = "invalid"


class Tar(NamedTuple):
    """What a tar holds.

    Attributes:
        samples: its images and refusals, in the order of the tar.
        damage: what is wrong with the tar itself; None for a whole one.
        lost: samples that are lost to the damage, where their number can be told.
        seen: names of the fields of its JSON members.
    """

    samples: list[_Sample]
    damage: str | None = None
    lost: int | None = None
    seen: frozenset[str] = frozenset()


class Fields(NamedTuple):
    """Names of the fields of a sample's JSON member; None: the usual ones."""

    caption: str | None
    label: str | None
    foreground_share: str | None


def fields_of(dataset: Dataset) -> Fields:
    """The fields that a data set's block states."""
    return Fields(dataset.caption_column, dataset.label_column, dataset.foreground_share_column)


def tar_names(path: str) -> list[str]:
    """Names of the tars of a folder, hidden ones left out, or of the one tar, relative to the root.

    Raises:
        GenviewError: there is no tar, or one is compressed.
    """
    place = Path(path)
    if place.is_dir():
        inside = sorted(file.relative_to(place).as_posix() for file in place.rglob("*") if ".tar" in file.name.lower())
        inside = [name for name in inside if not names.hidden(name) and (place / name).is_file()]
        found = [name for name in inside if name.lower().endswith(".tar")]
        packed = [name for name in inside if ".tar." in name.lower() or name.lower().endswith(".tgz")]
        if not found:
            hint = f"; compressed tars such as {packed[0]} must be decompressed first" if packed else ""
            raise GenviewError(f"{path}: holds no .tar file{hint}")
        if packed:
            log.warning("%s: %d compressed tars, such as %s, are left out", path, len(packed), packed[0])
        root = place
    elif place.exists():
        found, root = [place.name], place.parent
    else:
        raise GenviewError(f"{path}: no such tar or folder (dataset.path)")
    for name in found:
        tars.refuse_compressed(root / name, name)
    return found


def collect(dataset: Dataset, listing: Listing) -> None:
    """List the samples of all tars under ``dataset.path`` (or of one tar).

    The caption is the member ``.txt``, else the JSON's caption; the label is the member ``.cls``, else the JSON's.
    Members of a sample need not stand side by side. Hidden members and tars are left out.

    Raises:
        GenviewError: no tar, or a compressed one.
    """
    root = data_root(dataset, "")
    found = tar_names(dataset.path)
    function = functools.partial(read, root=root, fields=fields_of(dataset))
    workers = min(processes.available(dataset.workers), len(found))
    seen: set[str] = set()
    damaged: list[tuple[str, Tar]] = []
    counts: list[int] = []
    for name, tar in zip(found, processes.ordered_map(function, found, workers=workers, crashed=_crashed)):
        seen |= tar.seen
        prefix = _prefix(name, dataset.key_prefix)
        for sample in tar.samples:
            if listing.full:
                return
            _list(sample, name, prefix, listing)
        if tar.damage:
            damaged.append((name, tar))
        else:
            counts.append(len({sample.key for sample in tar.samples}))
    require_fields(dataset, seen)
    usual = statistics.median_high(counts) if counts else None
    for name, tar in damaged:
        if not listing.full:
            _list_loss(name, tar, _lost(root / name, tar, usual), listing)


def require_fields(dataset: Dataset, seen: set[str] | frozenset[str]) -> None:
    """Refuse a stated field that no sample has.

    Raises:
        GenviewError: names it and what there is.
    """
    for option in ("caption_column", "label_column", "foreground_share_column"):
        stated = getattr(dataset, option)
        if stated and not values.known(stated, seen):
            there = f"there are {', '.join(sorted(seen))}" if seen else "no sample has a .json member"
            raise GenviewError(f"{dataset.path}: no sample has a field {stated!r} (dataset.{option}); {there}")


def _prefix(name: str, kind: str) -> str:
    folder, file = posixpath.split(name)
    parts = {"none": [], "folder": [folder], "tar": [folder, file.removesuffix(".tar")]}[kind]
    return "".join(f"{part}/" for part in parts if part)


def _list(sample: _Sample, name: str, prefix: str, listing: Listing) -> None:
    key = None if sample.key is None else prefix + sample.key
    if sample.reason:
        listing.reject(key, sample.source, sample.reason, sample.kind)
        return
    listing.add(
        key,
        name,
        sample.source,
        offset=sample.offset,
        length=sample.length,
        captions=sample.captions,
        label=sample.label,
        foreground_share=sample.foreground_share,
    )


def _lost(path: Path, tar: Tar, usual: int | None) -> tuple[int, str]:
    """How many samples are lost, and how that is known."""
    kept = len({sample.key for sample in tar.samples})
    try:
        told = json.loads(path.with_name(f"{path.stem}_stats.json").read_text(encoding="utf-8"))["successes"]
        return max(int(told) - kept, 1), f"{path.stem}_stats.json counts {told}"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if tar.lost:
        return max(tar.lost, 1), "estimated from the bytes that follow"
    if usual is not None and usual > kept:
        return usual - kept, f"estimated: the other tars hold {usual}"
    return 1, "how many cannot be told"


def _list_loss(name: str, tar: Tar, lost: tuple[int, str], listing: Listing) -> None:
    count, why = lost
    samples = f"{count} samples are lost" if count > 1 else "a sample or more is lost"
    place = f"after the sample {tar.samples[-1].key!r}" if tar.samples else "from its start"
    reason = f"{tar.damage}; all {place} is lost"
    log.warning("%s: %s; %s (%s)", name, reason, samples, why, extra={"terminal": True})
    listing.reject(None, name, f"{reason}: {samples} ({why})", "unreadable")
    for number in range(1, count):
        listing.reject(None, f"{name}: lost sample {number + 1} of {count}", reason, "unreadable")


def _crashed(name: str) -> Tar:
    return Tar([], "the process that read this tar died")


def read(name: str, root: Path, fields: Fields) -> Tar:
    """The samples of one tar; of a damaged one those before the damage."""
    reader = Reader(root)
    groups: dict[str, Parts] = {}
    damage, position = None, 0
    members = tars.members(root / name)
    try:
        for member in members:
            position = member.offset + member.length
            match = _NAME.fullmatch(member.name)
            if match and not names.hidden(member.name):
                groups.setdefault(match[1].removeprefix("./"), []).append((match[2].lower(), member))
    except GenviewError as error:
        damage = str(error)
    found: list[_Sample] = []
    seen: set[str] = set()
    for key, parts in groups.items():
        found.extend(_samples(name, key, parts, reader, fields, seen))
    if not damage:
        return Tar(found, seen=frozenset(seen))
    # The sample at the damage may lack parts, so it is lost too.
    last = next(reversed(groups), None)
    left = (root / name).stat().st_size - position if position else 0
    lost = None
    if len(groups) > 1 and left > tarfile.BLOCKSIZE:
        lost = 1 + math.floor(left / (position / len(groups)))
    return Tar([sample for sample in found if sample.key != last], damage, lost, frozenset(seen))


def _samples(tar: str, key: str, parts: Parts, reader: Reader, fields: Fields, seen: set[str]) -> Iterator[_Sample]:
    """The samples of one key by WebDataset's rule.

    Where that finds no image, but names with further dots do (``scan_1.001.png``, ``scan_1.002.png``), each of these is
    a sample, named up to its last dot.
    """
    if any(f".{extension}" in keys.EXTENSIONS for extension, _ in parts):
        yield from _sample(tar, key, parts, reader, fields, seen)
        return
    dotted = [(extension, member) for extension, member in parts if "." in extension]
    if not any(names.is_image(extension) for extension, _ in dotted):
        refused = [why for extension, _ in parts if (why := names.refusal(f"{key}.{extension}"))]
        reason = refused[0] if refused else "the sample holds no image (its members must be in one tar)"
        yield _Sample(key, f"{tar}: {key}", reason=reason)
        return
    groups: dict[str, Parts] = {}
    for extension, member in parts:
        middle, _, last = extension.rpartition(".")
        groups.setdefault(f"{key}.{middle}" if middle else key, []).append((last, member))
    for inner, members in groups.items():
        yield from _sample(tar, inner, members, reader, fields, seen)


def _sample(tar: str, key: str, parts: Parts, reader: Reader, fields: Fields, seen: set[str]) -> Iterator[_Sample]:
    pictures = [member for extension, member in parts if f".{extension}" in keys.EXTENSIONS]
    source = f"{tar}: {key}"
    if not pictures:
        yield _Sample(key, source, reason="the sample holds no image")
        return
    try:
        texts = _texts(tar, parts, reader)
        record = _record(texts.get("json"))
        seen.update(record)
        captions = _captions(texts, record, fields)
        label = _label(texts, record, fields)
        share = record.get(fields.foreground_share) if fields.foreground_share else None
        if share is not None and not (isinstance(share, (int, float)) and 0 <= share <= 1):
            raise values.UnusableValue(f"its {fields.foreground_share!r} is not a number in [0, 1]")
    except values.UnusableValue as error:
        yield _Sample(key, source, reason=str(error))
        return
    except GenviewError as error:
        yield _Sample(key, source, reason=str(error), kind="unreadable")
        return
    # Each image is an item, so that a sample with two of them is found as two images of one key.
    for member in pictures:
        yield _Sample(key, f"{tar}: {member.name}", member.offset, member.length, captions, label, share)


def _texts(tar: str, parts: Parts, reader: Reader) -> dict[str, str]:
    texts = {}
    for extension, member in parts:
        if extension in _TEXTS:
            try:
                texts[extension] = reader.read(tar, member.offset, member.length).decode("utf-8-sig")
            except UnicodeDecodeError:
                raise values.UnusableValue(f"its .{extension} member is not UTF-8") from None
    return texts


def _record(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise values.UnusableValue(f"its .json member is damaged: {error}") from None
    if not isinstance(record, dict):
        raise values.UnusableValue("its .json member is damaged: no mapping")
    return record


def _field(record: dict[str, Any], stated: str | None, usual: tuple[str, ...]) -> Any:
    return values.within(record, stated or next((name for name in usual if name in record), None))


def _captions(texts: dict[str, str], record: dict[str, Any], fields: Fields) -> tuple[str, ...]:
    beside = values.captions(texts.get("txt"))
    if beside and fields.caption is None and not isinstance(_field(record, None, ("caption", "captions")), list):
        return beside
    try:
        inside = values.captions(_field(record, fields.caption, values.CAPTION_COLUMNS))
    except values.UnusableValue as error:
        if beside:
            return beside
        raise values.UnusableValue(f"its caption {error}") from None
    return inside or beside


def _label(texts: dict[str, str], record: dict[str, Any], fields: Fields) -> str | None:
    try:
        beside = values.label(texts.get("cls"))
        return beside or values.label(_field(record, fields.label, values.LABEL_COLUMNS))
    except values.UnusableValue as error:
        raise values.UnusableValue(f"its label {error}") from None
