"""What a run learns by: a block for each method, chosen by its ``name``; the defaults are the published values.

Settings that a method shares with others (optimiser, views) have defaults by method and backbone in
``genview.config.recipes``. Nothing here imports torch: a method says what it needs, and the workflow plans with that.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from genview.config.base import Block, Share
from genview.config.diva import PRESETS, DiffusionModel, DivaCondition

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class Quality(Block):
    """GenView's quality weights: a pair counts more if its foregrounds agree and its backgrounds differ (eq. 10-14)."""

    gamma: Positive = 1.0
    """Sharpness of the softmax over the samples."""
    scope: Literal["local", "global"] = "local"
    """Weights have the mean 1 over the process's batch, as published, or over all processes' batches."""
    score_augmented: bool = True
    """Quality of the augmented view, as published; false: of the view before colour augmentation."""


class Coefficients(Block):
    """Weights of the four loss terms."""

    image_image: NonNegative = 1.0
    image_image_quality: NonNegative = 0.0
    image_text: NonNegative = 1.0
    image_text_quality: NonNegative = 0.0


class MethodBlock(Block):
    """What the settings of every method answer: what the workflow must have ready for it.

    Attributes:
        views: full-size views of a sample; (least, most), most None for any number.
        trains_projection: a run on images alone also trains the projection to the space shared with text.
        needs_initial: the method corrects an encoder that was trained before.
    """

    views: ClassVar[tuple[int, int | None]] = (2, 2)
    trains_projection: ClassVar[bool] = False
    needs_initial: ClassVar[bool] = False

    def uses_text(self, epochs: int) -> bool:
        """Whether captions are needed in a run of ``epochs`` epochs."""
        return False

    def uses_text_quality(self, epochs: int) -> bool:
        """Whether the originals' and captions' precomputed features are needed."""
        return False

    def uses_quality(self, epochs: int) -> bool:
        """Whether the quality encoder is needed."""
        return getattr(self, "quality", None) is not None

    def scores_clean(self, epochs: int) -> bool:
        """Whether quality is measured on the views before their colours were changed."""
        quality = getattr(self, "quality", None)
        return quality is not None and not quality.score_augmented

    def gradients_vary(self, epochs: int) -> bool:
        """Whether some parameter gets a gradient in some epochs and none in others."""
        return False

    def problem(self, *, epochs: int, samples: int) -> str | None:
        """What makes a run impossible that has ``epochs`` epochs and ``samples`` samples a step."""
        return None


class GenViewPlusPlus(MethodBlock):
    """GenView++: multi-positive contrast among views and with captions, each plain and quality-weighted."""

    views: ClassVar[tuple[int, int | None]] = (1, None)

    name: Literal["genviewpp"] = "genviewpp"
    early: Coefficients = Coefficients()
    later: Coefficients = Coefficients(image_image_quality=1.0, image_text_quality=1.0)
    switch_epoch: int | None = Field(None, ge=0)
    """From this epoch on the ``later`` coefficients hold; null: always ``early``."""
    temperature: Positive = 0.1
    gamma_image_image: NonNegative = 2.0
    gamma_image_text: NonNegative = 2.0
    score_augmented: bool = True
    """Quality of the augmented view, as published; false: of the view before colour augmentation."""
    projector: Widths = (4096, 4096, 256)
    """Widths of the head of the image-image terms; BatchNorm per view, synchronised over processes."""

    def coefficients_in_use(self, epochs: int) -> tuple[Coefficients, ...]:
        """The sets of coefficients that some epoch of a run has."""
        if self.switch_epoch is None or self.switch_epoch >= epochs:
            return (self.early,)
        return (self.later,) if self.switch_epoch == 0 else (self.early, self.later)

    def uses_text(self, epochs: int) -> bool:
        """Some epoch has an image-text term."""
        return any(c.image_text or c.image_text_quality for c in self.coefficients_in_use(epochs))

    def uses_text_quality(self, epochs: int) -> bool:
        """Some epoch has the weighted image-text term."""
        return any(c.image_text_quality for c in self.coefficients_in_use(epochs))

    def uses_quality(self, epochs: int) -> bool:
        """Some epoch has a weighted term."""
        return any(c.image_image_quality or c.image_text_quality for c in self.coefficients_in_use(epochs))

    def scores_clean(self, epochs: int) -> bool:
        """Whether quality is measured on the views before their colours were changed."""
        return self.uses_quality(epochs) and not self.score_augmented

    def gradients_vary(self, epochs: int) -> bool:
        """Image-text terms may begin at the switch epoch; until then the text tower gets no gradient."""
        return len({tuple(map(bool, c.model_dump().values())) for c in self.coefficients_in_use(epochs)}) > 1

    def problem(self, *, epochs: int, samples: int) -> str | None:
        """An epoch without any term."""
        if not all(any(c.model_dump().values()) for c in self.coefficients_in_use(epochs)):
            return "all coefficients are 0; nothing would be learnt"
        return None


