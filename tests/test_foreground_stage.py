"""The foreground stage on drawn scenes: what it keeps, what it does not depend on, and how near the truth it comes."""

import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from safetensors.numpy import load_file

from genview import parquet, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.foreground import PrincipalComponent
from genview.data import ingest, scenes
from genview.data import manifest as manifests
from genview.errors import GenviewError
from genview.foreground import component, orientation, pca, ratio, sample_features, token_scores

ENCODER = Encoder(model="small/clip", batch_size=16)


def _study(folder, count, shards, config=None, encoder=ENCODER, sample=1000, workers=0, dataset=None):
    """Run the stage as its rules do; returns the table of ratios."""
    folder.mkdir(exist_ok=True)
    dataset = dataset or Dataset(source="scenes", count=count, shards=shards, workers=1)
    names = [f"{index}-of-{shards}" for index in range(shards)]
    manifest = folder / "manifest.parquet"
    ingest.run(
        dataset, seed=1, manifest=manifest, rejected=folder / "rejected.parquet", images=folder / "images.tar", stamp={}
    )
    parts = [folder / f"{name}.npy" for name in names]
    sample_features.run(
        encoder,
        dataset,
        count=sample,
        seed=1,
        manifest=manifest,
        tokens=parts,
        images=folder / "sample.safetensors",
        workers=workers,
    )
    component.run(
        parts,
        folder / "sample.safetensors",
        vector=None,
        component=folder / "component.safetensors",
        sample_scores=folder / "sample_scores.safetensors",
    )
    _choose(folder, config or PrincipalComponent())
    for name in names:
        token_scores.run(
            encoder,
            dataset,
            manifest=manifest,
            group=name,
            component=folder / "component.safetensors",
            scores=folder / f"{name}.parquet",
            workers=workers,
            stamp={"study": "test"},
        )
    return _ratio(folder, names)


def _choose(folder, config):
    orientation.run(
        config,
        component=folder / "component.safetensors",
        sample_scores=folder / "sample_scores.safetensors",
        sample_images=folder / "sample.safetensors",
        result=folder / "pca.safetensors",
        summary=folder / "pca.json",
        histogram=folder / "histogram.png",
        masks=folder / "masks.png",
        stamp={},
    )


def _ratio(folder, names):
    ratio.run(
        [folder / f"{name}.parquet" for name in names],
        component=folder / "pca.safetensors",
        ratio=folder / "ratio.parquet",
        stamp={},
    )
    return parquet.read(folder / "ratio.parquet", tables.FOREGROUND_RATIO)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, _study(folder, 300, 2)


def test_ratios_follow_the_true_share(study):
    folder, ratios = study
    truth = manifests.read(folder / "manifest.parquet")
    assert ratios["key"].to_pylist() == truth["key"].to_pylist()
    found, true = ratios["ratio"].to_numpy(), truth["foreground_share"].to_numpy()
    assert np.corrcoef(found, true)[0, 1] > 0.95
    assert np.abs(found - true).mean() < 0.1
    assert parquet.metadata(folder / "ratio.parquet")["tokens"] == "64"


def test_what_is_kept_of_an_image_is_small(study, tmp_path):
    table = parquet.read(study[0] / "0-of-2.parquet", tables.SCORES)
    assert len(table["scores"][0]) == 64 and table["scores"].type.value_type == pa.float16()
    # At ViT-H-14's size, 256 tokens and 1,024 numbers of embedding: at most 1 KB an image beside the embedding.
    count, generator = 1000, np.random.default_rng(0)
    columns = {
        "key": [f"train/n01440764/n01440764_{number:05}" for number in range(count)],
        "scores": token_scores.as_lists(generator.normal(-5, 3, (count, 256)).astype(np.float16)),
        "embedding": token_scores.as_lists(generator.integers(0, 2**32, (count, 1024), np.uint32).view(np.float32)),
    }
    parquet.write(pa.table(columns), tables.SCORES, tmp_path / "scores.parquet")
    assert (tmp_path / "scores.parquet").stat().st_size / count - 1024 * 4 < 1024


