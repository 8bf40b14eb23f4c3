"""What all configuration blocks share: unknown keys are refused, values do not change once read."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A share or probability, in [0, 1]."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
"""A name that becomes part of a path: letters, digits, ``_`` and ``-``."""

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]

Level = Annotated[int, Field(ge=0, le=999)]
"""A noise level: an index into the image-noising schedule."""

Scale = Annotated[float, Field(ge=1, le=50)]
"""A classifier-free guidance scale; 1 is no guidance."""


class Block(BaseModel):
    """A part of the configuration: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
