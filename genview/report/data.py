"""Section: what was ingested, and what was refused and why."""

import numpy as np
import pyarrow.compute as pc

from genview import tables
from genview.report import drawing, pictures, wording
from genview.report.blocks import Block, Card, Facts, Figure, Gallery, Note, Section, Table
from genview.report.results import Results, digest_order
from genview.results import StudyResults

EXAMPLES = 12
SHOWN_REJECTS = 20


def section(study: StudyResults) -> Section | None:
    """Counts, sizes, examples and the refused items."""
    results = study.artifacts
    manifest = results.manifest(["key", "caption", "label", "width", "height", "length", "foreground_share"])
    if manifest is None:
        return None
    images = manifest.num_rows
    captions = images - manifest["caption"].null_count
    labels = pc.count_distinct(manifest["label"]).as_py()
    rejected = results.table("data/rejected.parquet", tables.REJECTED)
    refused = rejected.num_rows if rejected is not None else 0
    blocks: list[Block] = [
        Facts(
            [
                ("images", wording.count(images)),
                ("with a caption", wording.percent(captions / max(images, 1), 0)),
                ("classes", wording.count(labels) if labels else "no labels"),
                ("refused", wording.count(refused)),
                ("bytes of the images", wording.size(pc.sum(manifest["length"]).as_py() or 0)),
            ]
        )
    ]
    blocks += _examples(results, manifest)
    if images and pc.min_max(manifest["width"]).as_py()["min"] != pc.min_max(manifest["width"]).as_py()["max"]:
        blocks.append(_sizes(manifest))
    blocks += _refused(rejected) if refused else [Note("No item was refused.")]
    source = results.configuration["dataset"]["source"]
    lead = f"{wording.plural(images, 'image')} came in from the source “{source}”"
    lead += f"; {wording.plural(refused, 'item')} {'was' if refused == 1 else 'were'} refused." if refused else "."
    texts = f", {wording.percent(captions / images, 0)} of them with a caption" if captions else ""
    return Section("data", "The images", lead, blocks, f"{wording.plural(images, 'image')}{texts}.")


def _examples(results: Results, manifest) -> list[Block]:
    keys = manifest["key"].slice(0, 20_000).to_pylist()
    chosen = digest_order(keys)[:EXAMPLES]
    rows = results.rows("data/manifest.parquet", tables.MANIFEST, chosen)
    originals = results.originals(chosen)
    cards = []
    for key in chosen:
        caption, label = rows[key]["caption"], rows[key]["label"]
        alt = caption or (f"image of class {label}" if label else f"image {key}")
        cards.append(Card([pictures.tile(originals[key], alt)], title=label or "", text=caption or key))
    caption = "Examples, chosen by the digest of their key: nobody picked them."
    return [Gallery("Examples", [("", cards)], caption)] if cards else []


def _sizes(manifest) -> Figure:
    sides = np.sqrt(manifest["width"].to_numpy().astype(float) * manifest["height"].to_numpy())
    with drawing.figure() as (figure, axes):
        axes.hist(sides, bins=40, color=drawing.colour("series-1"))
        axes.set(xlabel="side of a square of the same area, pixels", ylabel="images", title="Image sizes")
        text = drawing.svg(figure, "image-sizes")
    low, middle, high = np.quantile(sides, [0.05, 0.5, 0.95])
    words = f"Median {middle:.0f} pixels, nine in ten between {low:.0f} and {high:.0f}."
    return Figure("image-sizes", text, f"Histogram of image sizes. {words}", words)


def _refused(rejected) -> list[Block]:
    counts = rejected.group_by("kind").aggregate([("kind", "count")]).to_pylist()
    kinds = sorted(((row["kind"], row["kind_count"]) for row in counts), key=lambda item: -item[1])
    rows = [[row["source"], row["kind"], row["reason"]] for row in rejected.slice(0, SHOWN_REJECTS).to_pylist()]
    more = rejected.num_rows - len(rows)
    caption = "All of them are listed in data/rejected.parquet." + (f" {more} more are not shown." if more > 0 else "")
    return [
        Table("Refused items by kind", ["kind", "items"], [[k, wording.count(n)] for k, n in kinds], numeric=[1]),
        Table("Refused items", ["source", "kind", "reason"], rows, caption),
    ]
