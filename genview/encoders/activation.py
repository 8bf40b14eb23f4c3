"""Which GELU weights were trained with: OpenAI's and some later ones with QuickGELU, x * sigmoid(1.702 x).

A weights file does not say so, and loads without a word into a model of either kind; its features are then wrong
(about 10 % of zero-shot accuracy on ImageNet for OpenAI's). What is known comes, in this order, from the setting, the
tag, the file's digest (which is part of the published file's address), and the names that lead to the file.
"""

import json
import logging
import re
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import open_clip
import timm

from genview.config.encoders import Encoder
from genview.errors import GenviewError

logger = logging.getLogger("genview")

QUICK = "quickgelu"


def of_open_clip(encoder: Encoder, file: Path | None, sha256: str | None, folder: Path | None) -> bool | None:
    """Whether open_clip weights want QuickGELU; None: what the architecture's configuration says holds.

    Args:
        encoder: the settings; ``activation``, where given, decides.
        file: the weights; None: random ones.
        sha256: its digest.
        folder: of a model that brings its own configuration.
    """
    if encoder.activation:
        return encoder.activation == "quick_gelu"
    if file is None:
        return None
    tag = None if folder else open_clip.get_pretrained_cfg(encoder.model, encoder.pretrained)
    if tag:
        return bool(tag.get("quick_gelu"))
    own = _configured(folder or file.parent)
    known, why = _of_file(file, sha256)
    if folder:
        if known is not None and known != bool(own):
            logger.warning("encoder %s: %s, though its configuration does not say so: QuickGELU", folder.name, why)
            return known
        return None
    if known is None:
        known, why = own, "the configuration beside it"
    base = encoder.model.removesuffix(f"-{QUICK}")
    architecture = bool(open_clip.get_model_config(encoder.model).get("quick_gelu"))
    if known is None and base == encoder.model and f"{base}-{QUICK}" in open_clip.list_models():
        logger.warning(
            "encoder %s: %s does not say which activation it was trained with, and there are weights of both kinds; "
            "GELU is used: set activation: quick_gelu (or the architecture %s-%s) if it was QuickGELU",
            *(encoder.model, file.name, base, QUICK),
        )
    elif known is not None and known != architecture:
        logger.info("encoder %s: %s (%s)", encoder.model, "QuickGELU" if known else "GELU", why)
    return known


def _configured(folder: Path) -> bool | None:
    """What ``open_clip_config.json`` of a folder says; None where there is none."""
    try:
        values = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        return bool(values.get("model_cfg", values).get("quick_gelu"))
    except (OSError, ValueError, AttributeError):
        return None


def _of_file(file: Path, sha256: str | None) -> tuple[bool | None, str]:
    """What a file's digest, form or name says, and which of them; None: nothing does."""
    for model, tag in open_clip.list_pretrained():
        settings = open_clip.get_pretrained_cfg(model, tag)
        url, repository = settings.get("url", ""), settings.get("hf_hub", "").strip("/")
        published = re.search(r"/([0-9a-f]{64})/|-([0-9a-f]{8})\.pt$", url)
        if published and sha256 and sha256.startswith(published[1] or published[2]):
            return bool(settings.get("quick_gelu")), f"the published weights {model} {tag}"
        if repository and f"models--{repository.replace('/', '--')}" in file.parts:
            return bool(settings.get("quick_gelu")), f"the repository {repository}"
    if file.suffix == ".pt" and _is_torchscript(file):
        return True, "an archive in OpenAI's form"
    if any(QUICK in part.lower().replace("_", "").replace("-", "") for part in file.parts[-2:]):
        return True, "its name"
    return None, ""


def _is_torchscript(file: Path) -> bool:
    try:
        with ZipFile(file) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (BadZipFile, OSError):
        return False


def of_timm(encoder: Encoder, model: str, tag: str | None, file: Path | None) -> str:
    """The timm architecture that fits the weights: the one with QuickGELU where they were trained with it.

    Args:
        encoder: the settings; ``activation``, where given, decides.
        model: architecture without tag.
        tag: of the weights, where known.
        file: the weights; None: random ones.

    Raises:
        GenviewError: timm has no such architecture with the activation that is asked for.
    """
    if QUICK in model:
        if encoder.activation == "gelu":
            return model.replace(f"_{QUICK}", "")
        return model
    twin = model.replace("_clip_", f"_clip_{QUICK}_")
    exists = twin != model and timm.is_model(twin)
    if encoder.activation == "quick_gelu":
        if not exists:
            raise GenviewError(f"encoder {encoder.model}: timm has no such architecture with QuickGELU")
        return twin
    if not exists or encoder.activation == "gelu" or file is None:
        return model
    trained = timm.list_pretrained(f"{twin}.*")
    named = f"{twin}.{tag}" in trained or any(QUICK in part.lower() for part in file.parts[-2:])
    if tag is None:
        named = named or any(f"models--timm--{name}" in file.parts for name in trained)
    if named:
        logger.info("encoder %s: its weights were trained with QuickGELU; architecture %s", encoder.model, twin)
        return twin
    if tag is None:
        logger.warning(
            "encoder %s: %s does not say which activation it was trained with, and there are weights of both kinds; "
            "GELU is used: set activation: quick_gelu if it was QuickGELU",
            *(encoder.model, file.name),
        )
    return model
