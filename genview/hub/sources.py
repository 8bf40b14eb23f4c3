"""What a study takes from the hub: repositories, and which of their files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import open_clip
import timm

from genview.config.encoders import Encoder
from genview.config.methods import DIVA
from genview.config.study import Study
from genview.encoders import files
from genview.hub import lock
from genview.models import load as models

TEXTS = (".json", ".txt", ".model", ".jinja")
"""Configurations, tokenizers, chat templates."""

Names = Sequence[str]
Choice = Callable[[Names], list[str]]


@dataclass(frozen=True)
class Source:
    """A repository that a study needs.

    Attributes:
        repository: its name on the hub, ``owner/name``.
        revision: branch, tag or commit that the configuration asks for; None: the default branch.
        key: where the configuration names it.
        choose: which of the repository's files are needed.
        named: the name under which the lock finds the repository again, where the configuration does not state it.
    """

    repository: str
    revision: str | None
    key: str
    choose: Choice
    named: str | None = None


@dataclass(frozen=True)
class Address:
    """Weights that open_clip fetches from an address of their own.

    Attributes:
        tag: what open_clip knows of them: ``url`` above all.
        key: where the configuration names them.
    """

    tag: dict[str, Any]
    key: str


def of(study: Study) -> Iterator[Source | Address]:
    """Everything that a study takes from the network, but for datasets; what lies in a folder is not among it."""
    for name in sorted(set().union(*study.encoders_used().values())):
        yield from _encoder(study.encoders[name], f"encoders.{name}")
    for name in study.runs:
        if isinstance(initial := study.initial(name), Encoder):
            yield from _encoder(initial, f"runs.{name}.model.initial")
    for name, view in study.views.items():
        yield from _pipeline(view.model, view.revision, view.variant, f"views.{name}.model")
    for name, run in study.runs.items():
        if isinstance(run.method, DIVA):
            teacher = run.method.teacher
            key = f"runs.{name}.method.teacher.model"
            yield from _pipeline(teacher.model, teacher.revision, teacher.variant, key)
    guidance = study.guidance
    if guidance.needs.loads_model and guidance.scores_captions and (repository := models.on_hub(guidance.model)):
        suffixes = (*TEXTS, ".py") if guidance.trust_remote_code else TEXTS
        yield Source(repository, guidance.revision, "guidance.model", lambda names: language_model(names, suffixes))


def language_model(names: Names, suffixes: tuple[str, ...] = TEXTS) -> list[str]:
    """Texts of a transformers model at its root, and its weights: safetensors where there are some."""
    root = [name for name in names if "/" not in name]
    weights = [name for name in root if name.endswith(".safetensors")]
    weights = weights or [name for name in root if name.startswith("pytorch_model") and name.endswith(".bin")]
    return [name for name in root if name.endswith(suffixes)] + weights


def pipeline(names: Names, variant: str | None) -> list[str]:
    """Files of a diffusers pipeline: its index, each component's texts, its weights as safetensors of the variant."""
    chosen = [name for name in names if name == "model_index.json"]
    for component in sorted({PurePosixPath(name).parts[0] for name in names if name.count("/") == 1}):
        if component == "safety_checker":
            continue
        inside = [name for name in names if name.startswith(f"{component}/")]
        chosen += [name for name in inside if name.endswith(TEXTS)]
        chosen += [f"{component}/{file.name}" for file in models.of_variant([Path(name) for name in inside], variant)]
    return chosen


def model_folder(names: Names) -> list[str]:
    """Files of an open_clip or timm model: texts, and the weights that either library would take."""
    weights = next((name for name in files.PREFERRED if name in names), None)
    return [name for name in names if name == weights or name.endswith(TEXTS)]


def _pipeline(model: str | None, revision: str | None, variant: str | None, key: str) -> Iterator[Source]:
    if repository := models.on_hub(model):
        yield Source(repository, revision, key, lambda names: pipeline(names, variant))


def _encoder(encoder: Encoder, key: str) -> Iterator[Source | Address]:
    if repository := models.on_hub(encoder.model):
        yield Source(repository, encoder.revision, f"{key}.model", model_folder)
        return
    if encoder.pretrained in (None, files.RANDOM) or Path(models.resolve(encoder.model)).is_dir():
        return
    if encoder.library == "timm":
        tag = timm.get_pretrained_cfg(f"{encoder.model}.{encoder.pretrained}", allow_unregistered=False)
        if tag and tag.hf_hub_id:
            wanted = [tag.hf_hub_filename] if tag.hf_hub_filename else files.PREFERRED
            yield _weights(tag.hf_hub_id, wanted, encoder, key)
        return
    tag = open_clip.get_pretrained_cfg(encoder.model, encoder.pretrained)
    if tag.get("hf_hub"):
        repository, _, name = tag["hf_hub"].rpartition("/")
        yield _weights(repository, [name] if name else files.PREFERRED, encoder, key)
    elif tag.get("url"):
        yield Address(tag, f"{key}.pretrained")
    text = (open_clip.get_model_config(encoder.model) or {}).get("text_cfg", {})
    for part in ("hf_tokenizer_name", "hf_model_name"):
        if text.get(part):
            yield Source(text[part], None, f"{key}.model ({part})", _texts)


def _texts(names: Names) -> list[str]:
    return [name for name in names if "/" not in name and name.endswith(TEXTS)]


def _weights(repository: str, wanted: Sequence[str], encoder: Encoder, key: str) -> Source:
    def first(names: Names) -> list[str]:
        return [name for name in wanted if name in names][:1]

    return Source(repository, encoder.revision, f"{key}.pretrained", first, lock.name_of(encoder))
