"""A training run: method, data, augmentation, model, optimiser, schedule, checkpoints."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from genview.config.augmentation import RunData
from genview.config.base import Block, FilePath, ModelPath, Name, RuntimeOnly, Share
from genview.config.encoders import Encoder
from genview.config.merge import merged
from genview.config.methods import DIVA, GenViewPlusPlus, Method, named
from genview.config.recipes import recipe

NonNegative = Annotated[float, Field(ge=0)]


class Freeze(Block):
    """What of the encoder keeps its weights."""

    text: bool = False
    """The text tower and its projection. A run on images alone that starts from weights with one keeps it anyway."""
    patch_embedding: bool = False
    """The first convolution."""
    blocks: int = Field(0, ge=0)
    """How many of the image tower's first blocks, with what comes before them."""


class LowRank(Block):
    """LoRA: the weights stay, small matrices beside them learn, and are added to them at the end (arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1)
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """What is learnt counts alpha / rank times."""
    targets: tuple[Literal["qkv", "proj", "mlp"], ...] = Field(("qkv", "proj", "mlp"), min_length=1)
    """Layers: queries, keys and values together; the attention's projection; both layers of the MLP."""


class Anchor(Block):
    """A distance to the initial encoder, added to the method's loss: what is held is not forgotten."""

    weight: NonNegative = 1.0
    """0: the distance is logged, as ``anchor_loss``, and nothing is held."""
    feature: Literal["pooled", "embedding"] = "embedding"
    """The feature whose distance is measured: before or after the projection to the text space."""


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
    adapt: LowRank | None = None
    """Train small matrices beside the initial weights instead of these; null: train the weights."""
    anchor: Anchor | None = None
    """Hold the features near those of the initial weights; null: they go where the loss drives them."""
    architecture: ModelPath = "small"
    """``small``, ``base``, ``base_p32``, ``large`` (the study's), ``tiny`` (the default study's), ``resnet18``,
    ``resnet18_cifar``, ``resnet50``, ``vit_small`` (12 heads, as MoCo v3), ``vmamba_tiny`` (GenView's own), any
    architecture of timm by its name, or a path to an open_clip model configuration (JSON)."""
    text_projection: Literal["linear", "mlp"] = "linear"
    initial_logit_scale: float = 2.6592600369327783
    """Logarithm of the initial scale of the image-text logits (ln(1 / 0.07))."""
    freeze_patch_embedding: bool = False

    @model_validator(mode="after")
    def _starts_somewhere(self) -> "RunModel":
        for name in ("adapt", "anchor"):
            if getattr(self, name) is not None and self.initial is None:
                raise ValueError(f"{name} is for weights to start from; say which in model.initial")
        if self.adapt and (self.freeze.blocks or self.freeze.patch_embedding):
            raise ValueError("adapt: all weights of the image tower are frozen with it; leave `freeze` to text")
        return self


class Optimizer(Block):
    """Optimiser, learning rate and weight decay; methods other than GenView++ have published defaults of their own."""

    name: Literal["adamw", "lars", "sgd"] = "adamw"
    base_learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Per 256 samples of a step; for GenView++ times images of a sample x crops / 2 too, as published."""
    scale_learning_rate: bool = True
    """False: the rate is taken as it stands."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.1
    final_weight_decay: NonNegative | None = None
    """Weight decay at the end of the run, reached along half a cosine; null: constant."""
    decay: Literal["weights", "matrices", "all"] = "weights"
    """What decays. ``weights``: not biases, norms, embeddings and the logit scale. ``matrices``: not what has one
    dimension (position embeddings decay). ``all``: everything."""
    adapt_all: bool = False
    """LARS: the rate of what does not decay is adapted too (SwAV)."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """The rate of a layer is this factor smaller than that of the layer after it (BEiT: .65 to .75, for weights that
    were trained before); null: all layers learn alike."""
    warmup_epochs: NonNegative = 2.0
    minimum_learning_rate: NonNegative = 0.0
    gradient_clip: NonNegative | None = None
    """Largest gradient norm."""
    clip: Literal["all", "tensor"] = "all"
    """The norm is that of all gradients together, or each tensor's own."""


class Checkpoints(Block):
    """What is kept, and when."""

    every_steps: Annotated[int, RuntimeOnly] = Field(1000, ge=1)
    """Optimiser steps between checkpoints; one is saved at the end and at a cluster's warning in any case."""
    keep: Annotated[int, RuntimeOnly] = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    keep_epochs: tuple[int, ...] = ()
    """Epochs whose checkpoint is kept for good."""
    accept: Annotated[tuple[str, ...], RuntimeOnly] = ()
    """Digests of other code than today's: a run that was started with one of these goes on with today's from its
    checkpoint, and the model's card says so. The message that refuses to go on names the digest."""


class Watch(Block):
    """Fixed images of the study that are encoded now and then during a run."""

    images: int = Field(512, ge=2)
    """How many; where there are labels, 16 of each of some classes."""
    every_epochs: int = Field(1, ge=1)
    """Epochs between two looks; each takes a forward pass over the images."""


