"""One artifact, asked for by path: every one can be, and a mistyped path is answered with what there is."""

import pytest
from workspace import Workspace

from genview import targets

VALUES = {
    "study": ["default"],
    "model": ["originals", "all_views"],
    "dataset": ["digits", "dtd"],
    "view": ["img"],
    "shard": [f"{shard}-of-1000" for shard in range(1000)],
}
PATTERNS = [
    "probes",
    "results/{study}/report.html",
    "results/{study}/probes/{model}/{dataset}.json",
    "results/{study}/runs/{model}/model",
    "results/{study}/views/{view}/{shard}.tar",
    "results/{study}/views/{view}/quality.json",
]


def explained(target: str) -> str | None:
    return targets.explain(target, PATTERNS, VALUES)


@pytest.mark.parametrize(
    "target", ["probes", "results/default/probes/all_views/dtd.json", "results/default/views/img/999-of-1000.tar"]
)
def test_what_there_is_needs_no_words(target):
    assert explained(target) is None


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/default/probes/all_view/dtd.json", ["no model 'all_view'", "did you mean 'all_views'", "originals"]),
        ("results/default/probes/all_views/digit.json", ["no dataset 'digit.json'", "did you mean 'digits.json'"]),
        ("results/defaults/report.html", ["no study 'defaults'", "did you mean 'default'", "--configfile"]),
        ("results/default/views/imgtxt/0-of-1000.tar", ["no view 'imgtxt'", "There are: img"]),
        ("results/default/views/img/1000-of-1000.tar", ["no shard '1000-of-1000.tar'", "and 989 more"]),
        ("results/default/prob/all_views/dtd.json", ["no file or folder 'prob'", "did you mean 'probes'"]),
        ("prbes", ["no stage or file 'prbes'", "did you mean 'probes'"]),
        ("results/default/probes/all_views", ["is a folder", "digits.json, dtd.json"]),
        ("results/default/runs/originals/model/open_clip_model.safetensors", ["model is one artifact"]),
    ],
)
def test_a_wrong_part_is_named_with_the_nearest_name_and_all_that_there_are(target, words):
    said = explained(target)
    assert said.startswith(target) and all(word in said for word in words), said


ARTIFACTS = """
    data/manifest.parquet data/rejected.parquet
    foreground/small/tokens/0-of-10.npy foreground/small/pca.safetensors foreground/small/pca.json
    foreground/small/histogram.png foreground/small/masks.png
    foreground/small/scores/1-of-2.parquet foreground/small/foreground_ratio.parquet
    conditions/noise_level.parquet conditions/guidance/0-of-2.parquet conditions/guidance_scale.parquet
    conditions/conditions.parquet views/img/0-of-2.tar views/txt/1-of-2.parquet views/imgtxt/quality.json
    runs/all_views/model runs/originals/metrics.jsonl probes/all_views/digits.json probes/small/digits.json
    zeroshot/all_views/scene_class.json retrieval/originals/scene_class.json
    evaluation/duplicates/digits.json report.html summary.csv published/infos.csv
"""
"""One of each kind that the README promises."""


@pytest.mark.slow
def test_every_kind_of_artifact_can_be_asked_for_by_path(tmp_path):
    work = Workspace(tmp_path)
    planned = work.planned(*(f"results/default/{name}" for name in ARTIFACTS.split()))
    assert planned.keys() >= {"manifest", "train", "audit", "published_tables", "report"}


@pytest.mark.slow
def test_wrong_paths_stop_the_workflow_all_of_them_in_one_message(tmp_path):
    work = Workspace(tmp_path)
    asked = ["./results/default/probes/all_view/digits.json", "results/default/conditions/guidanse/0-of-2.parquet"]
    done = work.snakemake("-n", *asked, "audits", check=False)
    said = done.stdout + done.stderr
    assert done.returncode
    assert "no model 'all_view'" in said and "did you mean 'guidance'" in said
    assert "MissingRule" not in said and "Traceback" not in said
