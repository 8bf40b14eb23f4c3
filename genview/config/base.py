"""What all configuration blocks share: unknown keys are refused, values do not change once read."""

import os
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A share or probability, in [0, 1]."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
"""A name that becomes part of a path: letters, digits, ``_`` and ``-``."""

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expanded(path: str) -> str:
    """A path with ``~`` and environment variables (``$NAME``, ``${NAME}``) put in; a file of that very name stays.

    Raises:
        ValueError: a variable is not set, or there is no such home folder.
    """
    if os.path.lexists(path):
        return path
    missing = sorted({one or other for one, other in _VARIABLE.findall(path)} - os.environ.keys())
    if missing:
        raise ValueError(f"the environment variable {', '.join(missing)} is not set")
    found = os.path.expanduser(os.path.expandvars(path))
    if found.startswith("~"):
        raise ValueError(f"there is no home folder {found.split('/', 1)[0]}")
    return found


FilePath = Annotated[str, AfterValidator(expanded)]
"""A file or folder: ``~`` is the home folder, ``$NAME`` an environment variable."""

ModelPath = Annotated[str, AfterValidator(lambda name: expanded(name) if name[:1] in "~$" else name)]
"""A name that may be a path, too: of a model, of weights."""

Level = Annotated[int, Field(ge=0, le=999)]
"""A noise level: an index into the image-noising schedule."""

Scale = Annotated[float, Field(ge=1, le=50)]
"""A classifier-free guidance scale; 1 is no guidance."""


class Block(BaseModel):
    """A part of the configuration: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
