"""What holds for the package as a whole: levels, doors, heavy imports, public names, README."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ditto_hub

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ditto_hub"
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))

# DESIGN: imports point down only.
LEVELS = {
    "errors": 0, "config": 0, "demos": 0, "importers": 0, "events": 0, "hardware": 0,
    "languages": 0, "personal": 0, "advice": 0, "progress": 0, "profiles": 0, "lease_words": 0,
    "devices": 0, "shapes": 0, "roofline": 0, "budget": 0,
    "storage": 1, "caps": 1, "runs": 1, "jobs": 1, "results": 1, "regimes": 1,
    "algorithm": 1, "pocket": 1,
    "evaluation": 2, "hub": 2, "backends": 2,
    "api": 3,
    "cli": 4, "ui": 4, "terminal": 4, "__main__": 5, "__init__": 5,
}  # fmt: skip
STRANGERS = [{"evaluation", "hub"}, {"evaluation", "backends"}, {"hub", "backends"}]

# Which part of the package may import which library.
DOORS = {
    "torch": {"algorithm"},
    "transformers": {"algorithm"},
    "peft": {"algorithm"},
    "trl": {"algorithm"},
    "accelerate": {"algorithm"},
    "datasets": {"algorithm"},
    "gradio": {"ui"},
    "spaces": {"backends/zerogpu.py"},
    "sklearn": {"evaluation"},
    "matplotlib": {"evaluation"},
    "pyarrow": {"importers"},
    "click": {"cli", "terminal.py"},
}
# Exceptions, each with its reason.
EXCEPTIONS = {
    ("pocket/pretrain.py", "torch"): "makes the embedded base model",
    ("pocket/pretrain.py", "transformers"): "makes the embedded base model",
    ("pocket/measure.py", "torch"): "measures the embedded base model",
    ("pocket/measure.py", "transformers"): "measures the embedded base model",
    ("hub/loadback_script.py", "torch"): "runs alone in a fresh process",
    ("hub/loadback_script.py", "transformers"): "runs alone in a fresh process",
    ("hub/loadback_script.py", "peft"): "runs alone in a fresh process",
    ("hub/architectures.py", "peft"): "asks PEFT which architectures it knows",
    ("hub/architectures.py", "transformers"): "asks transformers which architectures it knows",
    ("hub/plot.py", "matplotlib"): "the card's plot; hub may not import evaluate",
}


def imports_of(path: Path) -> set[str]:
    """Return every module a file imports, those inside functions too, but not for typing alone."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part_of(path: Path) -> str:
    """Return the top-level part of the package a file belongs to."""
    inside = path.relative_to(PACKAGE).parts
    return inside[0].removesuffix(".py")


def name_of(path: Path) -> str:
    """Return a file's name inside the package."""
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """A module imports its own level or a lower one, and no stranger at its side."""
    mine = part_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "ditto_hub" or len(parts) < 2 or parts[1] not in LEVELS:
            continue
        assert LEVELS[parts[1]] <= LEVELS[mine], f"{name_of(path)} imports {name}"
        assert {mine, parts[1]} not in STRANGERS, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_has_one_door(path: Path) -> None:
    """A library is imported where its door is, save for the exceptions with a reason."""
    for name in {module.split(".")[0] for module in imports_of(path)}:
        allowed = DOORS.get(name)
        if allowed is None or part_of(path) in allowed or name_of(path) in allowed:
            continue
        assert (name_of(path), name) in EXCEPTIONS, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_that_trains_sees_the_grammars_judge(path: Path) -> None:
    """Training, sampling and selection never import the judge or the traits it knows."""
    if part_of(path) in ("algorithm", "backends"):
        assert not any("judge" in name or "persona" in name for name in imports_of(path))


def test_importing_the_package_is_light() -> None:
    """`import ditto_hub` and its api load neither torch nor gradio nor the Hub's client."""
    code = (
        "import sys, json, ditto_hub, ditto_hub.api, ditto_hub.cli;"
        "print(json.dumps([m for m in ('torch', 'transformers', 'trl', 'peft', 'gradio',"
        " 'huggingface_hub', 'sklearn', 'matplotlib', 'numpy') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []


@pytest.mark.parametrize("name", ditto_hub.__all__)
def test_public_names_are_there(name: str) -> None:
    """Every public name can be imported and is documented."""
    assert getattr(ditto_hub, name).__doc__


@pytest.mark.parametrize(
    "command",
    ["", "check", "pick", "settings", "estimate", "deploy", "train", "resume", "generate",
     "evaluate", "publish",
     "runs", "runs list", "runs show", "runs cancel", "runs keep", "runs kept",
     "runs restore", "runs delete"],
)  # fmt: skip
def test_every_command_has_help(command: str) -> None:
    """`--help` answers for every command, without loading torch."""
    from click.testing import CliRunner

    from ditto_hub.cli import main

    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


def test_readme_names_real_commands() -> None:
    """Every `ditto-hub` line of the README names a command and options that exist."""
    from ditto_hub.cli import main

    text = (ROOT / "README.md").read_text("utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if not words or words[0] != "ditto-hub":
                continue
            command = main.commands[words[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line


def test_readme_python_blocks_compile() -> None:
    """Every Python block of the README is sound syntax and imports names that exist."""
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    for block in blocks:
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "ditto_hub":
                assert hasattr(ditto_hub, node.attr), node.attr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_print_and_no_pickle(path: Path) -> None:
    """Only the command line prints; nothing reads or writes a pickle or trusts remote code."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    calls = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    alone = name_of(path) in ("hub/loadback_script.py", "pocket/pretrain.py", "pocket/measure.py")
    assert alone or "print" not in calls
    assert "pickle" not in {m.split(".")[0] for m in imports_of(path)}
    assert "trust_remote_code=True" not in text
