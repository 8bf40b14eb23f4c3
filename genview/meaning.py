"""Digest of a source file's meaning: comments, docstrings, layout and the Python that reads it play no part.

The syntax trees of ``ast`` differ between versions of Python (new fields, other defaults), so the digest is of a form
of our own: kinds of nodes and the fields that they have in every version, constants by type and value. Texts that
stand alone as a statement are documentation and left out.
"""

import ast
import hashlib
from collections.abc import Iterator
from typing import Any

_LEFT_OUT = {"kind", "type_comment", "type_ignores", "ctx"}
"""Fields that some versions lack, or that say nothing of the meaning."""


def _described(node: Any) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield f"{type(node.value).__name__} {node.value!a}"
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in sorted(ast.iter_fields(node)):
            if name in _LEFT_OUT or value is None or (isinstance(value, list) and not value):
                continue
            yield name
            yield from _described(_joined(value) if isinstance(node, ast.JoinedStr) else value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            if not _is_documentation(item):
                yield from _described(item)
        yield "]"
    else:
        yield f"{type(node).__name__} {node!a}"


def _is_documentation(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """Parts of an f-string with neighbouring texts as one: versions divide them differently."""
    joined: list[ast.expr] = []
    for part in parts:
        if isinstance(part, ast.Constant) and joined and isinstance(joined[-1], ast.Constant):
            joined[-1] = ast.Constant(str(joined[-1].value) + str(part.value))
        elif not (isinstance(part, ast.Constant) and part.value == ""):
            joined.append(part)
    return joined


def digest(source: str | bytes, filename: str = "<source>") -> str:
    """SHA-256 of the meaning of Python source, in hexadecimal: equal on all versions of Python that can read it.

    Raises:
        SyntaxError: it is not Python.
    """
    tree = ast.parse(source, filename=filename)
    return hashlib.sha256("\n".join(_described(tree)).encode()).hexdigest()
