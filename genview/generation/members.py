"""A shard of views: a WebDataset tar whose members are named after the keys, with all that remakes an image."""

import json
from typing import Any
from urllib.parse import unquote

import diffusers
import torch

from genview import __version__, provenance
from genview.config.views import ViewSet
from genview.generation.pipelines import LoadedPipeline
from genview.generation.plan import ViewRequest


def member_name(key: str, sample: int, samples: int) -> str:
    """Name of an image's members without extension, from which ``key_of_member`` gives the key back.

    WebDataset takes everything after the first dot of a file's name for its extension and leaves out what begins with
    ``__``; those characters, and ``%``, are percent-encoded. Of several samples of one image each is a file in the
    folder ``<key>``.
    """
    folder, slash, base = key.replace("%", "%25").rpartition("/")
    base = base.replace(".", "%2E")
    if samples > 1:
        folder, slash, base = f"{folder}{slash}{base}", "/", str(sample)
    name = f"{folder}{slash}{base}"
    return "%5F" + name[1:] if name.startswith("__") else name


def key_of_member(name: str, samples: int) -> tuple[str, int]:
    """Key and sample of a member, given its name without extension."""
    sample = 0
    if samples > 1:
        name, _, number = name.rpartition("/")
        sample = int(number)
    return unquote(name), sample


def metadata(
    request: ViewRequest,
    view: ViewSet,
    loaded: LoadedPipeline,
    embedding_digest: str | None,
    embedding_from: str | None,
) -> dict[str, Any]:
    """Everything that an image depends on, as it is written beside it; no time, no path, no host."""
    excluded = {"model", "noise_level", "guidance_scale"}
    if view.guidance_interval is None:  # images of versions that did not know it are the same
        excluded.add("guidance_interval")
    return {
        "key": request.key,
        "sample": request.sample,
        "caption": request.caption,
        "prompt": request.prompt,
        "noise_level": request.noise_level,
        "guidance_scale": request.guidance_scale,
        "seed": request.seed,
        "embedding": embedding_digest,
        "embedding_from": embedding_from,
        "model": loaded.model,
        "weights": loaded.weights,
        "scheduler": loaded.scheduler_config["_class_name"],
        "size": loaded.size,
        "view": view.model_dump(mode="json", exclude=excluded),
        "guided": view.guidance_source() != 1.0,
        "versions": {"genview": __version__, "diffusers": diffusers.__version__, "torch": torch.__version__},
    }


def made_from(metadata: dict[str, Any]) -> str:
    """Digest of what decides an image's bytes: of two shards' equal ones one may stand for the other.

    The number of samples decides how many images there are, and no image; the package's version stands for its code,
    which is compared by itself.
    """
    view = {name: value for name, value in metadata["view"].items() if name != "samples"}
    versions = {name: value for name, value in metadata["versions"].items() if name != "genview"}
    return provenance.digest({**metadata, "view": view, "versions": versions})


def to_json(values: dict[str, Any]) -> bytes:
    """The bytes of a JSON member: keys sorted, one line."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
