"""Score the captions of a group of shards with a backend, whichever it is: batches, progress, restarts, the table.

The backends are listed in `genview.config.guidance`. This module imports none of them, so that a study depends on the
code, and pays for the imports, of its own backend alone.
"""

import dataclasses
import importlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from genview import kept, parquet, progress, provenance, tables
from genview.config.guidance import Guidance
from genview.data import manifest as manifests
from genview.data.reader import Reader
from genview.errors import GenviewError
from genview.guidance.answers import Answer
from genview.guidance.journal import Journal
from genview.kept import Earlier

NO_CAPTION = Answer(None, raw_answer="the image has no caption")


ENOUGH, FEW = 32, 5
"""If none of ``ENOUGH`` captions can be scored, the others are not asked for; a group of ``FEW`` or more without any
score stops the study, too."""


class Scorer(Protocol):
    """What a backend is."""

    batch_size: int
    """Captions per call."""
    is_costly: bool
    """Whether answers are worth keeping for a restart."""

    def score(self, captions: Sequence[str], images: Sequence | None = None) -> list[Answer]:
        """One answer per caption, in order, from its image (PIL, RGB) too where there are images; without a score if
        the caption cannot be scored."""
        ...


def backend(guidance: Guidance) -> Scorer:
    """The scorer that the settings name."""
    return importlib.import_module(f"genview.guidance.{guidance.backend}").Scorer(guidance)


def run(
    scorer: Scorer,
    *,
    manifest: str | Path,
    group: str,
    output: str | Path,
    stamp: Mapping[str, str],
    root: str | Path | None = None,
    model: str = "",
    earlier: Earlier | None = None,
) -> None:
    """Score a group of shards.

    A costly backend's answers are kept beside ``output`` until the group is done; a restart asks for the missing ones
    alone. If captions remain without a score, they are kept further, so that running the rule again asks for those.

    Args:
        scorer: the backend.
        manifest: ``manifest.parquet``.
        group: name such as ``"0-of-2"`` (`data.manifest.read_group`).
        output: the Parquet file (``tables.GUIDANCE``).
        stamp: provenance of the table; restarts use answers made under the same stamp.
        root: folder of the images, for a backend that sees them.
        model: digest of a model's files, where they are the user's own.
        earlier: tables made before, from which the scores of unchanged captions are taken over.

    Raises:
        GenviewError: no caption at all can be scored: what is refused every time is not the captions' fault.
    """
    columns = ["key", "caption", "path", "offset", "length", "sha256"]
    rows = manifests.read_group(manifest, group, columns).to_pylist()
    answers = {row["key"]: NO_CAPTION for row in rows if not (row["caption"] or "").strip()}
    log = logging.getLogger(__name__)
    seen = ["key", "caption", *(["sha256"] if root else [])]
    made_from = [provenance.digest([row[name] for name in seen]) for row in rows]
    binding = provenance.digest([stamp.get("parameters"), model])
    exact: dict[str, float | None] = {}
    if earlier:
        table, _ = earlier.table(made_from, binding, tables.GUIDANCE)
        answers.update({row["key"]: _answer(row) for row in table.to_pylist()})
        exact = dict(zip(table["key"].to_pylist(), table["expectation"].to_pylist()))
        log.info("%d of %d answers are taken over", len(table), len(rows))
    journal = None
    if scorer.is_costly:
        path = Path(output).with_suffix(".answers.jsonl")
        journal = Journal(path, provenance.digest(dict(stamp)))
        before = {row["key"]: journal.answers[row["key"]] for row in rows if row["key"] in journal.answers}
        log.info("%d of %d answers kept from an earlier attempt", len(before), len(rows))
        answers.update(before)

    waiting = [row for row in rows if row["key"] not in answers]
    # Captions of like length share a batch, which keeps padding small; the order of the table is the manifest's.
    waiting.sort(key=lambda row: (len(row["caption"]), row["key"]))
    asked: dict[str, Answer] = {}
    reader = Reader(root) if root else None
    with progress.bar("captions", total=len(rows), initial=len(answers), unit="caption") as bar:
        for start in range(0, len(waiting), scorer.batch_size):
            batch = waiting[start : start + scorer.batch_size]
            made = _score(scorer, batch, reader)
            asked.update(made)
            if len(asked) >= ENOUGH:
                _require_some(asked)
            if journal:
                journal.add(made)
            answers.update(made)
            bar.update(len(batch))

    if len(asked) >= FEW:
        _require_some(asked)
    _write([answers[row["key"]] for row in rows], [row["key"] for row in rows], output, stamp, exact)
    unscored = [row["key"] for row in rows if answers[row["key"]].score is None]
    if earlier:
        unusable = set(unscored)
        names = [kept.NOTHING if row["key"] in unusable else name for row, name in zip(rows, made_from)]
        earlier.keep(manifest, [output], names, binding)
    for key in unscored[:20]:
        log.warning("%s: not scored: %s", key, (answers[key].raw_answer or "")[:200])
    if unscored:
        log.warning("%d of %d captions could not be scored; they get the default scale", len(unscored), len(rows))
    if journal:
        journal.close(remove=all(answers[key] is NO_CAPTION for key in unscored))


def _answer(row: Mapping[str, Any]) -> Answer:
    """The answer in a row of ``tables.GUIDANCE``."""
    values = {field.name: row[field.name] for field in dataclasses.fields(Answer)}
    return Answer(**values | {"probabilities": values["probabilities"] and tuple(values["probabilities"])})


def _require_some(asked: Mapping[str, Answer]) -> None:
    if any(answer.score is not None for answer in asked.values()):
        return
    words, count = Counter((answer.raw_answer or "").strip()[:500] for answer in asked.values()).most_common(1)[0]
    told = f"{count} times the answer was: {words}" if words else f"{count} answers hold no words"
    raise GenviewError(
        f"none of {len(asked)} captions could be scored, so that it is not the captions: {told}. Mend the server or "
        "the model (guidance), and run the same command again"
    )


def _score(scorer: Scorer, batch: list[dict], reader: Reader | None) -> dict[str, Answer]:
    if reader is None:
        made = scorer.score([row["caption"] for row in batch])
        return {row["key"]: answer for row, answer in zip(batch, made, strict=True)}
    answers, readable, images = {}, [], []
    for row in batch:
        try:
            images.append(reader.image(row["path"], row["offset"], row["length"]))
            readable.append(row)
        except GenviewError as error:
            answers[row["key"]] = Answer(None, raw_answer=str(error))
    if readable:
        made = scorer.score([row["caption"] for row in readable], images)
        answers |= {row["key"]: answer for row, answer in zip(readable, made, strict=True)}
    return answers


def _write(
    answers: list[Answer],
    keys: list[str],
    output: str | Path,
    stamp: Mapping[str, str],
    exact: Mapping[str, float | None],
) -> None:
    """Write the table; ``exact`` are expectations taken over, which rounded probabilities would give but nearly."""
    probabilities = pa.array([answer.probabilities for answer in answers], pa.list_(pa.float32(), 4))
    columns = {
        "key": keys,
        "score": [answer.score for answer in answers],
        "probabilities": probabilities,
        "expectation": [exact.get(key, answer.expectation) for key, answer in zip(keys, answers)],
        "explanation": [answer.explanation for answer in answers],
        "raw_answer": [answer.raw_answer for answer in answers],
    }
    parquet.write(columns, tables.GUIDANCE, output, **stamp)
