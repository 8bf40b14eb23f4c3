"""Where the images come from, and what is refused."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from genview.config.base import Block, FilePath, RuntimeOnly, Share

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}

Separator = Annotated[
    Literal["comma", "tab", "semicolon", "bar"],
    BeforeValidator(lambda given: SEPARATORS.get(given, given) if isinstance(given, str) else given),
]
"""A separator by its name, or the character itself."""


class Dataset(Block):
    """The collection of images of a study."""

    source: Literal["scenes", "folder", "table", "webdataset", "huggingface", "digits"] = "scenes"
    """``scenes``: drawn scenes. ``folder``: class folders or flat, captions from ``.txt`` beside the image.
    ``table``: CSV, TSV, Parquet or Arrow with a header and a column of paths; captions and labels if it has them.
    ``webdataset``: uncompressed tars as img2dataset writes them. ``huggingface``: a dataset saved with
    ``save_to_disk``, or Parquet or Arrow files that hold the images themselves. ``digits``: scikit-learn's."""
    path: FilePath | None = None
    """The folder, table, folder of tars (or one tar), or dataset directory. Not used by scenes and digits."""
    image_root: FilePath | None = None
    """Table only: the folder that the paths in the column of images are relative to; default: the table's folder."""
    count: int | None = Field(None, ge=1)
    """Scenes: how many to draw (default 1,000). Other sources: take only this many items, the first."""
    image_column: str | None = None
    """Table: the column of paths; Hugging Face: the column of images. Left out: ``image``, or a name that others use
    (``filepath``, ``file_name``, ...)."""
    caption_column: str | None = None
    """Column, or field of a WebDataset's JSON, of captions: a text, or a list of texts. Left out: ``prompt`` or
    ``caption`` or another usual name, if there is one. ``caption.en`` is the entry ``en`` of a mapping."""
    label_column: str | None = None
    """Column, or field of a WebDataset's JSON, of class names. Left out: ``label`` or ``class``, if there is one."""
    separator: Separator | None = None
    """Table: what stands between columns of a text file. Left out: what fits the header."""
    key_prefix: Literal["none", "folder", "tar"] = "none"
    """WebDataset: what is put before each key, for tars that count from 0 again: the tar's folder, or its name too."""
    foreground_share_column: str | None = None
    """Column of the true foreground share, in [0, 1], for the comparison in the report."""
    shards: int = Field(2, ge=1, le=100_000)
    """Number of shards of the sharded stages; stated here so that the workflow's jobs are known beforehand."""
    maximum_rejects: Share = 0.01
    """The study stops if a larger share of the items is refused."""
    maximum_pixels: int = Field(178_956_970, ge=1, le=357_913_940)
    """Images with more pixels are refused before they are decoded (decompression bombs); Pillow ends at twice that."""
    maximum_aspect_ratio: Annotated[float, Field(ge=1)] = 32.0
    """Images whose longer side is more than this many times the shorter one are refused: an encoder's preprocessing
    would blow the shorter side up, and the longer one with it."""
    minimum_side: int = Field(1, ge=1)
    """Images with a shorter side below this, in pixels, are refused."""
    drop_duplicates: bool = True
    """Keep one of several images with the same bytes; the others are listed."""
    perceptual_duplicates: int | None = Field(None, ge=0, le=32)
    """Also drop images whose perceptual hash (64 bits) differs in at most this many bits; off by default."""
    exclude: FilePath | None = None
    """A text or CSV file of keys to leave out, such as leaked test images found by the duplicates stage."""
    watch: Annotated[int, RuntimeOnly] = Field(20_000, ge=0)
    """Folders and tars of up to this many files are looked at before each start, so that new, changed and removed
    images are seen; of larger ones (0: of all) write ``snakemake --forcerun manifest``."""
    workers: Annotated[int, RuntimeOnly] = Field(0, ge=0)
    """Processes that open and check images, of no effect but on speed; 0: eight, or as many as there are cores."""

    @model_validator(mode="after")
    def _path_where_needed(self) -> "Dataset":
        if self.source not in ("scenes", "digits") and not self.path:
            raise ValueError(f"source {self.source!r} needs a path")
        return self
