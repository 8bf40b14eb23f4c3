"""When a run is said to have collapsed: one number, for the loop and for the report."""

from collections.abc import Mapping
from typing import Any

COLLAPSED = 0.01
"""Spread of the projections below which all samples have nearly the same one: cosines above .9999."""


def collapsed(values: Mapping[str, Any]) -> bool:
    """Whether a line of metrics is that of a run that has collapsed."""
    spread = values.get("projection_spread")
    return spread is not None and spread < COLLAPSED
