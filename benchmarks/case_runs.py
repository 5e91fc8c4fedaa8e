"""What a row of benchmarks/cases.py consists of, and the command line that it calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from ditto_hub.cli import main

QUICK = (
    "warm_start.max_steps=2", "sampling.samples=2", "sampling.max_new_tokens=12",
    "update.rounds=1", "update.steps=2", "update.pairs=4",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Hold how a command ended.

    Args:
        code: its exit code; -1 where an exception of no kind of ours came out.
        text: what it said, in one line.
    """

    code: int
    text: str

    @property
    def in_words(self) -> bool:
        """Whether it ended well or with a known failure."""
        return self.code in (0, 1)

    def refuses(self, *words: str) -> bool:
        """Tell whether it is a known failure that names all these words, in any case."""
        return self.code == 1 and all(word.lower() in self.text.lower() for word in words)


@dataclass(frozen=True)
class Case:
    """Hold one line of a cases folder.

    Args:
        name: file or folder that it is about.
        wanted: the right result, in a few words.
        look: from the cases folder and an empty folder to what was got, and whether that is right.
    """

    name: str
    wanted: str
    look: Callable[[Path, Path], tuple[str, bool]]


def command(*arguments: object) -> Outcome:
    """Call `ditto-hub` in this process."""
    found = CliRunner().invoke(main, [str(argument) for argument in arguments])
    text = re.sub(r"\s+", " ", found.output).strip()
    if found.exception is None or isinstance(found.exception, SystemExit):
        return Outcome(found.exit_code, text)
    kind = type(found.exception).__name__
    return Outcome(-1, f"{text} {kind}: {str(found.exception)[:200]}".strip())


def train(base: Path, demos: Path, run: Path, *more: object) -> Outcome:
    """Train a run of a few steps, without its comparison unless `more` asks for it."""
    settings = [part for setting in QUICK for part in ("--set", setting)]
    compare = () if "--compare" in more else ("--no-compare",)
    return command(
        "train", demos, "--base-model", base, "--output", run, *settings, *compare, *more
    )
