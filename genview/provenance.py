"""What an artifact was made from: digests of parameters, files and code.

A stage's code is what its script imports inside the package, the entry points that it starts with ``-m``, and the data
files that these modules name. It is found by reading the source, without importing anything, so that the workflow can
list it in a second on a machine without torch.
"""

import ast
import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from genview import atomic, home, meaning
from genview.errors import GenviewError

PACKAGE = Path(__file__).parent

ROOTS = (PACKAGE.name, "recipes")
"""Top-level packages whose code is read."""

_MODULE = re.compile(rf"{PACKAGE.name}(\.[A-Za-z_]\w*)+")
"""A text that names a package of ours, and not the beginning of such a name (of an f-string, say)."""

HARNESS = frozenset(f"genview.{name}" for name in ("stage", "process", "progress", "shared_gpus"))
"""How a job runs (log, notes, signals): what it computes does not hang on it, and it is left out of every closure."""

DATA_SUFFIXES = (".json", ".txt", ".csv", ".html", ".css", ".yaml")
"""Files beside a module that count as its code where it names them; weights are bound by their own digests."""


def digest(value: Any) -> str:
    """SHA-256, first 16 hexadecimal digits, of any value that JSON can hold (keys sorted)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in full."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_file_digest(paths: Iterable[str | Path]) -> str:
    """Digest of several files' contents, in the order given; names and times play no part."""
    return digest([file_sha256(path) for path in paths])


@cache
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


def _texts(source: str) -> Iterator[str]:
    """Constant texts of a file that may name a module or a data file."""
    if PACKAGE.name not in source and not any(suffix in source for suffix in DATA_SUFFIXES) and "Path(" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 80:
            yield node.value


@cache
def _named(path: Path) -> tuple[frozenset[str], frozenset[Path]]:
    """What one source file names: modules of the package (imported, or started with ``-m``), and data files."""
    source = path.read_text(encoding="utf-8")
    found: set[str] = set()
    for node in _statements(ast.parse(source, filename=str(path)).body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    modules = {name for name in found if name.split(".")[0] in ROOTS and _module_file(name)}
    data: set[Path] = set()
    for text in _texts(source):
        if _MODULE.fullmatch(text):
            # The name of a package in a text is how a process of it is started; `-m` runs its `__main__`.
            modules |= {text} if _module_file(f"{text}.__main__") and _module_file(text) else set()
            modules |= {f"{text}.__main__"} if _module_file(f"{text}.__main__") else set()
        elif "\0" not in text and "\n" not in text and not text.startswith(("/", ".", "~")):
            data |= _data_files(path.parent / text)
    return frozenset(modules), frozenset(data)


def _data_files(place: Path) -> set[Path]:
    """A data file, or the data files of a folder that holds nothing else."""
    try:
        if place.is_file():
            return {place} if place.suffix in DATA_SUFFIXES else set()
        if not place.is_dir() or place.name == "":
            return set()
        inside = list(place.iterdir())
    except (OSError, ValueError):
        return set()
    if any(item.is_dir() or item.suffix == ".py" for item in inside):
        return set()
    return {item for item in inside if item.suffix in DATA_SUFFIXES}


@cache
def sources(*starts: str) -> tuple[str, ...]:
    """Paths of all files that running ``starts`` would read of the package, and of the starting scripts, sorted.

    Args:
        starts: modules of the package by name; scripts by path, ending in ``.py``; other files by path, taken as they
            are.

    Raises:
        ModuleNotFoundError: a module is not part of the package.
    """
    files: set[Path] = set()
    pending, closure = [], set()
    for start in starts:
        if start.endswith(".py"):
            modules, data = _named(Path(start))
            files |= {Path(start), *data}
            pending.extend(modules)
        elif "/" in start:
            files.add(Path(start))
        else:
            pending.append(start)
    while pending:
        module = pending.pop()
        if module in closure or module in HARNESS:
            continue
        path = _module_file(module)
        if path is None:
            raise ModuleNotFoundError(f"{module} is not a module of {PACKAGE.name}")
        closure.add(module)
        modules, data = _named(path)
        files |= {path, *data}
        pending.extend(module.rsplit(".", level)[0] for level in range(1, module.count(".") + 1))
        pending.extend(modules)
    return tuple(sorted(map(str, files)))


class Code:
    """Digests of source files by meaning, kept by content in a file: to read all of them takes a second.

    Attributes:
        kept: where digests are kept; None: nowhere.
    """

    def __init__(self, kept: Path | None = None):
        self.kept = kept
        self._known: dict[str, str] = {}
        self._new = False
        if kept and kept.is_file():
            try:
                self._known = json.loads(kept.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                self._known = {}

    def digest(self, path: str | Path) -> str:
        """Of a Python file its meaning's digest, of any other that of its bytes."""
        content = _sha256(str(path))
        if Path(path).suffix != ".py":
            return content
        if content not in self._known:
            self._known[content] = meaning.digest(Path(path).read_bytes(), str(path))
            self._new = True
        return self._known[content]

    def files(self, *starts: str) -> dict[str, str]:
        """Digests of what ``starts`` run (see `sources`), by path relative to the package's parent."""
        return {_name(path): self.digest(path) for path in sources(*starts)}

    def keep(self) -> None:
        """Write what was found out, if anything was and the disk takes it: it only saves time."""
        if self.kept and self._new:
            with contextlib.suppress(GenviewError, OSError):
                atomic.write_json(self.kept, self._known)
            self._new = False


@cache
def _sha256(path: str) -> str:
    return file_sha256(path)


def _name(path: str) -> str:
    """A file's name in records: as in the repository, wherever package and workflow are installed."""
    for root in (home.HOME, PACKAGE.parent):
        if Path(path).resolve().is_relative_to(root.resolve()):
            return Path(path).resolve().relative_to(root.resolve()).as_posix()
    return Path(path).name


def code_digest(*starts: str) -> str:
    """Digest of the code that ``starts`` run, by meaning."""
    return digest(Code().files(*starts))


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
