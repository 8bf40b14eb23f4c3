"""Section: the principal direction of the tokens, its orientation, the masks and the foreground ratio."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genview import parquet, tables
from genview.report import drawing, pictures, wording
from genview.report.blocks import Block, Card, Facts, Figure, Gallery, Note, Section, Table
from genview.report.results import Results
from genview.results import StudyResults

SAMPLE = 4000
"""Images whose token scores are drawn; the page must open quickly whatever the study's size."""
EXAMPLES = 10
EVIDENCE: dict[str, tuple[str, Callable[[Any], str]]] = {
    "method": ("how it was decided", str),
    "border_mean": ("mean projection at the border", wording.signed),
    "centre_mean": ("mean projection in the middle half of rows and columns", wording.signed),
    "margin": ("margin: difference in standard deviations", wording.signed),
    "images_agreeing": ("images that agree on their own", lambda share: wording.percent(share, 0)),
    "data_agree": ("the data agree with the sign in use", lambda value: "yes" if value else "no"),
    "flipped": ("the component's sign was turned", lambda value: "yes" if value else "no"),
}
"""What the record of the orientation says, in words."""


def section(study: StudyResults) -> Section | None:
    """Histogram with threshold, evidence for the orientation, masks over images, ratios, true share."""
    results = study.artifacts
    folder = f"foreground/{results.encoder}"
    table = results.folder / folder / "foreground_ratio.parquet"
    ratios = None
    if table.is_file():
        ratios = parquet.read(table, tables.FOREGROUND_RATIO, ["ratio"])["ratio"].to_numpy()
    component, record = results.pca(), results.json(f"{folder}/pca.json") or {}
    batches = list(results.score_batches(SAMPLE))
    if ratios is None and component is None:
        return None
    blocks: list[Block] = []
    correlation: float | None = None
    if component is not None:
        threshold = float(np.ravel(component["threshold"])[0])
        blocks.append(_facts(component, record, threshold))
        if batches:
            scores = np.concatenate([values for _, values in batches])
            blocks.append(_histogram(scores, threshold))
            blocks += _orientation(scores, record)
    if ratios is not None and len(ratios):
        blocks.append(_ratios(ratios, results.configuration["noise_level"]["levels"]))
        truth, correlation = _truth(results, table)
        blocks += truth
        if component is not None and batches:
            blocks += _masks(results, table, ratios, threshold, record)
        blocks += _second_opinion(results, table)
    share = results.configuration["pca"]["foreground_share"]
    lead = (
        "The first principal component of the encoder's patch tokens is taken to separate foreground from background. "
        f"One threshold for the whole study leaves {wording.percent(share, 0)} of the sampled tokens above it; "
        "an image's foreground ratio is the share of its tokens that are above."
    )
    summary = ""
    if (record.get("orientation") or {}).get("weak"):
        summary = "Which side of the threshold is foreground is in doubt: the data hardly tell."
    elif ratios is not None and correlation is not None:
        summary = f"The foreground ratio follows the true share of foreground with correlation {_three(correlation)}."
    return Section("foreground", "Foreground", lead, blocks, summary)


def _facts(component: dict[str, np.ndarray], record: dict[str, Any], threshold: float) -> Facts:
    items = [("token dimension", wording.count(component["component"].size)), ("threshold", f"{threshold:.3f}")]
    explained = component.get("explained_variance_ratio", record.get("explained_variance_ratio"))
    if explained is not None:
        items.append(("explained variance", wording.percent(float(np.ravel(explained)[0]))))
    items += [(name, wording.count(record[name])) for name in ("images", "tokens") if name in record]
    return Facts(items)


def _histogram(scores: np.ndarray, threshold: float) -> Figure:
    low, high = np.quantile(scores, [0.001, 0.999])
    counts, edges = np.histogram(scores, bins=80, range=(low, high), density=True)
    centres = (edges[:-1] + edges[1:]) / 2
    above = float((scores > threshold).mean())
    with drawing.figure() as (figure, axes):
        for side, colour in ((centres <= threshold, "muted"), (centres > threshold, "series-2")):
            axes.bar(centres[side], counts[side], width=np.diff(edges)[0], color=drawing.colour(colour), linewidth=0)
        axes.axvline(threshold, color=drawing.colour("ink"), linewidth=1)
        axes.annotate(
            " foreground", (threshold, 1), xycoords=("data", "axes fraction"), va="top", color=drawing.colour("ink")
        )
        axes.set(xlabel="projection of a token on the component", ylabel="density", title="Tokens and the threshold")
        text = drawing.svg(figure, "token-histogram")
    words = f"{wording.percent(above)} of the tokens of {wording.plural(len(scores), 'image')} are above the threshold."
    return Figure("token-histogram", text, f"Histogram of token projections with a line at {threshold:.3f}.", words)


