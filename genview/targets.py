"""What a study can be asked for by path, and what to say of a path that it does not have."""

import re
from collections.abc import Iterable, Mapping

from genview.words import listed, nearest

_WILDCARD = re.compile(r"\{(\w+)[^{}]*\}")


def _names(segment: str, values: Mapping[str, Iterable[str]]) -> list[str]:
    """What a segment of a pattern can be: its one wildcard replaced by each of its values."""
    found = _WILDCARD.search(segment)
    if not found:
        return [segment]
    return [segment[: found.start()] + value + segment[found.end() :] for value in values.get(found[1], ())]


def explain(target: str, patterns: Iterable[str], values: Mapping[str, Iterable[str]]) -> str | None:
    """Why a study does not have a path; None if it has.

    Args:
        target: the path that was asked for, or the name of a stage.
        patterns: paths of all artifacts, with wildcards such as ``{run}``, and names of stages. A wildcard without
            values fits nothing.
        values: what each wildcard can be, in this study.

    Returns:
        A sentence that names the part of the path that is wrong, the nearest name, and what there is.
    """
    parts = target.split("/")
    left = [pattern.split("/") for pattern in patterns]
    for depth, part in enumerate(parts):
        before = "/".join(parts[:depth])
        left = [pattern for pattern in left if len(pattern) > depth]
        if not left:
            return f"{target}: {before} is one artifact; ask for it as a whole"
        possible = [(pattern, _names(pattern[depth], values)) for pattern in left]
        fitting = [pattern for pattern, names in possible if part in names]
        if not fitting:
            # Paths that go on as the one asked for: where a run is expected, no file that stands beside the runs.
            alike = [item for item in possible if len(item[0]) == len(parts)] or possible
            kinds = {kind for pattern, _ in alike for kind in _WILDCARD.findall(pattern[depth])}
            kind = kinds.pop() if len(kinds) == 1 else ("file or folder" if before else "stage or file")
            names = sorted({name for _, names in alike for name in names}, key=lambda name: (len(name), name))
            where = f" in {before}" if before else ""
            end = "" if (hint := nearest(part, names)) else "."
            there = f"{listed(names)} (another study needs its --configfile)" if kind == "study" else listed(names)
            return f"{target}: there is no {kind} {part!r}{where}{hint}{end} There are: {there}"
        left = fitting
    if any(len(pattern) == len(parts) for pattern in left):
        return None
    names = sorted({name for pattern in left for name in _names(pattern[len(parts)], values)})
    return f"{target} is a folder; ask for what is in it: {listed(names)}"
