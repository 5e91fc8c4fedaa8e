"""What the package says in English: its sentences with their values left open, from the source.

A sentence is what an error, a finding or a note is made with: a text, an f-string, texts joined by
`+` or chosen by `if`, directly or through a local name. A value is `{0}`, `{1}` ... in order.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ditto_hub"
SAID_BY = ("Finding", "DittoError", "Check")
# What no page shows: the command line's own, and tools that make the package.
NOT_SHOWN = (
    "cli/", "pocket/pretrain", "pocket/measure", "pocket/persona", "evaluation/studio",
    "hub/deploy", "hub/space", "__main__", "__init__", "profiles",
)  # fmt: skip


def sentences() -> dict[str, set[str]]:
    """Return every sentence -> the modules that say it."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(NOT_SHOWN):
            for text in _of_module(ast.parse(path.read_text("utf-8"))):
                found.setdefault(text, set()).add(name)
    return found


def _of_module(tree: ast.Module) -> Iterator[str]:
    for scope in ast.walk(tree):
        if isinstance(scope, (ast.FunctionDef, ast.Module)):
            yield from _of_scope(scope)


def _of_scope(scope: ast.FunctionDef | ast.Module) -> Iterator[str]:
    local = list(_local(scope))
    names: dict[str, list[ast.expr]] = {}
    for node in local:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names.setdefault(node.targets[0].id, []).append(node.value)
    for node in local:
        if isinstance(node, ast.Call) and _says(node):
            for given in [*node.args, *(k.value for k in node.keywords)]:
                for text in _texts(given, names):
                    if " " in text.strip() and text.strip("{}0123456789 .,:;"):
                        yield text


def _local(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield what stands in a scope and in no function inside it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from _local(child)


def _says(call: ast.Call) -> bool:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name in SAID_BY or (name.endswith("Error") and name[0].isupper())


def _texts(node: ast.expr, names: dict[str, list[ast.expr]], depth: int = 0) -> Iterator[str]:
    """Yield the texts that an expression may have, values left open, numbered anew in each."""
    for parts in _parts(node, names, depth):
        count = iter(range(99))
        yield "".join(f"{{{next(count)}}}" if part is None else part for part in parts)


def _parts(
    node: ast.expr, names: dict[str, list[ast.expr]], depth: int
) -> Iterator[list[str | None]]:
    """Yield texts in parts; None stands for a value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield [node.value]
    elif isinstance(node, ast.JoinedStr):
        yield [str(part.value) if isinstance(part, ast.Constant) else None for part in node.values]
    elif isinstance(node, ast.IfExp):
        yield from _parts(node.body, names, depth)
        yield from _parts(node.orelse, names, depth)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in _parts(node.left, names, depth):
            for right in _parts(node.right, names, depth):
                yield [*left, *right]
    elif isinstance(node, ast.Name) and depth == 0:
        for value in names.get(node.id, []):
            yield from _parts(value, names, 1)
