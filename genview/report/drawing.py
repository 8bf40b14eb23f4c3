"""Figures as SVG that follows the page: its font, and its colours in light and dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Each colour is a placeholder in the SVG that becomes a CSS variable of the page; a file of its own gets the value
# for light paper. (placeholder, value on paper), by the name of the variable.
COLOURS = {
    "ink": ("#010101", "#1c2024"),
    "muted": ("#010102", "#5d6670"),
    "grid": ("#010103", "#dfe3e7"),
    "paper": ("#010104", "#ffffff"),
    "series-1": ("#010111", "#2a5db0"),
    "series-2": ("#010112", "#c8590a"),
    "series-3": ("#010113", "#0b7d6b"),
    "series-4": ("#010114", "#a3307f"),
    "series-5": ("#010115", "#6b6f00"),
    "series-6": ("#010116", "#5a4fcf"),
    "level-1": ("#010121", "#c4d7ef"),
    "level-2": ("#010122", "#93b6e0"),
    "level-3": ("#010123", "#5f90cc"),
    "level-4": ("#010124", "#3468ac"),
    "level-5": ("#010125", "#1b3f77"),
}
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")

STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "figure.constrained_layout.use": True,
}


def colour(name: str) -> str:
    """The placeholder of a named colour, for matplotlib."""
    return COLOURS[name][0]


def series(index: int) -> dict:
    """Colour, dash and marker of the ``index``-th line of a figure; told apart without colour, too."""
    return {
        "color": colour(f"series-{index % 6 + 1}"),
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def levels(number: int) -> list[str]:
    """Colours of ``number`` ordered levels, light to dark."""
    if number == 1:
        return [colour("level-3")]
    return [colour(f"level-{1 + round(4 * index / (number - 1))}") for index in range(number)]


@contextmanager
def figure(width: float = 4.4, height: float = 2.7) -> Iterator[tuple[Figure, Axes]]:
    """One pair of axes in the page's style; inches, of which the page shows 96 pixels each at most."""
    with matplotlib.rc_context(
        {
            **STYLE,
            "text.color": colour("ink"),
            "axes.labelcolor": colour("muted"),
            "axes.titlecolor": colour("ink"),
            "axes.edgecolor": colour("muted"),
            "xtick.color": colour("muted"),
            "ytick.color": colour("muted"),
            "grid.color": colour("grid"),
            "axes.facecolor": "none",
            "figure.facecolor": "none",
        }
    ):
        drawing = Figure(figsize=(width, height))
        yield drawing, drawing.add_subplot()


def svg(drawing: Figure, name: str) -> str:
    """The figure as an SVG element whose identifiers are its own on a page of many figures."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--figure-font, sans-serif)", text)
    for variable, (placeholder, paper) in COLOURS.items():
        text = text.replace(placeholder, f"var(--{variable}, {paper})")
    return re.sub(r"\n\s*\n+", "\n", text).strip()


def standalone(text: str) -> str:
    """The same SVG as a file of its own: the colours are those of light paper."""
    text = re.sub(r"var\(--[a-z0-9-]+, ([^)]+)\)", r"\1", text)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + text + "\n"