class SimCLR(MethodBlock):
    """SimCLR's NT-Xent of two views (arXiv 2002.05709)."""

    name: Literal["simclr"] = "simclr"
    temperature: Positive = 0.1
    projector: Widths = (4096, 4096, 256)
    """Widths of the head; BatchNorm per view, synchronised over processes."""
    quality: Quality | None = None
    """Quality weights; null: none."""


class SimSiam(MethodBlock):
    """SimSiam (arXiv 2011.10566): each view predicts the other's projection, which gets no gradient."""

    name: Literal["simsiam"] = "simsiam"
    projector: Widths = (2048, 2048, 2048)
    predictor: Widths = (512, 2048)
    fixed_predictor_rate: bool = True
    """The predictor's learning rate stays at its peak."""
    quality: Quality | None = None
    """Quality weights; null: none."""


class Momentum(Block):
    """How a momentum network follows the trained one: share of itself that it keeps in a step."""

    start: Share = 0.99
    end: Share = 1.0
    """Reached at the end of the run along half a cosine; equal to ``start``: constant."""


class BYOL(MethodBlock):
    """BYOL (arXiv 2006.07733): each view predicts what a momentum network makes of the other."""

    name: Literal["byol"] = "byol"
    projector: Widths = (4096, 256)
    predictor: Widths = (4096, 256)
    momentum: Momentum = Momentum()
    """Published: .99 for 100 to 300 epochs, .996 for 1,000."""
    quality: Quality | None = None
    """Quality weights; null: none."""


class MoCoV3(MethodBlock):
    """MoCo v3 (arXiv 2104.02057): each view predicts the other's key among all keys of the batch."""

    name: Literal["mocov3"] = "mocov3"
    temperature: Positive = 1.0
    """1 for ResNets, 0.2 for vision transformers."""
    projector: Widths = (4096, 256)
    """Three layers (4096, 4096, 256) for vision transformers."""
    predictor: Widths = (4096, 256)
    predictor_last_norm: bool = False
    """The predictor ends in a normalisation, as for vision transformers."""
    momentum: Momentum = Momentum()
    quality: Quality | None = None
    """Quality weights; null: none."""


class MoCoV2(MethodBlock):
    """MoCo v2 (arXiv 2003.04297): a view finds the other's key among a queue of earlier ones."""

    name: Literal["mocov2"] = "mocov2"
    temperature: Positive = 0.2
    projector: Widths = (2048, 128)
    momentum: Momentum = Momentum(start=0.999, end=0.999)
    queue: int = Field(65_536, ge=1)
    """Keys that are kept, of all processes."""
    batchnorm_groups: int = Field(8, ge=1)
    """Parts of a step's batch with statistics of their own, as if on a GPU each; keys are permuted among them."""
    quality: Quality | None = None
    """Quality weights of the pair of query and key; the queue is not weighted. Null: none."""

    def problem(self, *, epochs: int, samples: int) -> str | None:
        """A queue that does not hold a step."""
        if self.queue < samples:
            return f"queue: {self.queue} keys are fewer than the {samples} of a step; make it larger"
        return None


class SwAV(MethodBlock):
    """SwAV (arXiv 2006.09882): crops predict the prototypes that the large crops are assigned to."""

    views: ClassVar[tuple[int, int | None]] = (2, None)

    name: Literal["swav"] = "swav"
    temperature: Positive = 0.1
    epsilon: Positive = 0.05
    """Smoothness of the assignments."""
    iterations: int = Field(3, ge=1)
    """Sinkhorn's."""
    prototypes: int = Field(3000, ge=2)
    projector: Widths = (2048, 128)
    queue: int | None = Field(3840, ge=1)
    """Earlier features of each assigning crop, of all processes, balanced together with the batch; null: none."""
    queue_from_epoch: int = Field(15, ge=0)
    """The queue is filled from this epoch on, and used once it is full."""
    freeze_prototypes_epochs: int = Field(1, ge=0)
    """Epochs at the beginning in which the prototypes do not change."""
    quality: Quality | None = None
    """Quality weights of the two assigning crops' pair; they multiply all terms of the sample. Null: none."""

    def problem(self, *, epochs: int, samples: int) -> str | None:
        """A queue that does not hold a step."""
        if self.queue is not None and self.queue < samples:
            return f"queue: {self.queue} features are fewer than the {samples} of a step; make it larger, or null"
        return None


