"""Drawn scenes: small captioned, labelled pictures whose foreground, attributes and constraints are known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import numpy as np

CLASSES = ("circle", "square", "triangle", "cross", "ring", "star")
COLOURS = {
    "red": (222, 36, 36),
    "green": (44, 170, 70),
    "blue": (44, 84, 232),
    "yellow": (240, 220, 40),
    "magenta": (220, 56, 210),
    "cyan": (66, 216, 226),
}
BACKGROUNDS = {
    "white": (240, 240, 238),
    "black": (18, 18, 20),
    "grey": (136, 138, 136),
    "beige": (226, 204, 160),
    "brown": (116, 72, 44),
    "navy": (22, 32, 92),
}
TEXTURES = ("solid", "striped")
SIZES = ("small", "medium", "large")
TILTS = ("standing upright", "tilted to the left", "tilted to the right")
HORIZONTAL_PLACES = ("left", "centre", "right")
VERTICAL_PLACES = ("top", "middle", "bottom")
PATTERNS = ("plain", "gradient")
CONSTRAINTS = (
    "size",
    "colour",
    "texture",
    "tilt",
    "horizontal",
    "vertical",
    "background",
    "pattern",
)

# Constraint counts of each guidance score 1..4 (none, one to three, four to six, more) and how often it is drawn.
SCORE_COUNTS = ((0,), (1, 2, 3), (4, 5, 6), (7, 8))
SCORE_PROBABILITIES = (0.22, 0.30, 0.27, 0.21)

# Foreground share: probability of each fifth, its bounds, and the exponent that skews the draw inside it.
SHARE_PROBABILITIES = (0.21, 0.375, 0.19, 0.115, 0.11)
SHARE_BOUNDS = ((0.05, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.95))
SHARE_EXPONENTS = (1 / 3, 1.5, 1.5, 1.5, 1.5)
SIZE_LIMITS = (0.2, 0.5)

_REFERENCE_SIZE = 32
_HORIZONTAL_PHRASES = {
    "left": "on the left",
    "centre": "in the centre",
    "right": "on the right",
}
_VERTICAL_PHRASES = {
    "top": "at the top",
    "middle": "at middle height",
    "bottom": "at the bottom",
}


@dataclass(frozen=True)
class Attributes:
    """True attributes of a scene, each an index into the module's tuple of that name."""

    class_index: int
    colour_index: int
    texture_index: int
    size_index: int
    tilt_index: int
    horizontal_index: int
    vertical_index: int
    background_index: int
    pattern_index: int

    @property
    def tilt_is_visible(self) -> bool:
        """Whether the tilt can be seen: a solid circle or ring looks the same at every angle."""
        return CLASSES[self.class_index] not in ("circle", "ring") or TEXTURES[self.texture_index] == "striped"


@dataclass(frozen=True)
class Scene(Attributes):
    """One drawing: image uint8 [H, W, 3], mask float32 [H, W] (coverage in 0..1), caption, true attributes."""

    image: np.ndarray
    mask: np.ndarray
    caption: str
    foreground_share: float
    constraints: int
    """Number of visual constraints in the caption, 0..8."""