def _shape(record: dict[str, Any], tokens: int) -> tuple[int, int]:
    return pictures.grid_shape(tokens, *(record.get("grid") or (None, None)))


def _orientation(scores: np.ndarray, record: dict[str, Any]) -> list[Block]:
    evidence = record.get("orientation") or {}
    mean = scores.mean(0).reshape(_shape(record, scores.shape[1]))
    blocks: list[Block] = []
    with drawing.figure() as (figure, axes):
        shown = axes.imshow(mean, cmap="cividis")
        axes.grid(False)
        axes.set(xticks=[], yticks=[], title="Mean projection by place")
        figure.colorbar(shown, ax=axes).outline.set_visible(False)
        axes.spines[:].set_visible(False)
        text = drawing.svg(figure, "orientation")
    border = np.ones(mean.shape, bool)
    border[1:-1, 1:-1] = False
    inside = mean[~border].mean() if (~border).any() else mean.mean()
    so = "the two hardly differ, so this does not tell which side is foreground"
    if not evidence.get("weak"):
        so = "objects sit inside the frame more often than at its border, so the larger values are foreground"
    words = (
        f"Tokens at the border project to {wording.signed(mean[border].mean())} on average, the others to "
        f"{wording.signed(inside)}: {so}."
    )
    blocks.append(
        Figure("orientation", text, "Map of the mean token projection by place in the image. " + words, words)
    )
    rows = [[words, show(evidence[name])] for name, (words, show) in EVIDENCE.items() if evidence.get(name) is not None]
    if rows:
        blocks.append(Table("Evidence for the orientation", ["evidence", ""], rows))
    if evidence.get("weak"):
        blocks.append(Note("The orientation rests on a weak margin. Look at the masks before you trust it.", True))
    return blocks


def _ratios(values: np.ndarray, levels: list[int]) -> Figure:
    bounds = np.linspace(0, 1, len(levels) + 1)
    bins = len(levels) * max(1, round(min(40, 2 * len(values) ** 0.5) / len(levels)))
    with drawing.figure() as (figure, axes):
        counts, edges = np.histogram(values, bins=bins, range=(0, 1))
        which = np.clip(np.digitize((edges[:-1] + edges[1:]) / 2, bounds) - 1, 0, len(levels) - 1)
        colours = drawing.levels(len(levels))
        axes.bar(edges[:-1], counts, width=0.94 / bins, align="edge", color=[colours[i] for i in which], linewidth=0)
        for bound in bounds[1:-1]:
            axes.axvline(bound, color=drawing.colour("muted"), linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set(xlim=(0, 1), xlabel="foreground ratio", ylabel="images", title="Foreground ratio")
        text = drawing.svg(figure, "foreground-ratio")
    words = (
        f"Mean {values.mean():.2f}, median {np.median(values):.2f}. "
        "The dashed lines are the bounds of the noise levels."
    )
    return Figure("foreground-ratio", text, f"Histogram of the foreground ratio of each image. {words}", words)


def _three(value: float) -> str:
    return f"{value:.3f}".replace("-", "\u2212")


def _truth(results: Results, table: Path) -> tuple[list[Block], float | None]:
    """The ratio against the true share, and their correlation, where the source knows the truth."""
    if all(rows["foreground_share"].null_count == len(rows) for rows in results.manifest(["foreground_share"])):
        return [], None
    ratios = parquet.read(table, tables.FOREGROUND_RATIO)
    joined = ratios.join(pa.concat_tables(results.manifest(["key", "foreground_share"])), "key").drop_null()
    truth, ratio = joined["foreground_share"].to_numpy(), joined["ratio"].to_numpy()
    if len(truth) < 3 or truth.std() == 0 or ratio.std() == 0:
        return [], None
    correlation = float(np.corrcoef(truth, ratio)[0, 1])
    shown = np.linspace(0, len(truth) - 1, min(500, len(truth))).astype(int)
    with drawing.figure() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=drawing.colour("muted"), linewidth=1, linestyle=(0, (3, 3)))
        axes.plot(truth[shown], ratio[shown], ".", markersize=3.5, color=drawing.colour("series-1"), alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="true share of foreground", ylabel="foreground ratio")
        axes.set_title("Measured against the truth")
        text = drawing.svg(figure, "true-share")
    words = (
        f"Pearson correlation {_three(correlation)} over {wording.plural(len(truth), 'image')} whose share is known; "
        f"mean absolute error {np.abs(truth - ratio).mean():.3f}. {len(shown)} of them are drawn."
    )
    return [Figure("true-share", text, f"Scatter of foreground ratio over true share. {words}", words)], correlation


