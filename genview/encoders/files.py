"""Where an encoder's weights come from: shipped, a folder, a file, or the Hugging Face hub; checked by digest."""

import logging
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from genview import provenance
from genview.config.encoders import Encoder
from genview.errors import GenviewError
from genview.models import load as models

logger = logging.getLogger("genview")

RANDOM = "random"
HUB = "hf-hub:"
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


def explained(repository: str, revision: str | None, error: Exception) -> GenviewError:
    """The error of weights that could not be fetched: what was tried, and what to do."""
    at = f" at revision {revision}" if revision else ""
    return GenviewError(
        f"encoder weights {repository}{at} are neither in the hub's cache nor can they be fetched: {error}. "
        "Fetch them on a machine with network access, or set `pretrained` to a file or `model` to a folder."
    )


def fetch_folder(repository: str, revision: str | None) -> Path:
    """A model's repository on the hub as a local folder: configuration, tokenizer and the best weights file."""
    try:
        files = huggingface_hub.HfApi().list_repo_files(repository, revision=revision)
        weights = next((name for name in PREFERRED if name in files), None)
        wanted = [name for name in files if name == weights or name.endswith((".json", ".txt", ".model"))]
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        pass  # no network: what the cache holds is as good
    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise explained(repository, revision, error) from error


def fetch_file(repository: str, names: list[str], revision: str | None) -> Path:
    """The first of several files that a repository on the hub has."""
    last: Exception | None = None
    for name in names:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            last = error
    raise explained(repository, revision, last)


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
        return fetch_folder(encoder.model.removeprefix(HUB), encoder.revision)
    resolved = Path(models.resolve(encoder.model))
    return resolved if resolved.is_dir() else None
