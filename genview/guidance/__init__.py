"""Guidance: how far a caption constrains the picture, and the guidance scale that follows from it."""

from genview.guidance.scales import scale

__all__ = ["scale"]
