"""What is to be made: one request per image and sample, with its conditions and its own seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from genview import randomness
from genview.config.views import ViewSet
from genview.errors import GenviewError
from genview.words import listed

COLUMNS = ("key", "caption", "noise_level", "guidance_scale", "random_noise_level", "random_guidance_scale")
"""Columns of ``tables.CONDITIONS`` that plans are made from."""


@dataclass(frozen=True)
class ViewRequest:
    """One image to be made."""

    key: str
    sample: int
    caption: str | None
    prompt: str
    """What the text encoder reads: the caption, or nothing in img mode."""
    noise_level: int | None
    """None in txt mode, which has no image condition."""
    guidance_scale: float
    seed: int


def image_seed(study_seed: int, mode: str, key: str, sample: int) -> int:
    """Seed of one image's own generator, in [0, 2**64).

    The noise level, the guidance scale and the name of the view set play no part: view sets of one mode share their
    noise, so that adaptive, constant and random conditions are compared pair by pair.
    """
    return randomness.seed("image", study_seed, mode, key, sample)


def _refuse(keys: Sequence[str], view: str, what: str) -> None:
    if keys:
        raise GenviewError(f"view set {view!r}: {len(keys)} image(s) {what}: {listed([*map(repr, keys)])}")


def requests(
    keys: Sequence[str],
    conditions: pa.Table,
    name: str,
    view: ViewSet,
    *,
    seed: int,
    maximum_level: int = 999,
) -> list[ViewRequest]:
    """The requests of some images, in the order of ``keys``, samples of one image together.

    Args:
        keys: images, in the order of the manifest.
        conditions: rows of ``tables.CONDITIONS``, in any order; other keys than ``keys`` are passed over.
        name: name of the view set, for messages.
        view: its settings.
        seed: the study's seed.
        maximum_level: last index of the pipeline's image-noising schedule.

    Raises:
        GenviewError: a key without conditions, without a caption in a text mode, or with a level or scale that is
            missing, not finite or out of range; the message names the keys.
    """
    wanted = conditions.filter(pc.is_in(conditions["key"], value_set=pa.array(keys, pa.string())))
    rows = {row["key"]: row for row in wanted.to_pylist()}
    _refuse([key for key in keys if key not in rows], name, "have no row in the conditions")
    if view.mode != "img":
        _refuse(
            [key for key in keys if not (rows[key]["caption"] or "").strip()],
            name,
            f"have no caption, and mode {view.mode!r} needs one; add captions, drop these images or use mode 'img'",
        )
    source = view.guidance_source()

    def level_of(key: str) -> int | float | None:
        if view.mode == "txt":
            return None
        if view.noise_level == "table":
            return rows[key]["noise_level"]
        if view.noise_level == "random":
            return rows[key]["random_noise_level"]
        return view.noise_level

    def scale_of(key: str) -> float | None:
        if source == "table":
            return rows[key]["guidance_scale"]
        if source == "random":
            return rows[key]["random_guidance_scale"]
        return source

    level_by_key = {key: level_of(key) for key in keys}
    scale_by_key = {key: scale_of(key) for key in keys}
    if view.mode != "txt":
        _refuse(
            [key for key, level in level_by_key.items() if not _is_level(level, maximum_level)],
            name,
            f"have a noise level that is missing or no whole number in 0..{maximum_level}",
        )
    _refuse(
        [key for key, scale in scale_by_key.items() if scale is None or not math.isfinite(scale) or scale < 1],
        name,
        "have a guidance scale that is missing, not finite or below 1",
    )
    return [
        ViewRequest(
            key=key,
            sample=sample,
            caption=rows[key]["caption"],
            prompt="" if view.mode == "img" else rows[key]["caption"],
            noise_level=None if view.mode == "txt" else int(level_by_key[key]),
            guidance_scale=float(scale_by_key[key]),
            seed=image_seed(seed, view.mode, key, sample),
        )
        for key in keys
        for sample in range(view.samples)
    ]


def _is_level(level: int | float | None, maximum: int) -> bool:
    return level is not None and math.isfinite(level) and level == int(level) and 0 <= level <= maximum
