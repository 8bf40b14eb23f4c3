"""What a check finds."""

from typing import NamedTuple

EVERY_STAGE = "results"
"""Stage of a problem that concerns all of them."""


class Problem(NamedTuple):
    """Something that would stop a stage, and what to do."""

    stage: str
    text: str