def test_the_embedding_is_the_one_the_generator_needs(study):
    folder, _ = study
    from genview.data.reader import Reader
    from genview.encoders import look

    encoder = look.load(ENCODER)
    row = manifests.read(folder / "manifest.parquet").slice(0, 1).to_pylist()[0]
    image = encoder.preprocess(Reader(folder).image(row["path"], row["offset"], row["length"]))
    table = parquet.read(folder / "0-of-2.parquet", tables.SCORES)
    assert table["key"][0].as_py() == row["key"]
    np.testing.assert_allclose(table["embedding"][0].as_py(), encoder.encode(image[None])[1][0], atol=1e-5)
    assert parquet.metadata(folder / "0-of-2.parquet")["encoder"] == encoder.digest


def test_shards_and_loader_processes_change_no_bit(study, tmp_path):
    """The same component, so that the images' own scores are compared."""
    folder, _ = study
    rows = {}
    for shards, workers in ((2, 0), (3, 1)):
        dataset = Dataset(source="scenes", count=300, shards=shards, workers=1)
        target = tmp_path / str(shards)
        target.mkdir()
        manifest = target / "manifest.parquet"
        ingest.run(
            dataset, seed=1, manifest=manifest, rejected=target / "r.parquet", images=target / "images.tar", stamp={}
        )
        for index in range(shards):
            token_scores.run(
                ENCODER,
                dataset,
                manifest=manifest,
                group=f"{index}-of-{shards}",
                component=folder / "component.safetensors",
                scores=target / f"{index}.parquet",
                workers=workers,
                stamp={},
            )
        parts = [parquet.read(target / f"{index}.parquet", tables.SCORES) for index in range(shards)]
        rows[shards] = pa.concat_tables(parts).sort_by("key")
    assert rows[2].equals(rows[3])


def test_the_sample_depends_on_the_seed_and_not_on_the_order():
    keys = [f"key{index}" for index in range(100)]
    first = sample_features.sample(keys, 10, 1)
    assert len(first) == 10 and (np.diff(first) > 0).all()
    back = sample_features.sample(keys[::-1], 10, 1)
    assert {keys[row] for row in first} == {keys[::-1][row] for row in back}
    assert set(first) <= set(sample_features.sample(keys, 20, 1))
    assert set(first) != set(sample_features.sample(keys, 10, 2))
    assert sample_features.sample(keys, 1000, 1).tolist() == list(range(100))


def test_the_stored_tokens_are_a_plain_numpy_array(study):
    stored = np.load(study[0] / "0-of-2.npy")
    assert stored.dtype == np.float16 and stored.shape[1:] == (64, 64)
    sample = load_file(study[0] / "sample.safetensors")
    assert sample["images"].shape == (100, 32, 32, 3) and len(sample["rows"]) == 300


def test_the_kept_pictures_are_what_the_encoder_saw(study):
    from genview.data.reader import Reader

    folder, _ = study
    sample = load_file(folder / "sample.safetensors")
    rows = manifests.read(folder / "manifest.parquet").take(pa.array(sample["rows"][:5])).to_pylist()
    for seen, row in zip(sample["images"], rows):
        original = np.asarray(Reader(folder).image(row["path"], row["offset"], row["length"]))
        assert np.abs(seen.astype(int) - original).max() <= 1


