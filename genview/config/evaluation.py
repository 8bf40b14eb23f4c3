"""Probes, zero-shot classification, retrieval, duplicates between training and test images."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from genview.config.base import Block, FilePath, Name, RuntimeOnly, Share
from genview.config.dataset import Separator
from genview.config.dense import Saliency, Video
from genview.config.parts import Parts


class LocalDataset(Block):
    """A dataset of the user's own for probes, zero-shot classification and retrieval."""

    kind: Literal["image_folder", "own_labels", "scenes", "table"]
    """``image_folder``: ``train/<class>/`` and ``test/<class>/`` (or one of them, split by seed). ``own_labels``: the
    study's own images and labels, split by seed. ``scenes``: fresh drawn scenes. ``table``: CSV, TSV, Parquet or
    Arrow: image, label, split (train, val, test; without the column split by seed), prompt; rows of one image with
    different captions are one image. A part ``val`` is the test part where there is none; retrieval needs captions
    alone, and zero-shot classification no training part."""
    path: FilePath | None = None
    label: str = "class"
    """Scenes: ``class``, ``colour``, ``background`` or ``texture``."""
    train: int | None = Field(None, ge=2)
    test: int | None = Field(None, ge=1)
    """Scenes: how many; other kinds: how many are taken after a seeded shuffle."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    image_column: str | None = None
    caption_column: str | None = None
    separator: Separator | None = None
    """Tables: as in the block ``dataset``; left out, the usual names are looked for."""
    metric: Literal["top1", "mean_per_class"] = "top1"
    prompts: tuple[str, ...] = ()
    """Zero-shot templates with ``{c}`` for the class name; empty: ``a photo of a {c}.`` (scenes have their own)."""

    @model_validator(mode="after")
    def _consistent(self) -> "LocalDataset":
        if self.kind in ("image_folder", "table") and not self.path:
            raise ValueError(f"a dataset of kind {self.kind!r} needs a path")
        if self.kind == "scenes" and self.label not in ("class", "colour", "background", "texture"):
            raise ValueError(f"scenes have the labels class, colour, background and texture, not {self.label!r}")
        for prompt in self.prompts:
            if "{c}" not in prompt:
                raise ValueError(f"prompt {prompt!r} has no place {{c}} for the class name")
        return self


class Features(Block):
    """How the frozen encoder is read."""

    layer: Literal["pooled", "embedding"] = "pooled"
    """``pooled``: what the image tower gives before its projection to the text space, as in the published probe;
    ``embedding``: after it."""
    batch_size: int = Field(256, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Autocast type; fp16 and bf16 are for GPUs."""
    workers: Annotated[int | None, RuntimeOnly] = Field(None, ge=0)
    """Loader processes; 0: load in the process that encodes; null: as many as the job has cores beside its own."""

    @property
    def loaders(self) -> int:
        """Loader processes of a stage that is run by itself."""
        return self.workers or 0

    def on(self, cores: int) -> "Features":
        """The same for a job with ``cores`` cores."""
        return self.model_copy(update={"workers": max(cores - 1, 0)}) if self.workers is None else self


