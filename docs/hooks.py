"""Pages that are made from the code: settings, tables, and CONTRIBUTING as a page."""

import re
from pathlib import Path

import pyarrow as pa
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from genview import tables
from genview.config import reference

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file of ``docs`` holds."""
    pages = {"settings.md": reference.text(), "tables.md": columns(), "contributing.md": contributing()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def columns() -> str:
    """Every table, each column with its type and meaning."""
    parts = ["# Every table\n\nTables are Parquet; a column is nullable where it says so.\n"]
    for name, schema in vars(tables).items():
        if isinstance(schema, pa.Schema):
            rows = [
                f"| `{field.name}` | {field.type}{', nullable' if field.nullable else ''} | "
                f"{field.metadata[b'meaning'].decode().replace('|', chr(92) + '|')} |"
                for field in schema
            ]
            parts.append(f"## {name.lower()}\n\n| column | type | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def contributing() -> str:
    """CONTRIBUTING.md without links to files that the site does not hold."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"`\1`", text)
