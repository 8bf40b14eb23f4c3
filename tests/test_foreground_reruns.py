"""What a change of the configuration re-runs: encoding millions of images again for a new threshold would cost days."""

import pytest
from workspace import Workspace

ENCODING = {"sample_features", "token_scores"}

CONDITIONS = "results/default/conditions/conditions.parquet"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    work = Workspace(tmp_path_factory.mktemp("reruns"))
    for name in work.outputs(CONDITIONS):
        (work.root / name).parent.mkdir(parents=True, exist_ok=True)
        (work.root / name).touch()
    work.snakemake("--touch", CONDITIONS)
    assert work.planned(CONDITIONS) == {}
    return work


def _changed(work, old, new):
    """Rules that run again after an edit of the configuration, which is then taken back."""
    before = (work.root / "config/config.yaml").read_text()
    work.append("config/config.yaml", new) if old is None else work.edit("config/config.yaml", old, new)
    try:
        return set(work.planned(CONDITIONS))
    finally:
        (work.root / "config/config.yaml").write_text(before)


@pytest.mark.parametrize(
    "block",
    [
        "pca: {foreground_share: 0.5}",
        "pca: {threshold: 0.1}",
        "pca: {polarity: flipped}",
        "pca: {pictures: 4}",
        "noise_level: {strategy: random}",
        "noise_level: {strategy: constant, constant: 200}",
        "noise_level: {levels: [0, 200, 400]}",
    ],
)
def test_choices_after_the_encoder_encode_nothing(finished, block):
    again = _changed(finished, None, f"\n{block}\n")
    assert again and not again & ENCODING, again
    assert "component" not in again
    if block.startswith("noise_level"):
        assert "noise_level" in again and "orient_pca" not in again and "foreground_ratio" not in again
    else:
        assert {"orient_pca", "foreground_ratio", "noise_level", "conditions"} <= again


def test_another_sample_or_vector_does_encode(finished):
    assert _changed(finished, None, "\npca: {sample: 500}\n") >= ENCODING
    again = _changed(finished, "    model: small/clip\n", "    model: small/clip\n    image_size: 48\n")
    assert again >= ENCODING


def test_how_images_are_generated_does_not_touch_their_conditions(finished):
    assert _changed(finished, "    mode: txt\n    steps: 10\n", "    mode: txt\n    steps: 11\n") == set()
