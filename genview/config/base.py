"""What all configuration blocks share: unknown keys are refused, values do not change once read."""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

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
"""A classifier-free guidance scale; 1: no guidance."""


class Mark:
    """What a setting says of itself beside its type, as in ``Annotated[int, RuntimeOnly]``."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


RuntimeOnly = Mark("RuntimeOnly")
"""The setting decides what runs, where or how fast, never what comes out: its change re-runs nothing."""


class Block(BaseModel):
    """A part of the configuration: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def fingerprint(self) -> dict[str, Any]:
        """Every setting that can change a result, as plain values."""
        return fingerprint(self)

    def runtime(self) -> dict[str, Any]:
        """The settings that are `RuntimeOnly`, as plain values; blocks without any are left out."""
        return runtime(self)


def _runtime_only(block: Block) -> set[str]:
    return {name for name, field in type(block).model_fields.items() if RuntimeOnly in field.metadata}


def _absent(block: Block) -> set[str]:
    fields = type(block).model_fields.items()
    return {name for name, field in fields if field.default is None and getattr(block, name) is None}


def fingerprint(value: Any) -> Any:
    """What of a value can change a result: blocks, at any depth, as plain values without `RuntimeOnly` settings.

    A setting that is null by default and null counts for nothing: a version that adds one re-runs nothing.
    """
    if isinstance(value, Block):
        marked, plain = _runtime_only(value) | _absent(value), value.model_dump(mode="json")
        kept = {name: getattr(value, name) for name in plain if name not in marked}
        return {name: fingerprint(item) if _has_blocks(item) else plain[name] for name, item in kept.items()}
    if isinstance(value, Mapping):
        return {str(name): fingerprint(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fingerprint(item) for item in value]
    return value


def _has_blocks(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_blocks(item) for item in value.values())
    return any(map(_has_blocks, value)) if isinstance(value, (list, tuple)) else isinstance(value, Block)


def runtime(value: Any) -> dict[str, Any]:
    """The `RuntimeOnly` settings of a block or of a mapping of blocks; lists of blocks have none of their own."""
    if isinstance(value, Block):
        marked, plain = _runtime_only(value), value.model_dump(mode="json")
        found = {name: plain[name] for name in plain if name in marked}
        rest = {name: runtime(getattr(value, name)) for name in plain if name not in marked}
    elif isinstance(value, Mapping):
        found, rest = {}, {str(name): runtime(item) for name, item in value.items()}
    else:
        return {}
    return found | {name: part for name, part in rest.items() if part}
