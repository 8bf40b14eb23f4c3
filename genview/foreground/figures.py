"""Pictures of the foreground stage: the histogram with its threshold; masks and maps beside their images."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from genview import atomic

DOTS_PER_INCH = 120


def _save(figure, path: str | Path) -> None:
    with atomic.writing(path) as partial:
        figure.savefig(partial, format="png", dpi=DOTS_PER_INCH)
    plt.close(figure)


def histogram(scores: np.ndarray, threshold: float, path: str | Path) -> None:
    """Histogram of all token scores [n, T] of the sample, oriented, with the threshold; PNG."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    low, high = np.quantile(scores, [0.0005, 0.9995])
    edges = np.linspace(min(low, threshold), max(high, threshold), 121)
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    colours = np.where(edges[:-1] >= threshold, "#d9822b", "#7a8ba3")
    axes.bar(edges[:-1], counts / max(counts.sum(), 1), np.diff(edges), align="edge", color=colours)
    axes.axvline(threshold, color="black", linewidth=1)
    share = float((scores > threshold).mean())
    axes.set_title(f"threshold {threshold:.3g}: {100 * share:.1f} % of the tokens are foreground", fontsize=10)
    axes.set_xlabel("projection on the component (larger: foreground)")
    axes.set_ylabel("share of tokens")
    _save(figure, path)


def masks(images: np.ndarray, maps: np.ndarray, threshold: float, path: str | Path) -> None:
    """Each image as the encoder saw it, its score map, and its mask with the foreground ratio; PNG.

    Args:
        images: uint8 [m, s, s, 3].
        maps: oriented scores [m, rows, columns].
        threshold: on the scores.
        path: the PNG.
    """
    columns = 4
    rows = max(1, -(-len(images) // columns))
    figure, grid = plt.subplots(rows, 3 * columns, figsize=(1.1 * 3 * columns, 1.3 * rows), layout="constrained")
    panels = np.atleast_2d(grid).reshape(-1, 3)
    for axes in panels.ravel():
        axes.set_axis_off()
    low, high = (maps.min(), maps.max()) if len(maps) else (0, 1)
    for image, scores, (seen, map_, mask) in zip(images, maps, panels):
        side = image.shape[0]
        above = scores > threshold
        large = np.kron(above, np.ones((-(-side // above.shape[0]), -(-side // above.shape[1])), bool))[:side, :side]
        seen.imshow(image)
        map_.imshow(scores, vmin=low, vmax=high, cmap="magma")
        mask.imshow(np.where(large[..., None], image, (image * 0.15 + 200).astype(np.uint8)))
        mask.set_title(f"{above.mean():.2f}", fontsize=8)
    _save(figure, path)
