"""From YAML to a study, with errors that name the key, the value, what is allowed and the nearest name."""

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from genview import home, words
from genview.config.base import NAME_PATTERN, SHA256_PATTERN, expanded
from genview.config.merge import merged
from genview.config.methods import BLOCKS
from genview.config.study import Study
from genview.config.training import Run
from genview.errors import GenviewError
from genview.hub import lock


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
        step = steps.pop(0)
        if step == "method" and steps:  # pydantic names the method that was chosen
            block = BLOCKS[str(steps.pop(0))]
            continue
        annotation = block.model_fields[str(step)].annotation
        if typing.get_origin(annotation) is dict and steps:
            steps.pop(0)
            annotation = typing.get_args(annotation)[1]
        inner = _blocks(annotation)
        if not inner:
            return []
        block = inner[0]
    return list(block.model_fields)


_WORDS = {
    "dict_type": "a mapping of keys to values is wanted",
    "model_type": "a mapping of keys to values is wanted",
    "tuple_type": "a list of values is wanted",
    "bool_parsing": "true or false is wanted",
    "int_parsing": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "float_parsing": "a number is wanted",
    "missing": "is missing",
    "union_tag_invalid": f"no such method; there are {', '.join(BLOCKS)}",
}
_PATTERNS = {
    NAME_PATTERN: "a name has letters, digits, _ and -, begins with a letter or digit, and becomes part of paths",
    SHA256_PATTERN: "a SHA-256 has 64 hexadecimal digits in small letters",
}
# Where a value may be of several kinds, pydantic names the kind that it tried as if it were a key.
_KIND = re.compile(r"^(literal\[.*|constrained-\w+|(int|float|str|bool|none)|tuple\[.*|list\[.*|\[key\])$")


def _location(error: dict[str, Any]) -> tuple[int | str, ...]:
    parts = tuple(part for part in error["loc"] if not _KIND.match(str(part)))
    # The name of the chosen method is not a key.
    return tuple(part for before, part in zip((None, *parts), parts) if not (before == "method" and part in BLOCKS))


def _reason(error: dict[str, Any]) -> str:
    """What is wrong with a value, or with a name that is not known."""
    location = _location(error)
    if error["type"] == "extra_forbidden":
        known = _known_keys(tuple(part for part in error["loc"] if not _KIND.match(str(part))))
        return "unknown key" + (words.nearest(str(location[-1]), known, 0.5) or f"; known keys: {', '.join(known)}")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = _WORDS.get(error["type"], message)
    return _PATTERNS.get(error.get("ctx", {}).get("pattern"), message)


def _explained(errors: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each key that is wrong; several reasons are the several kinds of value that it may have."""
    reasons: dict[tuple[int | str, ...], list[dict[str, Any]]] = {}
    for error in errors:
        reasons.setdefault(_location(error), []).append(error)
    for location, found in reasons.items():
        if not location:  # the study as a whole: each line names its keys
            yield from (line for error in found for line in _reason(error).split("\n"))
            continue
        shown = found[0].get("input")
        got = f" (got {shown!r})" if isinstance(shown, (str, int, float, bool)) or shown is None else ""
        got = "" if found[0]["type"] in ("extra_forbidden", "missing") else got
        yield f"{'.'.join(map(str, location))}: {', or: '.join(dict.fromkeys(map(_reason, found)))}{got}"


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


def parse(values: dict[str, Any], origin: str = "configuration", *, pinned: bool = True) -> Study:
    """Check a configuration, and take the revisions of its lock.

    Args:
        values: the configuration's plain values.
        origin: what errors call it.
        pinned: False: leave its lock aside.

    Raises:
        GenviewError: lists every problem: unknown keys with the nearest name, values out of range, broken references;
            or the file of the lock is not a lock.
    """
    values = extended(values)
    if problems := list(_explained(_errors(values))):
        raise GenviewError(f"{origin} has {len(problems)} problem(s):\n" + "\n".join(f"  - {p}" for p in problems))
    study = Study.model_validate(values)
    pins = pins_of(study) if pinned else {}
    return Study.model_validate(merged(values, pins)) if pins else study


def pins_of(study: Study) -> dict[str, Any]:
    """The settings that the lock of a study adds to it, as nested mappings.

    Raises:
        GenviewError: the file that it names is not a lock.
    """
    known = lock.read(study.weights_lock) if study.weights_lock else None
    return lock.pins(study.model_dump(mode="json"), known) if known else {}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one configuration file.

    Raises:
        GenviewError: the file is missing or is not a mapping in YAML.
    """
    try:
        text = home.found(path).read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        twice = _twice(yaml.compose(text, yaml.SafeLoader))
    except FileNotFoundError:
        where = "" if Path(path).is_absolute() else f" in {Path.cwd()}"
        raise GenviewError(f"{path}: no such configuration file{where}") from None
    except OSError as error:
        raise GenviewError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GenviewError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise GenviewError(f"{path}: a configuration is a mapping of keys to values")
    if twice:
        raise GenviewError(f"{path}: stated twice: {', '.join(twice)}; only the last would count")
    return values


def _twice(node: yaml.Node | None, path: str = "") -> list[str]:
    """Keys that a mapping states more than once, which YAML forbids and its reader overlooks."""
    found: list[str] = []
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{path}{key.value}"
            if name in seen:
                found.append(f"{name} (line {key.start_mark.line + 1})")
            seen.add(name)
            found += _twice(value, f"{name}.")
    return found


def extended(values: dict[str, Any], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Values over those of the file that their key ``extends`` names, relative to the working directory.

    Raises:
        GenviewError: files extend each other in a circle, or `extends` names no file.
    """
    values = dict(values)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise GenviewError(f"extends: the name of one configuration file is wanted (got {base!r})")
    try:
        base = expanded(base)
    except ValueError as error:
        raise GenviewError(f"extends: {base}: {error}") from None
    if base in seen:
        raise GenviewError(f"{base}: extends itself, in a circle: {' -> '.join((*seen, base))}")
    return merged(extended(read_yaml(base), (*seen, base)), values)


def load(*paths: str | Path, pinned: bool = True) -> Study:
    """Read configuration files, later ones over earlier ones, and check the result."""
    values: dict[str, Any] = {}
    for path in paths:
        values = merged(values, read_yaml(path))
    return parse(values, origin=", ".join(str(path) for path in paths), pinned=pinned)
