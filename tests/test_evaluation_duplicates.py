"""Test images that were trained on: planted ones must be found, or a study's numbers would be of memory."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from genview import parquet, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.evaluation import Duplicates, LocalDataset
from genview.data import ingest, manifest, scenes
from genview.data.reader import Reader, data_root
from genview.encoders import loader, look
from genview.errors import GenviewError
from genview.evaluation import duplicates
from genview.evaluation.datasets import Request
from genview.evaluation.splits import Part

ENCODER = Encoder(model="small/clip", batch_size=32)


def picture(index):
    return Image.fromarray(scenes.scene(index, seed=9).image)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Forty pretraining images; a test folder of which three are among them: as it is, slightly changed, mirrored."""
    root = tmp_path_factory.mktemp("study")
    for index in range(40):
        path = root / "train" / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        picture(index).save(path)
    for index in range(100, 116):
        path = root / "test" / "test" / ("a" if index % 2 else "b") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index).save(path)
    for kind in ("a", "b"):
        (root / "test" / "train" / kind).mkdir(parents=True)
        picture(200 + ord(kind)).save(root / "test" / "train" / kind / "only.png")
    picture(7).save(root / "test" / "test" / "a" / "planted.png")
    pixels = np.asarray(picture(21)).astype(int) + np.random.default_rng(0).integers(-3, 4, (32, 32, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "test" / "test" / "b" / "changed.png")
    ImageOps.mirror(picture(30)).save(root / "test" / "test" / "b" / "mirrored.png")
    source = Dataset(source="folder", path=str(root / "train"), shards=2, workers=1)
    _ingest(source, root / "data")
    encoder = look.load(ENCODER)
    reader = Reader(data_root(source, root / "data" / "manifest.parquet"))
    for shard in range(2):
        rows = manifest.shard_rows(root / "data" / "manifest.parquet", f"{shard}-of-2").to_pylist()
        images = torch.stack(
            [encoder.preprocess(reader.image(row["path"], row["offset"], row["length"])) for row in rows]
        )
        embeddings = encoder.encode(images)[1].numpy()
        columns = {
            "key": [row["key"] for row in rows],
            "scores": [[0.0]] * len(rows),
            "embedding": [row.tolist() for row in embeddings],
        }
        parquet.write(columns, tables.SCORES, root / f"{shard}.parquet", encoder=encoder.digest, stage="t", study="t")
    return root, source


def _ingest(source, folder):
    folder.mkdir(exist_ok=True)
    ingest.run(
        source,
        seed=1,
        manifest=folder / "manifest.parquet",
        rejected=folder / "rejected.parquet",
        images=folder / "images.tar",
        stamp={"stage": "manifest", "study": "t"},
    )


def run(study, folder, **settings):
    root, source = study
    duplicates.run(
        Request("mine", LocalDataset(kind="image_folder", path=str(root / "test")), seed=1),
        Duplicates(**settings),
        duplicates.Pretraining(
            source, root / "data" / "manifest.parquet", [root / "0.parquet", root / "1.parquet"], ENCODER
        ),
        duplicates.Artifacts(folder / "mine.json", folder / "mine.txt", folder / "mine"),
        log=folder / "mine.log",
        stamp={"stage": "duplicates"},
    )
    return json.loads((folder / "mine.json").read_text())


def test_planted_duplicates_are_found_counted_and_pictured(study, tmp_path):
    result = run(study, tmp_path, threshold=0.998)
    first = result["pairs"][0]
    assert (first["kind"], first["train"], first["test"]) == ("exact", "07", "test/a/planted.png")
    found = {(pair["train"], pair["test"]): pair["mirrored"] for pair in result["pairs"]}
    assert found["21", "test/b/changed.png"] is False
    assert found["30", "test/b/mirrored.png"] is True
    shares = {row["metric"]: row["value"] for row in result["results"]}
    assert shares["exact_share"] == pytest.approx(1 / 19)
    assert 3 / 19 <= shares["near_share"] <= 5 / 19
    assert Image.open(tmp_path / first["train_thumbnail"]).size == (32, 32)
    assert Image.open(tmp_path / first["test_thumbnail"]).tobytes() == picture(7).tobytes()


def test_a_lower_threshold_finds_no_fewer(study, tmp_path):
    counts = [run(study, tmp_path, threshold=t)["results"][1]["value"] for t in (0.999, 0.98, 0.9)]
    assert counts == sorted(counts)


def test_what_was_found_can_be_left_out_of_the_study(study, tmp_path):
    _root, source = study
    run(study, tmp_path, threshold=0.998)
    listed = (tmp_path / "mine.txt").read_text().split()
    assert {"07", "21"} <= set(listed)
    _ingest(source.model_copy(update={"exclude": str(tmp_path / "mine.txt")}), tmp_path / "again")
    kept = manifest.read(tmp_path / "again" / "manifest.parquet")["key"].to_pylist()
    assert not set(listed) & set(kept) and len(kept) == 40 - len(listed)


def test_a_leaking_study_stops_and_keeps_the_list(study, tmp_path):
    with pytest.raises(GenviewError, match="are among the pretraining images \\(1 exactly\\)"):
        run(study, tmp_path, threshold=0.998, stop_share=0.05)
    assert "07" in (tmp_path / "mine.keys.txt").read_text().split()
    assert not (tmp_path / "mine.json").exists()


def test_embeddings_of_another_encoder_are_refused(study, tmp_path):
    with pytest.raises(GenviewError, match="made with other weights"):
        list(duplicates.pretraining([study[0] / "0.parquet"], "another"))


def test_search_agrees_with_all_pairs():
    random = torch.nn.functional.normalize(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    train = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    keys = [str(row) for row in range(50)]
    blocks = iter([(keys[:20], train[:20].numpy()), (keys[20:], train[20:].numpy())])
    matches, largest = duplicates.search(random, blocks, 0.9)
    cosine = random @ torch.nn.functional.normalize(train, dim=1).T
    expected = {(keys[j], i) for i, j in (cosine >= 0.9).nonzero().tolist()}
    assert {(match.key, match.test) for match in matches} == expected and expected
    assert np.allclose(largest, cosine.max(1).values.numpy(), atol=1e-6)


def test_pixels_decide_what_is_exact():
    image = picture(1)
    assert duplicates.same_pixels(image, image.copy())
    assert not duplicates.same_pixels(image, image.resize((16, 16)))


def test_equal_photographs_are_exact_pairs_although_the_collection_was_decoded_small(tmp_path):
    (tmp_path / "train").mkdir()
    for index in range(8):
        picture(index).resize((300, 300), Image.Resampling.BICUBIC).save(tmp_path / f"train/{index}.jpg", quality=80)
    source = Dataset(source="folder", path=str(tmp_path / "train"), shards=1, workers=1)
    _ingest(source, tmp_path / "data")
    table, encoder = tmp_path / "data/manifest.parquet", look.load(ENCODER.model_copy(update={"fast_decode": True}))
    rows, reader = manifest.read(table), Reader(data_root(source, table))
    embeddings = torch.cat([encoder.encode(batch)[1] for batch in loader.batches(rows, reader, encoder, 8, 0)])
    columns = {"key": rows["key"], "scores": [[0.0]] * 8, "embedding": embeddings.tolist()}
    parquet.write(columns, tables.SCORES, tmp_path / "scores", encoder=encoder.digest, stage="t", study="t")
    pretraining = duplicates.Pretraining(source, table, [tmp_path / "scores"], encoder=ENCODER)
    part = Part(lambda row: reader.image(f"{row}.jpg"), np.arange(8), np.zeros(8, np.int64))
    found = duplicates.find(part, duplicates.least_of_equal(encoder), pretraining, encoder)
    assert found.exact == {(str(row), row) for row in range(8)}
    assert min(match.cosine for match in found.matches) < 1 - duplicates.ROUNDING, "the case must be one"
