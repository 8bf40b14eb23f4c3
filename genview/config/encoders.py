"""Encoders: which model, where its weights come from, how it is run."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from genview.config.base import Block, ModelPath, RuntimeOnly, Sha256

PLACEHOLDER_WIDTH = 8
"""Width of the text tower without meaning that a model trained on images alone carries along."""


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
    activation: Literal["gelu", "quick_gelu"] | None = None
    """Activation of the weights; null: as tag, file or folder say, with a warning where none does."""
    fast_decode: bool | None = None
    """Decode JPEGs of the collection at the smallest scale that its preprocessing does not enlarge again (an eighth, a
    quarter, a half): up to several times faster for large photographs, and slightly other numbers. Null: in full."""
    batch_size: Annotated[int, RuntimeOnly] = Field(64, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Autocast type; fp16 and bf16 are for GPUs."""

    @property
    def has_text(self) -> bool:
        """Whether it has a text tower: open_clip models, but for those that GenView trained on images alone."""
        if self.library == "timm":
            return False
        for name in ("genview_config.json", "open_clip_config.json"):
            try:
                values = json.loads(Path(self.model, name).read_text(encoding="utf-8"))
                return values["model_cfg"]["text_cfg"].get("width") != PLACEHOLDER_WIDTH
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        return True
