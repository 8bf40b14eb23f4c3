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
    images = results.images()
    if images is None:
        return None
    seen = _Seen(results)
    rejected = results.table("data/rejected.parquet", tables.REJECTED)
    refused = rejected.num_rows if rejected is not None else 0
    captions, labels = seen.captions, len(seen.labels)
    blocks: list[Block] = [
        Facts(
            [
                ("images", wording.count(images)),
                ("with a caption", wording.percent(captions / max(images, 1), 0)),
                ("classes", wording.count(labels) if labels else "no labels"),
                ("refused", wording.count(refused)),
                ("bytes of the images", wording.size(seen.bytes)),
            ]
        )
    ]
    blocks += _examples(results, seen.keys)
    if len(seen.widths) > 1:
        blocks.append(_sizes(np.concatenate(seen.sides)))
    blocks += _refused(rejected) if refused else [Note("No item was refused.")]
    source = results.configuration["dataset"]["source"]
    lead = f"{wording.plural(images, 'image')} came in from the source “{source}”"
    lead += f"; {wording.plural(refused, 'item')} {'was' if refused == 1 else 'were'} refused." if refused else "."
    texts = f", {wording.percent(captions / images, 0)} of them with a caption" if captions else ""
    return Section("data", "The images", lead, blocks, f"{wording.plural(images, 'image')}{texts}.")


class _Seen:
    """What the manifest says of all images, read once."""

    FIRST = 20_000

    def __init__(self, results: Results):
        self.captions = self.bytes = 0
        self.labels: set[str] = set()
        self.widths: set[int] = set()
        self.keys: list[str] = []
        """The first; examples are chosen from them."""
        self.sides: list[np.ndarray] = []
        """Sides of squares of the same area, float32 [n] each, pixels."""
        for rows in results.manifest(["key", "caption", "label", "width", "height", "length"]):
            self.captions += len(rows) - rows["caption"].null_count
            self.bytes += pc.sum(rows["length"]).as_py()
            self.labels.update(pc.unique(rows["label"]).drop_null().to_pylist())
            self.widths.update(pc.unique(rows["width"]).to_pylist())
            self.keys += rows["key"].slice(0, self.FIRST - len(self.keys)).to_pylist()
            area = rows["width"].to_numpy().astype(float) * rows["height"].to_numpy()
            self.sides.append(np.sqrt(area).astype(np.float32))


def _examples(results: Results, keys: list[str]) -> list[Block]:
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


def _sizes(sides: np.ndarray) -> Figure:
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