class Run(Block):
    """One pretraining run."""

    method: Method = GenViewPlusPlus()
    """What is learnt by: a block with a ``name`` (``genviewpp``, ``simclr``, ``mocov2``, ``mocov3``, ``simsiam``,
    ``byol``, ``swav``, ``dino``, ``clever``, ``diva``), or the name alone for the published settings."""
    seed: int = 0
    epochs: int = Field(25, ge=1)
    batch_size: int = Field(64, ge=2)
    """Samples per process and step; a sample has several views."""
    accumulate: int = Field(1, ge=1)
    """Microbatches of a step, whose gradients are averaged; each is contrasted within itself."""
    cached_chunk: int | None = Field(None, ge=1)
    """Samples per chunk of gradient caching: the contrast covers the whole batch, memory only a chunk."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    compile: bool = False
    activation_checkpointing: bool = False
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights; null: none."""
    gpus_per_node: int = Field(1, ge=1)
    """One process for each, of ``batch_size`` samples; where there is no GPU, as many processes on the CPU."""
    nodes: int = Field(1, ge=1)
    log_every_steps: int = Field(10, ge=1)
    """Optimiser steps between lines of metrics.jsonl."""
    watch: Watch | None = None
    """Log ``drift`` (how far the features have moved from the initial ones, 1 - cosine) and, where there are labels,
    ``knn`` (leave-one-out accuracy of ten neighbours) on fixed images; null: do not look."""
    data: RunData = RunData()
    model: RunModel = RunModel()
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

    @property
    def samples_per_step(self) -> int:
        """Samples of a step: of all processes and microbatches."""
        return self.batch_size * self.accumulate * self.world_size

    @property
    def uses_text(self) -> bool:
        """Whether captions are needed: some epoch has an image-text term."""
        return self.method.uses_text(self.epochs)

    @property
    def uses_quality(self) -> bool:
        """Whether the quality encoder is needed."""
        return self.method.uses_quality(self.epochs)

    @property
    def uses_text_quality(self) -> bool:
        """Whether the originals' and captions' precomputed features are needed."""
        return self.method.uses_text_quality(self.epochs)

    @model_validator(mode="before")
    @classmethod
    def _recipe_beneath(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if moved := moved_keys(values):
            raise ValueError("; ".join(moved))
        return merged(recipe(values), values)

    @model_validator(mode="after")
    def _possible(self) -> "Run":
        name = self.method.name
        if self.cached_chunk and name not in ("genviewpp", "simclr"):
            raise ValueError(f"cached_chunk is for methods that contrast within the batch, not for {name}")
        if self.cached_chunk and self.accumulate > 1:
            raise ValueError("cached_chunk and accumulate > 1 exclude each other")
        if self.cached_chunk and self.model.anchor:
            raise ValueError("cached_chunk and model.anchor exclude each other")
        if self.ema is not None and name in ("dino", "clever"):
            raise ValueError(f"ema: {name} exports its teacher, which is a moving average already")
        if isinstance(self.method, DIVA):
            self._possible_diva(self.method)
        if problem := self.method.problem(epochs=self.epochs, samples=self.samples_per_step):
            raise ValueError(f"method.{problem}" if ":" in problem.split(" ", 1)[0] else f"method: {problem}")
        groups = getattr(self.method, "batchnorm_groups", None)
        if groups is not None and (groups % self.world_size or self.batch_size % max(groups // self.world_size, 1)):
            raise ValueError(
                f"method.batchnorm_groups: {groups} parts cannot be cut from {self.world_size} process(es) of "
                f"{self.batch_size} samples; the processes must divide it, and it must divide the samples of a step"
            )
        if self.optimizer.warmup_epochs > self.epochs:
            raise ValueError(f"optimizer.warmup_epochs is longer than the run ({self.epochs} epochs)")
        return self

    def _possible_diva(self, method: DIVA) -> None:
        if self.model.anchor:
            raise ValueError("model.anchor: diva's views have the size and the range of its diffusion model")
        if self.compile:
            raise ValueError("compile: diva reads the tower's tokens, which a compiled tower does not give")
        sizes = {slot.image_size for slot in self.data.slots} - {None, method.teacher.image_size}
        if sizes:
            raise ValueError(
                f"data.slots: image_size {sizes.pop()} is not the diffusion model's; views have its size, and the "
                "tower is fed at its own: leave it out, or set method.teacher.image_size"
            )


def moved_keys(values: dict[str, Any]) -> list[str]:
    """One line for each key of an older configuration, saying where it went."""
    method = named(values.get("method", "genviewpp"))
    name = method.get("name") if isinstance(method, dict) else None
    lines = []
    for key in values.get("loss") or {} if "loss" in values else ():
        where = f"method.{key}"
        if name != "genviewpp" and key == "gamma_image_image":
            where = "method.quality.gamma (0 is now `quality: null`)"
        elif name != "genviewpp" and key == "score_augmented":
            where = "method.quality.score_augmented"
        elif key == "quality_scope":
            where = "method.quality.scope"
        lines.append(f"loss.{key} is now {where}")
    if "loss" in values and not lines:
        lines.append("loss is now a part of method")
    if isinstance(values.get("model"), dict) and "projector" in values["model"]:
        lines.append("model.projector is now method.projector")
    return lines
