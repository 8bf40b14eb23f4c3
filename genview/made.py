"""What an artifact was made with, noted beside it in ``.made/<name>.json``, and which record stands for that in a plan.

A workflow compares times: an artifact is made anew if a record (of settings, of code) is younger. That fails where a
record is older than the artifact and yet not its own: settings A, then B, then A again. So the job notes which records
it used, and a plan asks the note: the record itself where it is the artifact's own, else one with another name, made
now, and therefore younger than the artifact.
"""

import json
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from genview import atomic, provenance, words

FOLDER = ".made"
ACCEPTED = "accepted.json"
"""In a study's folder: all acceptances so far, so that the report, which lists them, is made anew."""


def results_of(record: str | Path) -> Path:
    """The study's folder of results, from the path of a record: ``<results>/code/<rule>/<digest>.json``."""
    return Path(record).parents[2]


def artifacts(place: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The artifacts below a folder that have a note, sorted, each with its note."""
    for note in sorted(Path(place).rglob(f"{FOLDER}/*.json")):
        artifact = note.parent.parent / note.name.removesuffix(".json")
        yield artifact, read(artifact)


def note_of(artifact: str | Path) -> Path:
    """The file beside an artifact that says what it was made with."""
    artifact = Path(artifact)
    return artifact.parent / FOLDER / f"{artifact.name}.json"


def read(artifact: str | Path) -> dict[str, Any]:
    """The note of an artifact; empty where there is none, or none that can be read."""
    try:
        note = json.loads(note_of(artifact).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def begin(artifact: str | Path, records: Mapping[str, str]) -> None:
    """Note, before a job writes anything, which records it uses: killed in the middle, nobody takes its work for older.

    Args:
        artifact: the job's first output.
        records: kind (``code``, ``settings``) to the record's path.
    """
    atomic.write_json(note_of(artifact), {**read(artifact), "making": _names(records)})


def finish(artifact: str | Path, records: Mapping[str, str], **more: Any) -> None:
    """Note that the artifact is complete and what made it; ``more`` is kept beside (the rule, its script)."""
    atomic.write_json(note_of(artifact), {"made": _names(records), **more})


def accept(artifact: str | Path, digest: str, reason: str) -> None:
    """Let an artifact stand under other code than made it.

    Args:
        artifact: the first output of its job; it has a note.
        digest: of the code under which it shall stand.
        reason: for the report.
    """
    note = read(artifact)
    accepted = [entry for entry in note.get("accepted", []) if entry["code"] != digest]
    atomic.write_json(note_of(artifact), {**note, "accepted": [*accepted, {"code": digest, "reason": reason}]})


def accepted(results: str | Path) -> list[dict[str, str]]:
    """All acceptances of a study: ``artifact``, ``rule``, ``made`` and ``code`` (digests), ``reason``."""
    try:
        return list(json.loads((Path(results) / ACCEPTED).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


def add_accepted(results: str | Path, entries: list[dict[str, str]]) -> None:
    """Add acceptances to the study's list; one takes the place of an earlier one of the same artifact and code."""
    kept = {(entry["artifact"], entry["made"], entry["code"]): entry for entry in [*accepted(results), *entries]}
    atomic.write_json(Path(results) / ACCEPTED, list(kept.values()))


def _names(records: Mapping[str, str]) -> dict[str, str]:
    return {kind: Path(path).name for kind, path in records.items()}


def _alike(own: Path, today: Path) -> bool:
    """Whether two records of settings differ in nothing but settings that one has as null and the other has not."""
    try:
        first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (own, today))
    except (OSError, ValueError):
        return False
    return not words.differences(first, second)


def record_for(artifact: str | Path, kind: str, record: str | Path) -> str:
    """Path of the record that a plan takes as the artifact's input.

    Args:
        artifact: the first output of the job.
        kind: ``code`` or ``settings``.
        record: the record of today (`provenance.record`), named by its digest.

    Returns:
        The record under which the artifact was made, where it is of the same content (one of settings may state what is
        null, as earlier versions did) or was accepted; today's where the artifact has no note; else a copy of today's,
        younger than the artifact.
    """
    record = Path(record)
    note = read(artifact)
    if not note:
        return str(record)
    state = note.get("making") or note.get("made") or {}
    own = state.get(kind, "")
    if own.split(".")[0] == record.stem and (record.parent / own).is_file():
        return str(record.parent / own)
    if kind == "settings" and own and _alike(record.parent / own, record):
        return str(record.parent / own)
    codes = set(map(itemgetter("code"), note.get("accepted", []))) if kind == "code" and "making" not in note else set()
    if record.stem in codes and (record.parent / own).is_file():
        return str(record.parent / own)
    since = note_of(artifact).stat().st_mtime_ns
    younger = record.with_name(f"{record.stem}.{provenance.digest([since, note])}.json")
    if not younger.is_file():
        atomic.write_bytes(younger, record.read_bytes())
    return str(younger)
