"""Read the imports of a package's files, for rules such as test_contract.py has."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """Hold one import: the dotted name, the line, and whether it is for type checkers only."""

    name: str
    line: int
    typing_only: bool = False


def imports_of(path: Path) -> list[Import]:
    """Return every import of a file, those inside functions and under TYPE_CHECKING included.

    `from a import b` is both a and a.b, for b may be a module.
    """
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        only = id(node) in typing_only
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path)
            found += [Import(f"{base}.{alias.name}", node.lineno, only) for alias in node.names]
            found.append(Import(base, node.lineno, only))
    return found


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    """Return the module that is imported from, a relative one by its place from the package."""
    if not node.level:
        return node.module or ""
    folder = path.parent
    for _ in range(node.level - 1):
        folder = folder.parent
    parts = []
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join([*parts, *([node.module] if node.module else [])])


def modules_of(package: Path) -> dict[str, Path]:
    """Return dotted name -> file of every module of a package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def graph_of(package: Path) -> dict[str, dict[str, int]]:
    """Return module -> imported module of the package -> line of the import.

    A name that is itself a module counts as that module and not as the package it is taken from.
    """
    modules = modules_of(package)
    graph: dict[str, dict[str, int]] = {name: {} for name in modules}
    for name, path in modules.items():
        found = [f for f in imports_of(path) if f.name in modules and f.name != name]
        for one in found:
            if not any(f.line == one.line and f.name.startswith(f"{one.name}.") for f in found):
                graph[name].setdefault(one.name, one.line)
    return graph


def cycles(graph: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            place = stack.index(module)
            if len(stack) - place > 1:
                found.append(sorted(stack[place:]))
            del stack[place:]

    for module in graph:
        if module not in index:
            visit(module)
    return found


def wing_of(module: str) -> str:
    """Return the part of the package a module belongs to; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def upward(
    graph: Mapping[str, Mapping[str, int]], order: Sequence[Sequence[str]]
) -> Iterator[tuple[str, str, int]]:
    """Yield (module, imported module, line) where an import does not point down.

    Args:
        graph: as `graph_of` returns it.
        order: the wings from the ground; those of one step do not know each other, except on the
            ground, whose parts are single files.
    """
    step = {wing: number for number, wings in enumerate(order) for wing in wings}
    for module, edges in graph.items():
        mine = wing_of(module)
        for other, line in edges.items():
            its = wing_of(other)
            down = step[its] < step[mine] or step[its] == step[mine] == 0
            if its != mine and not down:
                yield module, other, line
