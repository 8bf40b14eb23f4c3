"""The principal direction of an encoder's tokens, and the noise level that follows from the foreground ratio."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from genview.config.base import Block, FilePath, Level, RuntimeOnly


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
    second_opinion: Annotated[int, RuntimeOnly] = Field(48, ge=0)
    """Images, at equal steps of the ratio's rank, that TokenCut (arXiv 2202.11539) divides too: the report shows both
    masks and how far the two ratios agree. 0: none."""
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
