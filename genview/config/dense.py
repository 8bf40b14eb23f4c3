"""Tests of patch tokens that train nothing: saliency by TokenCut, labels that travel through a video."""

from typing import Annotated

from pydantic import Field

from genview.config.base import Block, FilePath, Name, RuntimeOnly, Share


class Saliency(Block):
    """Unsupervised saliency by TokenCut (arXiv 2202.11539): is the object found by a cut of the patch tokens?"""

    datasets: Annotated[dict[Name, FilePath | None], RuntimeOnly] = {}
    """Name to a folder with one folder of images and one of masks of the same names (ECSSD, DUTS, DUT-OMRON as they
    are unpacked); null: drawn scenes with their masks."""
    scenes: int = Field(200, ge=1)
    """Drawn scenes: how many."""
    scene_size: int = Field(32, ge=16)
    """Their side in pixels."""
    similarity: Share = 0.2
    """Cosine of two tokens from which they are joined, as published (for the keys of DINO's last attention)."""
    bootstrap: int = Field(1000, ge=0)
    """Resamples of the images behind the 95 % intervals; 0: no interval."""


class Video(Block):
    """Video object segmentation by label propagation, DINO's protocol for DAVIS 2017 (arXiv 2104.14294)."""

    datasets: Annotated[dict[Name, FilePath | None], RuntimeOnly] = {}
    """Name to a folder in DAVIS's layout (``JPEGImages/480p``, ``Annotations/480p``, ``ImageSets/2017/val.txt``); null:
    drawn moving scenes."""
    sequences: int = Field(12, ge=1)
    """Drawn moving scenes: how many."""
    scene_size: int = Field(64, ge=16)
    """Their side in pixels."""
    frames: int = Field(7, ge=1)
    """Previous frames from which labels travel, beside the first."""
    radius: int = Field(12, ge=1)
    """Largest distance of two tokens that are compared, in rows and in columns of the grid."""
    neighbours: int = Field(5, ge=1)
    """Most similar tokens that count."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of their weights, exp(cosine / temperature)."""
    bootstrap: int = Field(1000, ge=0)
    """Resamples of the sequences behind the 95 % intervals; 0: no interval."""
