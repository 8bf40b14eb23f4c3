"""The merge: an image lost, doubled or silently given a default here is lost to the whole study."""

import json

import pytest

from genview import parquet, tables
from genview.conditions import guidance_scale, merge, noise_level
from genview.config.foreground import NoiseLevel
from genview.config.guidance import Guidance
from genview.config.views import ViewSet
from genview.errors import GenviewError
from genview.generation import plan

KEYS = ["a", "folder/b", "c 1", "None"]


def _manifest(path, keys=KEYS, texts=('x, "y"\n☃', None, "trailing ", "None")):
    count = len(keys)
    columns = {
        "key": keys,
        "path": keys,
        "offset": [0] * count,
        "length": [1] * count,
        "caption": list(texts)[:count],
        "label": [None] * count,
        "width": [1] * count,
        "height": [1] * count,
        "shard": [0] * count,
        "sha256": [""] * count,
        "foreground_share": [None] * count,
        "attributes": [None] * count,
    }
    parquet.write(columns, tables.MANIFEST, path)
    return path


def _levels(path, keys=KEYS):
    parquet.write({"key": keys, "noise_level": [100 * index for index in range(len(keys))]}, tables.NOISE_LEVEL, path)
    return path


def _scales(path, keys=KEYS):
    count = len(keys)
    columns = {
        "key": keys,
        "guidance_scale": [2.0 * (index + 1) for index in range(count)],
        "score": [None] * count,
        "is_default": [index == 1 for index in range(count)],
    }
    parquet.write(columns, tables.GUIDANCE_SCALE, path)
    return path


def _run(folder, *, noise_level=None, guidance_scale=None, modes=None, manifest=None, levels=(), scales=(), seed=1):
    merge.run(
        manifest=manifest or _manifest(folder / "manifest.parquet"),
        noise_level=merge.Values(noise_level, "adaptive", drawn_from=levels),
        guidance_scale=merge.Values(guidance_scale, "random", drawn_from=scales),
        modes=modes or {"img": "img"},
        seed=seed,
        conditions=folder / "conditions.parquet",
        unmatched=folder / "unmatched.json",
        stamp={"study": "test"},
    )
    return (
        parquet.read(folder / "conditions.parquet", tables.CONDITIONS).to_pydict(),
        json.loads((folder / "unmatched.json").read_text()),
    )


def test_one_row_per_image_in_the_manifests_order_with_types_and_origins(tmp_path):
    found, account = _run(
        tmp_path,
        noise_level=_levels(tmp_path / "levels.parquet", KEYS[::-1]),
        guidance_scale=_scales(tmp_path / "scales.parquet"),
    )
    assert found["key"] == KEYS
    assert found["caption"] == ['x, "y"\n☃', None, "trailing ", "None"]
    assert found["noise_level"] == [300, 200, 100, 0]
    assert found["guidance_scale"] == [2.0, 4.0, 6.0, 8.0]
    assert found["noise_level_from"] == ["adaptive"] * 4
    assert found["guidance_scale_from"] == ["random", "default", "random", "random"]
    assert account["default_guidance_scale"] == {"count": 1, "keys": ["folder/b"]}
    assert account["without_caption"] == 1


def test_tables_that_no_view_set_needs_are_not_needed(tmp_path):
    found, _ = _run(tmp_path)
    assert found["noise_level"] == [None] * 4 and found["noise_level_from"] == ["none"] * 4
    assert found["guidance_scale"] == [None] * 4 and found["guidance_scale_from"] == ["none"] * 4


def test_view_sets_of_random_values_get_what_a_study_of_the_random_strategy_has(tmp_path):
    """Else a comparison of random with adaptive levels would be of two draws that agree by chance."""
    keys = [f"key {number}" for number in range(400)]
    manifest = _manifest(tmp_path / "manifest.parquet", keys, ["words"] * 400)
    levels, scales = tmp_path / "levels.parquet", tmp_path / "scales.parquet"
    noise_level.run(NoiseLevel(strategy="random"), manifest=manifest, ratio=None, noise_level=levels, seed=7, stamp={})
    guidance_scale.run(Guidance(strategy="random"), manifest=manifest, scores=[], output=scales, seed=7, stamp={})
    found, _ = _run(
        tmp_path,
        manifest=manifest,
        noise_level=levels,
        guidance_scale=scales,
        levels=NoiseLevel().levels,
        scales=Guidance().scales,
        seed=7,
    )
    assert found["random_noise_level"] == found["noise_level"]
    assert found["random_guidance_scale"] == found["guidance_scale"]
    assert all(40 < found["noise_level"].count(level) < 130 for level in NoiseLevel().levels)  # 80 each, deviation 8
    conditions = parquet.read(tmp_path / "conditions.parquet", tables.CONDITIONS)
    table, drawn = (
        plan.requests(
            keys, conditions, "views", ViewSet(mode="imgtxt", noise_level=source, guidance_scale=source), seed=7
        )
        for source in ("table", "random")
    )
    assert drawn == table


