"""Every dataset of a study's evaluation, by its name: the configuration's own first, then the table's."""

from pathlib import Path

from genview.config.dataset import Dataset
from genview.config.evaluation import LocalDataset
from genview.evaluation import local, official
from genview.evaluation.splits import LabelledDataset


def load(
    name: str,
    block: LocalDataset | None,
    *,
    root: str | Path,
    download: bool,
    seed: int,
    source: Dataset | None = None,
    manifest_path: str | Path | None = None,
) -> LabelledDataset:
    """Open a dataset.

    Args:
        name: its name.
        block: its block in ``evaluation.datasets``; null: a dataset of ``genview.evaluation.catalogue``.
        root: folder of torchvision's datasets.
        download: let torchvision fetch what is missing.
        seed: of every drawn part.
        source: the study's own dataset, for ``own_labels``.
        manifest_path: the study's manifest, for ``own_labels``.

    Raises:
        GenviewError: unknown, missing or incomplete; says what to do.
    """
    if block is not None:
        return local.load(name, block, seed=seed, source=source, manifest_path=manifest_path)
    return official.load(name, root=root, download=download, seed=seed)