def _cuts(results: Results) -> dict[str, tuple[float, np.ndarray]]:
    """What TokenCut says of some images: ratio and foreground bool [T], by key."""
    table = results.table(f"foreground/{results.encoder}/token_cut.parquet", tables.TOKEN_CUT)
    rows = [] if table is None else table.to_pylist()
    return {row["key"]: (row["ratio"], np.asarray(row["foreground"], bool)) for row in rows}


def _second_opinion(results: Results, table: Path) -> list[Block]:
    """The two ratios of some images against each other."""
    cuts = _cuts(results)
    some = parquet.with_keys(table, tables.FOREGROUND_RATIO, pa.array(cuts, pa.string()), ["key", "ratio"])
    known = dict(zip(some["key"].to_pylist(), some["ratio"].to_pylist()))
    both = np.array([(known[key], share) for key, (share, _) in cuts.items() if key in known])
    if len(both) < 3:
        return []
    with drawing.figure() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=drawing.colour("muted"), linewidth=1, linestyle=(0, (3, 3)))
        axes.plot(both[:, 0], both[:, 1], ".", markersize=5, color=drawing.colour("series-1"))
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="foreground ratio", ylabel="TokenCut's share of foreground")
        axes.set_title("A second opinion")
        text = drawing.svg(figure, "second-opinion")
    spread = both.std(axis=0).min()
    follow = f"correlation {_three(np.corrcoef(both.T)[0, 1])}; " if spread else ""
    words = (
        f"{wording.plural(len(both), 'image')} at equal steps of the ratio's rank, divided by TokenCut too, which "
        f"looks at each image alone: {follow}mean absolute difference {np.abs(both[:, 0] - both[:, 1]).mean():.3f}. "
        "TokenCut takes the side of the token that lies farthest from the cut, and may take the background."
    )
    return [Figure("second-opinion", text, f"Scatter of TokenCut's share over the foreground ratio. {words}", words)]


def _equal_steps(count: int) -> np.ndarray:
    """Places of the examples among ``count`` images."""
    return np.unique((np.linspace(0.03, 0.97, EXAMPLES) * max(count - 1, 0)).astype(int))[:count]


def _masks(results: Results, table: Path, ratios: np.ndarray, threshold: float, record: dict[str, Any]) -> list[Block]:
    cuts = _cuts(results)
    if cuts:  # those with two masks are shown
        some = parquet.with_keys(table, tables.FOREGROUND_RATIO, pa.array(cuts, pa.string()), ["key", "ratio"])
        some = some.take(np.argsort(some["ratio"].to_numpy(), kind="stable"))
        rows = some.take(_equal_steps(len(some))).to_pylist()
    else:
        order = np.argsort(ratios, kind="stable")[_equal_steps(len(ratios))]
        rows = parquet.take(table, tables.FOREGROUND_RATIO, order, ["key", "ratio"]).to_pylist()
    keys = [row["key"] for row in rows]
    originals, scores = results.originals(keys), results.scores_of(keys)
    if not scores:
        return []
    low, high = np.quantile(np.concatenate(list(scores.values())), [0.02, 0.98])
    known = results.rows("data/manifest.parquet", tables.MANIFEST, keys)
    cards = []
    for row in rows:
        key, ratio = row["key"], row["ratio"]
        if key not in scores or key not in originals:
            continue
        values = scores[key].reshape(_shape(record, len(scores[key])))
        name, truth = known[key]["caption"] or key, known[key]["foreground_share"]
        tiles = [
            pictures.tile(originals[key], name, "image"),
            pictures.tile(pictures.masked(originals[key], values > threshold), f"foreground of: {name}", "foreground"),
            pictures.tile(pictures.heat(values, low, high), f"token projections of: {name}", "projection"),
        ]
        text = f"ratio {ratio:.2f}" + (f", true share {truth:.2f}" if truth is not None else "")
        if key in cuts:
            share, inside = cuts[key]
            cut = pictures.masked(originals[key], inside.reshape(values.shape))
            tiles.insert(2, pictures.tile(cut, f"TokenCut's foreground of: {name}", "TokenCut"))
            text += f", TokenCut {share:.2f}"
        cards.append(Card(tiles, text=text))
    caption = (
        "Images from the least to the most foreground, at equal steps of the rank. Middle: tokens below the threshold "
        "are greyed. Right: the projection itself, brighter is more foreground."
    )
    return [Gallery("Masks over images", [("", cards)], caption)]
