"""The effective configuration with the origin of each value, and its schema for editors."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from genview.config.base import expanded
from genview.config.load import read_yaml
from genview.config.merge import merged
from genview.config.study import Study

DEFAULT = "default"
Keys = tuple[str, ...]
Layer = tuple[str, Mapping[str, Any]]


def layers(path: str | Path) -> list[Layer]:
    """A configuration file that was read without error and those that it extends, the one extended first."""
    values = read_yaml(path)
    base = values.pop("extends", None)
    return [*(layers(expanded(base)) if base is not None else []), (str(path), values)]


def _stated(values: Any, path: Keys) -> bool:
    for step in path:
        if not isinstance(values, Mapping) or step not in values:
            return False
        values = values[step]
    return True


def origin(stack: list[Layer], path: Keys) -> str:
    """The file that states a value; runs inherit from the block ``training``, which is then named too."""
    for name, stated in reversed(stack):
        if _stated(stated, path):
            return name
    if path[0] == "runs" and len(path) > 2:
        for name, stated in reversed(stack):
            if _stated(stated, ("training", *path[2:])):
                return f"{name}, training"
    return DEFAULT


def _lines(value: Any, path: Keys, stack: list[Layer]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        if path:
            yield "  " * (len(path) - 1) + f"{_scalar(path[-1])}:", ""
        for key, inner in value.items():
            yield from _lines(inner, (*path, str(key)), stack)
    else:
        yield "  " * (len(path) - 1) + f"{_scalar(path[-1])}: {_scalar(value)}", origin(stack, path)


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def annotated(study: Study, stack: list[Layer]) -> str:
    """The effective configuration as YAML, each value with its origin as a comment."""
    lines = list(_lines(study.model_dump(mode="json"), (), stack))
    width = min(60, max(len(text) for text, _ in lines))
    return "".join(f"{text:<{width}}  # {where}\n" if where else f"{text}\n" for text, where in lines)


def schema() -> dict[str, Any]:
    """The configuration's JSON schema, for editors that complete and check YAML.

    A file that extends another states only what differs, so nothing is required here; the workflow still checks that
    the whole is complete.
    """

    def removable(node: dict[str, Any]) -> dict[str, Any]:
        """Null removes a mapping that is inherited."""
        kinds = node.get("anyOf", [node])
        is_mapping = any("$ref" in kind or kind.get("type") == "object" for kind in kinds)
        return {"anyOf": [node, {"type": "null"}]} if is_mapping else node

    def optional(node: Any) -> Any:
        if isinstance(node, dict):
            node = {key: optional(inner) for key, inner in node.items() if key != "required" or isinstance(inner, dict)}
            for where in ("properties", "patternProperties"):
                if isinstance(node.get(where), dict):
                    node[where] = {key: removable(inner) for key, inner in node[where].items()}
            return node
        return [optional(inner) for inner in node] if isinstance(node, list) else node

    result = optional(Study.model_json_schema())
    text = {"type": "string", "description": "Another configuration file, whose values hold unless stated here."}
    result["properties"] = merged(result["properties"], {"extends": text})
    result["properties"]["training"] = removable({"$ref": "#/$defs/Run"})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result}


def schema_text() -> str:
    """The schema as JSON text."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
