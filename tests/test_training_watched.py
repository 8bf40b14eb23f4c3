"""Monitors on fixed images. If these fail, a user watches numbers of another encoder, or watching changes his."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from training_study import study, weights

from genview.config.training import Run
from genview.training.loop import trainer, watched

SIMCLR = {"name": "simclr", "projector": [32, 16]}


def test_few_classes_are_taken_rather_than_few_images_of_each():
    labels = pa.chunked_array([[f"c{i % 100}" if i % 7 else None for i in range(3000)]])
    rows = watched.choose(labels, 64, seed=3)
    chosen = [labels[int(row)].as_py() for row in rows]
    assert len(rows) == 64 and len(set(chosen)) == 4 and None not in chosen
    assert (np.diff(rows) > 0).all() and np.array_equal(rows, watched.choose(labels, 64, seed=3))
    assert not np.array_equal(rows, watched.choose(labels, 64, seed=4))
    without = pa.chunked_array([pa.nulls(30, pa.string())])
    assert len(watched.choose(without, 20, seed=0)) == 20 and len(watched.choose(without, 99, seed=0)) == 30


def test_each_image_is_classified_by_the_others():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 12)
    features = random.normal(size=(36, 5)) + 1.5 * np.eye(5)[labels]
    found = watched.leave_one_out(torch.from_numpy(features).float(), torch.from_numpy(labels))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    right = []
    for row in range(36):
        others = np.arange(36) != row
        votes = KNeighborsClassifier(10, weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.07))
        right.append(votes.fit(unit[others], labels[others]).predict(unit[row : row + 1])[0] == labels[row])
    assert found == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    ("log", "every", "expected"), [(1, 1, [5, 10, 15, 20]), (3, 1, [6, 12, 15, 20]), (10, 2, [10, 20])]
)
def test_a_look_once_an_epoch_where_a_line_is_logged(log, every, expected):
    one = watched.Watched.__new__(watched.Watched)
    one.settings = Run.model_validate({"watch": {"every_epochs": every}}).watch
    logged = [step for step in range(1, 21) if step % log == 0 or step == 20]
    assert [step for step in logged if one.due(step, 20, 5, log)] == expected


def test_watching_shows_the_run_and_changes_nothing(tmp_path):
    plain = study(tmp_path / "plain", quality=False, method=SIMCLR)
    seen = study(tmp_path / "seen", quality=False, method=SIMCLR, watch={"images": 32})
    for job in (plain, seen):
        trainer.train(job)
    lines = [[json.loads(line) for line in Path(job.metrics).read_text().splitlines()] for job in (plain, seen)]
    assert [line["step"] for line in lines[1] if "drift" in line] == [5, 10]
    for one, other in zip(*lines):
        assert {name: value for name, value in other.items() if name not in ("drift", "knn")} == one
    for name, value in weights(plain.model).items():
        assert torch.equal(value, weights(seen.model)[name]), name
    drifts = [line["drift"] for line in lines[1] if "drift" in line]
    assert all(0 < drift < 2 for drift in drifts)
    assert all(0 <= line["knn"] <= 1 for line in lines[1] if "knn" in line) and "knn" in lines[1][-1]


def test_a_run_that_goes_on_compares_with_its_first_weights(tmp_path):
    changes = {"quality": False, "method": SIMCLR, "watch": {"images": 16}, "checkpoints": {"every_steps": 3}}
    whole, stopped = study(tmp_path / "whole", **changes), study(tmp_path / "stopped", **changes)
    trainer.train(whole)
    one = trainer.Trainer(stopped)
    one.verdict.record = lambda step, *_: step == 7
    with pytest.raises(trainer.process.Stopped):
        one.train()
    trainer.train(stopped)
    assert Path(stopped.metrics).read_text() == Path(whole.metrics).read_text()
