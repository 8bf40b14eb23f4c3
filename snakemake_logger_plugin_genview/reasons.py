"""Why a job runs, in a few words: Snakemake's reasons, and which settings or files of code have changed."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from genview import made as notes
from genview import words

FILES = 3
"""Files or settings that a reason names."""
AFTER = "after earlier jobs"
OTHER = "other inputs"
RECORDS = {"code": "/code/", "settings": "/settings/"}
"""In the paths of the files that stand for a job's code and settings; see ``record`` in `workflow/rules/common.smk`."""
REASONS = {
    "Missing output files": "new",
    "Incomplete output files": "unfinished",
    "Updated input files": "changed: {files}",
    "Input files updated by another job": AFTER,
    "Code has changed since last execution": "script changed",
    "Set of input files has changed since last execution": OTHER,
    "Forced execution": "forced",
}
"""Snakemake's reasons in a few words."""


def in_words(reason: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> str:
    """Why a job runs; reasons without words of their own stay as they are."""
    records = {file: kind for file in inputs for kind, part in RECORDS.items() if part in file}
    previous = {file: before for file in records if (before := previous_record(Path(file), outputs))}
    told = []
    for part in reason.split("; "):
        name, _, rest = part.partition(": ")
        text = REASONS.get(name, part)
        if "{files}" in text:
            files = [file for file in rest.split(", ") if file and file not in previous]
            text = text.format(files=words.listed(files, FILES)) if files else ""  # others are told below
        if text and not (previous and text == OTHER):
            told.append(text)
    for file, before in previous.items():
        told.append(f"{records[file]} changed, {changes(before, Path(file))}")
    return ", ".join([text for text in told if text != AFTER] or told)  # a new file says enough


def changed_record(file: str, outputs: Sequence[str]) -> str:
    """What a changed record of code or settings says, in words; nothing where the file is none."""
    kind = next((kind for kind, part in RECORDS.items() if part in file), None)
    before = previous_record(Path(file), outputs) if kind else None
    return f"{kind} ({changes(before, Path(file))})" if before else kind or ""


def previous_record(record: Path, outputs: Sequence[str]) -> Path | None:
    """The record that outputs were made with, if it was another.

    The note beside them names it; of outputs without a note it is the newest that is not newer than they.
    """
    note = notes.read(outputs[0]) if outputs else {}
    for name in (note.get("making") or note.get("made") or {}).values():
        if (record.parent / name).is_file():
            same = name.split(".")[0] == record.name.split(".")[0]
            return None if same else record.parent / name
    try:
        made = min(os.stat(file).st_mtime_ns for file in outputs)
        times = {file: file.stat().st_mtime_ns for file in record.parent.glob("*.json")}
    except (OSError, ValueError):
        return None
    newest = max((file for file in times if times[file] <= made), key=times.get, default=record)
    return newest if newest != record else None


def changes(before: Path, now: Path) -> str:
    """The settings, or files of code, in which two records differ."""
    named = []
    for path, old, new in words.differences(*(json.loads(file.read_text(encoding="utf-8")) for file in (before, now))):
        values = f" from {old!r} to {new!r}"
        named.append(path + (values if len(values) < 40 else ""))
    return words.listed(named, FILES)
