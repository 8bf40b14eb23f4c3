"""What would stop a study later, found before anything is computed, without any network.

Each check belongs to a stage, named as its rules' file, so that a run that needs only some stages is not kept by
others. Nothing heavy is imported but the library of an encoder that is named by its architecture: only the library
knows which names and tags there are.
"""

import csv
import importlib
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genview import provenance, tables, targets
from genview.config.dataset import Dataset
from genview.config.foreground import Encoder
from genview.config.study import Study
from genview.config.training import Run
from genview.config.views import ViewSet
from genview.errors import GenviewError
from genview.evaluation import catalogue
from genview.foreground import weights
from genview.models import load as models
from genview.report import wording

EVERY_STAGE = "results"
"""Stage of a problem that concerns all of them."""
BYTES_PER_PIXEL = 0.5
"""JPEG at quality 95 takes about so much; natural images of 256 pixels a side come to about 30 kB."""
BYTES_PER_VIEW = 3000
"""What a view takes beside its JPEG: its JSON, the tar's headers, its row of the index."""
BYTES_PER_SCORE_ROW = 5000
"""Token scores and embedding of an image by a ViT-H-14; smaller for smaller encoders."""
BYTES_PER_SAMPLE = 256 * 1280 * 2
"""Patch tokens of an image of the component's sample by a ViT-H-14, in half precision."""
USUAL_SIDE = 768
"""Pixels a side where a pipeline's own size is not stated: the largest of the published ones."""
PARAMETERS = {"tiny": 0.65e6, "small": 107e6, "base": 171e6, "base_p32": 173e6, "large": 390e6}
"""Parameters of a run's encoder and projector, by its architecture."""
PIPELINES = {"txt": "StableDiffusionPipeline"}
UNCLIP = "StableUnCLIPImg2ImgPipeline"
"""Pipeline classes of the modes: the others' is this one."""
ARCHITECTURES = Path(__file__).parent / "training/architectures"
CLIP_BENCHMARK_PREFIXES = ("wds/", "vtab/", "tfds/", "sugar_crepe")


class Problem(NamedTuple):
    """Something that would stop a stage, and what to do."""

    stage: str
    text: str


def problems(study: Study, *, without: Collection[Callable] = ()) -> list[Problem]:
    """Everything that would stop the study, in the order of its stages."""
    found: list[Problem] = []
    for check in CHECKS:
        if check not in without:
            found.extend(check(study))
    return found


def require(study: Study, stages: set[str] | None = None, *, elsewhere: bool = False) -> None:
    """Stop with one message that lists everything wrong.

    Args:
        study: the study.
        stages: the stages that are going to run; None: all.
        elsewhere: jobs run on other machines, so that the GPUs of this one do not count.

    Raises:
        GenviewError: there is a problem in one of the stages.
    """
    wanted = None if stages is None else {*stages, EVERY_STAGE}
    found = problems(study, without=(_processors,) if elsewhere else ())
    found = [problem for problem in found if wanted is None or problem.stage in wanted]
    if found:
        lines = "\n".join(f"  - {problem.stage}: {problem.text}" for problem in found)
        raise GenviewError(f"the study {study.study!r} cannot run, {wording.plural(len(found), 'problem')}:\n{lines}")


def manifest_of(study: Study) -> Path | None:
    """The study's manifest if it was made already."""
    file = Path(study.results) / study.study / "data/manifest.parquet"
    return file if file.is_file() else None


def images_of(study: Study) -> int | None:
    """How many images the study has, or at most has, where that is known before they are read."""
    dataset, file = study.dataset, manifest_of(study)
    if dataset.source == "scenes":
        return dataset.count or 1000
    if file:
        return pq.read_metadata(file).num_rows
    if dataset.source == "table" and Path(dataset.path).is_file():
        return min(_rows(Path(dataset.path)), dataset.count or 2**63)
    return dataset.count


def _rows(table: Path) -> int:
    """Rows of a table; of a text file, its lines without the header: at least as many."""
    if table.suffix == ".parquet":
        return pq.read_metadata(table).num_rows
    with open(table, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1


def _dataset(study: Study) -> Iterator[Problem]:
    dataset = study.dataset
    for name, path in (
        ("path", dataset.path),
        ("image_root", dataset.image_root),
        ("exclude", dataset.exclude),
    ):
        if path and not Path(path).expanduser().exists():
            yield Problem("data", f"dataset.{name}: {path} does not exist")
    columns = _table_columns(dataset)
    if columns is not None and "image" not in columns:
        yield Problem("data", f"dataset.path: {dataset.path} has no column 'image'; it has {', '.join(columns)}")


def _table_columns(dataset: Dataset) -> list[str] | None:
    """Header of the dataset's table; None where there is none to read."""
    if dataset.source != "table" or not Path(dataset.path).is_file():
        return None
    path = Path(dataset.path)
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path).names
        with open(path, newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","), [])
    except (OSError, ValueError) as error:
        raise GenviewError(f"dataset.path: {path}: {error}") from error


