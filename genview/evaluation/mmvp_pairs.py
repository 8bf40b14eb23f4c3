"""MMVP-VLM's data set in its own layout: ``Questions.csv`` and one folder of images for each type.

The rows 2k - 1 and 2k of the table are a pair; both of its images lie in the folder that the first row's type names.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from genview.errors import GenviewError

PATTERNS = (
    "Orientation and Direction",
    "Presence of Specific Features",
    "State and Condition",
    "Quantity and Count",
    "Positional and Relational Context",
    "Color and Appearance",
    "Structural Characteristics",
    "Texts",
    "Viewpoint and Perspective",
)
PAIRS_PER_PATTERN = 15
PAIRS = len(PATTERNS) * PAIRS_PER_PATTERN

TABLE = "Questions.csv"
IMAGES = "MLLM_VLM Images"
SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


@dataclass(frozen=True)
class Pair:
    """Two images and the statement that is true of each.

    Attributes:
        name: the ids of its rows, such as ``1-2``.
        pattern: one of ``PATTERNS``, by its place in the table.
        images: the two files.
        statements: statement i is true of image i alone.
    """

    name: str
    pattern: str
    images: tuple[Path, Path]
    statements: tuple[str, str]

    def open(self) -> tuple[Image.Image, Image.Image]:
        """Both images, RGB.

        Raises:
            GenviewError: one cannot be read; names it.
        """
        opened = []
        for path in self.images:
            try:
                with Image.open(path) as image:
                    opened.append(image.convert("RGB"))
            except OSError as error:
                raise GenviewError(f"{path}: cannot be read as an image: {error}") from error
        return opened[0], opened[1]


def _rows(table: Path) -> list[tuple[str, str, str]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError) as error:
        raise GenviewError(f"{table}: cannot be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != 3:
            raise GenviewError(f"{table}: row {number} has {len(row)} columns; there are three: id, type, statement")
    return [(row[0].strip(), row[1].strip(), row[2].strip()) for row in rows[1:]]


def _image(folder: Path, type_: str, name: str) -> Path:
    for suffix in SUFFIXES:
        path = folder / type_ / f"{name}{suffix}"
        if path.is_file():
            return path
    return folder / type_ / f"{name}.jpg"


def _paired(rows: list[tuple[str, str, str]], folder: Path) -> Iterator[Pair]:
    for place in range(PAIRS):
        (first, type_, statement), (second, _, other) = rows[2 * place], rows[2 * place + 1]
        yield Pair(
            name=f"{first}-{second}",
            pattern=PATTERNS[place // PAIRS_PER_PATTERN],
            images=(_image(folder, type_, first), _image(folder, type_, second)),
            statements=(statement, other),
        )


def read(path: str | Path) -> list[Pair]:
    """The 135 pairs of a data set in MMVP-VLM's layout, in the order of its table.

    Args:
        path: folder with ``Questions.csv`` and, in ``MLLM_VLM Images`` or beside the table, one folder for each type.

    Raises:
        GenviewError: the table, rows, statements or images are missing; names them.
    """
    path = Path(path)
    table = path / TABLE
    if not table.is_file():
        raise GenviewError(f"{table}: no such file; MMVP-VLM is a folder with {TABLE} and the folder {IMAGES!r}")
    rows = _rows(table)
    if len(rows) != 2 * PAIRS:
        raise GenviewError(f"{table}: {len(rows)} rows below the header; MMVP-VLM has {2 * PAIRS}, two for each pair")
    pairs = list(_paired(rows, path / IMAGES if (path / IMAGES).is_dir() else path))
    for number, (name, _, statement) in enumerate(rows, start=2):
        if not statement:
            raise GenviewError(f"{table}: row {number} (id {name}) has no statement")
    missing = [image for pair in pairs for image in pair.images if not image.is_file()]
    if missing:
        raise GenviewError(f"{missing[0]}: no such image ({len(missing)} of {2 * PAIRS} are missing)")
    return pairs
