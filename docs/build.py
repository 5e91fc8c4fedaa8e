"""Write the reference pages from the code.

python docs/build.py      # rewrites docs/reference/; a test fails where that was forgotten
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import ditto_hub
from ditto_hub import api, config, events
from ditto_hub.cli import main
from ditto_hub.demos.demonstrations import Demonstration
from ditto_hub.runs.folder import RunRecord

FOLDER = Path(__file__).parent / "reference"
WIDTH = 96
HEAD = "<!-- Written by docs/build.py; change the code, then run it again. -->\n"
SECTIONS = ("Args", "Returns", "Raises", "Yields", "Source")
# What the functions of the public API return and no public name defines.
RETURNED = ("Voice",)
# A run folder, a path and what is there; tests/test_docs.py compares it with a real one.
TREE = {
    "run.json": "the record: see below",
    "demos.jsonl": "the demonstrations, one a line: see below",
    "events.jsonl": "everything that happened, one event a line, appended only: see below",
    "adapter/": "the chosen adapter, as plain PEFT has it: `adapter_config.json`,"
    " `adapter_model.safetensors`, tokenizer, chat template, card and its pictures",
    "name.txt": "the name its owner gave it, where it has one",
    "candidates/NAME/adapter/": "every candidate's adapter: `sft`, `sft-long`, `round-1`, ...,"
    " and rivals that you trained",
    "candidates/NAME/labels.json": "who labelled a rival's pairs, and how many",
    "rollouts/round-T.jsonl": "samples of round T: demonstration id, token ids, text, whether it"
    " ended, log-probability under the reference; also `sft-long.jsonl`",
    "lessons/prompts.jsonl": "new prompts that the model wrote for a warm start by distillation",
    "lessons/texts.jsonl": "what such a warm start learnt from: prompt, token ids, text, and who"
    " wrote it",
    "probe.safetensors": "token ids with logits, adapter on and off: what a load-back is compared"
    " with",
    "evaluation/": "one JSON file a judge, with every answer and judged pair, and the plots",
    "state/": "what a resume needs; gone when the run is finished",
    "parent/": "the adapter that the run started from, with `--parent`",
    "rivals/": "what the training of an interrupted rival needs",
    "publish/": "what `publish --dry-run` wrote",
    "traits.json": "of a shipped example: what the grammar's judge needs",
    "prompts.jsonl": "of a shipped example: prompts that had no part in training",
    ".lock": "held while a process works on the run",
}


class Bare(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def cell(value: object) -> str:
    """Return text that fits into a cell of a Markdown table."""
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").strip()


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell(value) for value in line)} |" for line in lines) + "\n"


def parse(docstring: str) -> dict[str, str]:
    """Return the text of a docstring's sections; the text before the first is under ""."""
    found: dict[str, list[str]] = {"": []}
    now = ""
    for line in inspect.cleandoc(docstring).splitlines():
        title = line.removesuffix(":")
        if line.endswith(":") and title in SECTIONS:
            now = title
            found[now] = []
        else:
            found[now].append(line)
    return {name: inspect.cleandoc("\n".join(lines)) for name, lines in found.items()}


def items(text: str) -> Iterator[tuple[str, str]]:
    """Split the text of an Args or Raises section into names and meanings."""
    for item in re.split(r"\n(?=\S)", text):
        name, _, meaning = item.partition(": ")
        yield name, " ".join(meaning.split())


def prose(docstring: str | None) -> str:
    """Return a docstring as Markdown."""
    if not docstring:
        return ""
    parts = parse(docstring)
    text = parts.pop("") + "\n"
    for name, content in parts.items():
        if name in ("Args", "Raises"):
            rows = "\n".join(f"- `{a}`: {b}" if b else f"- {a}" for a, b in items(content))
            text += f"\n{name}:\n\n{rows}\n"
        else:
            text += f"\n{name}: {' '.join(content.split())}\n"
    return text


def signature(name: str, function: Any) -> str:
    """Return a function's name and signature as they are written in the code, broken where long."""
    found = inspect.signature(function)
    bare = found.replace(
        parameters=[
            p.replace(
                annotation=Bare(p.annotation) if isinstance(p.annotation, str) else p.empty,
                default=Bare("...") if inspect.isfunction(p.default) else p.default,
            )
            for p in found.parameters.values()
            if p.name not in ("self", "cls")
        ],
        return_annotation=(
            Bare(found.return_annotation)
            if inspect.isfunction(function) and isinstance(found.return_annotation, str)
            else found.empty
        ),
    )
    line = f"{name}{bare}"
    if len(line) <= WIDTH:
        return line
    inside = ",\n    ".join(str(p) for p in with_marks(bare))
    returns = "" if bare.return_annotation is bare.empty else f" -> {bare.return_annotation}"
    return f"{name}(\n    {inside},\n){returns}"


def with_marks(found: inspect.Signature) -> Iterator[object]:
    """Yield a signature's parameters, and the star from which they are given by name."""
    starred = False
    for parameter in found.parameters.values():
        starred |= parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield parameter


