"""Checks of the datasets that models are tested on: what would stop an evaluation after days of training."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from genview import provenance, words
from genview.config.evaluation import LocalDataset
from genview.config.study import Study
from genview.data import images
from genview.errors import GenviewError
from genview.evaluation import catalogue, coco, complete, local, masked_images, mmvp_pairs, third_party
from genview.evaluation.splits import LabelledDataset, Part, Purpose
from genview.preflight import collection
from genview.preflight.problem import Problem

TASKS: dict[str, Purpose] = {
    "probe": "probe",
    "parts": "probe",
    "finetune": "probe",
    "zeroshot": "zeroshot",
    "retrieval": "retrieval",
}
"""Blocks of the evaluation that name datasets, and what they need of them."""

HEADS = 20_000
"""Images of a dataset whose heads are looked at; more would take minutes."""

SHOWN = 5


def datasets(study: Study) -> Iterator[Problem]:
    """Names that nobody knows, datasets that are not there or not whole, and those that do not serve their task."""
    seen: set[str] = set()
    for task, purpose in TASKS.items():
        for name in getattr(study.evaluation, task).datasets:
            for text in _problems(study, name, purpose):
                if text not in seen:
                    seen.add(text)
                    yield Problem("evaluation", f"evaluation.{task}.datasets: {text}")


def detections(study: Study) -> Iterator[Problem]:
    """Folders in COCO's format that are not there or not whole."""
    for name, folder in study.evaluation.detection.datasets.items():
        if folder is None:
            continue
        for part in coco.PARTS:
            try:
                coco.read(folder, part)
            except GenviewError as error:
                yield Problem("evaluation", f"evaluation.detection.datasets.{name}: {error}")


def masked(study: Study) -> Iterator[Problem]:
    """Folders of images or videos with masks that are not there or not whole."""
    for task, look in (("saliency", masked_images.pairs), ("video", masked_images.sequences)):
        for name, folder in getattr(study.evaluation, task).datasets.items():
            if folder is None:
                continue
            try:
                look(folder)
            except GenviewError as error:
                yield Problem("evaluation", f"evaluation.{task}.datasets.{name}: {error}")


def mmvp(study: Study) -> Iterator[Problem]:
    """A data set of pairs that is not there or not whole."""
    block = study.evaluation.mmvp
    if block is None or block.path is None:
        return
    try:
        mmvp_pairs.read(block.path)
    except GenviewError as error:
        yield Problem("evaluation", f"evaluation.mmvp.path: {error}")


def _problems(study: Study, name: str, purpose: Purpose) -> Iterator[str]:
    block = study.evaluation.datasets.get(name)
    if block is not None:
        yield from _own(study, name, block, purpose)
    elif purpose == "retrieval" or name not in catalogue.ENTRIES:
        yield from _third_party(study, name, purpose)
    else:
        yield from _official(study, name)


def _own(study: Study, name: str, block: LocalDataset, purpose: Purpose) -> Iterator[str]:
    if block.kind == "own_labels":
        yield from _own_labels(study, name, purpose)
    if block.kind not in ("image_folder", "table"):
        return
    if not Path(block.path).exists():
        yield f"evaluation.datasets.{name}.path: {block.path} does not exist"
        return
    try:
        dataset = local.load(name, block, seed=study.seed, purpose=purpose)
    except (GenviewError, OSError) as error:
        yield str(error)
        return
    if purpose == "retrieval":
        part = dataset.test
        count = sum(bool(captions) for captions in part.captions or ())
        if count < max(study.evaluation.retrieval.recall_at):
            most = max(study.evaluation.retrieval.recall_at)
            yield f"dataset {name}: recall at {most} needs as many images with a caption, there are {count}"
    yield from _heads(name, dataset)
    if purpose == "probe":
        yield from _copies(name, dataset, study.evaluation.probe.allowed_overlap)


