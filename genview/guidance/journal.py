"""The answers of an unfinished shard: kept beside it, one line per batch, for the job that takes it up again."""

import dataclasses
import json
import os
from pathlib import Path

from genview import atomic
from genview.guidance.answers import Answer


class Journal:
    """Answers by key, bound to a digest of settings and code: a journal of other settings is not used.

    A batch is a line, so that a batch that a killed job left half-written is asked for again as a whole: a resumed
    job forms the same batches as an undisturbed one.
    """

    def __init__(self, path: str | Path, digest: str):
        self.path = Path(path)
        self.answers: dict[str, Answer] = {}
        lines = self._complete_lines()
        if lines and lines[0] == {"digest": digest}:
            for line in lines[1:]:
                self.answers |= {key: _answer(values) for key, values in line.items()}
        atomic.write_text(self.path, _line({"digest": digest}) + _line(_plain(self.answers)))
        self._file = self.path.open("a", encoding="utf-8")

    def _complete_lines(self) -> list[dict]:
        if not self.path.is_file():
            return []
        lines = []
        for text in self.path.read_bytes().split(b"\n")[:-1]:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines

    def add(self, answers: dict[str, Answer]) -> None:
        """Keep the scored ones, on disk before this returns; the others are tried again next time."""
        scored = {key: answer for key, answer in answers.items() if answer.score is not None}
        self.answers |= scored
        self._file.write(_line(_plain(scored)))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, *, remove: bool) -> None:
        """End; ``remove`` when every caption has its score in the finished table."""
        self._file.close()
        if remove:
            self.path.unlink()


def _line(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _plain(answers: dict[str, Answer]) -> dict[str, dict]:
    return {key: dataclasses.asdict(answer) for key, answer in answers.items()}


def _answer(values: dict) -> Answer:
    if values["probabilities"] is not None:
        values["probabilities"] = tuple(values["probabilities"])
    return Answer(**values)