class Probe(Block):
    """Linear probe and k-NN on frozen features."""

    datasets: Annotated[tuple[str, ...], RuntimeOnly] = ()
    protocol: Literal["cached", "published"] = "cached"
    selection: Literal["validation", "test"] = "validation"
    """``test`` is what the original did: the choice is made on the test split; named in the result."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    regularisation: tuple[Annotated[float, Field(gt=0)], ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """``cached``: L2 penalties on the mean cross-entropy of standardised features, all fitted at once."""
    iterations: int = Field(300, ge=1)
    """``cached``: L-BFGS iterations at most."""
    epochs: int = Field(90, ge=1)
    """``published``: epochs of SGD."""
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = (
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5,
    )  # fmt: skip
    """``published``: base rates, trained at once, scaled by batch / 256."""
    batch_size: int = Field(256, ge=1)
    """``published``: images per step of SGD."""
    minimum_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """``published``: smallest area of the random resized crop, as a share of the image."""
    neighbours: int = Field(20, ge=1)
    """Neighbours of the k-NN classifier."""
    bootstrap: int = Field(1000, ge=0)
    """Resamples of the test split behind the 95 % interval; 0: no interval."""
    allowed_overlap: Share = 0.0
    """Largest share of the test images that may also be training images, pixel by pixel; more is refused. Datasets
    whose official parts are known to overlap have their own in the table of datasets."""


class ZeroShot(Block):
    """Zero-shot classification through clip_benchmark."""

    datasets: Annotated[tuple[str, ...], RuntimeOnly] = ()
    batch_size: int = Field(256, ge=1)


class Retrieval(Block):
    """Image-text retrieval through clip_benchmark."""

    datasets: Annotated[tuple[str, ...], RuntimeOnly] = ()
    recall_at: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    batch_size: int = Field(256, ge=1)


class FinetuneRates(Block):
    """Learning rates of one share of the labels."""

    classifier: Annotated[float, Field(gt=0)]
    backbone: Annotated[float, Field(ge=0)]


class Finetune(Block):
    """The whole network, trained on few labels (the semi-supervised protocol of SimCLR and of GenView)."""

    datasets: Annotated[tuple[str, ...], RuntimeOnly] = ()
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.1)
    """Shares of the training images whose labels are used; at least one image of each class."""
    lists: dict[str, FilePath] = {}
    """Share, such as ``0.01``, to a file of image names, one a line (SimCLR's lists for ImageNet); a share without a
    list draws its images class by class, by seed."""
    subset_seeds: tuple[int, ...] = (0, 1, 2)
    """One training for each; the result is their mean. With a list the images are the same, the training is not."""
    rates: dict[str, tuple[FinetuneRates, ...]] = {
        "0.01": (FinetuneRates(classifier=1.0, backbone=1e-5),),
        "0.1": (FinetuneRates(classifier=0.2, backbone=0.02),),
    }
    """Learning rates at a batch of 256 by share, as published; a share without its own has those of the nearest. Of
    several the best on a held-out part is taken: the data set's own validation part, or ``validation_share`` of the
    labelled images."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(256, ge=2)
    """Images of a step; the rates are scaled by batch / 256."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    minimum_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Smallest area of the random resized crop, as a share of the image."""
    bootstrap: int = Field(1000, ge=0)
    """Resamples of seeds and test images behind the 95 % interval; 0: no interval."""

    @model_validator(mode="after")
    def _consistent(self) -> "Finetune":
        known = {f"{share:g}" for share in self.shares}
        for name in self.lists:
            if name not in known:
                raise ValueError(f"lists: {name!r} is not among the shares {', '.join(sorted(known))}")
        for name in self.rates:
            try:
                float(name)
            except ValueError:
                raise ValueError(f"rates: {name!r} is not a share") from None
        if not self.rates or not all(self.rates.values()) or not self.subset_seeds:
            raise ValueError("rates, each of its shares, and subset_seeds need at least one entry")
        return self

    def rates_of(self, share: float) -> tuple[FinetuneRates, ...]:
        """The rates of the nearest share that has some."""
        return self.rates[min(self.rates, key=lambda name: (abs(float(name) - share), name))]


class Detection(Block):
    """Detection and instance segmentation: Mask R-CNN with a feature pyramid, the encoder as its backbone."""

    datasets: Annotated[dict[Name, FilePath | None], RuntimeOnly] = {}
    """Name to a folder in COCO's format (``train.json``, ``train/``, ``test.json``, ``test/``, or COCO's own names);
    null: drawn scenes with their masks."""
    scenes_train: int = Field(200, ge=1)
    scenes_test: int = Field(100, ge=1)
    """Drawn scenes: how many."""
    image_size: int | None = Field(None, ge=32)
    """Side of the square to which images are scaled, in pixels; null: 800 on the shorter side (at most 1,333 on the
    longer), as published. Vision Transformers need a number."""
    proposals: int = Field(2000, ge=1)
    """Regions an image that the region proposal network hands on in training; half as many in the test."""
    sampled_proposals: int = Field(512, ge=1)
    """Of these, regions an image that the heads are trained on."""
    steps: int = Field(90_000, ge=1)
    """Optimiser steps; published: 90,000 (1x)."""
    batch_size: int = Field(16, ge=1)
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Of SGD; published: .02 for a batch of 16."""
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup_steps: int = Field(1000, ge=0)
    milestones: tuple[Share, ...] = (2 / 3, 8 / 9)
    """Shares of the steps after which the rate falls to a tenth; published: steps 60,000 and 80,000."""
    freeze_norms: bool = True
    """Batch norms of the backbone become constants; false: they learn from the few images of a step."""
    gradient_clip: Annotated[float, Field(gt=0)] = 10.0
    """Largest gradient norm; large enough to leave ordinary steps alone."""
    trials: int = Field(1, ge=1)
    """Trainings with different seeds; the result is their mean."""
    checkpoint_every: Annotated[int, RuntimeOnly] = Field(2000, ge=1)
    """Steps between saved states of an unfinished training."""


MmvpFeature = Literal["global", "with_random_tokens", "with_tokens", "with_random_share"]
"""What stands for an image beside a statement; the published scores use another one for each family of models."""


class Mmvp(Block):
    """MMVP-VLM: 135 pairs of images that differ in one visual attribute, and a statement of each (nine patterns)."""

    path: FilePath | None = None
    """Folder of the data set in its own layout (``Questions.csv`` and ``MLLM_VLM Images``); null: a stand-in that is
    drawn, of simple shapes."""
    features: Annotated[tuple[MmvpFeature, ...], Field(min_length=1)] = ("global",)
    """What stands for an image; each gives a score. ``global``: the embedding, as CLIP is used. As published for
    OpenAI's models ``with_random_tokens`` (plus the mean of 76 local tokens), for MetaCLIP's ``with_tokens`` (of all),
    for DFN's at 378 pixels ``with_random_share`` (of half of them)."""
    draws: int = Field(5, ge=1)
    """Draws of the tokens of random features; their score is the mean."""
    prompt: str = "a photo of {}"
    """What a statement becomes; ``{}`` is its place."""
    image_size: int = Field(64, ge=16)
    """Side of the stand-in's pictures in pixels."""
    batch_size: Annotated[int, RuntimeOnly] = Field(32, ge=1)
    """Pairs at once."""

    @model_validator(mode="after")
    def _has_a_place(self) -> "Mmvp":
        if self.prompt.count("{}") != 1:
            raise ValueError(f"prompt {self.prompt!r}: the place of the statement is {{}}, once")
        return self


class Interpolate(Block):
    """Weights between a run's initial ones and its own (WiSE-FT, arXiv 2109.01903): what is gained, what is kept."""

    runs: tuple[Name, ...] = Field(min_length=1)
    """Runs that began at existing weights (``model.initial``)."""
    alphas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((0.25, 0.5, 0.75), min_length=1)
    """Shares of the way, in whole per cent; 0 and 1, the row before and the run, are measured anyway."""

    @model_validator(mode="after")
    def _in_per_cent(self) -> "Interpolate":
        for alpha in self.alphas:
            if abs(100 * alpha - round(100 * alpha)) > 1e-6:
                raise ValueError(f"alphas: {alpha} is not a whole number of per cent")
        return self


class Duplicates(Block):
    """Pretraining images that are also test images."""

    enabled: Annotated[bool, RuntimeOnly] = True
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.97
    """Cosine between embeddings from which two images count as near-duplicates. With the small encoder and photographs,
    all copies that were written anew or resized lie above 0.97, and no other photograph does; drawn scenes are more
    alike and need 0.995 (``benchmarks/duplicate_threshold.py``). Not measured for large encoders: the report shows how
    alike the images of a study are."""
    stop_share: Share = 1.0
    """The study stops if a larger share of a test split is found among the pretraining images, exact or near."""
    pictures: int = Field(20, ge=0, le=1000)
    """Pairs of each dataset that are pictured in the report."""


class Evaluation(Block):
    """Everything that is measured on a trained encoder."""

    encoders: tuple[Name, ...] = ()
    """Names of the block ``encoders`` that are evaluated like runs, and shown beside them."""
    curve: tuple[Name, ...] = ()
    """Runs whose kept epochs (``checkpoints.keep_epochs``) are evaluated too, by probe, zero-shot and retrieval."""
    interpolate: Interpolate | None = None
    """Evaluate weights between a run's beginning and its end in the same way."""
    root: FilePath = "datasets"
    """Folder of torchvision's datasets; nothing is downloaded unless ``download`` is true."""
    download: bool = False
    datasets: dict[Name, LocalDataset] = {}
    """Datasets beyond the built-in table."""
    features: Features = Features()
    probe: Probe = Probe()
    zeroshot: ZeroShot = ZeroShot()
    retrieval: Retrieval = Retrieval()
    finetune: Finetune = Finetune()
    detection: Detection = Detection()
    mmvp: Mmvp | None = None
    """Null: not measured; ``{}``: on the stand-in."""
    parts: Parts = Parts()
    saliency: Saliency = Saliency()
    video: Video = Video()
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
