"""One mapping of settings over another: what `extends`, the block `training`, and the methods' recipes do."""

from typing import Any


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``, mapping by mapping; null removes a mapping of ``base``.

    A run's choice of views replaces the inherited one as a whole: it is one decision, not several. So does another
    method than the inherited one: its settings are not those of the other.
    """
    result = dict(base)
    for key, value in over.items():
        inherited = result.get(key)
        if key == "method" and value is not None:
            result[key] = _method(inherited, value)
        elif (isinstance(inherited, dict) or key == "method") and value is None:
            result.pop(key, None)
        elif isinstance(inherited, dict) and isinstance(value, dict) and not _choice_of_views(key, inherited):
            result[key] = merged(inherited, value)
        else:
            result[key] = value
    return result


def _choice_of_views(key: str, inherited: dict[str, Any]) -> bool:
    return key == "views" and not any(isinstance(value, dict) for value in inherited.values())


def _method(inherited: Any, value: Any) -> Any:
    """A method's block, or its short form, over an inherited one."""
    if isinstance(inherited, str):
        inherited = {"name": inherited}
    block = {"name": value} if isinstance(value, str) else value
    if not isinstance(inherited, dict) or not isinstance(block, dict):
        return value
    another = "name" in block and block["name"] != inherited.get("name", "genviewpp")
    return block if another else merged(inherited, block)