def methods_of(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the documented public methods and properties that a class defines."""
    for name, member in vars(kind).items():
        plain = getattr(member, "__func__", member)  # a class method's function
        shown = isinstance(plain, property) or inspect.isfunction(plain)
        if shown and plain.__doc__ and not name.startswith("_"):
            yield name, plain


def settings_page() -> str:
    """Describe every setting with its value in each preset."""
    presets = {name: config.preset(name) for name in config.PRESETS}
    text = (
        "# Settings\n\nEvery setting of a run, with its value in each preset. Change one with"
        ' `--set SECTION.FIELD=JSON`, or in Python with `preset("fast").with_value("update.beta",'
        " 0.1)`. `ditto-hub settings` prints the same list.\n"
    )
    for section, kind in config.SECTIONS.items():
        rows: list[tuple[object, ...]] = []
        for name, dial in config.dials(section).items():
            values = [json.dumps(getattr(getattr(p, section), name)) for p in presets.values()]
            rows.append((f"`{section}.{name}`", *(f"`{v}`" for v in values), dial))
        text += f"\n## {section}\n\n{kind.__doc__}\n\n"
        text += table(("setting", *presets, "meaning and range"), rows)
    return text


def commands(group: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the path and help of a command and of those under it."""
    yield context.command_path, group.get_help(context)
    if isinstance(group, click.Group):
        for name in sorted(group.commands):
            command = group.commands[name]
            if not command.hidden:
                under = click.Context(command, context, name)
                under.terminal_width = WIDTH
                yield from commands(command, under)


def cli_page() -> str:
    """Show `--help` of every command."""
    text = (
        "# Command line\n\n`ditto-hub` and `python -m ditto_hub` are the same program. Exit codes:"
        " 0 done, 1 a known failure told in one paragraph, 2 wrong usage, 3 paused, 130"
        " interrupted, 143 stopped by SIGTERM. A paused or interrupted run is kept and can be"
        " resumed.\n"
    )
    top = click.Context(main, info_name="ditto-hub", terminal_width=WIDTH, **main.context_settings)
    for path, shown in commands(main, top):
        text += f"\n## {path}\n\n```text\n{shown}\n```\n"
    return text


def python_page() -> str:
    """Describe the public Python API."""
    text = (
        "# Python API\n\n`import ditto_hub` loads neither torch nor gradio; a name is imported when"
        " it is first used.\n"
    )
    names = [n for n in RETURNED if hasattr(api, n) and n not in ditto_hub.__all__]
    for name in (*ditto_hub.__all__, *names):
        thing = getattr(ditto_hub if name in ditto_hub.__all__ else api, name)
        text += f"\n## {name}\n\n"
        if callable(thing):
            text += f"```text\n{signature(name, thing)}\n```\n\n"
        text += prose(thing.__doc__)
        if inspect.isclass(thing):
            for inner, member in methods_of(thing):
                shown = f"{name}.{inner}"
                shown = shown if isinstance(member, property) else signature(shown, member)
                text += f"\n```text\n{shown}\n```\n\n{prose(member.__doc__)}"
    return text


def fields_of(kind: Any) -> list[tuple[object, ...]]:
    """Return a record's fields with their types and what its docstring says of them."""
    meanings = dict(items(parse(kind.__doc__ or "").get("Args", "")))
    return [
        (f"`{f.name}`", f"`{f.type}`", meanings.get(f.name, "")) for f in dataclasses.fields(kind)
    ]


def run_folder_page() -> str:
    """Describe the files of a run."""
    text = (
        "# The run folder\n\nA run is a folder, by default under `$DITTO_HUB_HOME/runs`. Files are"
        " written whole or not at all; JSON is UTF-8. A run of an older version opens, or the"
        " program says why not.\n\n"
    )
    text += table(("path", "what it is"), [(f"`{path}`", words) for path, words in TREE.items()])
    for title, kind in (("run.json", RunRecord), ("demos.jsonl", Demonstration)):
        text += f"\n## {title}\n\n{table(('field', 'type', 'meaning'), fields_of(kind))}"
    text += (
        "\n## events.jsonl\n\nEach line is `{v, type, ...}`. Events carry ids and numbers, never a"
        " prompt or a completion. Every event has:\n\n"
    )
    text += table(("field", "type", "meaning"), fields_of(events.Event))
    rows: list[tuple[object, ...]] = []
    common = {f.name for f in dataclasses.fields(events.Event)}
    for name, event in events.event_types().items():
        if event.__module__ == events.__name__:
            own = [f"`{f.name}`" for f in dataclasses.fields(event) if f.name not in common]
            rows.append((f"`{name}`", ", ".join(own), parse(event.__doc__ or "")[""]))
    return f"{text}\n{table(('type', 'fields of its own', 'meaning'), rows)}"


def pages() -> dict[str, str]:
    """Return the name and text of every page."""
    made = {
        "settings.md": settings_page(),
        "cli.md": cli_page(),
        "python.md": python_page(),
        "run-folder.md": run_folder_page(),
    }
    return {name: HEAD + text for name, text in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, content in pages().items():
        (FOLDER / page).write_text(content, encoding="utf-8")
