"""From YAML to a study, with errors that name the key, the value, what is allowed and the nearest name."""

import difflib
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from genview.config.study import Study, merged
from genview.config.training import Run
from genview.errors import GenviewError


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """The configuration blocks that an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [block for part in typing.get_args(annotation) for block in _blocks(part)]
    return []


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed where an unknown key was found."""
    shared = location[0] == "training"
    block: type[BaseModel] = Run if shared else Study
    steps = list(location[1:-1] if shared else location[:-1])
    while steps:
        annotation = block.model_fields[steps.pop(0)].annotation
        if typing.get_origin(annotation) is dict and steps:
            steps.pop(0)
            annotation = typing.get_args(annotation)[1]
        inner = _blocks(annotation)
        if not inner:
            return []
        block = inner[0]
    return list(block.model_fields)


def _explain(error: dict[str, Any]) -> str:
    location = tuple(part for part in error["loc"] if part != "[key]")
    path = ".".join(str(part) for part in location) or "configuration"
    if error["type"] == "extra_forbidden":
        known = _known_keys(location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
        return f"{path}: unknown key{hint}"
    message = error["msg"].removeprefix("Value error, ")
    shown = error.get("input")
    if isinstance(shown, (str, int, float, bool)) or shown is None:
        return f"{path}: {message} (got {shown!r})"
    return f"{path}: {message}"


def _errors(values: dict[str, Any]) -> list[dict[str, Any]]:
    """What pydantic finds wrong; an error in the block ``training`` is told there, not in each run that inherits it."""
    found: list[dict[str, Any]] = []
    for prefix, block, part in (((), Study, values), (("training",), Run, values.get("training") or {})):
        try:
            block.model_validate(part)
        except ValidationError as error:
            found += [{**item, "loc": (*prefix, *item["loc"])} for item in error.errors(include_url=False)]
    shared = {item["loc"][1:] for item in found if item["loc"][:1] == ("training",)}
    return [item for item in found if not (item["loc"][:1] == ("runs",) and item["loc"][2:] in shared)]


def parse(values: dict[str, Any], origin: str = "configuration") -> Study:
    """Check a configuration.

    Raises:
        GenviewError: lists every problem: unknown keys with the nearest name, values out of range, broken references.
    """
    values = extended(values)
    if problems := [_explain(item) for item in _errors(values)]:
        raise GenviewError(f"{origin} has {len(problems)} problem(s):\n" + "\n".join(f"  - {p}" for p in problems))
    return Study.model_validate(values)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one configuration file.

    Raises:
        GenviewError: the file is missing or is not a mapping in YAML.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GenviewError(f"{path}: no such configuration file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GenviewError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise GenviewError(f"{path}: a configuration is a mapping of keys to values")
    return values


def extended(values: dict[str, Any], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Values over those of the file that their key ``extends`` names, relative to the working directory.

    Raises:
        GenviewError: files extend each other in a circle.
    """
    values = dict(values)
    base = values.pop("extends", None)
    if base is None:
        return values
    if base in seen:
        raise GenviewError(f"{base}: extends itself, in a circle: {' -> '.join((*seen, base))}")
    return merged(extended(read_yaml(base), (*seen, base)), values)


def load(*paths: str | Path) -> Study:
    """Read configuration files, later ones over earlier ones, and check the result."""
    values: dict[str, Any] = {}
    for path in paths:
        values = merged(values, read_yaml(path))
    return parse(values, origin=", ".join(str(path) for path in paths))
