"""What holds for the package as a whole: order, doors, no cycle, public names, README."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from import_rules import cycles, graph_of, imports_of, modules_of, upward, wing_of

import ditto_hub

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ditto_hub"
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))

# From the ground; wings on one line do not know each other, except on the ground.
ORDER = (
    ("errors", "events", "config", "dials", "presets", "words", "validation", "version", "tokens"),
    ("demos", "pocket"),
    ("runs",),
    ("cost",),
    ("engine",),
    ("ditto",),
    ("evaluation", "backends"),
    ("hub",),
    ("api",),
    ("cli", "ui"),
    ("", "__main__"),
)
# What the command line and the app read below api: plain records, nothing that computes.
RECORDS = {*ORDER[0], "demos", "runs", "cost"}

# Each library -> the wings, folders or files that may import it.
DOORS = {
    "torch": {"engine", "ditto/losses.py", "ditto/update.py", "ditto/state.py"},
    "transformers": {"engine"},
    "peft": {"engine"},
    "accelerate": {"engine"},
    "trl": {"engine/plain.py", "ditto/rivals.py"},
    "datasets": {"engine/plain.py", "ditto/rivals.py"},
    "bitsandbytes": {"engine"},
    "gguf": {"engine"},
    "gradio": {"ui"},
    "spaces": {"backends/zerogpu"},
    "sklearn": {"evaluation", "hub/publishing"},
    "scipy": {"evaluation", "hub/publishing"},
    "matplotlib": {"evaluation", "hub/publishing"},
    "pyarrow": {"demos"},
    "click": {"cli"},
    "jinja2": {"hub/publishing"},
    "platformdirs": {"runs/folder.py"},
    "pydantic_core": {"validation.py"},
    "pydantic": {"validation.py"},
}
ALONE = "runs alone in a fresh process"
ASKS = "asks the library which architectures it knows"
POCKET = "makes and measures the embedded base model"
DOOR_EXCEPTIONS = {
    ("ditto/warm_start.py", "torch"): "the optimiser's steps of the supervised stage",
    ("ditto/optimizer.py", "torch"): "optimiser and schedule are torch's",
    ("ditto/calibration.py", "torch"): "waits for the device before it reads a clock",
    ("engine/chat.py", "jinja2"): "catches what a chat template raises",
    ("pocket/pretrain.py", "torch"): POCKET,
    ("pocket/pretrain.py", "transformers"): POCKET,
    ("pocket/measure.py", "torch"): POCKET,
    ("pocket/measure.py", "transformers"): POCKET,
    ("hub/publishing/loadback_script.py", "torch"): ALONE,
    ("hub/publishing/loadback_script.py", "transformers"): ALONE,
    ("hub/publishing/loadback_script.py", "peft"): ALONE,
    ("hub/architectures.py", "peft"): ASKS,
    ("hub/architectures.py", "transformers"): ASKS,
}
# (importing file, imported module) -> why it may.
ORDER_EXCEPTIONS = {
    ("cli/app.py", "ditto_hub.ui.app"): "the command that serves the app",
    ("ui/html/cards.py", "ditto_hub.pocket"): "reads the shipped examples",
}
WRITES = re.compile(
    r"\b(create_repo|delete_repo|create_commit|upload_(file|folder|large_folder)|update_repo_\w+"
    r"|delete_(file|folder|files)|add_space_\w+|run_job|run_uv_job|cancel_job_on_hub)\b"
)


def name_of(path: Path) -> str:
    """Return a file's name inside the package."""
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the top-level part of the package a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.fixture(scope="module")
def graph() -> dict[str, dict[str, int]]:
    """Return which file of the package imports which."""
    return graph_of(PACKAGE)


def file_of(module: str) -> str:
    """Return the name of a module's file inside the package."""
    return name_of(modules_of(PACKAGE)[module])


def test_imports_point_down(graph: dict[str, dict[str, int]]) -> None:
    """A file imports its own wing or a lower one, and no wing at its side."""
    wrong = [
        f"{file_of(module)}:{line} imports {other}"
        for module, other, line in upward(graph, ORDER)
        if (file_of(module), other) not in ORDER_EXCEPTIONS
    ]
    assert wrong == []


def test_command_line_and_app_read_only_records_below_api(graph: dict[str, dict[str, int]]) -> None:
    """cli/ and ui/ import api, and below it only records."""
    wrong = [
        f"{file_of(module)}:{line} imports {other}"
        for module, edges in graph.items()
        if wing_of(module) in ("cli", "ui")
        for other, line in edges.items()
        if wing_of(other) not in RECORDS | {"api", wing_of(module)}
        and (file_of(module), other) not in ORDER_EXCEPTIONS
    ]
    assert wrong == []


