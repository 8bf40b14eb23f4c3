"""Stage ``duplicates``: pretraining images that are also test images, before any number of the study is believed.

The embeddings of the full foreground pass are compared with those of the test images by the same encoder. A pair from
``threshold`` on is a near-duplicate; equal images have equal embeddings, so that the exact ones are among these pairs,
and are told by their pixels. Test images are looked for mirrored, too: an encoder takes an image and its mirror image
for two, while training, which mirrors at random, has seen both.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch.nn import functional

from genview import atomic, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.evaluation import Duplicates
from genview.data import manifest as manifests
from genview.data.reader import Reader, data_root
from genview.encoders import look
from genview.errors import GenviewError
from genview.evaluation import accuracy, catalogue, zeroshot
from genview.evaluation.datasets import Request
from genview.evaluation.splits import Part
from genview.progress import track

logger = logging.getLogger("genview")

ROWS_AT_ONCE = 65_536
PAIRS_OF_AN_IMAGE = 10
"""Pretraining images that are looked at, of all that resemble one test image."""
ROUNDING = 1e-3
"""Equal images are encoded in different batches: their cosine may fall so far below 1."""
THUMBNAIL = 96


@dataclass(frozen=True)
class Match:
    """A pretraining image that resembles a test image, or its mirror image."""

    key: str
    test: int
    cosine: float
    mirrored: bool = False


def embeddings(part: Part, encoder: look.LoadedEncoder, batch_size: int) -> torch.Tensor:
    """L2-normalised embeddings of the images of a part, and of their mirror images [2, n, E]."""
    rows: list[list[torch.Tensor]] = [[], []]
    starts = range(0, len(part), batch_size)
    for start in track(starts, "test embeddings", total=len(starts), unit="batch"):
        images = [encoder.preprocess(part.image(i)) for i in range(start, min(start + batch_size, len(part)))]
        batch = torch.stack(images).to(encoder.device)
        for side, pixels in zip(rows, (batch, batch.flip(-1))):
            side.append(encoder.encode(pixels)[1].float())
    return functional.normalize(torch.stack([torch.cat(side) for side in rows]), dim=-1)


def folded(matches: Sequence[Match], images: int) -> list[Match]:
    """One match of each pair, the better one, where test rows from ``images`` on are the mirror images of the first."""
    best: dict[tuple[str, int], Match] = {}
    for match in matches:
        test = match.test % images
        known = best.get((match.key, test))
        if known is None or match.cosine > known.cosine:
            best[match.key, test] = Match(match.key, test, match.cosine, match.test >= images)
    return list(best.values())


def pretraining(paths: Sequence[str | Path], encoder_digest: str) -> Iterator[tuple[list[str], np.ndarray]]:
    """Keys and embeddings of the pretraining images, some rows at a time.

    Raises:
        GenviewError: a table was made with another encoder.
    """
    for path in paths:
        if tables.metadata(path).get("encoder") != encoder_digest:
            raise GenviewError(f"{path}: made with other weights than the encoder has now; remake it")
        table = tables.read(path, tables.SCORES, ["key", "embedding"])
        for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
            if len(batch):
                flat = batch.column("embedding").flatten().to_numpy()
                yield batch.column("key").to_pylist(), flat.reshape(len(batch), -1)


def search(
    test: torch.Tensor, train: Iterator[tuple[list[str], np.ndarray]], threshold: float
) -> tuple[list[Match], np.ndarray]:
    """All pairs from the threshold on, at most ``PAIRS_OF_AN_IMAGE`` of a test image and block of rows.

    Args:
        test: L2-normalised [n, E].
        train: keys and embeddings, block by block.
        threshold: smallest cosine.

    Returns:
        the pairs, and the largest cosine of each test image [n] (-1 where there are no pretraining images).
    """
    largest = np.full(len(test), -1.0)
    matches = []
    chunk = 4096
    for keys, block in train:
        rows = functional.normalize(torch.from_numpy(np.array(block)).to(test.device), dim=1)
        for start in range(0, len(test), chunk):
            cosine, index = (test[start : start + chunk] @ rows.T).topk(min(PAIRS_OF_AN_IMAGE, len(rows)), dim=1)
            cosine, index = cosine.cpu().numpy(), index.cpu().numpy()
            stop = start + len(cosine)
            largest[start:stop] = np.maximum(largest[start:stop], cosine[:, 0])
            for i, j in zip(*np.nonzero(cosine >= threshold)):
                matches.append(Match(keys[index[i, j]], int(start + i), float(cosine[i, j])))
    return matches, largest


class _Originals:
    """The pretraining images by key."""

    def __init__(self, manifest: str | Path, dataset: Dataset, keys: set[str]):
        rows = manifests.read(manifest, columns=["key", "path", "offset", "length"])
        rows = rows.filter(pc.is_in(rows["key"], pa.array(sorted(keys), pa.string())))
        self._where = {row["key"]: (row["path"], row["offset"], row["length"]) for row in rows.to_pylist()}
        self._reader = Reader(data_root(dataset, manifest))

    def image(self, key: str) -> Image.Image:
        return self._reader.image(*self._where[key])


def same_pixels(first: Image.Image, second: Image.Image) -> bool:
    """Whether two images have the same size and RGB pixels."""
    return first.size == second.size and first.convert("RGB").tobytes() == second.convert("RGB").tobytes()


def test_part(request: Request) -> Part:
    """The test images of a dataset: ours, or one that only clip_benchmark knows."""
    if request.block is None and request.name not in catalogue.ENTRIES:
        items = zeroshot.third_party(request, None, "zeroshot_retrieval")
        rows = np.arange(len(items), dtype=np.int64)
        return Part(partial(_first, items), rows, np.zeros(len(items), np.int64))
    return request.load().test


def _first(items: Any, index: int) -> Image.Image:
    return items[index][0]


def _thumbnail(image: Image.Image, path: Path) -> None:
    image = image.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(path)


def run(
    request: Request,
    settings: Duplicates,
    config: Encoder,
    *,
    pretraining_dataset: Dataset,
    manifest: str | Path,
    scores: Sequence[str | Path],
    result: str | Path,
    keys: str | Path,
    pictures: str | Path,
    log: str | Path,
    stamp: dict[str, str],
) -> None:
    """Compare a dataset's test images with the pretraining images; write counts, keys to leave out, and pictures.

    Args:
        keys: written: a key per line, ready for ``dataset.exclude``.
        pictures: written: a folder of thumbnails.
        log: the keys are kept beside it if the study stops.

    Raises:
        GenviewError: more than ``stop_share`` of the test images are found among the pretraining images.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = look.load(config, device)
    part = test_part(request)
    test = embeddings(part, encoder, config.batch_size)
    threshold = min(settings.threshold, 1 - ROUNDING)
    matches, largest = search(test.flatten(0, 1), pretraining(scores, encoder.digest), threshold)
    matches, largest = folded(matches, len(part)), largest.reshape(2, -1).max(0)
    matches.sort(key=lambda match: (-match.cosine, match.test, match.key))
    originals = _Originals(manifest, pretraining_dataset, {match.key for match in matches})
    exact = {
        (match.key, match.test)
        for match in matches
        if not match.mirrored
        and match.cosine >= 1 - ROUNDING
        and same_pixels(originals.image(match.key), part.image(match.test))
    }
    total = len(part)
    found_exact = len({test for _, test in exact})
    found = len({match.test for match in matches})
    own = request.block is not None and request.block.kind == "own_labels"
    rows = []
    for metric, count in (("exact_share", found_exact), ("near_share", found)):
        rows.append(accuracy.row(metric, count / total, *accuracy.wilson(count / total, total), total))
    listed = sorted({match.key for match in matches})
    if found > settings.stop_share * total and not own:
        aside = Path(log).with_suffix(".keys.txt")
        atomic.write_text(aside, "".join(f"{key}\n" for key in listed))
        raise GenviewError(
            f"dataset {request.name}: {found} of {total} test images are among the pretraining images "
            f"({found_exact} exactly), more than evaluation.duplicates.stop_share allows; {aside} lists the "
            "pretraining images: name it in dataset.exclude"
        )
    # Exact pairs first, then the most alike.
    matches.sort(key=lambda match: ((match.key, match.test) not in exact, -match.cosine, match.test, match.key))
    shown = []
    folder = Path(pictures)
    with atomic.writing(folder) as partial_folder:
        partial_folder.mkdir()
        for number, match in enumerate(matches[: settings.pictures]):
            names = [f"{number:03d}_{side}.png" for side in ("train", "test")]
            _thumbnail(originals.image(match.key), partial_folder / names[0])
            _thumbnail(part.image(match.test), partial_folder / names[1])
            shown.append(
                {
                    "train": match.key,
                    "test": part.name_of(match.test),
                    "cosine": match.cosine,
                    "kind": "exact" if (match.key, match.test) in exact else "near",
                    "mirrored": match.mirrored,
                    "train_thumbnail": f"{folder.name}/{names[0]}",
                    "test_thumbnail": f"{folder.name}/{names[1]}",
                }
            )
    atomic.write_text(keys, "".join(f"{key}\n" for key in listed))
    value = {
        "dataset": request.name,
        "metric": "exact_share",
        "threshold": threshold,
        "results": rows,
        "interval": "95 %, Wilson's score interval over the test images",
        "pairs": shown,
        "pretraining_images": len(listed),
        "cosine_quantiles": {
            f"{share:g}": float(np.quantile(largest, share)) for share in (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
        },
        "encoder_digest": encoder.digest,
        "note": "the test images are the study's own" if own else None,
        "provenance": stamp,
    }
    atomic.write_json(result, value)