def test_forced_polarity_turns_the_ratios_round_without_encoding(study, tmp_path):
    folder, before = study
    for name in ("component.safetensors", "sample_scores.safetensors", "sample.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for name in ("0-of-2.parquet", "1-of-2.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    right = pca.load(folder / "pca.safetensors")
    _choose(tmp_path, PrincipalComponent(polarity="flipped" if right.sign > 0 else "as_given", foreground_share=0.6))
    after = _ratio(tmp_path, ["0-of-2", "1-of-2"])
    # 60 % of the tokens are on the other side of the same threshold.
    np.testing.assert_allclose(after["ratio"].to_numpy(), 1 - before["ratio"].to_numpy(), atol=2 / 64)


def test_one_image_and_empty_shards(tmp_path):
    ratios = _study(tmp_path / "one", 1, 3)
    assert len(ratios) == 1 and 0 <= ratios["ratio"][0].as_py() <= 1
    assert [len(parquet.read(tmp_path / "one" / f"{i}-of-3.parquet", tables.SCORES)) for i in range(3)].count(0) == 2


def test_an_image_that_has_gone_is_named(study, tmp_path):
    folder, _ = study
    broken = manifests.read(folder / "manifest.parquet")
    lengths = [3, *broken["length"].to_pylist()[1:]]
    index = broken.column_names.index("length")
    parquet.write(broken.set_column(index, "length", pa.array(lengths)), tables.MANIFEST, tmp_path / "manifest.parquet")
    (tmp_path / "images.tar").write_bytes((folder / "images.tar").read_bytes())
    for workers in (0, 1):
        with pytest.raises(GenviewError, match=f"image '{broken['key'][0].as_py()}': .*data have changed"):
            token_scores.run(
                ENCODER,
                Dataset(shards=2),
                manifest=tmp_path / "manifest.parquet",
                group="0-of-2",
                component=folder / "component.safetensors",
                scores=tmp_path / "scores.parquet",
                workers=workers,
                stamp={},
            )
    assert not (tmp_path / "scores.parquet").exists()


def test_scores_of_another_encoder_are_refused(study, tmp_path):
    folder, _ = study
    other = pca.load(folder / "pca.safetensors")
    other.details["encoder_digest"] = "0" * 64
    pca.save(other, tmp_path / "pca.safetensors")
    with pytest.raises(GenviewError, match="made with another encoder"):
        ratio.run([folder / "0-of-2.parquet"], component=tmp_path / "pca.safetensors", ratio=tmp_path / "r", stamp={})
    with pytest.raises(GenviewError, match="fitted with other weights"):
        token_scores.run(
            ENCODER,
            Dataset(shards=2),
            manifest=folder / "manifest.parquet",
            group="0-of-2",
            component=tmp_path / "pca.safetensors",
            scores=tmp_path / "scores.parquet",
            workers=0,
            stamp={},
        )


def test_published_ratios_take_the_place_of_the_stage(tmp_path):
    (tmp_path / "fg_ratios.csv").write_text('image,ratio,prompt\na/1.jpg,0.25,"one, two"\nb.png,1.0,\n')
    ratio.run_given(tmp_path / "fg_ratios.csv", ratio=tmp_path / "ratio.parquet", stamp={}, image_root=None)
    found = parquet.read(tmp_path / "ratio.parquet", tables.FOREGROUND_RATIO)
    assert found.to_pydict() == {"key": ["a/1", "b"], "ratio": [0.25, 1.0]}


def test_a_collection_of_photographs_decoded_small_has_nearly_the_same_scores(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(24):
        picture = Image.fromarray(scenes.scene(number, seed=9).image).resize((512, 512), Image.Resampling.BICUBIC)
        picture.save(tmp_path / f"pictures/{number:02d}.jpg", quality=95)
    found = {}
    for fast in (None, True):
        folder = tmp_path / f"{fast}"
        folder.mkdir()
        _study(
            folder, count=None, shards=1, encoder=Encoder(fast_decode=fast),
            dataset=Dataset(source="folder", path=str(tmp_path / "pictures"), shards=1),
        )  # fmt: skip
        found[fast] = np.stack(parquet.read(folder / "0-of-1.parquet", tables.SCORES)["scores"].to_numpy())
        record = json.loads((folder / "pca.json").read_text())["encoder"]
        assert record.get("fast_decode") is fast
    assert not np.array_equal(found[None], found[True])
    assert np.corrcoef(found[None].ravel(), found[True].ravel())[0, 1] > 0.99
