"""The docs say what is there: pages made from the code, links, commands, blocks that run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.version import Version

import ditto_hub
from ditto_hub import config, pocket
from ditto_hub.cli import main

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = sorted([*(ROOT / name for name in TOP), *(ROOT / "docs").rglob("*.md")])
QUICK = {
    "warm_start.max_steps": 2,
    "sampling.samples": 2,
    "sampling.max_new_tokens": 24,
    "update.rounds": 1,
    "update.steps": 1,
    "update.pairs": 4,
    "selection.samples": 1,
    "selection.max_unfinished": 1.0,
}


def name_of(path: Path) -> str:
    """Return a page's path inside the project."""
    return path.relative_to(ROOT).as_posix()


def load_builder() -> Any:
    """Import docs/build.py."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(path: Path, language: str) -> list[str]:
    """Return a page's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text("utf-8"), re.S)


def command_lines(path: Path) -> Iterator[list[str]]:
    """Yield the words of each command line in a page's shell blocks."""
    for block in blocks(path, "sh"):
        for line in block.splitlines():
            if words := shlex.split(line, comments=True):
                yield words


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the README's Python with settings that last seconds, and return the folder it is in."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples.jsonl").write_bytes(pocket.voice_path("harbor").read_bytes())
    quickly = config.preset("pocket")
    for setting, value in QUICK.items():
        quickly = quickly.with_value(setting, value)
    plain = {k: v for k, v in quickly.to_json().items() if k in config.SECTIONS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "pocket", plain)
        patch.chdir(folder)
        exec(blocks(ROOT / "README.md", "python")[1], {})
    return folder


# ---- pages made from the code --------------------------------------------------------------------


def test_reference_is_what_the_code_says() -> None:
    """Building the reference again gives the committed pages; else run docs/build.py."""
    builder = load_builder()
    committed = {p.name: p.read_text("utf-8") for p in (ROOT / "docs/reference").glob("*.md")}
    assert builder.pages() == committed


# ---- links, commands, versions -------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a page names a file that is there."""
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_are_right(path: Path) -> None:
    """Every command line names a program's real command, target or file, with real options."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for words in command_lines(path):
        if words[0] == "accelerate":
            words = ["ditto-hub", *words[words.index("ditto_hub") + 1 :]]
        if words[0] == "ditto-hub":
            command: click.Command = main
            while isinstance(command, click.Group):
                words = words[1:]
                command = command.commands[words[0]]
            command.make_context(words[0], words[1:])
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), words
        else:
            assert words[0] == "make", words
            assert words[1] in targets, words


def test_the_two_commands_are_in_the_readme() -> None:
    """`make demo` and `make test` are said word for word, and CI runs the second."""
    lines = [" ".join(words) for words in command_lines(ROOT / "README.md")]
    assert {"make demo", "make test"} <= set(lines)
    assert "\nmake test\n" in (ROOT / ".ci/run").read_text("utf-8")


def test_the_readme_is_short() -> None:
    """Below its front matter the README has at most 140 lines."""
    body = (ROOT / "README.md").read_text("utf-8").split("\n---\n", 1)[1]
    assert body.count("\n") <= 140


def test_one_version_everywhere() -> None:
    """The changelog has a section for the version, and the citation names it."""
    version = ditto_hub.__version__
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def requirements() -> list[Requirement]:
    """Return what the package needs, for use and for development."""
    text = (ROOT / "requirements.txt").read_text("utf-8")
    lines = re.findall(r"^[a-z].*$", text, re.M)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for group in extras["optional-dependencies"].values():
        lines += group
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("wanted", requirements(), ids=lambda r: r.name)
def test_requirements_have_both_bounds(wanted: Requirement) -> None:
    """Every requirement has a lower bound that was tried and an upper one, and no exact pin."""
    assert {s.operator for s in wanted.specifier} == {">=", "<"}


def test_constraints_are_within_the_requirements() -> None:
    """Each requirement has a tested version in .github/constraints.txt, inside its bounds."""
    text = (ROOT / ".github/constraints.txt").read_text("utf-8")
    pins = dict(line.lower().replace("_", "-").split("==") for line in text.splitlines()
                if "==" in line and line[0] != "#")  # fmt: skip
    for wanted in requirements():
        if wanted.name in pins:
            assert Version(pins[wanted.name]) in wanted.specifier, wanted


# ---- blocks that run -----------------------------------------------------------------------------


def test_loading_blocks_run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that load an adapter, merge it and save the result run as they are."""
    monkeypatch.chdir(trained)
    names: dict[str, Any] = {"base": str(pocket.path()), "adapter": "my-run/adapter"}
    readme, _ = blocks(ROOT / "README.md", "python")
    for block in (readme, *blocks(ROOT / "docs/how-to/loading.md", "python")):
        exec(block, names)
    assert (trained / "merged/model.safetensors").is_file()


def test_the_tutorial_runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tutorial does with a run works, and the run folder is as the reference says."""
    monkeypatch.chdir(trained)
    for words in command_lines(ROOT / "docs/tutorial.md"):
        online = words[1] == "publish" and "--dry-run" not in words
        if words[0] != "ditto-hub" or words[1] in ("pick", "train", "resume") or online:
            continue
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, (words, result.output)
    known = [re.sub(r"NAME|T(?=\.jsonl)", "*", p) for p in load_builder().TREE]
    patterns = [p + "*" if p.endswith("/") else p for p in [*known, "rollouts/sft-long.jsonl"]]
    for path in (trained / "my-run").rglob("*"):
        inside = path.relative_to(trained / "my-run").as_posix()
        assert path.is_dir() or any(fnmatch(inside, p) for p in patterns), inside
