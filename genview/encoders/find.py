"""Find an encoder: its architecture as a library knows it, and its weights file, whichever way they are named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import timm

from genview.config.encoders import Encoder
from genview.encoders import activation, files
from genview.encoders.files import Weights
from genview.errors import GenviewError


def weights(encoder: Encoder) -> Weights:
    """The weights of an encoder of either library.

    Raises:
        GenviewError: the architecture is unknown, or the weights are missing or have another digest.
    """
    return open_clip_weights(encoder)[0] if encoder.library == "open_clip" else timm_weights(encoder)


def open_clip_weights(encoder: Encoder) -> tuple[Weights, dict]:
    """The weights of an open_clip model, and the preprocessing that its pretrained tag asks for.

    Raises:
        GenviewError: the architecture is unknown, or the weights are missing or have another digest.
    """
    found, preprocess = _open_clip_file(encoder)
    quick = activation.of_open_clip(encoder, found.file, found.sha256, found.folder)
    return replace(found, quick_gelu=quick), preprocess


def _open_clip_file(encoder: Encoder) -> tuple[Weights, dict]:
    folder = files.folder_of(encoder)
    if encoder.pretrained == files.RANDOM:
        return Weights(f"local-dir:{folder}" if folder else encoder.model, folder, None, None, None), {}
    if folder:
        if encoder.pretrained:
            raise GenviewError(
                f"encoder {encoder.model}: a folder brings its own weights; leave `pretrained` out (or `random`)"
            )
        return files.checked(encoder, f"local-dir:{folder}", folder, files.file_in(folder)), {}
    if encoder.model not in open_clip.list_models():
        raise GenviewError(
            f"encoder {encoder.model!r}: neither a folder nor an architecture that open_clip knows "
            "(python -c 'import open_clip; print(open_clip.list_models())' lists them)"
        )
    if encoder.pretrained is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(encoder.model)) or "none"
        raise GenviewError(
            f"encoder {encoder.model}: `pretrained` is missing: a tag ({tags}), a file, or `random` for random weights"
        )
    tag = open_clip.get_pretrained_cfg(encoder.model, encoder.pretrained)
    if not tag:
        return files.checked(encoder, encoder.model, None, files.local_file(encoder)), {}
    preprocess = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}
    if tag.get("hf_hub"):
        repository, _, name = tag["hf_hub"].rpartition("/")
        names = [name] if name else list(files.PREFERRED)
        file = files.cached_file(repository, names, encoder.revision)
    else:
        try:
            file = open_clip.download_pretrained(tag)
        except (OSError, RuntimeError) as error:
            raise GenviewError(f"encoder weights {tag['url']} can neither be found nor fetched: {error}") from error
    return files.checked(encoder, encoder.model, None, file), preprocess


def timm_weights(encoder: Encoder) -> Weights:
    """The weights of a timm model.

    Raises:
        GenviewError: the architecture is unknown, or the weights are missing or have another digest.
    """
    folder = files.folder_of(encoder)
    if folder:
        return _timm_folder(encoder, folder)
    if not timm.is_model(encoder.model):
        raise GenviewError(f"encoder {encoder.model!r}: neither a folder nor an architecture that timm knows")
    if encoder.pretrained is None:
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{encoder.model}.*")]
        raise GenviewError(
            f"encoder {encoder.model}: `pretrained` is missing: a tag ({', '.join(tags) or 'none'}), a file, or "
            "`random` for random weights"
        )
    if encoder.pretrained == files.RANDOM:
        return Weights(activation.of_timm(encoder, encoder.model, None, None), None, None, None, None)
    name = f"{encoder.model}.{encoder.pretrained}"
    if name not in timm.list_pretrained(f"{encoder.model}.*"):
        file = files.local_file(encoder)
        return files.checked(encoder, activation.of_timm(encoder, encoder.model, None, file), None, file)
    hub = timm.get_pretrained_cfg(name)
    names = [hub.hf_hub_filename] if hub.hf_hub_filename else list(files.PREFERRED)
    file = files.cached_file(hub.hf_hub_id, names, encoder.revision)
    model = activation.of_timm(encoder, encoder.model, encoder.pretrained, file)
    return files.checked(encoder, f"{model}.{encoder.pretrained}", None, file)


def _timm_folder(encoder: Encoder, folder: Path) -> Weights:
    name = f"local-dir:{folder}"
    if encoder.pretrained == files.RANDOM:
        return Weights(name, folder, None, None, None)
    file = files.file_in(folder)
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architecture, tag = settings["architecture"], (settings.get("pretrained_cfg") or {}).get("tag")
    except (OSError, ValueError, KeyError) as error:
        raise GenviewError(f"{folder}: no timm model: config.json: {error}") from None
    fitting = activation.of_timm(encoder, architecture, tag, file)
    if fitting != architecture:
        return files.checked(encoder, fitting, None, file)
    return files.checked(encoder, name, folder, file)


def configuration(encoder: Encoder, found: Weights) -> dict[str, Any]:
    """``model_cfg`` and ``preprocess_cfg`` of an open_clip model, and what our own form adds to them.

    Raises:
        GenviewError: the folder's configuration cannot be read.
    """
    if found.folder is None:
        return {"model_cfg": open_clip.get_model_config(encoder.model), "preprocess_cfg": {}}
    for name in ("genview_config.json", "open_clip_config.json"):
        file = found.folder / name
        if file.is_file():
            try:
                values = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise GenviewError(f"{file}: {error}") from None
            return values if "model_cfg" in values else {"model_cfg": values, "preprocess_cfg": {}}
    raise GenviewError(f"{found.folder}: no open_clip model: it has no open_clip_config.json")


def timm_arguments(found: Weights) -> dict[str, Any]:
    """Arguments that a timm model's folder asks for (``model_args``)."""
    if found.folder is None:
        return {}
    return dict(json.loads((found.folder / "config.json").read_text(encoding="utf-8")).get("model_args") or {})
