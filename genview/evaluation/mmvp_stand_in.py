"""A stand-in for MMVP-VLM, drawn: nine patterns of 15 pairs that differ in one attribute, in MMVP-VLM's own layout.

It lets the whole path run without the real data set; what it says is about drawn scenes only.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genview import atomic
from genview.data.scenes import BACKGROUNDS, COLOURS
from genview.evaluation.mmvp_pairs import IMAGES, PAIRS_PER_PATTERN, TABLE

Picture = tuple[Image.Image, str]
"""An image and the statement that is true of it."""

SCALE = 4
"""Pictures are drawn this many times larger and reduced, for soft edges."""


class _Canvas:
    """A background on which shapes are drawn in parts of its side."""

    def __init__(self, random: np.random.Generator, size: int):
        colours, grounds = list(COLOURS), list(BACKGROUNDS)
        self.size = size * SCALE
        self.colour, self.other = (colours[i] for i in random.permutation(len(colours))[:2])
        self.ground = grounds[int(random.integers(len(grounds)))]
        self.image = Image.new("RGB", (self.size, self.size), BACKGROUNDS[self.ground])
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, corners: np.ndarray, centre: tuple[float, float], radius: float, angle: float, colour: str):
        """Corners [n, 2] about the origin, turned by ``angle`` degrees clockwise, put at ``centre``."""
        turn = np.deg2rad(angle)
        matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        points = (corners @ matrix * radius + np.asarray(centre)) * self.size
        self.draw.polygon([tuple(point) for point in points], fill=COLOURS[colour])

    def circle(self, centre: tuple[float, float], radius: float, fill: tuple[int, int, int]):
        x, y, r = (value * self.size for value in (*centre, radius))
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def square(self, centre: tuple[float, float], radius: float, colour: str):
        x, y, r = (value * self.size for value in (*centre, radius))
        self.draw.rectangle((x - r, y - r, x + r, y + r), fill=COLOURS[colour])

    def finished(self) -> Image.Image:
        return self.image.resize((self.size // SCALE, self.size // SCALE), Image.Resampling.BOX)


TRIANGLE = np.array([[0, -1], [0.65, 0.75], [-0.65, 0.75]])


def _orientation(canvas: _Canvas, which: int, place) -> str:
    canvas.polygon(TRIANGLE, place, 0.3, (-18, 18)[which], canvas.colour)
    return f"a {canvas.colour} triangle tilted to the {('left', 'right')[which]}"


def _presence(canvas: _Canvas, which: int, place) -> str:
    canvas.circle(place, 0.3, COLOURS[canvas.colour])
    if which:
        canvas.circle(place, 0.12, BACKGROUNDS[canvas.ground])
    return f"a {canvas.colour} {('circle', 'ring')[which]}"


def _state(canvas: _Canvas, which: int, place) -> str:
    canvas.square(place, 0.28, canvas.colour)
    if which:
        dark = tuple(value // 2 for value in COLOURS[canvas.colour])
        left, right = ((place[0] + side * 0.28) * canvas.size for side in (-1, 1))
        for stripe in range(3):
            top = (place[1] - 0.28 + 0.56 * (2 * stripe + 0.5) / 6) * canvas.size
            canvas.draw.rectangle((left, top, right, top + 0.56 / 6 * canvas.size), fill=dark)
    return f"a {('solid', 'striped')[which]} {canvas.colour} square"


def _count(canvas: _Canvas, which: int, _place) -> str:
    for x in ((0.5,), (0.28, 0.72))[which]:
        canvas.circle((x, 0.5), 0.16, COLOURS[canvas.colour])
    return f"{('one', 'two')[which]} {canvas.colour} {('circle', 'circles')[which]}"


def _position(canvas: _Canvas, which: int, _place) -> str:
    canvas.square(((0.24, 0.76)[which], 0.5), 0.17, canvas.colour)
    return f"a {canvas.colour} square on the {('left', 'right')[which]}"


def _colour(canvas: _Canvas, which: int, place) -> str:
    colour = (canvas.colour, canvas.other)[which]
    canvas.polygon(TRIANGLE, place, 0.3, 0, colour)
    return f"a {colour} triangle"


def _structure(canvas: _Canvas, which: int, place) -> str:
    """Two shapes of one outline: a cross and the square around it."""
    if which:
        canvas.square(place, 0.28, canvas.colour)
    else:
        x, y = place
        for across, down in ((0.28, 0.1), (0.1, 0.28)):
            corners = [(x - across, y - down), (x + across, y + down)]
            box = [value * canvas.size for corner in corners for value in corner]
            canvas.draw.rectangle(box, fill=COLOURS[canvas.colour])
    return f"a {canvas.colour} {('cross', 'square')[which]}"


def _text(canvas: _Canvas, which: int, place) -> str:
    letter = ("A", "H")[which]
    font = ImageFont.load_default(size=int(0.6 * canvas.size))
    position = (place[0] * canvas.size, place[1] * canvas.size)
    canvas.draw.text(position, letter, font=font, fill=COLOURS[canvas.colour], anchor="mm")
    return f"the letter {letter}"


def _viewpoint(canvas: _Canvas, which: int, place) -> str:
    canvas.circle(place, (0.12, 0.34)[which], COLOURS[canvas.colour])
    return f"a {('small', 'large')[which]} {canvas.colour} circle"


DRAWN: tuple[tuple[str, Callable[[_Canvas, int, tuple[float, float]], str]], ...] = (
    ("Orientation", _orientation),
    ("Presence", _presence),
    ("State", _state),
    ("Quantity", _count),
    ("Position", _position),
    ("Color", _colour),
    ("Structure", _structure),
    ("Text", _text),
    ("Viewpoint", _viewpoint),
)
"""Type and drawing of each pattern, in the order of ``genview.evaluation.mmvp_pairs.PATTERNS``."""


def picture(pattern: int, pair: int, which: int, *, seed: int = 0, size: int = 64) -> Picture:
    """Image ``which`` (0, 1) of a pair: both share colours, ground and place and differ in the pattern's attribute."""
    random = np.random.Generator(np.random.Philox(key=[seed, pattern * PAIRS_PER_PATTERN + pair]))
    canvas = _Canvas(random, size)
    x, y = random.uniform(0.42, 0.58, 2)
    statement = DRAWN[pattern][1](canvas, which, (float(x), float(y)))
    return canvas.finished(), statement


def write(folder: str | Path, *, seed: int = 0, size: int = 64) -> None:
    """Draw the data set into a folder, in MMVP-VLM's layout; complete or absent."""
    with atomic.writing(folder) as partial:
        rows = [("Question ID", "Type", "Statement")]
        for pattern, (type_, _) in enumerate(DRAWN):
            images = partial / IMAGES / type_
            images.mkdir(parents=True)
            for pair in range(PAIRS_PER_PATTERN):
                for which in range(2):
                    image, statement = picture(pattern, pair, which, seed=seed, size=size)
                    name = len(rows)
                    image.save(images / f"{name}.png")
                    rows.append((str(name), type_, statement))
        with open(partial / TABLE, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
