"""What a source's values mean: captions and class names from texts, lists, numbers and nothing, in every source alike.

No value: null, NaN (also as the word), the empty text, white space. A class name of -1 is none, too: data sets write
it for images that nobody has labelled. Numbers become text; whole ones without a fraction (a column with gaps turns 3
into 3.0). What has no one meaning is refused with words: a mapping, several labels, bytes that are not UTF-8.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from genview.errors import GenviewError

IMAGE_COLUMNS = (
    "image", "image_path", "filepath", "file_path", "filename", "file_name", "path", "file", "img", "img_path",
)  # fmt: skip
CAPTION_COLUMNS = ("prompt", "caption", "captions", "text", "title", "sentence", "sentences", "description")
LABEL_COLUMNS = ("label", "class", "category", "class_name")
"""Names that are looked for, in this order, where none is stated."""

UNLABELLED = "-1"


class UnusableValue(ValueError):
    """A value that is there but is not a caption or class name; says why."""


def text(value: Any) -> str | None:
    """A value as text without white space around it; None where there is none.

    Raises:
        UnusableValue: a list, a mapping, bytes that are not UTF-8, or half a character (a lone surrogate).
    """
    if value is None:
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UnusableValue("is not UTF-8") from None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        raise UnusableValue(f"is a mapping ({', '.join(map(str, list(value)[:5]))})")
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        raise UnusableValue(f"is a list of {len(value)} values")
    found = str(value).strip()
    try:
        found.encode()
    except UnicodeEncodeError:
        raise UnusableValue("holds half a character (a lone surrogate)") from None
    return None if not found or found.lower() == "nan" else found


def captions(value: Any) -> tuple[str, ...]:
    """All captions in a field, in order, each once: none, one, or those of a list.

    Half a character, as texts that were cut have it, is left out of its caption.

    Raises:
        UnusableValue: a mapping, of which one entry is to be chosen, or something that is not text.
    """
    values = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    found = []
    for entry in values:
        if isinstance(entry, Mapping):
            entries = ", ".join(map(str, list(entry)[:5]))
            where = "its list holds mappings" if entry is not value else "is a mapping"
            example = f"dataset.caption_column: caption.{next(iter(entry), 'en')}"
            raise UnusableValue(f"{where} ({entries}): state one entry, such as {example}")
        if isinstance(entry, str):
            entry = entry.encode("utf-8", "ignore").decode()
        found.append(text(entry))
    return tuple(dict.fromkeys(caption for caption in found if caption))


def label(value: Any) -> str | None:
    """The class name in a field; None where there is none.

    Raises:
        UnusableValue: several labels, a mapping, or half a character.
    """
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) > 1:
            raise UnusableValue(f"holds {len(value)} labels; one class an image is wanted")
        value = value[0] if len(value) else None
    found = text(value)
    return None if found == UNLABELLED else found


def within(values: Mapping[str, Any], name: str | None) -> Any:
    """The value of a name; ``caption.en`` is the entry ``en`` of the mapping ``caption``, and of each of a list."""
    if not name:
        return None
    if name in values or "." not in name:
        return values.get(name)
    first, rest = name.split(".", 1)
    inner = values.get(first)
    if isinstance(inner, Mapping):
        return within(inner, rest)
    if isinstance(inner, (list, tuple)):
        return [within(entry, rest) for entry in inner if isinstance(entry, Mapping)]
    return None


def known(name: str | None, columns: Iterable[str]) -> bool:
    """Whether a name, or the mapping that it looks into, is among the columns."""
    columns = set(columns)
    return bool(name) and (name in columns or name.split(".", 1)[0] in columns)


def column(stated: str | None, usual: Sequence[str], columns: Sequence[str], option: str, where: str) -> str | None:
    """The column that is meant: the stated one, or the first usual name that is there.

    Raises:
        GenviewError: the stated one is not there.
    """
    if stated is None:
        return next((name for name in usual if name in columns), None)
    if not known(stated, columns):
        raise GenviewError(f"{where}: no column {stated!r} (dataset.{option}); there are {', '.join(columns)}")
    return stated
