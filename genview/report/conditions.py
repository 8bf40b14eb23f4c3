"""Section: the noise level and the guidance scale of each image, with examples of each value."""

import pyarrow.compute as pc
from matplotlib.ticker import MaxNLocator

from genview import tables
from genview.report import drawing, pictures, wording
from genview.report.blocks import Block, Card, Figure, Gallery, Note, Section
from genview.report.results import ByValue, Results
from genview.results import StudyResults

COLUMNS = (
    ("noise_level", "noise-levels", "noise level"),
    ("guidance_scale", "guidance-scales", "guidance scale"),
)
"""Column of the conditions, name of its figure, and what it is called."""

READ = ["key", "noise_level", "guidance_scale", "noise_level_from", "guidance_scale_from"]

EXAMPLES = 6
GROUPS = 8
"""Distinct values that get examples; random strategies may have many."""


def section(study: StudyResults) -> Section | None:
    """Distributions of noise levels and guidance scales, and examples of each."""
    results = study.artifacts
    found = {column: ByValue() for column, _, _ in COLUMNS}
    origins: dict[str, set[str]] = {column: set() for column in found}
    images = defaults = 0
    for rows in results.pieces("conditions/conditions.parquet", tables.CONDITIONS, READ):
        images += len(rows)
        defaults += pc.sum(pc.equal(rows["guidance_scale_from"], "default")).as_py() or 0
        for column, by_value in found.items():
            by_value.add(rows, column)
            filled = rows[f"{column}_from"].filter(pc.is_valid(rows[column]))
            origins[column].update(pc.unique(filled).to_pylist())
    if not images:
        return None
    figures: list[Block] = []
    galleries: list[Block] = []
    for column, name, words in COLUMNS:
        if found[column].counts:
            figures.append(_distribution(found[column], sorted(origins[column]), name, words))
            galleries.append(_examples(results, found[column], words))
    blocks = figures + galleries
    if defaults:
        share = wording.percent(defaults / images)
        text = f"{wording.plural(defaults, 'caption')} ({share}) could not be scored and took the default scale."
        blocks.append(Note(text, warning=defaults / images > 0.01))
    lead = (
        "More foreground allows more noise on the image's embedding; a caption with more visual constraints needs "
        "less guidance."
    )
    return Section("conditions", "Noise levels and guidance scales", lead, blocks)


def _distribution(found: ByValue, origins: list[str], name: str, words: str) -> Figure:
    values = found.values()
    numbers = [found.counts[value] for value in values]
    with drawing.figure() as (figure, axes):
        places = range(len(values))
        bars = axes.bar(places, numbers, width=0.72, color=drawing.levels(len(values)), linewidth=0)
        if len(values) <= 12:
            axes.set_xticks(places, [f"{value:g}" for value in values])
            axes.bar_label(
                bars, [wording.percent(n / sum(numbers), 0) for n in numbers], color=drawing.colour("ink"), fontsize=8.5
            )
        axes.grid(False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=words, ylabel="images", title=words.capitalize())
        text = drawing.svg(figure, name)
    listed = ", ".join(f"{value:g}: {number}" for value, number in zip(values[:12], numbers[:12]))
    alt = f"Bars of the number of images per {words}. {listed}."
    return Figure(name, text, alt, f"Images per {words}; strategy: {wording.listing(origins)}.")


def _examples(results: Results, found: ByValue, words: str) -> Gallery:
    chosen = {value: found.examples(value, EXAMPLES) for value in found.values(GROUPS)}
    wanted = [key for keys in chosen.values() for key in keys]
    originals = results.originals(wanted)
    rows = results.rows("conditions/conditions.parquet", tables.CONDITIONS, wanted)
    groups = []
    for value, keys in chosen.items():
        cards = []
        for key in keys:
            caption = rows[key]["caption"] or key
            cards.append(Card([pictures.tile(originals[key], caption)], text=caption))
        groups.append((f"{words} {value:g}", cards))
    return Gallery(f"Examples of each {words}", groups, "The first by the digest of their key.")
