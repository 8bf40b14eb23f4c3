"""Stage ``duplicates``: pretraining images that are also test images, before any number of the study is believed.

The embeddings of the full foreground pass are compared with those of the test images by the same encoder. A pair from
``threshold`` on is a near-duplicate; equal images have equal embeddings, so that the exact ones are among these pairs,
and are told by their pixels. Test images are looked for mirrored, too: an encoder takes an image and its mirror image
for two, while training, which mirrors at random, has seen both.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import Dataset

from genview import atomic, loading, parquet, placement, tables, usage
from genview.config.dataset import Dataset as Collection
from genview.config.encoders import Encoder
from genview.config.evaluation import Duplicates
from genview.data.reader import Reader, data_root
from genview.encoders import look
from genview.encoders.preprocess import Preprocess
from genview.errors import GenviewError
from genview.evaluation import accuracy
from genview.evaluation.datasets import Request
from genview.evaluation.splits import Part
from genview.progress import track

logger = logging.getLogger("genview")

ROWS_AT_ONCE = 65_536
PAIRS_OF_AN_IMAGE = 10
"""Pretraining images that are looked at, of all that resemble one test image."""
ROUNDING, ROUNDING_DECODED_SMALL = 1e-3, 5e-2
"""Equal images are encoded in different batches, or decoded small (`fast_decode`) in the collection and in full in the
test set: how far their cosine may fall below 1. Of 60 photographs decoded small the farthest fell by .0025."""
THUMBNAIL = 96


@dataclass(frozen=True)
class Match:
    """A pretraining image that resembles a test image, or its mirror image."""

    key: str
    test: int
    cosine: float
    mirrored: bool = False


@dataclass(frozen=True)
class Pretraining:
    """The pretraining images: where they are, and the foreground pass's embeddings of them by ``encoder``."""

    dataset: Collection
    manifest: str | Path
    scores: Sequence[str | Path]
    encoder: Encoder
    workers: int = 0
    """Processes that decode the test images; 0: this one."""

    def originals(self, keys: set[str]) -> Callable[[str], Image.Image]:
        """A function that opens any of some images by its key."""
        wanted = pa.array(sorted(keys), pa.string())
        rows = parquet.with_keys(self.manifest, tables.MANIFEST, wanted, ["key", "path", "offset", "length"])
        where = {row["key"]: (row["path"], row["offset"], row["length"]) for row in rows.to_pylist()}
        reader = Reader(data_root(self.dataset, self.manifest))
        return lambda key: reader.image(*where[key])


@dataclass(frozen=True)
class Artifacts:
    """What is written: the JSON, a key per line for ``dataset.exclude``, and a folder of thumbnails."""

    result: Path
    exclusion: Path
    pictures: Path


@dataclass(frozen=True)
class Found:
    """The pairs that were found among a dataset's test images."""

    part: Part
    matches: list[Match]
    exact: set[tuple[str, int]]
    """Key and test image of the pairs with equal pixels."""
    largest: np.ndarray
    """Largest cosine of each test image [n]."""
    original: Callable[[str], Image.Image]

    @property
    def near(self) -> int:
        """How many test images are in a pair."""
        return len({match.test for match in self.matches})

    @property
    def exact_tests(self) -> set[int]:
        """Test images that are in an exact pair."""
        return {test for _, test in self.exact}

    @property
    def listed(self) -> str:
        """The pretraining images in a pair, a key per line."""
        return "".join(f"{key}\n" for key in sorted({match.key for match in self.matches}))


class _Prepared(Dataset):
    def __init__(self, part: Part, transform: Preprocess):
        self.part, self.transform = part, transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform.pixels(self.part.image(index))


def embeddings(part: Part, encoder: look.LoadedEncoder, batch_size: int, workers: int = 0) -> torch.Tensor:
    """L2-normalised embeddings of the images of a part, and of their mirror images [2, n, E]."""
    rows: list[list[torch.Tensor]] = [[], []]
    batches = loading.loader(_Prepared(part, encoder.transform), batch_size, workers)
    copied = loading.ahead(batches, encoder.device)
    counted = usage.reading(copied, encoder.operations and 2 * encoder.operations, encoder.peak)
    for batch in track(counted, "test embeddings", total=len(batches), unit="batch"):
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
    """Keys and embeddings [rows, E] of the pretraining images, some rows at a time.

    Raises:
        GenviewError: a table was made with another encoder.
    """
    for path in paths:
        if parquet.metadata(path).get("encoder") != encoder_digest:
            raise GenviewError(f"{path}: made with other weights than the encoder has now; remake it")
        table = parquet.read(path, tables.SCORES, ["key", "embedding"])
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


def same_pixels(first: Image.Image, second: Image.Image) -> bool:
    """Whether two images have the same size and RGB pixels."""
    return first.size == second.size and first.convert("RGB").tobytes() == second.convert("RGB").tobytes()


