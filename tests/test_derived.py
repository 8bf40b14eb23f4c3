"""Models between a run's beginning and its end. If these fail, a user reads a curve that is not that of his run."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from workspace import Workspace

from genview.config import derived, load
from genview.config.encoders import Encoder
from genview.encoders import interpolate, look
from genview.errors import GenviewError

STUDY = """
study: curved
dataset: {source: scenes, count: 32, shards: 1}
encoders: {small: {model: small/clip}}
training:
  epochs: 3
  batch_size: 16
  method: {name: simclr, quality: null, projector: [32, 32, 16]}
  model: {initial: small}
  data: {views: {}, augmentation: {image_size: 32, blur: 0, resample: 0}}
  optimizer: {base_learning_rate: 1.0e-3, warmup_epochs: 0}
  checkpoints: {keep_epochs: [1, 3]}
runs: {tuned: {}}
evaluation:
  curve: [tuned]
  interpolate: {runs: [tuned], alphas: [0.5]}
  probe: {datasets: [digits]}
  duplicates: {enabled: false}
"""


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_each_weight_lies_on_the_straight_line(alpha):
    before = {"a": torch.randn(3, 4), "visual.trunk.b": torch.randn(2), "n": torch.tensor(3)}
    after = {"a": torch.randn(3, 4), "n": torch.tensor(9), "new": torch.randn(1)}
    found = interpolate.between(before, after, alpha)
    torch.testing.assert_close(found["a"], (1 - alpha) * before["a"] + alpha * after["a"])
    assert found["n"] == 9 and torch.equal(found["new"], after["new"])
    part = interpolate.between(before, {"b": torch.zeros(2)}, alpha, "visual.trunk.")
    torch.testing.assert_close(part["b"], (1 - alpha) * before["visual.trunk.b"])
    with pytest.raises(GenviewError, match=r"a: \(3, 4\) before the training, \(3,\) after"):
        interpolate.between(before, {"a": torch.zeros(3)}, alpha)


def test_names_are_those_of_the_configuration():
    study = load.parse(__import__("yaml").safe_load(STUDY))
    assert list(study.derived()) == ["tuned-epoch-1", "tuned-at-50"]
    assert list(study.evaluated()) == ["small", "tuned", *study.derived()]
    assert derived.of(study.model_dump(mode="json")) == study.derived()


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"curve": ["tined"]}, "did you mean 'tuned'"),
        ({"curve": ["fresh"]}, "keeps no epoch"),
        ({"interpolate": {"runs": ["fresh"]}}, "it has no model.initial"),
        ({"interpolate": {"runs": ["tuned"], "alphas": [0.123]}}, "not a whole number of per cent"),
        ({"curve": ["tuned"], "interpolate": None}, "rename it"),
    ],
)
def test_wrong_curves_are_named_at_once(evaluation, said):
    values = __import__("yaml").safe_load(STUDY)
    values["runs"]["fresh"] = {"model": {"initial": None, "architecture": "tiny"}, "checkpoints": {"keep_epochs": []}}
    if said == "rename it":
        values["runs"]["tuned-epoch-1"] = {}
    with pytest.raises(GenviewError, match=said):
        load.parse({**values, "evaluation": evaluation})


@pytest.mark.slow
def test_kept_epochs_and_interpolated_weights_are_evaluated_and_drawn(tmp_path):
    work = Workspace(tmp_path / "work")
    (work.root / "curved.yaml").write_text(STUDY)
    arguments = ["--configfile", "curved.yaml", "--cores", "2"]
    planned = work.planned(*arguments)
    assert planned["kept_epoch"] == planned["interpolate"] == 1 and planned["probe"] == 4
    work.snakemake(*arguments)
    assert work.planned(*arguments) == {}
    results = work.root / "results/curved"
    models = {name: results / f"runs/tuned{name}/model" for name in ("", "-epoch-1", "-at-50")}
    weights = {name: load_file(path / "open_clip_model.safetensors") for name, path in models.items()}
    initial = load_file(look.files.models.small_directory("small/clip") / "open_clip_model.safetensors")
    name = "visual.transformer.resblocks.0.attn.in_proj_weight"
    expected = torch.lerp(initial[name].float(), weights[""][name], 0.5)
    torch.testing.assert_close(weights["-at-50"][name], expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(weights["-epoch-1"][name], weights[""][name])
    pictures = torch.rand(2, 3, 32, 32)
    one, other = (look.load(Encoder(model=str(models[name]))).encode(pictures)[1] for name in ("-at-50", ""))
    assert one.shape == other.shape and not torch.equal(one, other)
    assert json.loads((models["-at-50"] / "run.json").read_text())["interpolated"] == 0.5
    drawn = sorted(path.stem for path in (results / "figures/evaluation").glob("curve-*.svg"))
    assert drawn == ["curve-epoch-tuned", "curve-interpolated-tuned"]
    rows = [row.split(",") for row in (results / "summary.csv").read_text().splitlines()]
    values = {row[1]: float(row[5]) for row in rows[1:] if row[2:5] == ["probes", "digits", "top1"]}
    assert set(values) == {"small", "tuned", *(f"tuned{name}" for name in models if name)}
    assert all(math.isfinite(value) for value in values.values())
    shown = (results / "report.html").read_text()
    assert "tuned-at-50</th>" not in shown, "the tables have a column for each run, not for each point of a curve"