def test_no_two_files_import_each_other(graph: dict[str, dict[str, int]]) -> None:
    """The graph of files has no cycle, imports for type checkers and inside functions counted."""
    assert cycles(graph) == []


def test_every_order_exception_is_needed(graph: dict[str, dict[str, int]]) -> None:
    """An exception whose import has gone is deleted from the list."""
    real = {(file_of(module), other) for module, edges in graph.items() for other in edges}
    assert set(ORDER_EXCEPTIONS) <= real


def planted(folder: Path, **files: str) -> Path:
    """Write a package whose modules have the given content; `__` in a name is a folder."""
    package = folder / "made"
    for name, text in {"__init__": "", **files}.items():
        path = package / f"{name if name == '__init__' else name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return package


@pytest.mark.parametrize(
    "text",
    [
        "from made.low.a import x",
        "from made.low import a",
        "import made.low.a",
        "from .a import x",
        "def f():\n    from made.low import a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.low.a import x",
    ],
)
def test_a_planted_cycle_is_found(tmp_path: Path, text: str) -> None:
    """Whichever way two files import each other, the checker says which two."""
    package = planted(tmp_path, low__a="from made.low.b import y", low__b=text)
    assert cycles(graph_of(package)) == [["made.low.a", "made.low.b"]]


def test_a_planted_upward_import_is_found(tmp_path: Path) -> None:
    """An import that points up is named with its line; one that points down is none."""
    package = planted(
        tmp_path,
        low__a="\ndef f():\n    import made.high.b",
        high__b="import made.low.c",
        low__c="",
    )
    found = list(upward(graph_of(package), (("ground",), ("low",), ("high",), ("",))))
    assert found == [("made.low.a", "made.high.b", 3)]


def test_planted_strangers_are_found(tmp_path: Path) -> None:
    """Two wings of one step may not know each other."""
    package = planted(tmp_path, left__a="import made.right.b", right__b="")
    found = list(upward(graph_of(package), (("ground",), ("left", "right"), ("",))))
    assert found == [("made.left.a", "made.right.b", 1)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_has_one_door(path: Path) -> None:
    """A library is imported where its door is, save for the exceptions with a reason."""
    name = name_of(path)
    for library in {f.name.split(".")[0] for f in imports_of(path) if not f.typing_only}:
        doors = DOORS.get(library)
        if doors is None or any(name == d or name.startswith(f"{d}/") for d in doors):
            continue
        assert (name, library) in DOOR_EXCEPTIONS, f"{name} imports {library}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_hubs_wing_writes_to_it(path: Path) -> None:
    """No file outside hub/ names a call of huggingface_hub that changes something on the Hub."""
    imported = {f.name.rpartition(".")[2] for f in imports_of(path) if "huggingface_hub" in f.name}
    if part_of(path) != "hub" and "huggingface_hub" in {f.name for f in imports_of(path)}:
        assert not WRITES.search(path.read_text("utf-8"))
        assert "HfApi" not in imported


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_that_trains_sees_the_grammars_judge(path: Path) -> None:
    """Training, sampling and selection never import the judge or the traits it knows."""
    if part_of(path) in ("engine", "ditto", "backends"):
        assert not any("judge" in f.name or "persona" in f.name for f in imports_of(path))


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
    """Every public name is listed by `dir`, can be imported, and is documented."""
    assert name in dir(ditto_hub)
    assert getattr(ditto_hub, name).__doc__


def test_type_checkers_see_what_is_there() -> None:
    """The names imported for type checkers are the public ones, from the modules that have them."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    told = {n: f"ditto_hub.{home.partition(':')[0]}" for n, home in ditto_hub._HOMES.items()}
    assert typed == told
    assert {*typed, "__version__"} == set(ditto_hub.__all__)
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize(
    "command",
    ["", "check", "pick", "settings", "estimate", "deploy", "train", "resume", "generate",
     "evaluate", "export", "pairs", "publish",
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
    alone = name_of(path) in (
        "hub/publishing/loadback_script.py",
        "pocket/pretrain.py",
        "pocket/measure.py",
    )
    assert alone or "print" not in calls
    assert "pickle" not in {f.name.split(".")[0] for f in imports_of(path)}
    assert "trust_remote_code=True" not in text