def test_part(request: Request) -> Part:
    """The test images of a dataset, as what the study uses it for first divides it."""
    return request.load(request.purpose).test


def least_of_equal(encoder: look.LoadedEncoder) -> float:
    """Cosine that equal images have at least."""
    return 1 - (ROUNDING_DECODED_SMALL if encoder.least else ROUNDING)


def find(part: Part, threshold: float, images: Pretraining, encoder: look.LoadedEncoder) -> Found:
    """The pairs of a test image and a pretraining image, or its mirror image, that are alike."""
    test = embeddings(part, encoder, images.encoder.batch_size, images.workers)
    matches, largest = search(test.flatten(0, 1), pretraining(images.scores, encoder.digest), threshold)
    matches = folded(matches, len(part))
    original = images.originals({match.key for match in matches})
    exact = {
        (match.key, match.test)
        for match in matches
        if not match.mirrored
        and match.cosine >= least_of_equal(encoder)
        and same_pixels(original(match.key), part.image(match.test))
    }
    # Exact pairs first, then the most alike.
    matches.sort(key=lambda match: ((match.key, match.test) not in exact, -match.cosine, match.test, match.key))
    return Found(part, matches, exact, largest.reshape(2, -1).max(0), original)


def refuse_too_many(found: Found, name: str, stop_share: float, aside: Path) -> None:
    """Stop the study if too many test images are among the pretraining images; their keys are kept in ``aside``.

    Raises:
        GenviewError: with their numbers and what to do.
    """
    if found.near <= stop_share * len(found.part):
        return
    atomic.write_text(aside, found.listed)
    raise GenviewError(
        f"dataset {name}: {found.near} of {len(found.part)} test images are among the pretraining images "
        f"({len(found.exact_tests)} exactly), more than evaluation.duplicates.stop_share allows; {aside} lists the "
        "pretraining images: name it in dataset.exclude"
    )


def draw(found: Found, count: int, folder: Path) -> list[dict[str, Any]]:
    """Write thumbnails of the first pairs; returns what the report says of each."""
    shown = []
    with atomic.writing(folder) as partial_folder:
        partial_folder.mkdir()
        for number, match in enumerate(found.matches[:count]):
            names = {side: f"{number:03d}_{side}.png" for side in ("train", "test")}
            sides = {"train": found.original(match.key), "test": found.part.image(match.test)}
            for side, image in sides.items():
                image = image.convert("RGB")
                image.thumbnail((THUMBNAIL, THUMBNAIL))
                image.save(partial_folder / names[side])
            shown.append(
                {
                    "train": match.key,
                    "test": found.part.name_of(match.test),
                    "cosine": match.cosine,
                    "kind": "exact" if (match.key, match.test) in found.exact else "near",
                    "mirrored": match.mirrored,
                    **{f"{side}_thumbnail": f"{folder.name}/{name}" for side, name in names.items()},
                }
            )
    return shown


def run(
    request: Request, settings: Duplicates, images: Pretraining, artifacts: Artifacts, *, log: Path, stamp: dict
) -> None:
    """Compare a dataset's test images with the pretraining images; write counts, keys to leave out, and pictures.

    Args:
        request: the dataset.
        settings: threshold, pictures, and when to stop.
        images: the pretraining images.
        artifacts: what is written.
        log: the keys are kept beside it if the study stops.
        stamp: provenance.

    Raises:
        GenviewError: more than ``stop_share`` of the test images are found among the pretraining images.
    """
    encoder = look.load(images.encoder, placement.default())
    threshold = min(settings.threshold, least_of_equal(encoder))
    found = find(test_part(request), threshold, images, encoder)
    own = request.block is not None and request.block.kind == "own_labels"
    if not own:
        refuse_too_many(found, request.name, settings.stop_share, log.with_suffix(".keys.txt"))
    total = len(found.part)
    rows = []
    for metric, count in (("exact_share", len(found.exact_tests)), ("near_share", found.near)):
        rows.append(accuracy.row(metric, count / total, *accuracy.wilson(count / total, total), total))
    shown = draw(found, settings.pictures, artifacts.pictures)
    atomic.write_text(artifacts.exclusion, found.listed)
    value = {
        "dataset": request.name,
        "metric": "exact_share",
        "threshold": threshold,
        "results": rows,
        "interval": "95 %, Wilson's score interval over the test images",
        "pairs": shown,
        "pretraining_images": len(found.listed.splitlines()),
        "cosine_quantiles": {
            f"{share:g}": float(np.quantile(found.largest, share)) for share in (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
        },
        "encoder_digest": encoder.digest,
        "note": "the test images are the study's own" if own else None,
        "provenance": stamp,
    }
    atomic.write_json(artifacts.result, value)
