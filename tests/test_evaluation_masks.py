"""Saliency and videos as stages. If these fail, a user reads a figure of masks that nobody compared."""

import json

import numpy as np
import pytest
from PIL import Image
from workspace import Workspace

from genview import parquet, results, tables
from genview.config import load
from genview.errors import GenviewError
from genview.evaluation import masked_images
from genview.preflight import evaluation as checks

STUDY = """
study: masked
dataset: {source: scenes, count: 40, shards: 1}
encoders: {small: {model: small/clip}}
foreground: {second_opinion: 12}
runs:
  images: {epochs: 1, batch_size: 20, model: {architecture: tiny}, data: {views: {}}, optimizer: {warmup_epochs: 0}}
evaluation:
  encoders: [small]
  saliency: {datasets: {scenes: null, own: FOLDER}, scenes: 30}
  video: {datasets: {moving: null}, sequences: 3}
  duplicates: {enabled: false}
"""


def folder_of_masks(folder, images="DUTS-TE-Image", masks="DUTS-TE-Mask"):
    """Two images with masks, in a folder as DUTS is unpacked."""
    for kind in (images, masks):
        (folder / kind).mkdir(parents=True)
    for name in ("a", "b"):
        picture = np.full((30, 40, 3), 200, np.uint8)
        picture[8:20, 10:24] = (220, 30, 30)
        mask = np.zeros((30, 40), np.uint8)
        mask[8:20, 10:24] = 255
        Image.fromarray(picture).save(folder / images / f"{name}.jpg")
        Image.fromarray(mask).save(folder / masks / f"{name}.png")
    return folder


@pytest.mark.parametrize("kinds", [("images", "ground_truth_mask"), ("DUT-OMRON-image", "pixelwiseGT-new-PNG")])
def test_folders_of_others_are_read(tmp_path, kinds):
    found = masked_images.pairs(folder_of_masks(tmp_path / "set", *kinds))
    image, mask = found[0].open()
    assert [pair.image.stem for pair in found] == ["a", "b"] and image.size == (40, 30)
    assert mask.shape == (30, 40) and (mask > 127).sum() == 12 * 14


def test_what_is_missing_is_named(tmp_path):
    folder = folder_of_masks(tmp_path / "set")
    (folder / "DUTS-TE-Mask/b.png").rename(folder / "DUTS-TE-Mask/c.png")
    with pytest.raises(GenviewError, match="2 names have an image or a mask alone, such as 'b'"):
        masked_images.pairs(folder)
    (folder / "DUTS-TE-Mask/c.png").rename(folder / "DUTS-TE-Mask/b.png")
    Image.new("L", (7, 7)).save(folder / "DUTS-TE-Mask/b.png")
    with pytest.raises(GenviewError, match=r"b.png: 7 x 7 pixels, its image \(40, 30\)"):
        masked_images.pairs(folder)[1].open()
    (folder / "more").mkdir()
    with pytest.raises(GenviewError, match="there are: DUTS-TE-Image, DUTS-TE-Mask, more"):
        masked_images.pairs(folder)
    with pytest.raises(GenviewError, match="no such folder"):
        masked_images.pairs(tmp_path / "nowhere")
    values = {"evaluation": {"saliency": {"datasets": {"x": str(tmp_path / "nowhere")}}}}
    assert [p.text for p in checks.masked(load.parse(values))] == [
        f"evaluation.saliency.datasets.x: {tmp_path / 'nowhere'}: no such folder"
    ]


def test_davis_is_read_and_what_it_lacks_is_named(tmp_path):
    masked_images.draw_sequences(tmp_path / "davis", 2, seed=0, size=48)
    found = masked_images.sequences(tmp_path / "davis")
    assert list(found) == ["000", "001"] and len(found["000"]) == 12
    first, last = found["000"][0].open()[1], found["000"][-1].open()[1]
    assert set(np.unique(first)) == {0, 1, 2} and (first != last).any()
    (tmp_path / "davis/Annotations/480p/001/00003.png").unlink()
    with pytest.raises(GenviewError, match=r"sequence 001: 12 frames, 1 without a mask: .*00003\.png is missing"):
        masked_images.sequences(tmp_path / "davis")
    (tmp_path / "davis/ImageSets/2017/val.txt").unlink()
    with pytest.raises(GenviewError, match=r"val\.txt: is missing"):
        masked_images.sequences(tmp_path / "davis")


@pytest.mark.slow
def test_masks_through_the_workflow(tmp_path):
    work = Workspace(tmp_path / "work")
    folder = folder_of_masks(tmp_path / "own")
    (work.root / "masked.yaml").write_text(STUDY.replace("FOLDER", str(folder)))
    work.snakemake("--configfile", "masked.yaml", "--cores", "2")
    study = work.root / "results/masked"
    found = {task: json.loads((study / f"{task}.json").read_text()) for task in (
        "saliency/small/scenes", "saliency/small/own", "saliency/images/scenes", "video/small/moving",
    )}  # fmt: skip
    iou, max_f, accuracy = found["saliency/small/scenes"]["results"]
    assert 0.2 < iou["value"] < 1 and iou["low"] < iou["value"] < iou["high"] and iou["count"] == 30
    assert max_f["metric"] == "max_f" and accuracy["metric"] == "accuracy"
    assert found["saliency/small/own"]["results"][0]["count"] == 2
    # A tower whose last map is one place has nothing to cut: said, and no training is lost.
    assert found["saliency/images/scenes"]["results"] == [] and "1 x 1" in found["saliency/images/scenes"]["note"]
    video = {row["metric"]: row["value"] for row in found["video/small/moving"]["results"]}
    assert video["j_and_f"] == pytest.approx((video["region_j"] + video["contour_f"]) / 2) and video["j_and_f"] > 0.3
    cuts = parquet.read(study / "foreground/small/token_cut.parquet", tables.TOKEN_CUT)
    assert cuts.num_rows == 12
    for row in cuts.to_pylist():
        assert row["ratio"] == pytest.approx(np.mean(row["foreground"]))
    tidy = results.open(study)
    assert set(tidy.saliency["run"]) == {"small"} and set(tidy.video["metric"]) == set(video)
    page = (study / "report.html").read_text()
    assert "A second opinion" in page and "maxF" in page and "TokenCut 0." in page and "J&amp;F" in page
