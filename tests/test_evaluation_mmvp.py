"""MMVP-VLM: which pairs count as right, and what a model that knows nothing scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from workspace import Workspace

from genview.config import load
from genview.config.evaluation import Mmvp
from genview.errors import GenviewError
from genview.evaluation import mmvp, mmvp_pairs, mmvp_score, mmvp_stand_in
from genview.preflight import evaluation as preflight


def outcomes(similarities: np.ndarray) -> list[bool]:
    """The published rule, spelled out: a softmax over two images, more than one half is image 1."""
    right = []
    for pair in similarities:
        chosen = []
        for statement in range(2):
            exponentials = np.exp(pair[:, statement] - pair[:, statement].max())
            chosen.append(1 if exponentials[0] / exponentials.sum() > 0.5 else 2)
        right.append(chosen == [1, 2])
    return right


def test_a_pair_counts_only_if_both_statements_choose_right():
    random = np.random.default_rng(0)
    similarities = random.integers(-1, 2, (500, 2, 2)).astype(float)  # ties among them
    assert mmvp.score(similarities).tolist() == outcomes(similarities)
    assert mmvp.score(torch.from_numpy(similarities)).tolist() == outcomes(similarities)


def test_scores_of_constructed_similarities():
    perfect = np.tile(np.eye(2), (135, 1, 1))
    always_first = np.tile([[1.0, 1.0], [0.0, 0.0]], (135, 1, 1))
    guesses = np.random.default_rng(0).normal(size=(100_000, 2, 2))
    assert mmvp.pattern_scores(mmvp.score(perfect))[1] == 100
    assert mmvp.pattern_scores(mmvp.score(always_first))[1] == 0
    assert mmvp.score(guesses).mean() == pytest.approx(0.25, abs=0.005)


def test_patterns_are_fifteen_pairs_in_a_row():
    correct = np.zeros(135, bool)
    correct[15:18] = True
    scores, mean = mmvp.pattern_scores(correct)
    assert scores.tolist() == [0, 20, 0, 0, 0, 0, 0, 0, 0] and mean == pytest.approx(20 / 9)
    with pytest.raises(ValueError, match="135"):
        mmvp.pattern_scores(correct[:134])


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mmvp") / "stand_in"
    mmvp_stand_in.write(folder)
    return folder


def test_the_stand_in_has_pairs_that_differ(stand_in):
    pairs = mmvp_pairs.read(stand_in)
    assert len(pairs) == 135 and [pair.pattern for pair in pairs[::15]] == list(mmvp_pairs.PATTERNS)
    for pair in pairs:
        first, second = (np.asarray(image, int) for image in pair.open())
        assert pair.statements[0] != pair.statements[1]
        changed = (np.abs(first - second).max(axis=2) > 16).mean()
        assert 0.005 < changed < 0.6, pair
    again, _ = mmvp_stand_in.picture(3, 4, 1)
    assert np.array_equal(np.asarray(again), np.asarray(pairs[3 * 15 + 4].open()[1]))


def test_a_data_set_that_is_not_whole_is_named(stand_in, tmp_path):
    with pytest.raises(GenviewError, match=r"Questions\.csv: no such file"):
        mmvp_pairs.read(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(stand_in, copy)
    (copy / "MLLM_VLM Images" / "State" / "75.png").unlink()
    with pytest.raises(GenviewError, match=r"State/75\.jpg: no such image \(1 of 270"):
        mmvp_pairs.read(copy)
    table = copy / "Questions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(GenviewError, match="269 rows"):
        mmvp_pairs.read(copy)
    table.write_text("\n".join([*lines[:5], "5,State,", *lines[6:]]))
    with pytest.raises(GenviewError, match=r"row 6 \(id 5\) has no statement"):
        mmvp_pairs.read(copy)


def test_features_of_the_families():
    """Each against the published rule, spelled out in NumPy."""
    random = np.random.default_rng(0)
    image, tokens = random.normal(size=(2, 4)), random.normal(size=(2, 9, 4))
    arguments = torch.from_numpy(image), torch.from_numpy(tokens)

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    np.testing.assert_allclose(mmvp.image_feature(*arguments, "global"), unit(image))
    expected = unit(unit(image) + unit(tokens).mean(1))
    np.testing.assert_allclose(mmvp.image_feature(*arguments, "with_tokens"), expected)
    draw = torch.randint(9, (2, 76), generator=torch.Generator().manual_seed(3)).numpy()
    drawn = np.stack([rows[indices] for rows, indices in zip(tokens, draw)])
    found = mmvp.image_feature(*arguments, "with_random_tokens", torch.Generator().manual_seed(3))
    np.testing.assert_allclose(found, unit(image + drawn.mean(1)))
    draw = torch.randint(9, (2, 4), generator=torch.Generator().manual_seed(3)).numpy()
    drawn = np.stack([rows[indices] for rows, indices in zip(tokens, draw)])
    found = mmvp.image_feature(*arguments, "with_random_share", torch.Generator().manual_seed(3))
    np.testing.assert_allclose(found, unit(image) + unit(drawn).mean(1))


SMALL = Path(mmvp.__file__).parent.parent / "models/small/clip"
FEATURES = ("global", "with_random_tokens", "with_tokens", "with_random_share")


def scored(folder, output, **settings):
    block = Mmvp(path=str(folder), features=FEATURES, draws=3, **settings)
    mmvp_score.run(block, folder, seed=1, model=SMALL, precision="fp32", output=output, stamp={})
    return json.loads(output.read_text())


def test_a_result_says_what_open_clip_itself_would_choose(stand_in, tmp_path):
    """The standard feature, by the library's own calls; random ones in three draws that no batch changes."""
    result = scored(stand_in, tmp_path / "one.json")
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{SMALL}")
    model.eval()
    tokenizer, right = open_clip.get_tokenizer(f"local-dir:{SMALL}"), []
    with torch.no_grad():
        for pair in mmvp_pairs.read(stand_in):
            images = model.encode_image(torch.stack([transform(image) for image in pair.open()]), normalize=True)
            texts = model.encode_text(tokenizer([f"a photo of {text}" for text in pair.statements]), normalize=True)
            right.append((images @ texts.T).numpy())
    expected = outcomes(np.stack(right))
    assert result["pairs"]["global"] == [float(value) for value in expected]
    rows = {row["metric"]: row for row in result["results"]}
    assert len(rows) == 4 * 10 and rows["global"]["value"] == pytest.approx(np.mean(expected))
    assert rows["global"]["low"] < rows["global"]["value"] < rows["global"]["high"] and rows["global"]["count"] == 135
    assert rows["global: Texts"]["value"] == pytest.approx(np.mean(expected[105:120]))
    draws = result["draws"]
    assert set(draws) == set(mmvp.RANDOM) and all(len(draw["shares"]) == 3 for draw in draws.values())
    assert rows["with_random_tokens"]["value"] == pytest.approx(np.mean(draws["with_random_tokens"]["shares"]))
    again = scored(stand_in, tmp_path / "two.json", batch_size=7)
    assert again["draws"] == draws