def _caption_users(study: Study) -> Iterator[tuple[str, str]]:
    """Stage and key of what cannot do without captions."""
    for name, view in study.views.items():
        if view.mode != "img":
            yield "generation", f"views.{name}"
    for name, run in study.runs.items():
        if run.uses_text:
            yield "training", f"runs.{name}.loss"


def _captions(study: Study) -> Iterator[Problem]:
    users = list(_caption_users(study))
    if not users:
        return
    columns, file = _table_columns(study.dataset), manifest_of(study)
    if columns is not None and study.dataset.caption_column not in columns:
        text = f"{study.dataset.path} has no column {study.dataset.caption_column!r} (dataset.caption_column)"
    elif study.dataset.source == "folder" and _has_no_texts(Path(study.dataset.path)):
        text = f"there is no .txt file beside the images in {study.dataset.path}"
    elif file and (missing := _without_caption(file)):
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        have = "has" if len(missing) == 1 else "have"
        text = f"{wording.plural(len(missing), 'image')} {have} none: {shown}"
    else:
        return
    for stage, key in users:
        yield Problem(stage, f"{key} needs captions, but {text}")


def _has_no_texts(folder: Path) -> bool:
    return folder.is_dir() and next(folder.rglob("*.txt"), None) is None


def _without_caption(manifest: Path) -> list[str]:
    table = tables.read(manifest, tables.MANIFEST, ["key", "caption"])
    return table.filter(pc.is_null(table["caption"]))["key"].to_pylist()


def _weights(study: Study) -> Iterator[Problem]:
    used = {"foreground": {study.foreground.encoder}, "generation": set(study.audit.encoders), "training": set()}
    if any(run.uses_quality for run in study.runs.values()):
        used["training"].add(study.quality_encoder)
    for stage, names in used.items():
        for name in sorted(names):
            if wrong := _encoder(study.encoders[name]):
                yield Problem(stage, f"encoders.{name}.{wrong}")
    for name, view in study.views.items():
        if wrong := _pipeline(view):
            yield Problem("generation", f"views.{name}.{wrong}")
    guidance = study.guidance
    if guidance.backend.endswith("language_model") and not guidance.given and guidance.strategy == "adaptive":
        _, reason = _folder(guidance.model, "config.json", guidance.revision)
        if reason:
            yield Problem("guidance", f"guidance.model: {reason}")
    if study.pca.vector and not Path(study.pca.vector).is_file():
        yield Problem("foreground", f"pca.vector: no file {study.pca.vector}")


def _cached(repository: str, files: Iterable[str], revision: str | None) -> Path | None:
    """The first of several files of a repository that is in the hub's cache."""
    found = (huggingface_hub.try_to_load_from_cache(repository, file, revision=revision) for file in files)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _fetch(repository: str, revision: str | None) -> str:
    return f"hf download {repository}" + (f" --revision {revision}" if revision else "")


def _folder(model: str, file: str, revision: str | None) -> tuple[Path | None, str | None]:
    """A model's folder (shipped, local, or in the hub's cache), or why there is none. Nothing is fetched."""
    name = model.removeprefix(weights.HUB)
    try:
        resolved = Path(models.resolve(name))
    except GenviewError as error:
        return None, str(error)
    if resolved.exists():
        return resolved, None
    hub_like = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if hub_like and (found := _cached(name, [file], revision)):
        return found.parent, None
    if name.startswith("stabilityai/stable-diffusion-2"):
        return None, f"{name} was removed from the hub in 2025: give a path to a copy, or a mirror"
    if not hub_like or name.startswith("weights/"):
        return None, f"{name} does not exist"
    hint = f"a model of the hub is fetched by: {_fetch(name, revision)}"
    return None, f"{name} is neither a path nor in the hub's cache; {hint}"


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
    if not (folder / own).is_file():
        return f"model: {folder} holds no {encoder.library} model: it has no {own}"
    if encoder.pretrained == weights.RANDOM:
        return None
    try:
        return _digest_problem(weights.file_in(folder), encoder.sha256)
    except GenviewError as error:
        return f"model: {error}"


