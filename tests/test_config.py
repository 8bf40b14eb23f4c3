"""A configuration that is wrong must say where; one that is right must say what it amounts to."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from genview.config import load, origin
from genview.errors import GenviewError

ROOT = Path(__file__).parent.parent
STUDIES = sorted((ROOT / "config").glob("*.yaml"))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_is_valid(path):
    assert load.load(path).study == yaml.safe_load(path.read_text())["study"]


def test_unknown_keys_are_refused_with_the_nearest_name():
    with pytest.raises(GenviewError) as error:
        load.parse({"sead": 1, "dataset": {"shard": 3}, "views": {"a": {"mode": "img", "step": 2}}})
    message = str(error.value)
    assert "3 problem" in message
    for hint in ("sead: unknown key; did you mean 'seed'", "dataset.shard", "'shards'", "views.a.step", "'steps'"):
        assert hint in message


def test_a_typing_error_in_the_shared_training_block_is_named_once_and_where_it_stands():
    with pytest.raises(GenviewError) as error:
        load.parse({"training": {"epoch": 3}, "runs": {"a": {}, "b": {}}})
    assert str(error.value).count("unknown key") == 1
    assert "training.epoch: unknown key; did you mean 'epochs'" in str(error.value)


def test_a_typing_error_in_training_is_found_without_any_run():
    with pytest.raises(GenviewError, match=r"training\.epoch: unknown key"):
        load.parse({"training": {"epoch": 3}})


def test_a_value_out_of_range_is_shown_with_its_key():
    with pytest.raises(GenviewError, match=r"pca\.foreground_share: .* \(got 1\.5\)"):
        load.parse({"pca": {"foreground_share": 1.5}})


def test_names_must_refer_to_something():
    with pytest.raises(GenviewError, match=r"runs\.a\.data\.views: no view set 'img'"):
        load.parse({"runs": {"a": {"data": {"views": {"img": 1.0}}}}})


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(GenviewError, match=r"none\.yaml: no such configuration file"):
        load.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("study: [")
    with pytest.raises(GenviewError, match=r"broken\.yaml: not YAML"):
        load.load(broken)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foreground: {encoder: smal}", "foreground.encoder: no encoder 'smal'; there are small"),
        ("views: {a: {mode: img, noise_level: 1000}}", "views.a.noise_level: should be 'table' or 'random', or:"),
        ("views: {a: {mode: img, sha256: abc}}", "views.a.sha256: a SHA-256 has 64 hexadecimal digits"),
        ("study: my study", "study: a name has letters, digits"),
        ("dataset: folder", "dataset: a mapping of keys to values is wanted (got 'folder')"),
        ("seed: 1\ndataset: {count: 2, count: 3}", "stated twice: dataset.count (line 2)"),
        ("extends: [a, b]", "extends: the name of one configuration file is wanted"),
    ],
)
def test_a_mistake_is_said_in_the_users_words_once(tmp_path, text, words):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(GenviewError) as error:
        load.load(file)
    assert words in str(error.value)
    assert "2 problem" not in str(error.value) and "constrained" not in str(error.value)


def test_files_that_extend_each_other_in_a_circle_are_refused(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(f"extends: {second}\n")
    second.write_text(f"extends: {first}\n")
    with pytest.raises(GenviewError, match="circle"):
        load.load(first)


def test_origins_name_the_file_that_states_a_value(tmp_path):
    base, mine = tmp_path / "base.yaml", tmp_path / "mine.yaml"
    base.write_text("seed: 1\ntraining: {epochs: 3, batch_size: 8}\nruns: {a: {batch_size: 16}}\n")
    mine.write_text(f"extends: {base}\nseed: 2\n")
    stack = origin.layers(mine)
    assert origin.origin(stack, ("seed",)) == str(mine)
    assert origin.origin(stack, ("runs", "a", "batch_size")) == str(base)
    assert origin.origin(stack, ("runs", "a", "epochs")) == f"{base}, training"
    assert origin.origin(stack, ("dataset", "source")) == origin.DEFAULT


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_printed_configuration_is_a_configuration_of_the_same_study(path):
    study = load.load(path)
    printed = yaml.safe_load(origin.annotated(study, origin.layers(path)))
    assert load.parse(printed) == study


def test_the_schema_accepts_the_shipped_studies_and_refuses_an_unknown_key():
    schema = json.loads(origin.schema_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for path in STUDIES:
        validator.validate(yaml.safe_load(path.read_text()))
    for wrong in ({"sead": 1}, {"training": {"epoch": 3}}, {"seed": "one"}):
        assert list(validator.iter_errors(wrong)), wrong


def test_reading_a_configuration_imports_nothing_heavy():
    program = "import sys, genview.config.load, genview.preflight, genview.config.origin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "diffusers", "open_clip", "transformers", "matplotlib"} & set(loaded)