def _own_labels(study: Study, name: str, purpose: Purpose) -> Iterator[str]:
    """The study's own images, as far as a first look tells."""
    seen = collection.first_look(study)
    if seen is None:
        return
    missing = seen.uncaptioned if purpose == "retrieval" else seen.unlabelled
    if missing:
        what = "captions" if purpose == "retrieval" else "labels"
        yield f"dataset {name} (own_labels) needs {what}, but {missing}"


def _files(part: Part) -> list[Path]:
    root, files = part.open.args  # type: ignore[attr-defined]  # a functools.partial
    return [root / files[row] for row in part.rows]


def _parts(dataset: LabelledDataset) -> dict[str, list[Path]]:
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {where: _files(part) for where, part in parts.items() if part is not None and len(part)}


def _heads(name: str, dataset: LabelledDataset) -> Iterator[str]:
    """Files that are not there or no images; only their heads are read."""
    files = [file for part in _parts(dataset).values() for file in part]
    bad = []
    for file in files[:HEADS]:
        try:
            with Image.open(file, formats=images.FORMATS):
                pass
        except FileNotFoundError:
            if local.found(file) is None:
                bad.append(f"{file}: no such file")
        except Exception:  # whatever Pillow's readers raise: the one way of decoding says what is wrong
            try:
                images.decode(file.read_bytes())
            except (GenviewError, OSError) as error:
                bad.append(f"{file}: {error}")
    if bad:
        more = f", and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        yield f"dataset {name}: {len(bad)} of {len(files)} images cannot be opened: {'; '.join(bad[:SHOWN])}{more}"


def _copies(name: str, dataset: LabelledDataset, allowed: float) -> Iterator[str]:
    """Test images whose file is a training image too, byte by byte; files of other sizes are not read."""
    parts = _parts(dataset)
    sizes = {file: file.stat().st_size for part in parts.values() for file in part if file.is_file()}
    test = [file for file in parts.get("test", ()) if file in sizes]
    known = [file for where, part in parts.items() if where != "test" for file in part if file in sizes]
    shared = {sizes[file] for file in test} & {sizes[file] for file in known}
    digests = {provenance.file_sha256(file): file for file in reversed(known) if sizes[file] in shared}
    pairs = [
        (file, digests[digest])
        for file in test
        if sizes[file] in shared and (digest := provenance.file_sha256(file)) in digests
    ]
    if len(pairs) > allowed * len(test):
        shown = "; ".join(f"{one} is {other}" for one, other in pairs[:SHOWN])
        more = f"; and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        yield (
            f"dataset {name}: {len(pairs)} of {len(test)} test images are training images too: {shown}{more}. Remove "
            "them from one part, or state a larger evaluation.probe.allowed_overlap"
        )


def _third_party(study: Study, name: str, purpose: Purpose) -> Iterator[str]:
    """A dataset that only clip_benchmark may know."""
    if not third_party.known(name):
        known = {*third_party.names(), *study.evaluation.datasets}
        known |= catalogue.ENTRIES.keys() if purpose != "retrieval" else set()
        yield f"no dataset {name!r}{words.nearest(name, known) or '.'} There are {', '.join(sorted(known))}"
        return
    block = study.evaluation
    if wrong := third_party.problem(name, block.root, download=block.download, purpose=purpose):
        folder = third_party.place(name, block.root)
        yield wrong if folder.exists() or name not in wrong else f"{name} is not at {folder}: {wrong}"


def _official(study: Study, name: str) -> Iterator[str]:
    """A dataset of the table."""
    block = study.evaluation
    entry, place = catalogue.find(name), catalogue.location(name, block.root)
    if place is None or (block.download and entry.downloadable):
        return
    hint = "; or set evaluation.download" if entry.downloadable else ""
    if not place.exists():
        yield f"{name} is not at {place}{hint}"
    elif wrong := complete.missing(name, block.root):
        yield f"{name} at {place}: {wrong}{hint}"
