"""Stage ``token_cut``: some images divided by TokenCut too, beside the principal component's masks.

The component's direction and threshold are the study's, TokenCut looks at each image alone: where the two agree on
photographs, whose true share of foreground nobody knows, the ratio is trusted for a reason.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from genview import parquet, placement, tables
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.data.reader import Reader, data_root
from genview.encoders import loader, look
from genview.foreground.token_cut import token_cut
from genview.foreground.token_scores import as_lists


def chosen(ratios: str | Path, count: int) -> pa.ChunkedArray:
    """Keys at equal steps of the ratio's rank, from the least to the most foreground; at most ``count``.

    Images of equal ratio keep the table's order, which is random.
    """
    order = np.argsort(parquet.read(ratios, tables.FOREGROUND_RATIO, ["ratio"])["ratio"].to_numpy(), kind="stable")
    places = np.unique((np.linspace(0.02, 0.98, count) * (len(order) - 1)).astype(int)) if len(order) else []
    return parquet.take(ratios, tables.FOREGROUND_RATIO, order[places].astype(np.int64), ["key"])["key"]


def run(
    config: Encoder,
    dataset: Dataset,
    *,
    images: int,
    workers: int,
    manifest: str | Path,
    ratios: str | Path,
    output: str | Path,
    stamp: dict[str, str],
) -> None:
    """Cut the tokens of some images in two and write what lies in the foreground.

    Args:
        config: the encoder of the foreground.
        dataset: where the images are.
        images: how many.
        workers: processes that decode images.
        manifest: the study's manifest.
        ratios: tables.FOREGROUND_RATIO.
        output: written: tables.TOKEN_CUT; empty for an encoder with fewer than two tokens.
        stamp: provenance.

    Raises:
        GenviewError: an image cannot be read any more.
    """
    keys = chosen(ratios, images)
    rows = parquet.with_keys(manifest, tables.MANIFEST, keys, ["key", "path", "offset", "length"])
    encoder = look.load(config, placement.default())
    foreground = np.zeros((0, encoder.num_tokens), bool)
    if len(rows) and encoder.num_tokens > 1:
        reader, found = Reader(data_root(dataset, manifest)), []
        for batch in loader.batches(rows, reader, encoder, config.batch_size, workers):
            tokens, _ = encoder.encode(batch)
            found += [token_cut(one, encoder.grid).foreground for one in tokens.cpu().numpy()]
        foreground = np.stack(found)
    table = {
        "key": rows["key"].slice(0, len(foreground)),
        "ratio": foreground.mean(axis=1).astype(np.float32),
        "foreground": as_lists(foreground),
    }
    parquet.write(pa.table(table), tables.TOKEN_CUT, output, **stamp)
