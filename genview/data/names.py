"""Names of files: what is hidden, what is a picture, which file a table means that writes its name otherwise."""

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

from genview.data import images, keys


def hidden(path: str) -> bool:
    """Whether a part of a relative path begins with a dot: ``._1.png``, ``.cache/1.png``; companions, no images."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def extension(name: str) -> str:
    """A name's last suffix with its dot, in small letters; empty if there is none."""
    return os.path.splitext(name)[1].lower()


def is_image(name: str) -> bool:
    """Whether a name is one of a file that is opened as an image."""
    return extension(name) in keys.EXTENSIONS


def refusal(name: str) -> str | None:
    """Why a file is not an image of ours although its name says that it is a picture; None for all other names."""
    suffix = extension(name)
    if suffix in keys.EXTENSIONS:
        return None
    what = images.NOT_OPENED.get(suffix)
    return f"{suffix} files are not opened: {what}" if what else None


def normal(name: str) -> str:
    """A name in one Unicode form."""
    return unicodedata.normalize("NFC", name)


def tidy(name: str) -> str:
    """A name as a table should have written it: no white space around it, forward slashes."""
    name = name.strip()
    return name.replace("\\", "/") if "/" not in name else name


def found(root: Path, path: str) -> str | None:
    """The relative path of the file that a table means: white space, backslashes and Unicode form put right.

    None if there is none, or more than one. Looks into folders, so it is for names that are not there as written.
    """
    for candidate in dict.fromkeys((path, tidy(path))):
        if (root / candidate).exists():
            return candidate
        here: list[str] = []
        for part in candidate.split("/"):
            place = "/".join([*here, part])
            if not (root / place).exists():
                alike = _entries(str(root.joinpath(*here))).get(normal(part), ())
                if len(alike) != 1:
                    break
                part = alike[0]
            here.append(part)
        else:
            return "/".join(here)
    return None


def nearest(root: Path, path: str) -> str | None:
    """A file beside the missing one whose name differs by case or by its suffix alone, for the message."""
    folder, name = os.path.split(tidy(path))
    stem = normal(os.path.splitext(name)[0]).lower()
    entries = _entries(str(root / folder))
    alike = [entry for names in entries.values() for entry in names if _stem(entry) == stem]
    return min(alike, default=None)


def _stem(name: str) -> str:
    return normal(os.path.splitext(name)[0]).lower()


@lru_cache(maxsize=64)
def _entries(folder: str) -> dict[str, tuple[str, ...]]:
    """A folder's names by their Unicode form."""
    result: dict[str, tuple[str, ...]] = {}
    try:
        names = os.listdir(folder)
    except OSError:
        return result
    for name in names:
        result[normal(name)] = (*result.get(normal(name), ()), name)
    return result
