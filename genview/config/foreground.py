"""Encoders, the principal direction of their tokens, and the noise level that follows from the foreground ratio."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from genview.config.base import Block, FilePath, Level, ModelPath, Sha256


class Encoder(Block):
    """A frozen image(-text) encoder: any open_clip model or timm image tower."""

    library: Literal["open_clip", "timm"] = "open_clip"
    model: ModelPath = "small/clip"
    """open_clip or timm architecture (``ViT-H-14``), a directory, ``hf-hub:...``, or a shipped one (``small/clip``)."""
    pretrained: ModelPath | None = None
    """Weights: a tag (``laion2b_s32b_b79k``), a file, or null for a directory that has its own; ``random`` for none."""
    revision: str | None = None
    """Revision of weights fetched from the hub."""
    sha256: Sha256 | None = None
    """Expected SHA-256 of the weights file; checked before use and recorded."""
    image_size: int | None = Field(None, ge=16)
    """Override of the input size in pixels; null: the model's own."""
    batch_size: int = Field(64, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Autocast type; fp16 and bf16 are for GPUs."""


class PrincipalComponent(Block):
    """PCA over the tokens of a sample of images, its orientation and the foreground threshold."""

    sample: int = Field(10_000, ge=1)
    """Images whose tokens the PCA sees; drawn by the study's seed."""
    foreground_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of the sample's tokens above the threshold (exact quantile)."""
    polarity: Literal["automatic", "as_given", "flipped"] = "automatic"
    """``automatic``: border tokens are background. The others force the sign of the fitted or given vector."""
    threshold: float | None = None
    """A fixed threshold on the raw projection instead of the quantile."""
    vector: FilePath | None = None
    """A published component (``.npy`` or ``.safetensors``) instead of a fitted one."""
    pictures: int = Field(12, ge=0, le=100)
    """Images shown with their masks and maps."""


class Foreground(Block):
    """Which encoder measures the foreground ratio."""

    encoder: str = "small"
    """A name of the block ``encoders``."""
    given: FilePath | None = None
    """A CSV in the published form (``fg_ratios.csv``: image, ratio, prompt) in place of the stage."""


class NoiseLevel(Block):
    """From foreground ratio to noise level (GenView, eq. 8)."""

    strategy: Literal["adaptive", "constant", "random"] = "adaptive"
    constant: Level = 100
    levels: tuple[Level, ...] = (0, 100, 200, 300, 400)
    """The levels of the equal intervals of the ratio, in order; their number is the number of intervals."""
    given: FilePath | None = None
    """A CSV in the published form (``noise_level.csv``: image, prompt, noise_level) in place of the stage."""

    @model_validator(mode="after")
    def _levels(self) -> "NoiseLevel":
        if not self.levels:
            raise ValueError("levels: at least one is needed")
        return self
