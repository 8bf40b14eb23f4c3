"""Killed at any moment, a shard ends up as if nothing had happened."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from generation import job, write_conditions, write_originals, write_scores
from pipelines import save_unclip
from started import Started

from genview.config.views import ViewSet

pytestmark = pytest.mark.slow

IMAGES = 240
KILLS = 10


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    view = ViewSet(mode="img", model=str(save_unclip(folder / "unclip")), steps=3, batch_size=4)
    table = write_originals(folder, [f"{index:03d}" for index in range(IMAGES)], 1)
    write_conditions(folder, table)
    write_scores(folder, table, 1, view)
    return folder, view


def start(study, out: Path) -> Started:
    folder, view = study
    wanted = job(folder, view, "0-of-1", out)
    names = ("manifest", "conditions", "root", "scores", "tar", "index", "statistics", "work")
    values = {name: str(getattr(wanted, name)) for name in names}
    out.mkdir(exist_ok=True)
    file = out.parent / "job.json"
    file.write_text(json.dumps(values | {"shard": "0-of-1", "view": view.model_dump(mode="json")}))
    return Started("generate_shard", file, errors=out.parent / "errors.txt")


def finish(study, out: Path) -> None:
    process = start(study, out)
    assert process.wait() == 0, process.errors


def finished(out: Path) -> int:
    try:
        return len(list(out.glob(".work/*/*.jpg")))
    except FileNotFoundError:  # the folder was removed while it was read: all is done
        return IMAGES


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    finish(study, out)
    return files(out)


def test_killed_again_and_again(study, undisturbed, tmp_path):
    """SIGKILL after a random number of images, at a random moment of the next ones; the tar must not tell."""
    out, chance, seen = tmp_path / "out", random.Random(5), 0
    for _ in range(KILLS):
        process = start(study, out)
        goal = seen + chance.randint(3, 20)
        process.wait_until(lambda goal=goal: finished(out) >= goal)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        assert finished(out) > seen  # what was finished before is still there, and work went on
        seen = finished(out)
        assert not (out / "0-of-1.tar").exists()
    finish(study, out)
    assert json.loads((out / "logs" / "0-of-1.json").read_text())["resumed"] == seen
    assert files(out) == undisturbed
    assert sorted(path.name for path in out.iterdir()) == ["0-of-1.parquet", "0-of-1.tar", "logs"]


def test_killed_while_packing(study, undisturbed, tmp_path):
    """The moment in which the tar is half written under its temporary name, or written and not yet indexed."""
    out = tmp_path / "out"
    process = start(study, out)
    process.wait_until(lambda: finished(out) >= IMAGES - 4)
    process.wait_until(lambda: any(out.glob("*.tar*")), pause=0.0005)
    process.kill()
    finish(study, out)
    assert files(out) == undisturbed
    assert not list(out.glob("*.partial")) and not (out / ".work").exists()


def test_terminated(study, undisturbed, tmp_path):
    """SIGTERM, a cluster's warning: ends with an error, soon, with what is finished kept and a message that says so."""
    out = tmp_path / "out"
    process = start(study, out)
    process.wait_until(lambda: finished(out) >= 30)
    process.send(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(60) != 0
    assert time.monotonic() - began < 20
    assert "finished images are kept" in process.errors
    kept = finished(out)
    assert kept >= 30
    assert not list(out.rglob("*.partial"))
    stats = json.loads((out / "logs" / "0-of-1.json").read_text())
    assert stats["made"] >= 30 and not stats["finished"]
    finish(study, out)
    assert files(out) == undisturbed
