"""If these fail, a stage cannot be used on files of one's own, without a workflow."""

import json
import os
import runpy
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from started import Started

from genview import parquet, tables

CONFIGURATION = """
extends: config/smoke.yaml
study: alone
dataset: {shards: 1, count: 24}
pca: {sample: 24}
evaluation:
  datasets: {drawn: {kind: scenes, train: 60, test: 20}}
"""


def run(stage: str, *arguments: str) -> str:
    """The command as typed in the present folder; fails if it does. Returns what it said."""
    started = Started(f"genview.{stage}", "--config", "mine.yaml", *arguments, errors=Path(f"{stage}.txt"))
    status = started.wait()
    assert status == 0, started.errors
    return started.errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of all stages, each made by its own command in a folder that is not a checkout."""
    folder, before = tmp_path_factory.mktemp("alone"), Path.cwd()
    os.chdir(folder)
    Path("mine.yaml").write_text(CONFIGURATION)
    images = ("--manifest", "data/manifest.parquet")
    try:
        run("data", "--to", "data")
        run("foreground", *images, "--to", "foreground")
        run("guidance", *images, "--to", "guidance")
        given = ("--ratio", "foreground/foreground_ratio.parquet", "--scores", "guidance/0-of-1.parquet")
        run("conditions", *images, *given, "--to", "conditions")
        given = ("--view", "img", "--conditions", "conditions/conditions.parquet")
        run("generation", *images, *given, "--to", "views")
        run("audit", *images, "--view", "img", "--views", "views", "--to", "audit")
        yield folder
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_each_stage_makes_its_files_from_those_before(folder):
    keys = pq.read_table(folder / "data/manifest.parquet")["key"]
    assert len(keys) == 24
    assert parquet.read(folder / "foreground/foreground_ratio.parquet", tables.FOREGROUND_RATIO)["key"] == keys
    conditions = pq.read_table(folder / "conditions/conditions.parquet")
    assert conditions["key"] == keys and conditions["noise_level"].null_count == 0
    assert pq.read_metadata(folder / "views/0-of-1.parquet").num_rows == 24
    assert json.loads((folder / "audit/quality.json").read_text())


@pytest.mark.parametrize("stage", ["data", "foreground", "guidance", "conditions", "generation", "audit", "evaluation"])
def test_every_stage_says_what_it_reads_and_writes(stage, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["genview", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"genview.{stage}", run_name="__main__")
    said = capsys.readouterr().out
    assert not ended.value.code
    assert f"python -m genview.{stage} " in said and "Writes " in said and "--to FOLDER" in said


@pytest.mark.slow
def test_a_model_is_evaluated(folder):
    model = Path(__file__).parent.parent / "genview/models/small/clip"
    for task in ("probe", "zeroshot"):
        run("evaluation", task, "--model", str(model), "--dataset", "drawn", "--to", task)
        assert json.loads((folder / task / "drawn.json").read_text())["results"]


@pytest.mark.slow
def test_what_is_missing_is_a_sentence(folder):
    started = Started(
        "genview.conditions",
        "--config", "mine.yaml", "--manifest", "data/manifest.parquet", "--to", "again",
        errors=Path("missing.txt"),
    )  # fmt: skip
    assert started.wait() == 1
    assert "mine.yaml: what it asks for is adaptive, which needs --ratio" in started.errors
