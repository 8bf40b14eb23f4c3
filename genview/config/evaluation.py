"""Probes, zero-shot classification, retrieval, duplicates between training and test images."""

from typing import Annotated, Literal

from pydantic import Field

from genview.config.base import Block, Share


class LocalDataset(Block):
    """A dataset of the user's own for probes, zero-shot classification and retrieval."""

    kind: Literal["image_folder", "own_labels", "scenes", "table"]
    """``image_folder``: ``train/<class>/`` and ``test/<class>/`` (or one of them, split by seed). ``own_labels``: the
    study's own images and labels, split by seed. ``scenes``: fresh drawn scenes. ``table``: CSV: image, label, split."""
    path: str | None = None
    label: str = "class"
    """Scenes: ``class``, ``colour``, ``background`` or ``texture``."""
    train: int | None = Field(None, ge=2)
    test: int | None = Field(None, ge=1)
    """Scenes: how many; other kinds: the first so many after a seeded shuffle."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    metric: Literal["top1", "mean_per_class"] = "top1"


class Probe(Block):
    """Linear probe and k-NN on frozen features."""

    datasets: tuple[str, ...] = ()
    protocol: Literal["cached", "published"] = "cached"
    selection: Literal["validation", "test"] = "validation"
    """``test`` is what the original did: the choice is made on the test split; named in the result."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    regularisation: tuple[Annotated[float, Field(gt=0)], ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """``cached``: L2 penalties, all fitted at once."""
    iterations: int = Field(200, ge=1)
    """``cached``: L-BFGS iterations."""
    epochs: int = Field(90, ge=1)
    """``published``: epochs of SGD."""
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = (
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5,
    )  # fmt: skip
    """``published``: base rates, trained at once, scaled by batch / 256."""
    neighbours: int = Field(20, ge=1)
    bootstrap: int = Field(1000, ge=0)
    batch_size: int = Field(256, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"


class ZeroShot(Block):
    """Zero-shot classification through clip_benchmark."""

    datasets: tuple[str, ...] = ()
    batch_size: int = Field(256, ge=1)


class Retrieval(Block):
    """Image-text retrieval through clip_benchmark."""

    datasets: tuple[str, ...] = ()
    recall_at: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    batch_size: int = Field(256, ge=1)


class Duplicates(Block):
    """Pretraining images that are also test images."""

    enabled: bool = True
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.97
    """Cosine between embeddings from which two images count as near-duplicates."""
    stop_share: Share = 1.0
    """The study stops if a larger share of a test split is found among the pretraining images."""


class Evaluation(Block):
    """Everything that is measured on a trained encoder."""

    root: str = "datasets"
    """Folder of torchvision's datasets; nothing is downloaded unless ``download`` is true."""
    download: bool = False
    datasets: dict[str, LocalDataset] = {}
    """Datasets beyond the built-in table."""
    probe: Probe = Probe()
    zeroshot: ZeroShot = ZeroShot()
    retrieval: Retrieval = Retrieval()
    duplicates: Duplicates = Duplicates()


class Audit(Block):
    """What is measured on the generated views."""

    encoders: tuple[str, ...] = ()
    """Encoders of the CLIP cosine; null: the foreground encoder. An independent one avoids circularity."""
    images: int = Field(1000, ge=1)
    """Originals that are audited, drawn by the study's seed."""
    diversity_images: int = Field(100, ge=0)
    """Originals with several samples, for the diversity among samples of one image (needs samples > 1)."""
    judge: bool = True
    """Drawn scenes: class and colour kept, by the independent judge."""
