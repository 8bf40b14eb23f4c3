"""Stage: what the quality weights need of each original and caption, computed once instead of at each step.

An original's tokens enter the image-text weights only through its background feature, so that alone is kept: 2 KB an
image instead of 100 KB for convnext_base_w.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from genview import atomic, placement, progress, provenance
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.data import manifest as manifests
from genview.data import reader as readers
from genview.encoders import loader, look
from genview.foreground import pca
from genview.kept import Earlier, Place
from genview.training import quality


def run(
    dataset: Dataset,
    encoder: Encoder,
    *,
    manifest: str | Path,
    group: str,
    component: str | Path,
    output: str | Path,
    stamp: dict[str, str],
    workers: int = 0,
    earlier: Earlier | None = None,
) -> None:
    """Encode the originals and captions of a group of shards.

    Args:
        dataset: where the images are.
        encoder: the quality encoder.
        manifest: ``manifest.parquet``.
        group: name such as ``0-of-2`` (`data.manifest.read_group`).
        component: the encoder's ``pca.safetensors``.
        output: safetensors: ``background`` [n, D] and ``caption`` [n, E], float16, L2-normalised; zeros where there is
            no caption; rows in the manifest's order.
        stamp: metadata of the artifact.
        workers: processes that read images.
        earlier: files made before, from which the rows of unchanged images are taken over.
    """
    every = manifests.read_group(manifest, group)
    told = (every[name].to_pylist() for name in ("key", "sha256", "caption"))
    made_from = [provenance.digest(row) for row in zip(*told)]
    binding = provenance.digest([stamp.get("parameters"), provenance.file_sha256(component)])
    places = earlier.find(made_from, binding) if earlier else {}
    taken = {position: places[name] for position, name in enumerate(made_from) if name in places}
    # Of type int64 even where nothing is new: a list without numbers has no type.
    rows = every.take(np.setdiff1d(np.arange(len(every)), np.fromiter(taken, np.int64)))
    device = placement.default()
    loaded = look.load(encoder, device)
    direction = torch.as_tensor(pca.load(component).component, device=device)
    reader = readers.Reader(readers.data_root(dataset, manifest))
    batches = loader.batches(rows, reader, loaded, encoder.batch_size, workers)
    backgrounds = [torch.zeros(0, loaded.token_dim)]
    for images in progress.track(
        batches, f"quality features {group}", total=-(-len(rows) // encoder.batch_size), unit="batch"
    ):
        tokens, _ = loaded.encode(images)
        backgrounds.append(quality.pooled(tokens, direction)[1].cpu())
    captions = torch.zeros(len(rows), loaded.embedding_dim)
    texts = rows["caption"].to_pylist()
    present = [index for index, text in enumerate(texts) if text is not None]
    for start in range(0, len(present), encoder.batch_size):
        part = present[start : start + encoder.batch_size]
        embeddings = loaded.encode_text([texts[index] for index in part])
        captions[part] = torch.nn.functional.normalize(embeddings, dim=-1).cpu()
    new = {"background": torch.cat(backgrounds).half(), "caption": captions.half()}
    tensors = {name: _together(name, values, taken, len(every)) for name, values in new.items()}
    metadata = {**stamp, "keys": provenance.digest(every["key"].to_pylist()), "encoder": loaded.digest}
    with atomic.writing(output) as partial:
        # One key: several would be written in any order, and equal files would differ in their bytes.
        save_file(tensors, partial, metadata={"genview": json.dumps(metadata, sort_keys=True)})
    if earlier:
        earlier.keep(manifest, [output], made_from, binding)


def _together(name: str, new: torch.Tensor, taken: dict[int, Place], count: int) -> torch.Tensor:
    """Rows taken over from earlier files, by their position, and new ones in the gaps: [count, ...]."""
    values = torch.empty(count, *new.shape[1:], dtype=new.dtype)
    gaps = torch.ones(count, dtype=torch.bool)
    files: dict[Path, list[int]] = {}
    for position, place in taken.items():
        files.setdefault(place.files, []).append(position)
    for path, positions in files.items():
        kept = load_file(path.with_name(f"{path.name}.safetensors"))[name]
        values[positions] = kept[[taken[position].row for position in positions]]
        gaps[positions] = False
    values[gaps] = new
    return values
