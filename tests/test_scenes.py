"""Drawn scenes: without exact truth about share, class and constraints no figure of the small study means anything."""

import numpy as np
import pytest

from genview.data import scenes


@pytest.fixture(scope="module")
def drawn():
    return [scenes.scene(index, seed=5) for index in range(4000)]


def test_same_arguments_give_the_same_scene_and_other_arguments_another():
    first, again = scenes.scene(7, seed=3), scenes.scene(7, seed=3)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert first.caption == again.caption
    assert not np.array_equal(first.image, scenes.scene(8, seed=3).image)
    assert not np.array_equal(first.image, scenes.scene(7, seed=4).image)


def test_shapes_and_types():
    drawing = scenes.scene(0, size=48)
    assert drawing.image.shape == (48, 48, 3) and drawing.image.dtype == np.uint8
    assert drawing.mask.shape == (48, 48) and drawing.mask.dtype == np.float32


def test_share_is_the_mean_of_the_mask_and_mean_share_fits_the_threshold(drawn):
    shares = np.array([s.foreground_share for s in drawn])
    assert np.allclose(shares, [s.mask.mean() for s in drawn], atol=1e-6)
    assert abs(shares.mean() - 0.40) < 0.01


def test_every_class_spans_the_shares_so_that_noise_level_is_no_matter_of_class(drawn):
    classes = np.array([s.class_index for s in drawn])
    fifths = np.array([min(int(5 * s.foreground_share), 4) for s in drawn])
    assert (np.bincount(fifths, minlength=5) >= 0.1 * len(drawn)).all()
    for index in range(len(scenes.CLASSES)):
        shares = [s.foreground_share for s in drawn if s.class_index == index]
        assert min(shares) < 0.1 and max(shares) > 0.93
        parts = np.bincount(fifths[classes == index], minlength=5) / len(shares)
        assert np.abs(parts - scenes.SHARE_PROBABILITIES).max() < 0.06


def test_every_guidance_score_is_common_and_constraints_run_from_none_to_eight(drawn):
    counts = np.array([s.constraints for s in drawn])
    assert set(counts) == set(range(9))
    for group in scenes.SCORE_COUNTS:
        assert np.isin(counts, group).mean() >= 0.12


def test_captions_read_like_english():
    drawing = scenes.Attributes(5, 0, 1, 2, 1, 2, 0, 3, 1)
    full = "a large red striped star tilted to the left at the top right on a beige gradient background"
    assert scenes.caption(drawing, scenes.CONSTRAINTS) == full
    assert scenes.caption(drawing, ()) == "a star"
    assert scenes.caption(drawing, ("colour", "vertical")) == "a red star at the top"
    assert scenes.caption(drawing, ("horizontal", "background")) == "a star on the right on a beige background"


def test_constraints_count_what_the_caption_says(drawn):
    for s in drawn[:500]:
        said = {
            "size": any(f" {word} " in s.caption for word in scenes.SIZES),
            "colour": any(f" {word} " in s.caption for word in scenes.COLOURS),
            "texture": any(f" {word} " in s.caption for word in scenes.TEXTURES),
            "tilt": any(phrase in s.caption for phrase in scenes.TILTS),
            "background": any(f"on a {word} " in s.caption for word in scenes.BACKGROUNDS),
            "pattern": any(f"{word} background" in s.caption for word in scenes.PATTERNS),
        }
        place = s.caption.replace("tilted to the left", "").replace("tilted to the right", "")
        said["horizontal"] = any(f" {word}" in place for word in scenes.HORIZONTAL_PLACES)
        said["vertical"] = any(f" {word}" in place for word in scenes.VERTICAL_PLACES)
        assert sum(said.values()) == s.constraints, s.caption


def test_captions_stay_inside_the_vocabulary(drawn):
    words = set(scenes.vocabulary())
    assert all(set(s.caption.split()) <= words for s in drawn)


def test_object_has_its_colour_and_surroundings_theirs(drawn):
    colours = np.array(list(scenes.COLOURS.values()), float)
    grounds = np.array(list(scenes.BACKGROUNDS.values()), float)
    solid = [s for s in drawn if scenes.TEXTURES[s.texture_index] == "solid" and s.mask.max() == 1][:400]
    for s in solid:
        inside = s.image[s.mask == 1].mean(0)
        assert np.abs(colours - inside).sum(1).argmin() == s.colour_index
    plain = [s for s in drawn if scenes.PATTERNS[s.pattern_index] == "plain"][:400]
    for s in plain:
        outside = s.image[s.mask == 0].mean(0)
        assert np.abs(grounds - outside).sum(1).argmin() == s.background_index
