"""Where an encoder's weights come from: shipped, a folder, a file, or the Hugging Face hub; checked by digest."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genview import provenance
from genview.config.encoders import Encoder
from genview.errors import GenviewError
from genview.models import load as models

logger = logging.getLogger("genview")

RANDOM = "random"
HUB = models.HUB
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
    "genview_model.safetensors",
)
"""Names of whole models, in the order in which open_clip and timm take them from a folder."""

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json")
"""Files by which a folder is known to have a tokenizer of Hugging Face's."""


@dataclass(frozen=True)
class Weights:
    """Weights that were found: the architecture's name or folder, the file, and its digest."""

    model: str
    """Name that the library knows, or a folder that holds the model's configuration."""
    folder: Path | None
    file: Path | None
    """None: random weights."""
    sha256: str | None
    revision: str | None
    quick_gelu: bool | None = None
    """open_clip: activation that the weights were trained with; None: as the architecture's configuration says."""


def file_in(folder: Path) -> Path:
    """The weights file of a model's folder.

    Raises:
        GenviewError: there is none, or several and none has a usual name.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    named = [folder / name for name in PREFERRED if folder / name in files]
    if named:
        return named[0]
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise GenviewError(f"{folder}: one weights file is needed ({PREFERRED[0]}), found {found}")
    return files[0]


def missing(repository: str, revision: str | None) -> GenviewError:
    """The error of weights that are not in the hub's cache: what was looked for, and what to do."""
    at = f" at revision {revision}" if revision else ""
    return GenviewError(
        f"encoder weights {repository}{at} are not in the hub's cache. `genview fetch --config FILE` fetches all that "
        f"a study needs, `hf download {repository}` this alone; or set `pretrained` to a file or `model` to a folder."
    )


def cached_folder(repository: str, revision: str | None) -> Path:
    """A model's repository on the hub as the folder that the cache holds. Nothing is fetched.

    Raises:
        GenviewError: it is not there.
    """
    found = models.cached(repository, ("open_clip_config.json", "config.json"), revision)
    if found is None:
        raise missing(repository, revision)
    return found.parent


def cached_file(repository: str, names: Iterable[str], revision: str | None) -> Path:
    """The first of several files that the cache holds of a repository on the hub. Nothing is fetched.

    Raises:
        GenviewError: none is there.
    """
    found = models.cached(repository, names, revision)
    if found is None:
        raise missing(repository, revision)
    return found


def checked(encoder: Encoder, model: str, folder: Path | None, file: str | Path) -> Weights:
    """Weights after their digest has been compared with the expected one.

    Raises:
        GenviewError: the file is missing or has another digest.
    """
    file = Path(file)
    if not file.is_file():
        raise GenviewError(f"encoder {encoder.model}: no weights file {file}")
    found = provenance.file_sha256(file)
    if encoder.sha256 and found != encoder.sha256:
        raise GenviewError(f"{file}: SHA-256 is {found}, but the configuration expects {encoder.sha256}; not loaded")
    logger.info("encoder %s: weights %s, SHA-256 %s", encoder.model, file.name, found)
    return Weights(model, folder, file, found, encoder.revision)


def local_file(encoder: Encoder) -> Path:
    """The file that ``pretrained`` names.

    Raises:
        GenviewError: it names no file, and no tag either.
    """
    file = Path(encoder.pretrained)
    if not file.is_file():
        raise GenviewError(
            f"encoder {encoder.model}: pretrained {encoder.pretrained!r} is neither a tag that {encoder.library} knows "
            "for this architecture nor a file"
        )
    return file


def folder_of(encoder: Encoder) -> Path | None:
    """The folder of a model that brings its own configuration; None for an architecture known by name."""
    if encoder.model.startswith(HUB):
        return cached_folder(encoder.model.removeprefix(HUB), encoder.revision)
    resolved = Path(models.resolve(encoder.model))
    return resolved if resolved.is_dir() else None
