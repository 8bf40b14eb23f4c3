"""Sections: originals beside their generated views, sorted by level; and what the audit measured."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from genview import tables
from genview.report import drawing, pictures, wording
from genview.report.blocks import Block, Card, Cell, Facts, Figure, Gallery, Note, Section, Table
from genview.report.results import ByValue, Results
from genview.results import StudyResults

MODES = {"img": "image", "txt": "caption", "imgtxt": "image and caption"}
EXAMPLES = 4
GROUPS = 8
SAMPLES = 3
MEANINGS = {
    "clip_cosine": "cosine of the embeddings of an original and its view, at most 1",
    "clip_cosine_by_chance": "the same with the view of another image: what unrelated images reach",
    "class_kept": "share of the views in which an independent judge sees the original's class",
    "class_of_original": "the same for the originals: the most that can be expected",
    "colour_kept": "share of the views in which the judge sees the original's colour",
    "colour_of_original": "the same for the originals: the most that can be expected",
    "diversity_cosine": "1 minus the mean cosine between the samples of one image; 0: all alike",
    "diversity_pixels": "standard deviation between the samples of one image, over pixels in [0, 1]",
}
"""What the audit measures."""


def section(study: StudyResults) -> Section | None:
    """Originals beside their views in each mode, sorted by noise level and by guidance scale."""
    results = study.artifacts
    sets = results.configuration["views"]
    seen = {name: _Seen(results, name, sets[name]["mode"]) for name in sets}
    seen = {name: views for name, views in seen.items() if views.shards}
    if not seen:
        return None
    blocks: list[Block] = [
        Facts([(f"views {name}", wording.count(views.count)) for name, views in seen.items()]),
        _settings({name: sets[name] for name in seen}),
    ]
    images = results.images()
    for name, views in seen.items():
        blocks.append(_gallery(results, views))
        missing = 0 if images is None else images - views.originals
        if missing:
            text = (
                f"View set {name}: {wording.plural(missing, 'image')} of the study {'has' if missing == 1 else 'have'}"
            )
            blocks.append(Note(f"{text} no view.", warning=True))
    lead = (
        f"{wording.plural(len(seen), 'set')} of generated views. Each original stands beside what was made from it; "
        "examples are the first by the digest of their key at each level."
    )
    total = sum(views.count for views in seen.values())
    summary = f"{wording.plural(total, 'generated view')} in {wording.plural(len(seen), 'set')}."
    return Section("views", "Generated views", lead, blocks, summary)


def _settings(sets: dict[str, dict[str, Any]]) -> Table:
    rows = [
        [
            name,
            MODES[block["mode"]],
            "none" if block["mode"] == "txt" else _source(block["noise_level"]),
            _source(10 if block["guidance_scale"] is None and block["mode"] == "img" else block["guidance_scale"]),
            str(block["steps"]),
            str(block["samples"]),
            block["model"] or ("small/text2image" if block["mode"] == "txt" else "small/unclip"),
            block["scheduler"] or "the model's own",
        ]
        for name, block in sets.items()
    ]
    columns = ["set", "made from", "noise level", "guidance scale", "steps", "samples", "model", "scheduler"]
    return Table("View sets", columns, rows, numeric=[4, 5])


def _source(value: Any) -> str:
    return "per image" if value in (None, "table") else str(value)


class _Seen:
    """What the index of a view set says, read once, shard by shard."""

    def __init__(self, results: Results, name: str, mode: str):
        self.name, self.mode = name, mode
        self.column = "guidance_scale" if mode == "txt" else "noise_level"
        self.levels = ByValue()
        self.shards = self.count = self.originals = 0
        for rows in results.view_index(name, ["key", self.column]):
            self.shards += 1
            self.count += len(rows)
            self.originals += pc.count_distinct(rows["key"]).as_py()
            self.levels.add(rows, self.column)


def _gallery(results: Results, of: _Seen) -> Gallery:
    name, mode, words = of.name, of.mode, of.column.replace("_", " ")
    chosen = {level: of.levels.examples(level, EXAMPLES) for level in of.levels.values(GROUPS)}
    wanted = [key for keys in chosen.values() for key in keys]
    originals, views = results.originals(wanted), results.views(name, wanted)
    rows = results.rows("data/manifest.parquet", tables.MANIFEST, wanted)
    groups = []
    for level, keys in chosen.items():
        cards = []
        for key in keys:
            caption = rows[key]["caption"] or key
            tiles = [pictures.tile(originals[key], f"original: {caption}", "original")]
            for view in views.get(key, [])[:SAMPLES]:
                label = _label(mode, view)
                tiles.append(pictures.tile(view["image"], f"generated from {MODES[mode]}: {caption}", label))
            cards.append(Card(tiles, text=caption))
        groups.append((f"{words} {level:g}", cards))
    return Gallery(f"{name}: from the {MODES[mode]}", groups, f"Sorted by {words}.")


def _label(mode: str, view: dict[str, Any]) -> str:
    parts = [] if view["noise_level"] is None else [f"noise {view['noise_level']}"]
    return ", ".join([*parts, f"guidance {view['guidance_scale']:g}"])


def audit(study: StudyResults) -> Section | None:
    """What the audit measured on each set of views, over all levels and by level."""
    results, records = study.artifacts, study.audit_records
    if not records:
        return None
    overall = {
        name: {_name(row): row for row in record["results"] if _level(row) is None} for name, record in records.items()
    }
    metrics = list(dict.fromkeys(metric for rows in overall.values() for metric in rows))
    rows = [[_measure(metric, overall), *(_cell(overall[name].get(metric)) for name in records)] for metric in metrics]
    columns, small = ["measure", *records], "Small print: 95 % interval, where one was computed."
    blocks: list[Block] = [Table("Audit over all levels", columns, rows, small, numeric=range(1, len(columns)))]
    for metric in metrics:
        for column in ("noise_level", "guidance_scale"):
            curves = {name: _by_level(record, metric, column) for name, record in records.items()}
            curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
            if curves:
                blocks.append(_level_figure(metric, column, curves))
    blocks += [
        figure
        for metric in metrics
        if (figure := _frontier(results, metric, {name: rows.get(metric) for name, rows in overall.items()}))
    ]
    lead = (
        "How close the views stay to their originals, how much they differ from each other, and what they keep. Each "
        "level has its own images: a curve over the levels shows their difference, too."
    )
    return Section("audit", "View audit", lead, blocks)


def seconds_per_view(results: Results, name: str) -> float | None:
    """Mean seconds of denoising and decoding an image, over the shards of a set that were made here."""
    seconds, made = 0.0, 0
    for file in results.shards(f"views/{name}"):
        told = results.json(f"logs/views/{name}/{file.stem}.json") or {}
        if told.get("finished") and told.get("made"):
            seconds += sum(told["seconds"].get(part, 0.0) for part in ("denoising", "decoding"))
            made += told["made"]
    return seconds / made if made else None


def _frontier(results: Results, metric: str, rows: dict[str, dict[str, Any] | None]) -> Figure | None:
    """What a view costs and what the audit says of it, where sets of one mode differ in how they are sampled."""
    sets = results.configuration["views"]
    if metric.endswith("_by_chance") or "of_original" in metric:
        return None
    samplers = {name: (sets[name]["steps"], str(sets[name].get("guidance_interval"))) for name in rows}
    modes = {sets[name]["mode"] for name in rows}
    points = {
        name: (seconds, row)
        for name, row in rows.items()
        if row and row.get("value") is not None and (seconds := seconds_per_view(results, name)) is not None
    }
    if len(points) < 3 or len(modes) > 1 or len(set(samplers.values())) < 3:
        return None
    name = "frontier-" + "".join(c if c.isalnum() else "-" for c in metric)
    with drawing.figure(5.2, 3.4) as (figure, axes):
        for view, (seconds, row) in points.items():
            axes.plot(1000 * seconds, row["value"], "o", color=drawing.colour("series-1"), markersize=4.5)
            if row.get("low") is not None:
                axes.plot(
                    [1000 * seconds] * 2, [row["low"], row["high"]], color=drawing.colour("series-1"), linewidth=1
                )
            axes.annotate(view, (1000 * seconds, row["value"]), xytext=(4, 3), textcoords="offset points", fontsize=7)
        axes.set(
            xlabel="milliseconds a view", ylabel=wording.title(metric), title=f"{wording.heading(metric)} and cost"
        )
        axes.set_xlim(left=0)
        text = drawing.svg(figure, name)
    words = "; ".join(f"{view}: {1000 * seconds:.0f} ms, {row['value']:.3f}" for view, (seconds, row) in points.items())
    caption = f"Denoising and decoding on this machine, without what is loaded once. {words}."
    return Figure(name, text, f"{wording.title(metric)} over the cost of a view. {caption}", caption)


def _name(row: dict[str, Any]) -> str:
    return f"{row['metric']} ({row['encoder']})" if row.get("encoder") else row["metric"]


def _level(row: dict[str, Any]) -> tuple[str, float] | None:
    for column in ("noise_level", "guidance_scale"):
        if row.get(column) is not None:
            return column, row[column]
    return None


def _measure(metric: str, overall: dict[str, dict[str, dict[str, Any]]]) -> Cell:
    counts = dict.fromkeys(rows[metric]["count"] for rows in overall.values() if rows.get(metric, {}).get("count"))
    images = f"{wording.listing(map(wording.count, counts))} images" if counts else ""
    meaning = MEANINGS.get(metric.split(" (")[0], "")
    return Cell(wording.heading(metric), "; ".join(text for text in (meaning, images) if text))


def _cell(row: dict[str, Any] | None) -> Cell:
    if row is None or row.get("value") is None:
        return Cell("–")
    return Cell(f"{row['value']:.3f}", wording.interval(row.get("low"), row.get("high"), share=False))


def _by_level(record: dict[str, Any], metric: str, column: str) -> list[tuple[float, dict[str, Any]]]:
    rows = [row for row in record["results"] if _name(row) == metric and row.get("value") is not None]
    levels = [(level[1], row) for row in rows if (level := _level(row)) and level[0] == column]
    return sorted(levels, key=lambda item: item[0])


def _level_figure(metric: str, column: str, curves: dict[str, list[tuple[float, dict[str, Any]]]]) -> Figure:
    axis, order = column.replace("_", " "), list(curves)
    name = "audit-" + "".join(c if c.isalnum() else "-" for c in f"{metric}-{column}")
    with drawing.figure() as (figure, axes):
        for view, curve in curves.items():
            style = drawing.series(order.index(view))
            x, y = [level for level, _ in curve], [row["value"] for _, row in curve]
            axes.plot(x, y, label=view, markersize=5, **style)
            bounds = [(row.get("low"), row.get("high")) for _, row in curve]
            if all(low is not None and high is not None for low, high in bounds):
                low, high = np.array(bounds).T
                axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        levels = sorted({level for curve in curves.values() for level, _ in curve})
        if len(levels) <= 8:
            axes.set_xticks(levels)
        axes.set(xlabel=axis, title=f"{wording.heading(metric)} by {axis}")
        axes.legend()
        text = drawing.svg(figure, name)
    words = "; ".join(
        f"{view}: {curve[0][1]['value']:.2f} to {curve[-1][1]['value']:.2f}" for view, curve in curves.items()
    )
    words = f"From the lowest to the highest {axis}: {words}. Shaded: 95 % intervals."
    return Figure(name, text, f"{wording.title(metric)} by {axis}. {words}", words)
