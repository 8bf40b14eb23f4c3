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

HARNESS = frozenset(f"genview.{name}" for name in ("stage", "process", "progress", "shared_gpus", "usage", "loading"))
"""How a job runs (log, notes, signals, loaders): what it computes does not hang on it; left out of every closure."""

DATA_SUFFIXES = (".json", ".txt", ".csv", ".html", ".css", ".yaml")
"""Files beside a module that count as its code where it names them; weights are bound by their own digests."""

MEANINGS = "meanings.json"
"""In a study's folder of code: what each source file says, kept by `Code`."""


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


def _imports(tree: ast.Module) -> Iterator[str]:
    """Modules of ours that a file imports, and names that it imports from them, which may be modules, too."""
    for node in _statements(tree.body):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in found if name.split(".")[0] in ROOTS)


def _texts(tree: ast.Module, source: str) -> Iterator[str]:
    """Constant texts of a file that may name a module or a data file."""
    if PACKAGE.name not in source and not any(suffix in source for suffix in DATA_SUFFIXES) and "Path(" not in source:
        return
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if 0 < len(text) < 80 and not text.startswith(("/", ".", "~")) and not {"\0", "\n"} & set(text):
            yield text


def _read(source: bytes, path: Path) -> dict[str, Any]:
    """What a Python file says, whatever lies beside it: its meaning's digest, `_imports` and `_texts`."""
    tree, text = ast.parse(source, filename=str(path)), source.decode("utf-8")
    return {
        "meaning": meaning.digest(source, str(path)),
        "imports": sorted(set(_imports(tree))),
        "texts": sorted(set(_texts(tree, text))),
    }


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


class Code:
    """The code that scripts and modules run. What each file says is kept by its content: to read all takes a second.

    Attributes:
        kept: where that is kept; None: in memory alone.
    """

    def __init__(self, kept: Path | None = None):
        self.kept = kept
        self._known: dict[str, dict[str, Any]] = {}
        self._named: dict[Path, tuple[frozenset[str], frozenset[Path]]] = {}
        self._new = False
        if kept and kept.is_file():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                found = json.loads(kept.read_text(encoding="utf-8"))
                self._known = {content: said for content, said in found.items() if isinstance(said, dict)}

    def _said(self, path: Path) -> dict[str, Any]:
        content = _sha256(str(path))
        if content not in self._known:
            self._known[content] = _read(path.read_bytes(), path)
            self._new = True
        return self._known[content]

    def digest(self, path: str | Path) -> str:
        """Of a Python file its meaning's digest, of any other that of its bytes."""
        return self._said(Path(path))["meaning"] if Path(path).suffix == ".py" else _sha256(str(path))

    def named(self, path: Path) -> tuple[frozenset[str], frozenset[Path]]:
        """What one source file names: modules of the package (imported, or started with ``-m``), and data files."""
        if path not in self._named:
            said = self._said(path)
            modules, data = {name for name in said["imports"] if _module_file(name)}, set()
            for text in said["texts"]:
                if not _MODULE.fullmatch(text):
                    data |= _data_files(path.parent / text)
                # The name of a package in a text is how a process of it is started; `-m` runs its `__main__`.
                elif _module_file(f"{text}.__main__"):
                    modules.add(f"{text}.__main__")
            self._named[path] = frozenset(modules), frozenset(data)
        return self._named[path]

    def sources(self, *starts: str) -> list[str]:
        """Paths of all files that running ``starts`` would read of the package, and of the starting scripts, sorted.

        Args:
            starts: modules of the package by name; scripts by path, ending in ``.py``; other files by path, taken as
                they are.

        Raises:
            ModuleNotFoundError: a module is not part of the package.
        """
        files: set[Path] = set()
        pending, closure = [], set()
        for start in starts:
            if start.endswith(".py"):
                modules, data = self.named(Path(start))
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
            modules, data = self.named(path)
            files |= {path, *data}
            pending.extend(module.rsplit(".", level)[0] for level in range(1, module.count(".") + 1))
            pending.extend(modules)
        return sorted(map(str, files))

    def files(self, *starts: str) -> dict[str, str]:
        """Digests of what ``starts`` run (see `sources`), by path relative to the package's parent."""
        return {_name(path): self.digest(path) for path in self.sources(*starts)}

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
