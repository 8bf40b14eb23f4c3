"""The lock of weights: which revision of each repository a study was given, and the digest of each file.

A study that names a lock (``weights_lock``) takes the revisions that stand there, unless it states another itself.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genview import atomic
from genview.config.encoders import Encoder
from genview.errors import GenviewError

NAME = "weights.lock"
HEADER = "# Written by `genview fetch`: what the studies that name this file take from the hub, to the last byte.\n"


class File(BaseModel):
    """A file: its size in bytes and its SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Repository(BaseModel):
    """A repository at one commit."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    files: dict[str, File] = Field(default_factory=dict)


class Lock(BaseModel):
    """Everything that was fetched.

    Attributes:
        named: repository of weights that the configuration names by architecture and tag (``name_of``).
        repositories: what was taken of each.
        addresses: SHA-256 of weights that have an address of their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    named: dict[str, str] = Field(default_factory=dict)
    repositories: dict[str, Repository] = Field(default_factory=dict)
    addresses: dict[str, File] = Field(default_factory=dict)

    def revision(self, name: str) -> str | None:
        """The commit of a repository, or of weights by architecture and tag; None: not fetched under this lock."""
        found = self.repositories.get(self.named.get(name, name))
        return found.revision if found else None


def name_of(encoder: Encoder) -> str:
    """The name of weights that the configuration names by architecture and tag."""
    return f"{encoder.library} {encoder.model} {encoder.pretrained}"


def read(path: str | Path) -> Lock | None:
    """The lock of a file; None: there is no such file yet.

    Raises:
        GenviewError: the file is not a lock.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return Lock.model_validate(values or {})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GenviewError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GenviewError(f"{path}: not YAML: {error}; `genview fetch` writes it anew once it is removed") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise GenviewError(
            f"{path}: {where}: {first['msg']}; `genview fetch` writes it anew once it is removed"
        ) from None


def write(path: str | Path, lock: Lock) -> None:
    """Write the lock, whole or not at all."""
    text = yaml.safe_dump(lock.model_dump(mode="json"), sort_keys=True, width=200)
    atomic.write_text(path, HEADER + text)


def pins(values: dict[str, Any], lock: Lock) -> dict[str, Any]:
    """The settings `revision` of a configuration that follow from a lock: nested mappings to be laid over it.

    Args:
        values: the complete configuration, as plain values.
        lock: the lock that it names.
    """
    found: dict[str, Any] = {}

    def pin(block: dict[str, Any], name: str, *path: str) -> None:
        revision = lock.revision(name)
        if revision and block.get("revision") is None:
            inner = found
            for step in path:
                inner = inner.setdefault(step, {})
            inner["revision"] = revision

    for name, block in values["encoders"].items():
        pin(block, _encoder_name(block), "encoders", name)
    for name, block in values["views"].items():
        pin(block, str(block["model"]), "views", name)
    pin(values["guidance"], str(values["guidance"]["model"]), "guidance")
    for name, run in values["runs"].items():
        if isinstance(teacher := run["method"].get("teacher"), dict):
            pin(teacher, str(teacher["model"]), "runs", name, "method", "teacher")
        initial = run["model"]["initial"]
        if isinstance(initial, dict) and "pretrained" in initial:
            pin(initial, _encoder_name(initial), "runs", name, "model", "initial")
    return found


def _encoder_name(block: dict[str, Any]) -> str:
    repository = str(block["model"]).removeprefix("hf-hub:")
    return repository if "/" in repository else name_of(Encoder.model_construct(**block))
