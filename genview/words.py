"""What messages have in common: lists that are cut, the nearest name, what differs between two settings."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def listed(names: Sequence[Any], shown: int = 12, total: int | None = None) -> str:
    """``a, b, c and 3 more``; ``total`` says how many there are where not all are named."""
    rest = (len(names) if total is None else total) - min(shown, len(names))
    return ", ".join(map(str, names[:shown])) + (f" and {rest} more" if rest else "")


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean ...?``, or nothing where no name is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def differences(first: Any, second: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Where two nested mappings differ: ``block.key``, and both values.

    A mapping that one side lacks is told as a whole; what is not there is None.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return [
            difference
            for key in {**first, **second}
            for difference in differences(first.get(key), second.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if first == second else [(path, first, second)]
