"""The commands a user types: what they print, and how they fail."""

import json
from pathlib import Path

import pytest
import yaml
from miniature_study import finished
from rich.console import Console

from genview import __main__ as command_line
from genview.report import compare

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_check_says_that_a_study_can_run(tmp_path, capsys):
    configuration = tmp_path / "plain.yaml"
    configuration.write_text("study: plain\n")
    assert command_line.main(["check", "--config", str(configuration)]) == 0
    assert "'plain' can run" in capsys.readouterr().out


def test_check_prints_the_problems_alone_and_fails(tmp_path, capsys):
    configuration = tmp_path / "wrong.yaml"
    configuration.write_text("sead: 3\n")
    assert command_line.main(["check", "--config", str(configuration)]) == 1
    shown = capsys.readouterr()
    assert "sead: unknown key; did you mean 'seed'?" in shown.err
    assert "Traceback" not in shown.err


def test_config_prints_yaml_with_origins(capsys):
    assert command_line.main(["config", "--config", "config/smoke.yaml"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["study"] == "smoke"
    lines = {line.split("#")[0].strip(): line.split("#")[-1].strip() for line in text.splitlines() if "#" in line}
    assert lines["study: smoke"] == "config/smoke.yaml"
    assert lines["results: results"] == "default"


def test_config_prints_a_schema(capsys):
    assert command_line.main(["config", "--schema"]) == 0
    assert "extends" in json.loads(capsys.readouterr().out)["properties"]


def test_compare_shows_settings_and_numbers_that_differ(tmp_path):
    first, second = finished(tmp_path, "first"), finished(tmp_path, "second", seed=7)
    summary = (second / "summary.csv").read_text()
    rows = summary.replace(
        "second,all_views,probes,digits,top1,0.93,0.91,", "second,all_views,probes,digits,top1,0.97,0.96,"
    )
    (second / "summary.csv").write_text(rows)
    console = Console(record=True, width=140)
    compare.show(first, second, console)
    text = console.export_text()
    setting = next(line for line in text.splitlines() if line.strip().startswith("seed"))
    assert setting.split()[-2:] == ["42", "7"]
    number = next(line for line in text.splitlines() if "all_views" in line and "top-1 accuracy" in line)
    assert "+4.0" in number and "higher" in number
    assert "1 of 8 measurements" in text
    assert "all_views, digits, k-NN top-1" not in text, "what does not differ is not listed"


def test_compare_names_what_one_study_lacks_as_a_whole():
    first, second = {"runs": {"a": {"seed": 1}}}, {"runs": {"a": {"seed": 2}, "b": {"seed": 1, "epochs": 3}}}
    assert compare.differences(first, second) == [("runs.a.seed", 1, 2), ("runs.b", None, {"seed": 1, "epochs": 3})]


def test_compare_refuses_a_folder_that_holds_no_study(tmp_path, capsys):
    assert command_line.main(["compare", str(tmp_path), str(tmp_path)]) == 1
    assert "no finished study" in capsys.readouterr().err
