"""A training run: data, augmentation, model, losses, optimiser, schedule, checkpoints."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from genview.config.augmentation import RunData
from genview.config.base import Block, FilePath, ModelPath, Name, Share
from genview.config.encoders import Encoder

NonNegative = Annotated[float, Field(ge=0)]


class Freeze(Block):
    """What of the encoder keeps its weights."""

    text: bool = False
    """The text tower and its projection. A run on images alone that starts from weights with one keeps it anyway."""
    patch_embedding: bool = False
    """The first convolution."""
    blocks: int = Field(0, ge=0)
    """The first so many blocks of the image tower, and what comes before them."""


class OtherRun(Block):
    """A finished run."""

    run: Name
    """Its name."""
    study: FilePath | None = None
    """Folder of the other study's results (``results/cc3m``); null: a run of this study, which is trained first."""


class RunModel(Block):
    """The encoder that is trained."""

    initial: Name | OtherRun | Encoder | None = None
    """Weights to start from: a name of the block ``encoders``, a block like those there, or ``{run: NAME}``; the
    architecture follows from them. Null: random weights."""
    freeze: Freeze = Freeze()
    architecture: ModelPath = "small"
    """``small``, ``base``, ``base_p32``, ``large`` (the study's), ``tiny`` (the default study's), ``resnet18``,
    ``resnet18_cifar``, ``resnet50``, ``vit_small`` (12 heads, as MoCo v3), any architecture of timm by its name, or a
    path to an open_clip model configuration (JSON)."""
    projector: tuple[int, ...] = (4096, 4096, 256)
    """Widths of the SSL head; BatchNorm per view, synchronised over processes."""
    text_projection: Literal["linear", "mlp"] = "linear"
    initial_logit_scale: float = 2.6592600369327783
    """Logarithm of the initial scale of the image-text logits (ln(1 / 0.07))."""
    freeze_patch_embedding: bool = False


class Coefficients(Block):
    """Weights of the four loss terms."""

    image_image: NonNegative = 1.0
    image_image_quality: NonNegative = 0.0
    image_text: NonNegative = 1.0
    image_text_quality: NonNegative = 0.0


class Loss(Block):
    """Multi-positive contrastive and image-text terms, plain and quality-weighted."""

    early: Coefficients = Coefficients()
    later: Coefficients = Coefficients(image_image_quality=1.0, image_text_quality=1.0)
    switch_epoch: int | None = Field(None, ge=0)
    """From this epoch on the ``later`` coefficients hold; null: always ``early``."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    gamma_image_image: NonNegative = 2.0
    gamma_image_text: NonNegative = 2.0
    quality_scope: Literal["local", "global"] = "local"
    """Softmax weights of GenView: normalised over the process's batch (as published) or over all processes."""
    score_augmented: bool = True
    """Quality of the augmented view, as published; false: of the view before colour augmentation."""


class Optimizer(Block):
    """AdamW with the published scaling, or LARS for the convolutional SSL recipes."""

    name: Literal["adamw", "lars", "sgd"] = "adamw"
    base_learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Scaled by images of a sample x crops / 2 x samples of a step / 256, as published."""
    scale_learning_rate: bool = True
    betas: tuple[Share, Share] = (0.9, 0.98)
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.1
    """Not on biases, norms, embeddings or the logit scale."""
    warmup_epochs: NonNegative = 2.0
    minimum_learning_rate: NonNegative = 0.0
    gradient_clip: NonNegative | None = None
    """Largest gradient norm."""


class Checkpoints(Block):
    """What is kept, and when."""

    every_steps: int = Field(1000, ge=1)
    """Optimiser steps between checkpoints; one is saved at the end and at a cluster's warning in any case."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    keep_epochs: tuple[int, ...] = ()
    """Epochs whose checkpoint is kept for good."""


class Run(Block):
    """One pretraining run."""

    method: Literal["genviewpp", "simclr"] = "genviewpp"
    seed: int = 0
    epochs: int = Field(25, ge=1)
    batch_size: int = Field(64, ge=2)
    """Samples per process and step; a sample has several views."""
    accumulate: int = Field(1, ge=1)
    """Steps whose gradients are summed; each part is contrasted within itself."""
    cached_chunk: int | None = Field(None, ge=1)
    """Samples per chunk of gradient caching: the contrast covers the whole batch, memory only a chunk."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    compile: bool = False
    activation_checkpointing: bool = False
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights; null: none."""
    gpus_per_node: int = Field(1, ge=1)
    """One process for each, of ``batch_size`` samples; where there is no GPU, so many processes on the CPU."""
    nodes: int = Field(1, ge=1)
    log_every_steps: int = Field(10, ge=1)
    """Optimiser steps between lines of metrics.jsonl."""
    data: RunData = RunData()
    model: RunModel = RunModel()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    checkpoints: Checkpoints = Checkpoints()

    @property
    def world_size(self) -> int:
        """Training processes on all nodes."""
        return self.gpus_per_node * self.nodes

    @property
    def gpus(self) -> int:
        """GPUs on each node; the tiny architecture needs none."""
        return 0 if self.model.architecture == "tiny" else self.gpus_per_node

    def coefficients_in_use(self) -> tuple[Coefficients, ...]:
        """The sets of coefficients that some epoch of the run has."""
        switch = self.loss.switch_epoch
        if self.method != "genviewpp":
            return ()
        if switch is None or switch >= self.epochs:
            return (self.loss.early,)
        return (self.loss.later,) if switch == 0 else (self.loss.early, self.loss.later)

    @property
    def uses_text(self) -> bool:
        """Whether captions are needed: some epoch has an image-text term."""
        return any(c.image_text or c.image_text_quality for c in self.coefficients_in_use())

    @property
    def uses_quality(self) -> bool:
        """Whether the quality encoder is needed."""
        if self.method == "simclr":
            return self.loss.gamma_image_image > 0
        return any(c.image_image_quality or c.image_text_quality for c in self.coefficients_in_use())

    @property
    def uses_text_quality(self) -> bool:
        """Whether the originals' and captions' precomputed features are needed."""
        return any(c.image_text_quality for c in self.coefficients_in_use())

    @model_validator(mode="after")
    def _possible(self) -> "Run":
        if self.cached_chunk and self.accumulate > 1:
            raise ValueError("cached_chunk and accumulate > 1 exclude each other")
        for coefficients in self.coefficients_in_use():
            if not any(coefficients.model_dump().values()):
                raise ValueError("loss: all coefficients are 0; nothing would be learnt")
        if self.optimizer.warmup_epochs > self.epochs:
            raise ValueError(f"optimizer.warmup_epochs is longer than the run ({self.epochs} epochs)")
        return self