def test_keys_that_match_no_image_are_listed(tmp_path, caplog):
    levels = _levels(tmp_path / "levels.parquet", ["stranger", *KEYS])
    found, account = _run(tmp_path, noise_level=levels)
    assert found["noise_level"] == [100, 200, 300, 400]
    assert account["unmatched"]["noise_level"] == {"count": 1, "keys": ["stranger"]}
    assert "1 keys are not in the manifest and are not used: stranger" in caplog.text


def test_a_study_that_would_drop_an_image_stops(tmp_path):
    with pytest.raises(GenviewError, match=r"1 of 4 images have no noise level: None\."):
        _run(tmp_path, noise_level=_levels(tmp_path / "levels.parquet", KEYS[:3]))
    assert not (tmp_path / "conditions.parquet").exists()
    with pytest.raises(GenviewError, match="2 of 4 images have no guidance scale: c 1, None"):
        _run(tmp_path, guidance_scale=_scales(tmp_path / "scales.parquet", KEYS[:2]))


def test_a_key_twice_is_refused(tmp_path):
    with pytest.raises(GenviewError, match="one row per key is needed; more than one for a"):
        _run(tmp_path, noise_level=_levels(tmp_path / "levels.parquet", [*KEYS, "a"]))


@pytest.mark.parametrize("mode", ["txt", "imgtxt"])
def test_views_from_captions_need_captions(tmp_path, mode):
    with pytest.raises(GenviewError, match="view sets drawn are made from captions, but 1 images have none: folder/b"):
        _run(tmp_path, modes={"drawn": mode, "other": "img"})


def test_a_message_about_many_images_stays_readable(tmp_path):
    keys = [f"{number:04}" for number in range(500)]
    manifest = _manifest(tmp_path / "manifest.parquet", keys, [None] * 500)
    with pytest.raises(GenviewError, match="0019 and 480 more"):
        merge.check_captions(manifest, {"txt": "txt"})
    merge.check_captions(manifest, {"img": "img"})


def test_an_empty_manifest_and_a_single_image(tmp_path):
    manifest = _manifest(tmp_path / "one.parquet", ["only"], ["words"])
    found, _ = _run(tmp_path, manifest=manifest, noise_level=_levels(tmp_path / "levels.parquet", ["only"]))
    assert found["noise_level"] == [0]
    empty = _manifest(tmp_path / "none.parquet", [], [])
    found, account = _run(tmp_path, manifest=empty, noise_level=_levels(tmp_path / "no_levels.parquet", []))
    assert found["key"] == [] and account["images"] == 0


def test_a_large_merge_keeps_every_row_in_whatever_order_its_tables_are(tmp_path):
    keys = [f"{number:07}" for number in range(200_000)]
    manifest = _manifest(tmp_path / "manifest.parquet", keys, ["words"] * len(keys))
    levels = {"key": keys[::-1], "noise_level": range(len(keys) - 1, -1, -1)}
    parquet.write(levels, tables.NOISE_LEVEL, tmp_path / "levels.parquet")
    scales = _scales(tmp_path / "scales.parquet", keys)
    found, account = _run(tmp_path, manifest=manifest, noise_level=tmp_path / "levels.parquet", guidance_scale=scales)
    assert found["key"] == keys and found["noise_level"] == list(range(len(keys)))
    assert found["guidance_scale"] == [2.0 * (number + 1) for number in range(len(keys))]
    assert account["default_guidance_scale"] == {"count": 1, "keys": [keys[1]]}
    assert not list(tmp_path.glob("*.aside")), "what was put aside is left behind"