def _named_encoder(encoder: Encoder) -> str | None:
    """As above, for an architecture that the library knows by name."""
    library = importlib.import_module(encoder.library)
    names = library.list_models()
    if encoder.model not in names:
        return f"model: {encoder.library} knows no {encoder.model!r}{targets.nearest(encoder.model, names)}"
    if encoder.library == "open_clip":
        tags = library.list_pretrained_tags_by_model(encoder.model)
    else:
        tags = [name.partition(".")[2] for name in library.list_pretrained(f"{encoder.model}.*")]
    given = encoder.pretrained
    if given is None:
        return f"pretrained: missing: a tag ({', '.join(tags) or 'there is none'}), a file, or `random`"
    if given == weights.RANDOM:
        return None
    if given not in tags:
        if Path(given).is_file():
            return _digest_problem(Path(given), encoder.sha256)
        known = f"a tag of {encoder.model} ({', '.join(tags) or 'there is none'})"
        return f"pretrained: {given!r} is neither {known} nor a file{targets.nearest(given, tags)}"
    return _tagged_weights(encoder, library)


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
    file = _cached(repository, [name] if name else weights.PREFERRED, encoder.revision)
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
        return f"model: {folder} is no diffusers pipeline: it has no readable model_index.json"
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


def _architectures(study: Study) -> Iterator[Problem]:
    known = sorted(path.stem for path in ARCHITECTURES.glob("*.json"))
    for name, run in study.runs.items():
        given = run.model.architecture
        if given not in known and not Path(given).is_file():
            near = targets.nearest(given, known) or "."
            text = f"there is no {given!r}{near} There are {', '.join(known)}, or the path of a JSON file"
            yield Problem("training", f"runs.{name}.model.architecture: {text}")


def _given(study: Study) -> Iterator[Problem]:
    for stage, key, path in (
        ("foreground", "foreground.given", study.foreground.given),
        ("foreground", "noise_level.given", study.noise_level.given),
        ("guidance", "guidance.given", study.guidance.given),
    ):
        if path and not Path(path).is_file():
            yield Problem(stage, f"{key}: no file {path}")


def _evaluation(study: Study) -> Iterator[Problem]:
    block = study.evaluation
    asked = [(name, task) for task in ("probe", "zeroshot", "retrieval") for name in getattr(block, task).datasets]
    looked_for: set[str] = set()
    for name, task in asked:
        local = block.datasets.get(name)
        if local is not None:
            if local.kind in ("image_folder", "table") and not (local.path and Path(local.path).exists()):
                yield Problem("evaluation", f"evaluation.datasets.{name}.path: {local.path} does not exist")
            continue
        if task == "retrieval" or (task == "zeroshot" and name not in catalogue.ENTRIES):
            if wrong := _third_party(name, study, task):
                yield Problem("evaluation", f"evaluation.{task}.datasets: {wrong}")
            continue
        if name not in catalogue.ENTRIES:
            known = sorted({*catalogue.ENTRIES, *block.datasets})
            text = f"no dataset {name!r}{targets.nearest(name, known) or '.'} There are {', '.join(known)}"
            yield Problem("evaluation", f"evaluation.{task}.datasets: {text}")
            continue
        if name in looked_for:
            continue
        entry, place = catalogue.find(name), catalogue.location(name, block.root)
        looked_for.add(name)
        if place is not None and not place.exists() and not (block.download and entry.downloadable):
            hint = "; or set evaluation.download" if entry.downloadable else ""
            yield Problem("evaluation", f"evaluation.{task}.datasets: {name} is not at {place}{hint}")


@cache
def _clip_benchmark_names() -> frozenset[str]:
    """The datasets that clip_benchmark builds by name, read from its source: it keeps no list, and imports torch."""
    package = importlib.util.find_spec("clip_benchmark").submodule_search_locations[0]
    source = Path(package, "datasets/builder.py").read_text(encoding="utf-8").split("\ndef ")[1]
    return frozenset(re.findall(r"dataset_name == [\"']([^\"']+)[\"']", source)) - {"dummy"}


def _third_party(name: str, study: Study, task: str) -> str | None:
    """What is wrong with a dataset that only clip_benchmark may know."""
    known = {*_clip_benchmark_names(), *study.evaluation.datasets}
    if task == "zeroshot":
        known |= catalogue.ENTRIES.keys()
    if name not in known and not name.startswith(CLIP_BENCHMARK_PREFIXES):
        return f"no dataset {name!r}{targets.nearest(name, known) or '.'} There are {', '.join(sorted(known))}"
    folder = Path(study.evaluation.root) / name.removeprefix("wds/").replace("/", "_")
    if not folder.exists() and not study.evaluation.download:
        return f"{name} is not at {folder}; or set evaluation.download"
    return None


