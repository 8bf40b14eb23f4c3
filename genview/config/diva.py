"""What DIVA's diffusion model is conditioned on: which of an image's tokens, and how they meet the text prior."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from genview.config.base import Block, Sha256


class DivaCondition(Block):
    """The visual condition in place of a prompt (DIVA, section 3); `PRESETS` has the eight published models'."""

    tokens: Literal["all", "random_count", "random_share", "pooled"] = "all"
    """Local tokens beside the global one. ``all``: every patch token. ``random_count``: ``count`` of them, drawn with
    replacement. ``random_share``: ``share`` of them, likewise. ``pooled``: means of ``window`` neighbours in raster
    order; what is left at the end is dropped."""
    count: int = Field(76, ge=1)
    """``random_count``: how many tokens are drawn for each image and each draw of noise."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """``random_share``: share of the tokens that is drawn, rounded down."""
    window: int = Field(6, ge=1)
    """``pooled``: tokens of a mean; also the step from one mean to the next."""
    prior: Literal["position", "mean"] = "mean"
    """How the hidden states of ``prompt`` are added to the projected tokens: ``position``: one by one, which needs as
    many tokens as the text has positions; ``mean``: their mean, to every token."""
    prompt: str = "a photo of a ."
    """The text whose hidden states are the prior; it says nothing about an image."""

    def local_tokens(self, tokens: int) -> int:
        """Local tokens of a condition, for a tower with ``tokens`` patch tokens."""
        match self.tokens:
            case "all":
                return tokens
            case "random_count":
                return self.count
            case "random_share":
                return int(self.share * tokens)
            case _:
                return tokens // self.window

    def context_length(self, tokens: int) -> int:
        """Tokens of a condition: the global one and the local ones."""
        return 1 + self.local_tokens(tokens)

    @model_validator(mode="after")
    def _prior_fits(self) -> "DivaCondition":
        if self.prior == "position" and self.tokens in ("all", "pooled"):
            raise ValueError(
                f"prior: position adds one hidden state of the text to each token; with tokens: {self.tokens} their "
                "numbers differ; use prior: mean, or tokens: random_count"
            )
        return self


_EVERY_TOKEN = DivaCondition()

PRESETS = {
    "openai-vit-l-14-224": DivaCondition(tokens="random_count", count=76, prior="position"),
    "openai-vit-l-14-336": DivaCondition(tokens="random_count", count=76, prior="position"),
    "metaclip-vit-l-14-224": _EVERY_TOKEN,
    "metaclip-vit-h-14-224": _EVERY_TOKEN,
    "dfn-vit-h-14-224": _EVERY_TOKEN,
    "dfn-vit-h-14-378": DivaCondition(tokens="random_share", share=0.5),
    "siglip-so400m-14-224": DivaCondition(tokens="pooled", window=6),
    "siglip-so400m-14-384": DivaCondition(tokens="pooled", window=10),
}
"""The condition of each published model. The paper gives shares of 15 and 30 % for OpenAI's models at 224 and 336
pixels; the published code draws 76 tokens at both sizes, as here."""


class DiffusionModel(Block):
    """The frozen diffusion model that DIVA learns from."""

    model: str = "small/text2image"
    """Pipeline directory, hub id or shipped model; published: Stable Diffusion 2.1-base."""
    revision: str | None = None
    variant: str | None = None
    """diffusers' weight variant, such as ``fp16``."""
    sha256: Sha256 | None = None
    """Expected SHA-256 of the UNet's weights file."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of its weights; published: fp32 under bf16 autocast."""
    image_size: int | None = Field(None, ge=8)
    """Side of the images that its autoencoder sees, in pixels; null: the model's own (published: 512)."""
    gradient_checkpointing: bool = True
    """Compute the UNet's activations again in the backward pass: less memory, about a third more time."""
