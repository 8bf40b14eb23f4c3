"""The sets of generated views."""

from typing import Literal

from pydantic import Field, model_validator

from genview.config.base import Block, Level, ModelPath, Scale, Sha256, Share


class ViewSet(Block):
    """One set of views: a mode, its conditions, and how the images are made and kept."""

    mode: Literal["img", "txt", "imgtxt"]
    """``img``: Stable unCLIP, empty prompt. ``txt``: Stable Diffusion. ``imgtxt``: Stable unCLIP with the caption."""
    noise_level: Literal["table", "random"] | Level = "table"
    """``table``: as the block ``noise_level`` says; ``random``: one of its levels, drawn for each image; a number: this
    level for all. Not used in txt mode."""
    guidance_scale: Literal["table", "random"] | Scale | None = None
    """As above; null: 10 in img mode, the table's in the others (GenView++'s settings)."""
    model: ModelPath | None = None
    """Pipeline directory, hub id or shipped model; null: small/unclip, or small/text2image in txt mode."""
    revision: str | None = None
    variant: str | None = None
    """diffusers' weight variant, such as ``fp16``."""
    sha256: Sha256 | None = None
    """Expected SHA-256 of the UNet's weights file."""
    scheduler: str | None = None
    """A diffusers scheduler class (``DPMSolverMultistepScheduler``, ``DDIMScheduler``); null: the pipeline's own."""
    steps: int = Field(20, ge=1, le=1000)
    guidance_interval: tuple[Share, Share] | None = None
    """Shares of the steps between which guidance holds (arXiv 2404.07724); outside, the UNet computes the conditioned
    half alone, which takes half of the time. ``[0, 0.5]`` stops it early. Null: in all steps."""
    samples: int = Field(1, ge=1, le=100)
    """Images per original."""
    image_size: int | None = Field(None, ge=8)
    """Size that is generated, in pixels; null: the model's own."""
    save_size: int | None = Field(None, ge=8)
    """Size that is saved, in pixels; null: as generated."""
    jpeg_quality: int = Field(95, ge=1, le=100)
    batch_size: int = Field(32, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    compile: bool = False
    """torch.compile of the UNet and the decoder, with padded fixed shapes."""
    attention_slicing: bool = False
    """Attention in slices: less memory, slower."""
    decode_batch_size: int | None = Field(None, ge=1)
    """Images decoded at once, a divisor of ``batch_size``; null: the whole batch. Less memory on large images."""

    @model_validator(mode="after")
    def _decode_divides(self) -> "ViewSet":
        if self.decode_batch_size and self.batch_size % self.decode_batch_size:
            raise ValueError(f"decode_batch_size {self.decode_batch_size} does not divide batch_size {self.batch_size}")
        if self.guidance_interval and self.guidance_interval[0] >= self.guidance_interval[1]:
            raise ValueError(f"guidance_interval {list(self.guidance_interval)}: the smaller share comes first")
        return self

    def guides(self, step: int, steps: int) -> bool:
        """Whether guidance holds in step number ``step``, from 0, of ``steps``."""
        if self.guidance_source() == 1.0:
            return False
        first, last = self.guidance_interval or (0.0, 1.0)
        return first <= step / steps < last

    def level_source(self) -> Literal["table", "random"] | int | None:
        """Where noise levels come from: the table, chance, or this level for all; None in txt mode, which has none."""
        return None if self.mode == "txt" else self.noise_level

    def guidance_source(self) -> Literal["table", "random"] | float:
        """Where guidance scales come from: the table, chance, or this scale for all."""
        if self.guidance_scale is not None:
            return self.guidance_scale
        return 10.0 if self.mode == "img" else "table"
