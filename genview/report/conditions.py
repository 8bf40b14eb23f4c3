"""Section: the noise level and the guidance scale of each image, with examples of each value."""

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.ticker import MaxNLocator

from genview import tables
from genview.report import drawing, pictures, wording
from genview.report.blocks import Block, Card, Figure, Gallery, Note, Section
from genview.report.results import Results, digest_order
from genview.results import StudyResults

EXAMPLES = 6
GROUPS = 8
"""Distinct values that get examples; random strategies may have many."""


def section(study: StudyResults) -> Section | None:
    """Distributions of noise levels and guidance scales, and examples of each."""
    results = study.artifacts
    conditions = results.table("conditions/conditions.parquet", tables.CONDITIONS)
    if conditions is None or not conditions.num_rows:
        return None
    figures: list[Block] = []
    galleries: list[Block] = []
    for column, name, words in (
        ("noise_level", "noise-levels", "noise level"),
        ("guidance_scale", "guidance-scales", "guidance scale"),
    ):
        filled = conditions.filter(pc.is_valid(conditions[column]))
        if filled.num_rows:
            figures.append(_distribution(filled, column, name, words))
            galleries.append(_examples(results, filled, column, words))
    blocks = figures + galleries
    defaults = pc.sum(pc.equal(conditions["guidance_scale_from"], "default")).as_py()
    if defaults:
        share = wording.percent(defaults / conditions.num_rows)
        text = f"{wording.plural(defaults, 'caption')} ({share}) could not be scored and took the default scale."
        blocks.append(Note(text, warning=defaults / conditions.num_rows > 0.01))
    lead = (
        "More foreground allows more noise on the image's embedding; a caption with more visual constraints needs "
        "less guidance."
    )
    return Section("conditions", "Noise levels and guidance scales", lead, blocks)


def _distribution(conditions: pa.Table, column: str, name: str, words: str) -> Figure:
    counts = conditions.group_by(column).aggregate([(column, "count")]).sort_by(column)
    values, numbers = counts[column].to_pylist(), counts[f"{column}_count"].to_pylist()
    origins = sorted(pc.unique(conditions[f"{column}_from"]).to_pylist())
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


def _examples(results: Results, conditions: pa.Table, column: str, words: str) -> Gallery:
    values = sorted(pc.unique(conditions[column]).to_pylist())
    if len(values) > GROUPS:
        values = [values[round(i * (len(values) - 1) / (GROUPS - 1))] for i in range(GROUPS)]
    chosen = {}
    for value in values:
        keys = conditions.filter(pc.equal(conditions[column], value))["key"].slice(0, 5000).to_pylist()
        chosen[value] = digest_order(keys)[:EXAMPLES]
    wanted = [key for keys in chosen.values() for key in keys]
    originals = results.originals(wanted)
    rows = {row["key"]: row for row in conditions.filter(pc.is_in(conditions["key"], pa.array(wanted))).to_pylist()}
    groups = []
    for value, keys in chosen.items():
        cards = []
        for key in keys:
            caption = rows[key]["caption"] or key
            cards.append(Card([pictures.tile(originals[key], caption)], text=caption))
        groups.append((f"{words} {value:g}", cards))
    return Gallery(f"Examples of each {words}", groups, "The first by the digest of their key.")
