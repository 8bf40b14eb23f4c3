"""The component, its orientation and the threshold: without them every foreground ratio is a number about nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genview.config.foreground import PrincipalComponent
from genview.data import scenes
from genview.errors import GenviewError
from genview.foreground import orientation, pca, ratio

ORACLE = Path(__file__).parent / "data" / "oracle"


def _tokens(images=40, tokens=16, dimensions=12, seed=0, offset=0.0):
    generator = np.random.default_rng(seed)
    spread = np.linspace(3, 0.5, dimensions)
    return (generator.normal(size=(images, tokens, dimensions)) * spread + offset).astype(np.float32)


def _reference(tokens):
    rows = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
    return rows.mean(axis=0), vectors[:, -1], values[-1] / values.sum()


def test_the_streaming_fit_is_the_exact_principal_component():
    tokens = _tokens()
    mean, vector, share = _reference(tokens)
    fitted = pca.fit(iter([tokens[:7], tokens[7:8], tokens[8:]]))
    np.testing.assert_allclose(fitted.mean, mean, rtol=1e-12)
    assert abs(fitted.component @ vector) == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(fitted.component) == pytest.approx(1, abs=1e-12)
    assert fitted.explained_variance_ratio == pytest.approx(share, rel=1e-12)
    assert fitted.tokens == tokens.shape[0] * tokens.shape[1]


def test_a_large_common_offset_costs_no_precision():
    tokens = _tokens(offset=3e3)
    fitted = pca.fit([tokens])
    assert abs(fitted.component @ _reference(tokens)[1]) == pytest.approx(1, abs=1e-9)


def test_published_values():
    data = np.load(ORACLE / "pca.npz")
    fitted = pca.fit([data["A.in.data"]])
    vector = data["A.out.eigenvectors"][:, 0].astype(np.float64)
    sign = np.sign(vector @ fitted.component)
    np.testing.assert_allclose(sign * fitted.component, vector, atol=1e-5)
    np.testing.assert_allclose(fitted.mean, data["A.out.mean"], atol=1e-5)
    values = data["A.out.eigenvalues_float64"]
    assert fitted.explained_variance_ratio == pytest.approx(values.max() / values.sum(), rel=1e-9)
    projection = data["A.in.data"].astype(np.float64) @ (sign * fitted.component)
    np.testing.assert_allclose(projection, data["A.out.projection"][:, 0], atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=6), block=st.sampled_from([5, 64, 8192]))
def test_the_fit_does_not_depend_on_the_batches(cuts, block):
    tokens = _tokens()
    pieces = np.split(tokens, sorted(cuts))
    before, pca.BLOCK = pca.BLOCK, block
    try:
        whole, cut = pca.fit([tokens]), pca.fit(pieces)
    finally:
        pca.BLOCK = before
    # To the last bit: the sums run over blocks of a fixed size, whatever the batches.
    np.testing.assert_array_equal(whole.component, cut.component)
    np.testing.assert_array_equal(whole.mean, cut.mean)


def test_a_given_direction_has_its_variance_measured():
    tokens = _tokens()
    direction = np.eye(12)[0]
    fitted = pca.fit([tokens], direction)
    rows = tokens.reshape(-1, 12).astype(np.float64)
    assert fitted.explained_variance_ratio == pytest.approx(rows[:, 0].var() / rows.var(axis=0).sum(), rel=1e-9)
    with pytest.raises(GenviewError, match="has 5 entries, the encoder's tokens 12"):
        pca.fit([tokens], np.ones(5))


@pytest.mark.parametrize(
    "batches, message",
    [
        ([], "sample of images is empty"),
        ([np.full((2, 3, 4), np.nan)], "NaN"),
        ([np.full((1, 1, 2), np.inf)], "batch 0"),
    ],
)
def test_no_tokens_or_bad_tokens_are_refused(batches, message):
    with pytest.raises(GenviewError, match=message):
        pca.fit(batches)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 400),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
    skew=st.sampled_from([1, 5]),
)
def test_the_threshold_is_the_exact_quantile(count, share, seed, skew):
    scores = np.random.default_rng(seed).normal(size=count) ** skew
    limit = pca.threshold(scores, share)
    assert limit == pytest.approx(np.quantile(scores, 1 - share), rel=1e-12)
    assert abs(np.mean(scores > limit) - share) <= 1 / count + 1e-9


def test_the_default_threshold_leaves_forty_per_cent():
    scores = np.random.default_rng(3).standard_t(2, size=(100, 50))  # heavy tails, where a histogram is coarse
    assert np.mean(scores > pca.threshold(scores)) == pytest.approx(0.4, abs=1e-9)
    with pytest.raises(GenviewError, match="finite"):
        pca.threshold(np.array([1.0, np.nan]))


def _maps(count=200, size=32, grid=8):
    """True foreground shares of the tokens of drawn scenes, as scores with noise."""
    masks = np.stack([scenes.scene(index, seed=5, size=size).mask for index in range(count)])
    step = size // grid
    shares = masks.reshape(count, grid, step, grid, step).mean(axis=(2, 4)).reshape(count, -1)
    return shares + np.random.default_rng(0).normal(0, 0.2, shares.shape)


def test_scenes_are_oriented_right_whatever_the_sign():
    maps = _maps()
    for sign in (1, -1):
        found = pca.orient(sign * maps, (8, 8))
        assert found.sign == sign
        assert found.margin > 0.5 and found.images_agreeing > 0.9 and not found.weak


def test_an_uncertain_orientation_is_called_weak():
    noise = np.random.default_rng(0).normal(size=(200, 64))
    assert pca.orient(noise, (8, 8)).weak
    assert pca.orient(np.zeros((3, 64)), (8, 8)).weak


def test_too_small_a_grid_has_no_border():
    with pytest.raises(GenviewError, match=r"polarity to as_given or flipped"):
        pca.orient(np.zeros((4, 4)), (2, 2))


@pytest.mark.parametrize("grid", [(3, 3), (7, 7), (16, 16), (4, 9)])
def test_centre_and_border_do_not_meet(grid):
    assert pca.centre(grid).any()
    assert not (pca.centre(grid) & pca.border(grid)).any()


def test_polarity_can_be_forced_and_ratios_follow(caplog):
    maps = _maps().astype(np.float32)
    fitted = pca.PCA(np.zeros(3), np.array([0.0, 0.6, 0.8]), 0.5)
    automatic, evidence = orientation.choose(fitted, -maps, (8, 8), PrincipalComponent())
    assert automatic.sign == -1 and evidence["flipped"] and evidence["method"].startswith("border")
    np.testing.assert_array_equal(automatic.component, -fitted.component)
    forced, evidence = orientation.choose(fitted, -maps, (8, 8), PrincipalComponent(polarity="as_given"))
    assert forced.sign == 1 and evidence["method"] == "forced" and not evidence["data_agree"]
    assert "speak for the other side" in caplog.text
    found = ratio.foreground_ratio(automatic.sign * -maps, automatic.threshold)
    assert found.mean() == pytest.approx(0.4, abs=1e-3)
    truth = (maps > 0.5).mean(axis=1)
    assert np.corrcoef(found, truth)[0, 1] > 0.9


def test_a_fixed_threshold_is_taken_as_it_is():
    chosen, _ = orientation.choose(
        pca.PCA(np.zeros(2), np.ones(2), 0.5), _maps(), (8, 8), PrincipalComponent(threshold=0.25)
    )
    assert chosen.threshold == 0.25


def test_what_is_saved_is_what_is_read(tmp_path):
    tokens = _tokens()
    fitted = pca.fit([tokens])
    stored = pca.PCA(fitted.mean, fitted.component, fitted.explained_variance_ratio, 640, 0.1, -1, {"grid": [4, 4]})
    pca.save(stored, tmp_path / "pca.safetensors")
    read = pca.load(tmp_path / "pca.safetensors")
    np.testing.assert_array_equal(read.component, fitted.component.astype(np.float32))
    assert (read.threshold, read.sign, read.tokens, read.details) == (0.1, -1, 640, {"grid": [4, 4]})
    with pytest.raises(GenviewError, match="no such file"):
        pca.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(GenviewError, match="not a safetensors file"):
        pca.load(tmp_path / "bad.safetensors")


def test_a_transposed_array_is_written_in_its_own_order(tmp_path):
    values = np.arange(6.0).reshape(2, 3).T
    pca.write_tensors({"values": values}, tmp_path / "t.safetensors")
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(tmp_path / "t.safetensors")["values"], values)


def test_published_vectors_are_read(tmp_path):
    vector = np.arange(1, 9, dtype=np.float32)
    np.save(tmp_path / "v.npy", vector[:, None])
    np.testing.assert_allclose(pca.read_vector(tmp_path / "v.npy"), vector / np.linalg.norm(vector))
    pca.write_tensors({"component": vector}, tmp_path / "v.safetensors")
    assert np.linalg.norm(pca.read_vector(tmp_path / "v.safetensors")) == pytest.approx(1)
    for name, bad in {
        "matrix": np.ones((3, 4)),
        "nan": np.array([1.0, np.nan]),
        "zeros": np.zeros(4),
    }.items():
        np.save(tmp_path / f"{name}.npy", bad)
        with pytest.raises(GenviewError, match=name):
            pca.read_vector(tmp_path / f"{name}.npy")


def test_a_vector_of_objects_is_never_unpickled(tmp_path):
    with open(tmp_path / "objects.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (4,)})
        file.write(b"cposix\nsystem\n")
    with pytest.raises(GenviewError, match=r"objects\.npy: cannot be read as a component"):
        pca.read_vector(tmp_path / "objects.npy")


def test_ratio_counts_tokens_strictly_above():
    scores = np.array([[0.0, 0.5, 1.0, 0.5], [1, 1, 1, 1], [0, 0, 0, 0]], np.float16)
    np.testing.assert_array_equal(ratio.foreground_ratio(scores, 0.5), [0.25, 1, 0])
    with pytest.raises(GenviewError, match="NaN"):
        ratio.foreground_ratio(np.array([[np.nan]]), 0)
    with pytest.raises(GenviewError, match="shape"):
        ratio.foreground_ratio(np.zeros((3, 0)), 0)