def scene(index: int, *, seed: int = 0, size: int = 32) -> Scene:
    """Draw scene `index` of the collection `seed` at `size` x `size` pixels; the same arguments, the same bytes."""
    random = np.random.Generator(np.random.Philox(key=[seed, index]))
    class_index, colour_index, background_index = (int(i) for i in random.integers(0, 6, 3))
    texture_index, pattern_index = (int(i) for i in random.integers(0, 2, 2))
    tilt_index = int(random.integers(0, 3))
    tilt = np.deg2rad((0.0, -1.0, 1.0)[tilt_index] * random.uniform(11, 20) + random.uniform(-3, 3))
    share = _draw_share(random)
    scale = size / _REFERENCE_SIZE
    radius, x, y = _place(random, class_index, share, tilt)

    columns, rows = _pixel_grid(size)
    cosine, sine = np.cos(tilt), np.sin(tilt)
    for _ in range(4):
        u = columns - x * scale
        v = rows - y * scale
        u, v = u * cosine + v * sine, v * cosine - u * sine
        mask = np.clip(0.5 - _signed_distance(class_index, u, v, radius * scale, scale), 0, 1)
        missing = share - float(mask.mean())
        if abs(missing) < 0.004:
            break
        radius = _step_radius(class_index, radius, missing)

    colour = np.asarray(tuple(COLOURS.values())[colour_index], np.float32) + random.uniform(-10, 10, 3)
    background = np.asarray(tuple(BACKGROUNDS.values())[background_index], np.float32) + random.uniform(-8, 8, 3)
    light = _stripes(random, v, scale) if TEXTURES[texture_index] == "striped" else np.ones_like(mask)
    shade = _gradient(random, columns, rows, size) if PATTERNS[pattern_index] == "gradient" else 0.0
    canvas = background + np.asarray(shade)[..., None]
    alpha = mask[..., None]
    image = canvas * (1 - alpha) + colour * light[..., None] * alpha
    attributes = Attributes(
        class_index=class_index,
        colour_index=colour_index,
        texture_index=texture_index,
        size_index=int(np.searchsorted(SIZE_LIMITS, share, side="right")),
        tilt_index=tilt_index,
        horizontal_index=_third(x),
        vertical_index=_third(y),
        background_index=background_index,
        pattern_index=pattern_index,
    )
    which = draw_constraints(random, attributes)
    return Scene(
        **vars(attributes),
        image=np.clip(image + 0.5, 0, 255).astype(np.uint8),
        mask=mask.astype(np.float32),
        caption=caption(attributes, which),
        foreground_share=float(mask.mean()),
        constraints=len(which),
    )


def caption(attributes: Attributes, which: Collection[str]) -> str:
    """English caption that names the class and those of `CONSTRAINTS` that are in `which`."""
    words = ["a"]
    if "size" in which:
        words.append(SIZES[attributes.size_index])
    if "colour" in which:
        words.append(tuple(COLOURS)[attributes.colour_index])
    if "texture" in which:
        words.append(TEXTURES[attributes.texture_index])
    words.append(CLASSES[attributes.class_index])
    if "tilt" in which:
        words.append(TILTS[attributes.tilt_index])
    horizontal = HORIZONTAL_PLACES[attributes.horizontal_index]
    vertical = VERTICAL_PLACES[attributes.vertical_index]
    if "horizontal" in which and "vertical" in which:
        words.append(f"at the {vertical} {horizontal}")
    elif "horizontal" in which:
        words.append(_HORIZONTAL_PHRASES[horizontal])
    elif "vertical" in which:
        words.append(_VERTICAL_PHRASES[vertical])
    if "background" in which or "pattern" in which:
        words.append("on a")
        if "background" in which:
            words.append(tuple(BACKGROUNDS)[attributes.background_index])
        if "pattern" in which:
            words.append(PATTERNS[attributes.pattern_index])
        words.append("background")
    return " ".join(words)


def draw_constraints(
    random: np.random.Generator,
    attributes: Attributes,
    score_probabilities: Collection[float] = SCORE_PROBABILITIES,
) -> tuple[str, ...]:
    """Draw which constraints a caption names: first the guidance score, then a count of it, then the names."""
    choices = [name for name in CONSTRAINTS if name != "tilt" or attributes.tilt_is_visible]
    score = min(
        int(np.searchsorted(np.cumsum(score_probabilities), random.random(), side="right")),
        3,
    )
    counts = [count for count in SCORE_COUNTS[score] if count <= len(choices)]
    count = counts[int(random.integers(len(counts)))]
    return tuple(choices[i] for i in sorted(random.permutation(len(choices))[:count]))


def class_prompts() -> list[str]:
    """One prompt per class, for zero-shot classification."""
    return [f"a {name}" for name in CLASSES]


def colour_prompts() -> list[list[str]]:
    """Per colour one prompt for each class, for a zero-shot colour classifier averaged over classes."""
    return [[f"a {colour} {name}" for name in CLASSES] for colour in COLOURS]


def vocabulary() -> list[str]:
    """Every word that a caption can contain, sorted."""
    words = {"a", "on", "background"} | set(" ".join(TILTS).split())
    words |= {
        *CLASSES,
        *COLOURS,
        *BACKGROUNDS,
        *TEXTURES,
        *SIZES,
        *HORIZONTAL_PLACES,
        *VERTICAL_PLACES,
        *PATTERNS,
    }
    words |= set(" ".join([*_HORIZONTAL_PHRASES.values(), *_VERTICAL_PHRASES.values()]).split())
    return sorted(words)


