"""Every setting with its type, default and meaning, in Markdown, from the configuration's own classes."""

import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from genview.config.base import RuntimeOnly
from genview.config.study import Study

LONGEST = 120
"""Characters of a default that is shown as it is."""

HEADER = """# Every setting

A study is one YAML file. What it does not state has the default below, or comes from the file that it `extends`.
`genview config --config FILE` prints the effective configuration with the origin of each value,
`genview config --schema` the schema that editors complete and check by, `genview config --reference` this page.

A change of a setting re-runs what it reaches; one that *changes no result* re-runs nothing.
"""


def text() -> str:
    """The page: a section for each block, in the order in which a study has them."""
    sections = [f"## {name}\n\n{_section(block)}" for name, block in _blocks("study", Study, set())]
    return HEADER + "\n" + "\n".join(sections)


def _section(block: type[BaseModel]) -> str:
    meaning = " ".join((block.__doc__ or "").split())
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_meaning(field)} |"
        for name, field in block.model_fields.items()
    ]
    table = "\n".join(["| setting | kind | default | meaning |", "|---|---|---|---|", *rows])
    return f"{meaning}\n\n{table}\n" if meaning else f"{table}\n"


def _blocks(name: str, block: type[BaseModel], seen: set[type]) -> Iterator[tuple[str, type[BaseModel]]]:
    """A block and those inside it, each once, under the path at which it is met first."""
    if block in seen:
        return
    seen.add(block)
    yield name, block
    for key, field in block.model_fields.items():
        path = key if name == "study" else f"{name}.{key}"
        for inner, many in _inner(field.annotation):
            yield from _blocks(f"{path}.NAME" if many else path, inner, seen)


def _inner(annotation: Any, many: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, many
    origin = typing.get_origin(annotation)
    if origin is not None and origin is not typing.Literal:
        for part in typing.get_args(annotation):
            yield from _inner(part, many or origin is dict)


def _type(annotation: Any) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    if origin is dict:
        return f"mapping of names to {_type(parts[1])}"
    if origin in (tuple, list):
        inner = dict.fromkeys(_type(part) for part in parts if part is not Ellipsis)
        count = "" if Ellipsis in parts or origin is list else f"{len(parts)} "
        return f"list of {count}{' and '.join(inner)}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Any": "any"}
    name = getattr(annotation, "__name__", str(annotation))
    return words.get(name, name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be stated"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its own"
    value = to_jsonable_python(value)
    if len(str(value)) > LONGEST:
        return ", ".join(f"`{name}`" for name in value) if isinstance(value, dict) else "see `genview config`"
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    written = written.removesuffix("\n").removesuffix("\n...")
    return f"`{written}`".replace("|", "\\|")


def _meaning(field: FieldInfo) -> str:
    text = " ".join((field.description or "").replace("``", "`").split()).replace("|", "\\|")
    return f"{text} *Changes no result.*".strip() if RuntimeOnly in field.metadata else text
