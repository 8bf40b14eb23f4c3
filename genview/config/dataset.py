"""Where the images come from, and what is refused."""

from typing import Literal

from pydantic import Field, model_validator

from genview.config.base import Block, Share


class Dataset(Block):
    """The collection of images of a study."""

    source: Literal["scenes", "folder", "table", "webdataset", "huggingface", "digits"] = "scenes"
    """``scenes``: drawn scenes. ``folder``: class folders or flat, captions from ``.txt`` beside the image.
    ``table``: CSV, TSV or Parquet with a header (image, prompt, label). ``webdataset``: uncompressed tars as
    img2dataset writes them. ``huggingface``: a dataset saved with ``save_to_disk``. ``digits``: scikit-learn's."""
    path: str | None = None
    """The folder, table, folder of tars (or one tar), or dataset directory. Not used by scenes and digits."""
    image_root: str | None = None
    """Table only: the folder that the paths in the column ``image`` are relative to; default: the table's folder."""
    count: int | None = Field(None, ge=1)
    """Scenes: how many to draw (default 1,000). Other sources: take only the first so many items."""
    caption_column: str = "prompt"
    label_column: str = "label"
    foreground_share_column: str | None = None
    """Column of the true foreground share, in [0, 1], for the comparison in the report."""
    shards: int = Field(2, ge=1, le=100_000)
    """Number of shards of the sharded stages; stated here so that the workflow's jobs are known beforehand."""
    maximum_rejects: Share = 0.01
    """The study stops if a larger share of the items is refused."""
    maximum_pixels: int = Field(178_956_970, ge=1, le=357_913_940)
    """Images with more pixels are refused before they are decoded (decompression bombs); Pillow ends at twice that."""
    minimum_side: int = Field(1, ge=1)
    """Images with a shorter side below this, in pixels, are refused."""
    drop_duplicates: bool = True
    """Keep one of several images with the same bytes; the others are listed."""
    perceptual_duplicates: int | None = Field(None, ge=0, le=32)
    """Also drop images whose perceptual hash (64 bits) differs in at most so many bits; off by default."""
    exclude: str | None = None
    """A text or CSV file of keys to leave out, such as leaked test images found by the duplicates stage."""
    workers: int = Field(0, ge=0)
    """Processes that open and check images, a matter of speed only; 0: eight, or as many as there are cores."""

    @model_validator(mode="after")
    def _path_where_needed(self) -> "Dataset":
        if self.source not in ("scenes", "digits") and not self.path:
            raise ValueError(f"source {self.source!r} needs a path")
        return self
