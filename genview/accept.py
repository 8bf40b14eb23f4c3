"""Let artifacts stand under today's code although other code made them, with a reason: the command ``accept``."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from genview import atomic, made, provenance, words
from genview.errors import GenviewError

STARTS = "starts"
"""Beside the records of a rule's code: where its code begins, script and modules, as the workflow says."""
EVERYTHING = "all"

Found = tuple[Path, dict[str, Any]]


def write_starts(folder: Path, starts: Sequence[str]) -> None:
    """Note where a rule's code begins, for `today`; scripts relative to the working directory."""
    text = json.dumps([os.path.relpath(start) if start.endswith(".py") else start for start in starts])
    file = folder / STARTS
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        atomic.write_text(file, text)


@cache
def today(results: Path, rule: str) -> str:
    """Digest of a rule's code as it is now.

    Raises:
        GenviewError: the workflow has not noted where the rule's code begins.
    """
    file = results / "code" / rule / STARTS
    try:
        starts = json.loads(file.read_text(encoding="utf-8"))
        return provenance.digest(provenance.Code(results / "code" / provenance.MEANINGS).files(*starts))
    except FileNotFoundError as error:
        raise GenviewError(f"{error.filename}: no such file; plan the study with `snakemake -n` first") from error


def _study_of(artifact: Path) -> Path:
    for folder in artifact.resolve().parents:
        if (folder / "code" / provenance.MEANINGS).is_file():
            return folder
    raise GenviewError(f"{artifact}: is in no study's folder of results")


def _at(place: Path) -> Iterator[Found]:
    """The artifacts of a path: a job's first output or another one, or all below a folder."""
    if made.note_of(place).is_file():
        yield place, made.read(place)
        return
    found = list(made.artifacts(place)) if place.is_dir() else []
    for artifact, note in made.artifacts(place.parent) if not found else ():
        if place.resolve() in [(artifact.parent / output).resolve() for output in note.get("outputs", ())]:
            found.append((artifact, note))
    if not found:
        raise GenviewError(f"{place}: no note says what made it; only artifacts of a finished job can be accepted")
    yield from found


def _named(word: str, results: Path) -> Iterator[Found]:
    """The artifacts of a rule, a stage, or of the whole study."""
    every = [(artifact, note) for artifact, note in made.artifacts(results) if note.get("rule")]
    found = [item for item in every if word in (EVERYTHING, item[1]["rule"], item[1].get("stage"))]
    if not found:
        known = sorted({note["rule"] for _, note in every})
        raise GenviewError(f"{word!r} is neither a file nor a stage of {results}; there are {words.listed(known, 40)}")
    yield from found


def run(places: Sequence[str], reason: str, results: Path) -> list[str]:
    """Accept artifacts.

    Args:
        places: paths of artifacts or folders of them, names of rules or stages, or ``all``.
        reason: for the report.
        results: the study's folder, for names.

    Returns:
        What was done, a line for each rule.

    Raises:
        GenviewError: there is no such artifact, or the reason is empty.
    """
    if not reason.strip():
        raise GenviewError("--reason: say why the change of the code alters none of these artifacts")
    found = {}
    for place in places:
        for artifact, note in _at(Path(place)) if Path(place).exists() else _named(place, results):
            found[artifact.resolve()] = artifact, note
    told: Counter[tuple[str, str]] = Counter()
    ledgers: dict[Path, list[dict[str, str]]] = {}
    for artifact, note in found.values():
        rule, own = note.get("rule", ""), note.get("made", {}).get("code", "").split(".")[0]
        if not rule or not own or "making" in note:
            told[rule or "artifact(s) of older versions", "unfinished, left alone"] += 1
            continue
        study = _study_of(artifact)
        code = today(study, rule)
        if code == own:
            told[rule, "made by today's code already"] += 1
            continue
        made.accept(artifact, code, reason)
        name = artifact.resolve().relative_to(study).as_posix()
        entry = {"artifact": name, "rule": rule, "made": own, "code": code, "reason": reason}
        ledgers.setdefault(study, []).append(entry)
        told[rule, "accepted"] += 1
    for study, entries in ledgers.items():
        made.add_accepted(study, entries)
    return [f"{rule}: {number} {what}" for (rule, what), number in sorted(told.items())]
