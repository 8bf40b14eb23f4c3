"""What an artifact was made from: digests of parameters, files and code.

A stage's code is the import closure of its module inside the package. It is found by reading the source, without
importing anything, so that the workflow can list it in a second on a machine without torch.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from genview import atomic

PACKAGE = Path(__file__).parent

ROOTS = (PACKAGE.name, "recipes")
"""Top-level packages whose code is read."""


def digest(value: Any) -> str:
    """SHA-256, first 16 hexadecimal digits, of any value that JSON can hold (keys sorted)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in full."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_sha256 = cache(file_sha256)


def _module_file(module: str) -> Path | None:
    base = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements, in the order of the file; expressions, of which there are ten times as many, are passed over."""
    for statement in body:
        yield statement
        for name in ("body", "orelse", "handlers", "cases", "finalbody"):
            yield from _statements(getattr(statement, name, ()))


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules of the package that one module names in its import statements."""
    path = _module_file(module)
    found: set[str] = set()
    for node in _statements(ast.parse(path.read_bytes(), filename=str(path)).body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(name for name in found if name.split(".")[0] in ROOTS and _module_file(name))


@cache
def sources(*modules: str) -> tuple[str, ...]:
    """Paths of all files of the package that importing ``modules`` would run, sorted.

    Raises:
        ModuleNotFoundError: a module is not part of the package.
    """
    pending, closure = list(modules), set()
    while pending:
        module = pending.pop()
        if module in closure:
            continue
        if _module_file(module) is None:
            raise ModuleNotFoundError(f"{module} is not a module of {PACKAGE.name}")
        closure.add(module)
        parents = [module.rsplit(".", level)[0] for level in range(1, module.count(".") + 1)]
        pending.extend(parents)
        pending.extend(_imports(module))
    return tuple(sorted(str(_module_file(module)) for module in closure))


def code_digest(*modules: str) -> str:
    """Digest of the code that ``modules`` run: the bytes of their import closure inside the package."""
    entries = [(Path(path).relative_to(PACKAGE).as_posix(), file_sha256(path)) for path in sources(*modules)]
    return digest(entries)


def code_files(modules: Iterable[str], scripts: Iterable[str | Path] = ()) -> dict[str, str]:
    """Digests of the files that ``modules`` run, and of further ``scripts``, by path."""
    files = {Path(file).relative_to(PACKAGE.parent).as_posix(): file for file in sources(*modules)}
    return {name: _sha256(file) for name, file in (files | {str(script): script for script in scripts}).items()}


def record(folder: str | Path, content: Any) -> str:
    """Path of a file that holds settings or digests of code; other content is another file, written once.

    A workflow takes it as the input that stands for them. Unlike a workflow's own notes it is older than what was made
    with them, and newer than what had been made before with others, whoever made it and whatever noted it; and looking
    at others and going back changes nothing.

    Args:
        folder: where the records of one rule, or of one run or view of it, are.
        content: anything JSON can hold.

    Raises:
        GenviewError: the folder cannot be written.
    """
    path = Path(folder) / f"{digest(content)}.json"
    if not path.is_file():
        atomic.write_json(path, content)
    return str(path)


def combined_file_digest(paths: Iterable[str | Path]) -> str:
    """Digest of several files' contents, in the order given; names and times play no part."""
    return digest([file_sha256(path) for path in paths])