def _results(study: Study) -> Iterator[Problem]:
    folder = _existing(Path(study.results) / study.study)
    if not folder.is_dir():
        yield Problem(EVERY_STAGE, f"results: {folder} is not a folder")
    elif os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield Problem(EVERY_STAGE, f"results: {folder} is on a read-only file system; choose another folder")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Problem(EVERY_STAGE, f"results: {folder} may not be written by this user; choose another folder")


def _existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _space(study: Study) -> Iterator[Problem]:
    """The first stage whose artifacts, with those of the stages before it, do not fit on the disk."""
    images = images_of(study)
    if images is None:
        return
    folder = Path(study.results) / study.study
    free = shutil.disk_usage(_existing(folder)).free
    trained = {name for name in study.runs if (folder / "runs" / name / "metrics.jsonl").is_file()}
    parts = {
        "foreground": (_bytes_of_foreground(study, images), ("foreground/*/scores/*", "foreground/*/tokens/*")),
        "generation": (sum(_bytes_of_views(view, images) for view in study.views.values()), ("views/*/*.tar",)),
        "training": (
            sum(_bytes_of_run(run) for name, run in study.runs.items() if name not in trained),
            [f"runs/{name}/checkpoints/*/*" for name in study.runs if name not in trained],
        ),
    }
    needed, shown = 0.0, []
    for stage, (amount, patterns) in parts.items():
        made = sum(file.stat().st_size for pattern in patterns for file in folder.glob(pattern) if file.is_file())
        left = max(amount - made, 0)
        needed += left
        shown.append(f"{stage} {wording.size(left)}")
        if needed > free:
            text = f"about {wording.size(needed)} are needed ({', '.join(shown)}), {wording.size(free)} are free"
            yield Problem(stage, f"{study.results}: {text}")
            return


def _bytes_of_foreground(study: Study, images: int) -> float:
    """Token scores and embeddings, and the tokens of the component's sample while it is fitted."""
    names = {study.foreground.encoder} | (
        {study.quality_encoder} if any(run.uses_quality for run in study.runs.values()) else set()
    )
    small = [study.encoders[name].model.startswith(models.PREFIX) for name in names]
    sample = sum(0 if is_small else min(study.pca.sample, images) * BYTES_PER_SAMPLE for is_small in small)
    return sample + images * (BYTES_PER_SCORE_ROW if not all(small) else 1000)


def _bytes_of_views(view: ViewSet, images: int) -> float:
    small = view.model is None or view.model.startswith(models.PREFIX)
    side = view.save_size or view.image_size or (32 if small else USUAL_SIDE)
    return images * view.samples * (BYTES_PER_VIEW + BYTES_PER_PIXEL * side**2)


def _bytes_of_run(run: Run) -> float:
    """Checkpoints (weights and two moments each; one more while it replaces the oldest) and the trained model."""
    parameters = PARAMETERS.get(run.model.architecture, PARAMETERS["base"])
    kept = run.checkpoints.keep + len(run.checkpoints.keep_epochs) + 1
    return 4 * parameters * (3 * kept + 1)


def _shards(study: Study) -> Iterator[Problem]:
    images = images_of(study)
    if images is None:
        return
    for name, run in study.runs.items():
        batch = run.batch_size * run.processes * run.nodes
        if batch > images:
            text = (
                f"a batch of {batch} ({run.batch_size} x {run.processes * run.nodes}) needs more than {images} images"
            )
            yield Problem("training", f"runs.{name}.batch_size: {text}")


def visible_gpus() -> int:
    """NVIDIA GPUs that this process may use, told without loading a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()]
    return len(devices) if visible is None else min(len(devices), len([part for part in visible.split(",") if part]))


def _processors(study: Study) -> Iterator[Problem]:
    gpus = visible_gpus()
    for name, run in study.runs.items():
        if run.nodes > 1 and shutil.which("srun") is None:
            yield Problem("training", f"runs.{name}.nodes: {run.nodes} nodes need a cluster, and there is no srun here")
        if 0 < gpus < run.processes and run.nodes == 1:
            text = f"{run.processes} processes, but this machine has {wording.plural(gpus, 'GPU')}"
            yield Problem("training", f"runs.{name}.processes: {text}")


CHECKS: tuple[Callable[[Study], Iterator[Problem]], ...] = (
    _results,
    _dataset,
    _captions,
    _weights,
    _given,
    _architectures,
    _shards,
    _space,
    _evaluation,
    _processors,
)