def test_a_missing_image_is_told_before_the_first_job(stand_in, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(stand_in, copy)
    (copy / "MLLM_VLM Images" / "Text" / "230.png").unlink()
    study = load.parse({"evaluation": {"mmvp": {"path": str(copy)}}})
    (problem,) = preflight.mmvp(study)
    assert problem.text.startswith("evaluation.mmvp.path: ") and "230.jpg: no such image (1 of 270" in problem.text
    assert not list(preflight.mmvp(load.parse({"evaluation": {"mmvp": {}}})))
    with pytest.raises(GenviewError, match="place of the statement"):
        load.parse({"evaluation": {"mmvp": {"prompt": "a photo"}}})


@pytest.mark.slow
def test_the_stand_in_is_scored_by_the_workflow_and_reported(tmp_path):
    work = Workspace(tmp_path / "work")
    text = "extends: config/config.yaml\nstudy: pairs\ndataset: {count: 40}\nviews: null\nruns: null\n"
    evaluation = "evaluation: {encoders: [small], mmvp: {}, probe: null, zeroshot: null, retrieval: null}\n"
    (work.root / "config/pairs.yaml").write_text(text + evaluation)
    work.snakemake("--configfile", "config/pairs.yaml", "--cores", "1")
    result = json.loads((work.root / "results/pairs/mmvp/small.json").read_text())
    assert result["dataset"] == "mmvp_stand_in" and result["provenance"]["stage"] == "mmvp"
    assert len(result["results"]) == 10
    page = (work.root / "results/pairs/report.html").read_text()
    assert "Pairs that differ in one attribute (MMVP-VLM)" in page and "Viewpoint and Perspective" in page
    assert "mmvp_stand_in" in (work.root / "results/pairs/summary.csv").read_text()
