"""Any encoder of the configuration is evaluated like a run: by name in the configuration, and by path."""

import json

import pytest
import torch
from workspace import Workspace

from genview.config import load
from genview.config.encoders import Encoder
from genview.encoders import look
from genview.errors import GenviewError
from genview.evaluation import frozen

SETTINGS = """
study: compared
encoders:
  small: {model: small/clip}
  tower: {library: timm, model: test_resnet, pretrained: random}
evaluation:
  encoders: [small]
  datasets: {scene_class: {kind: scenes, train: 40, test: 40}}
  probe: {datasets: [scene_class]}
  zeroshot: {datasets: [scene_class]}
"""


def _settings_file(folder, **encoder):
    file = folder / "encoder.json"
    file.write_text(json.dumps({"encoder": Encoder(**encoder).model_dump(mode="json")}))
    return file


def test_an_encoder_gives_the_features_that_looking_through_it_gives(tmp_path):
    for encoder in ({"model": "small/clip"}, {"library": "timm", "model": "test_resnet", "pretrained": "random"}):
        file, loaded = _settings_file(tmp_path, **encoder), look.load(Encoder(**encoder))
        images = torch.randn(3, 3, loaded.image_size, loaded.image_size)
        for layer in ("pooled", "embedding"):
            seen = getattr(loaded.look(images, layer), layer)
            torch.testing.assert_close(frozen.load(file, layer=layer).features(images), seen)
    with pytest.raises(GenviewError, match="test_resnet has no text tower"):
        frozen.load(file, layer="embedding", text=True)


def test_a_name_that_is_no_encoder_or_a_run_too_is_refused():
    with pytest.raises(GenviewError, match=r"evaluation\.encoders: no encoder 'vit_h'; there are small"):
        load.parse({"evaluation": {"encoders": ["vit_h"]}})
    with pytest.raises(GenviewError, match=r"evaluation\.encoders: 'small' is a run, too"):
        load.parse({"evaluation": {"encoders": ["small"]}, "runs": {"small": {}}})


@pytest.mark.slow
def test_encoders_are_measured_like_runs_and_by_path(tmp_path):
    work = Workspace(tmp_path)
    (work.root / "study.yaml").write_text(SETTINGS)
    study = ("--configfile", "study.yaml")
    planned = work.planned(*study)
    assert planned["probe"] == 1 and planned["score_zeroshot"] == 1 and "train" not in planned
    paths = [f"results/compared/probes/{name}/scene_class.json" for name in ("small", "tower")]
    work.snakemake(*study, "--", *paths, "results/compared/zeroshot/small/scene_class.json")
    digests = {json.loads((work.root / path).read_text())["model_digest"] for path in paths}
    assert len(digests) == 2
