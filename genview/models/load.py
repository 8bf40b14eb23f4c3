"""Where models are found: shipped with the package, in a directory, or under a name of the Hugging Face hub."""

from pathlib import Path

from genview import provenance
from genview.errors import GenviewError

SMALL = Path(__file__).parent / "small"
"""The family of small models that ships with the package."""

PREFIX = "small/"


def small_directory(name: str) -> Path:
    """Directory of a shipped model, such as ``small/clip``.

    Raises:
        GenviewError: no shipped model has this name.
    """
    folder = SMALL / name.removeprefix(PREFIX)
    if not folder.is_dir():
        known = sorted(PREFIX + path.name for path in SMALL.iterdir() if path.is_dir()) if SMALL.is_dir() else []
        raise GenviewError(f"no shipped model {name!r}; there are {', '.join(known) or 'none'}")
    return folder


def resolve(model: str) -> str | Path:
    """The directory or file that a name of the configuration stands for, or the name itself: a hub id.

    Raises:
        GenviewError: the name begins with ``small/`` and no shipped model has it.
    """
    if model.startswith(PREFIX):
        return small_directory(model)
    path = Path(model).expanduser()
    return path if path.exists() else model


def sha256(path: str | Path) -> str:
    """SHA-256 of a weights file."""
    return provenance.file_sha256(path)