def _draw_share(random: np.random.Generator) -> float:
    fifth = min(
        int(np.searchsorted(np.cumsum(SHARE_PROBABILITIES), random.random(), side="right")),
        4,
    )
    low, high = SHARE_BOUNDS[fifth]
    return low + (high - low) * float(random.random()) ** SHARE_EXPONENTS[fifth]


def _place(random: np.random.Generator, class_index: int, share: float, tilt: float) -> tuple[float, float, float]:
    """Radius and centre offset at the reference size: free while the object fits, else near the middle."""
    shares, radii = _share_table(class_index)
    radius = float(np.interp(share, shares, radii))
    half = _REFERENCE_SIZE / 2
    reach = radius * (1 + 0.3 * abs(np.sin(tilt))) if CLASSES[class_index] == "square" else radius
    room = max(half - reach, 1.5)
    x, y = random.uniform(-room, room, 2)
    return radius, float(x), float(y)


def _step_radius(class_index: int, radius: float, missing: float) -> float:
    """One Newton step towards the wanted share, with the slope of the centred object's table."""
    shares, radii = _share_table(class_index)
    here = min(max(int(np.searchsorted(radii, radius)), 2), len(radii) - 3)
    slope = (shares[here + 2] - shares[here - 2]) / (radii[here + 2] - radii[here - 2])
    return float(np.clip(radius + missing / max(slope, 1e-3), 2.0, radii[-1]))


@cache
def _share_table(class_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Measured share of the centred upright object over its radius, both increasing."""
    columns, rows = _pixel_grid(_REFERENCE_SIZE)
    radii = np.geomspace(2.5, 60, 160)
    shares = np.array([np.clip(0.5 - _signed_distance(class_index, columns, rows, r, 1.0), 0, 1).mean() for r in radii])
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(shares)) > 1e-6])
    return shares[rising], radii[rising]


@cache
def _pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    columns, rows = np.meshgrid(axis, axis)
    return columns, rows


def _signed_distance(class_index: int, u: np.ndarray, v: np.ndarray, radius: float, scale: float) -> np.ndarray:
    """Signed distance in pixels (negative inside) from the outline of a class in its own upright frame."""
    match CLASSES[class_index]:
        case "circle":
            return np.hypot(u, v) - radius
        case "square":
            return np.maximum(np.abs(u), np.abs(v)) - radius
        case "triangle":
            return np.maximum(v, 0.8660254 * np.abs(u) - 0.5 * v) - 0.55 * radius
        case "cross":
            a, b = np.abs(u), np.abs(v)
            arm = 0.36 * radius
            return np.minimum(np.maximum(a - radius, b - arm), np.maximum(b - radius, a - arm))
        case "ring":
            distance = np.hypot(u, v)
            # A hole that grew with the ring would cap the share, so it shrinks again once the rim leaves the frame.
            grown = 5.6 - 2.2 * min(max((radius / scale - 14) / 8, 0), 1)
            return np.maximum(distance - radius, min(0.46 * radius, grown * scale) - distance)
        case "star":
            sector = np.pi / 5
            angle = np.abs((np.arctan2(u, -v) + sector) % (2 * sector) - sector)
            distance = np.hypot(u, v)
            inner = 0.48
            edge_x, edge_y = inner * np.cos(sector) - 1, inner * np.sin(sector)
            length = np.hypot(edge_x, edge_y)
            return (distance * (np.cos(angle) * edge_y - np.sin(angle) * edge_x) - radius * edge_y) / length
    raise AssertionError(class_index)


def _stripes(random: np.random.Generator, v: np.ndarray, scale: float) -> np.ndarray:
    """Brightness factor of bands across the object's own axis: 1 and 0.5, period 8 to 11 pixels, soft edges."""
    period, phase = random.uniform(8, 11) * scale, random.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * v / period + phase) * period / (2 * np.pi)
    return 0.75 + 0.25 * np.clip(2 * wave, -1, 1)


def _gradient(random: np.random.Generator, columns: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Brightness added along a random direction, from dark to light, in 8-bit units."""
    angle = random.uniform(0, 2 * np.pi)
    return (columns * np.cos(angle) + rows * np.sin(angle)) * (100.0 / size)


def _third(offset: float) -> int:
    """0, 1 or 2 for an offset left of (above), about, or right of (below) the middle."""
    return int(np.searchsorted((-2.5, 2.5), offset))