class Equivariant(Block):
    """CLeVER's second head: a part of the feature keeps what the augmentation changed (arXiv 2406.00262)."""

    invariant_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Share of the feature's channels, from the first, that is invariant."""
    outputs: int = Field(65_536, ge=2)
    """Of the equivariant part's head."""
    separation: NonNegative = 1.0
    """Coefficient of the orthogonality of different views' outputs."""
    balance: NonNegative = 0.001
    """Coefficient of the balance between the two heads' parameters."""
    chunk: int | None = Field(None, ge=1)
    """Samples whose outputs' cosines are computed at once, and again in the backward pass; null: all of a process. For
    memory: the probabilities of all crops over these outputs are the largest tensors."""
    balance_all: bool = True
    """Balance all parameters, as published; false: without the last layers' fixed gains and directions, whose length
    plays no part in their outputs."""


class DINO(MethodBlock):
    """DINO (arXiv 2104.14294): the student's crops predict the centred outputs of a momentum teacher."""

    views: ClassVar[tuple[int, int | None]] = (2, None)

    name: Literal["dino"] = "dino"
    outputs: int = Field(65_536, ge=2)
    head: Widths = (2048, 2048, 256)
    """Widths before the last layer."""
    student_temperature: Positive = 0.1
    teacher_temperature: Positive = 0.04
    warmup_teacher_temperature: Positive | None = None
    """Teacher's temperature at the beginning; null: no warm-up."""
    warmup_teacher_epochs: int = Field(0, ge=0)
    momentum: Momentum = Momentum(start=0.996)
    center_momentum: Share = 0.9
    freeze_last_layer_epochs: int = Field(1, ge=0)
    """Epochs at the beginning in which the heads' last layers do not change."""
    drop_path: Share = 0.1
    """Stochastic depth of the student alone, where the tower has it."""
    equivariant: Equivariant | None = None
    quality: Quality | None = None
    """Quality weights of the two large crops' pair; they multiply all terms of the sample. Null: none."""


class CLeVER(DINO):
    """CLeVER: DINO on the invariant part of the feature, and a second head on the equivariant one."""

    name: Literal["clever"] = "clever"
    equivariant: Equivariant = Equivariant()


class DIVA(MethodBlock):
    """DIVA (arXiv 2407.20171): a frozen diffusion model, conditioned on what the image tower says of an image, must
    predict the noise in that image; its error corrects the tower.
    """

    views: ClassVar[tuple[int, int | None]] = (1, 1)
    trains_projection: ClassVar[bool] = True
    needs_initial: ClassVar[bool] = True

    name: Literal["diva"] = "diva"
    teacher: DiffusionModel = DiffusionModel()
    condition: DivaCondition = DivaCondition()
    """What it is conditioned on: a block, or the name of a published model's (``openai-vit-l-14-224``,
    ``openai-vit-l-14-336``, ``metaclip-vit-l-14-224``, ``metaclip-vit-h-14-224``, ``dfn-vit-h-14-224``,
    ``dfn-vit-h-14-378``, ``siglip-so400m-14-224``, ``siglip-so400m-14-384``)."""
    draws: int = Field(2, ge=1)
    """Timesteps and noises for each image in a step; one backward pass for each."""
    weighting: Literal["mean", "repository"] = "mean"
    """``mean``: the gradient is the mean over draws and microbatches, as in the paper. ``repository``: as the
    published code computes it: all draws but the last are summed over the microbatches and only the last is averaged,
    so that with two draws and five microbatches the gradient is six times as large, five sixths of it by the first
    draw; clipping hides some of that."""

    @field_validator("condition", mode="before", json_schema_input_type=str | DivaCondition)
    @classmethod
    def _published(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(f"no published condition {value!r}; there are {', '.join(PRESETS)}")
        return PRESETS[value]


_BLOCKS = (GenViewPlusPlus, SimCLR, MoCoV2, MoCoV3, SimSiam, BYOL, SwAV, DINO, CLeVER, DIVA)
BLOCKS: dict[str, type[MethodBlock]] = {block.model_fields["name"].default: block for block in _BLOCKS}
"""Settings of each method, by its name."""

Name = Literal["genviewpp", "simclr", "mocov2", "mocov3", "simsiam", "byol", "swav", "dino", "clever", "diva"]


def named(value: Any) -> Any:
    """The block of a short form (``byol``); a block without a name is GenView++'s."""
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict) and "name" not in value:
        value = {"name": "genviewpp", **value}
    return value


_Block = GenViewPlusPlus | SimCLR | MoCoV2 | MoCoV3 | SimSiam | BYOL | SwAV | DINO | CLeVER | DIVA
Method = Annotated[_Block, Field(discriminator="name"), BeforeValidator(named, json_schema_input_type=Name | _Block)]
"""A method's settings, or its name alone for the published ones."""
