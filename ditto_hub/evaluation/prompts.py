"""The prompts that methods answer: the user's, or new ones the model writes; never the training's.

A prompt that stood among the demonstrations is kept and marked `seen`, and counted apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ditto_hub.demos.demonstrations import Demonstration, as_messages
from ditto_hub.demos.prompting import TRIES_A_PROMPT, fold, new_requests, request_for_prompts
from ditto_hub.errors import ConfigError, DemoError
from ditto_hub.evaluation.judges import Messages
from ditto_hub.evaluation.methods import Studio
from ditto_hub.runs.results import EvaluationPrompt


def read_prompts(path: Path) -> list[Messages]:
    """Read a prompts file: JSON lines with `prompt` or `messages`, or one prompt a line.

    Raises:
        ConfigError: it is missing, empty, not UTF-8, or a line of it is no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("evaluation.not_utf8", path=path) from error
    except OSError as error:
        raise ConfigError(
            "evaluation.could_not_read", path=path, strerror=error.strerror
        ) from error
    found = [
        _read_line(line, path, number)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not found:
        raise ConfigError("evaluation.holds_no_prompt", path=path)
    return found


def prepare_prompts(
    prompts: Iterable[str | Messages], demonstrations: Iterable[Demonstration]
) -> tuple[EvaluationPrompt, ...]:
    """Number prompts, leave out repeats, and mark those that stood among the demonstrations.

    Raises:
        ConfigError: there is none.
    """
    seen = {_key(demo.prompt) for demo in demonstrations}
    unique: dict[tuple[tuple[str, str], ...], Messages] = {}
    for prompt in prompts:
        messages = as_messages(prompt if isinstance(prompt, str) else [dict(t) for t in prompt])
        unique.setdefault(_key(messages), messages)
    if not unique:
        raise ConfigError("evaluation.no_new_prompt")
    return tuple(
        EvaluationPrompt(f"prompt-{n}", tuple(messages), key in seen)
        for n, (key, messages) in enumerate(unique.items(), 1)
    )


def write_prompts(studio: Studio, count: int, seed: int) -> list[str]:
    """Let the base model write new prompts in the manner of the demonstrations'.

    Returns:
        At most `count`, each different from the others and from the demonstrations'; fewer, or
        none, where the model cannot do it.
    """
    own = [demo.prompt[-1]["content"] for demo in studio.demonstrations]
    drawn = studio.write([request_for_prompts(own)], count * TRIES_A_PROMPT, seed)[0]
    return new_requests(drawn, own)[:count]


def _read_line(line: str, path: Path, number: int) -> Messages:
    if not line.lstrip().startswith("{"):
        return as_messages(line.strip())
    try:
        row = json.loads(line)
        turns = row["prompt"] if "prompt" in row else row["messages"]
        while not isinstance(turns, str) and turns and turns[-1]["role"] == "assistant":
            turns = turns[:-1]
        return as_messages(turns)
    except (ValueError, KeyError, TypeError, DemoError) as error:
        raise ConfigError("evaluation.line_is_no_prompt", number=number, path=path) from error


def _key(messages: Messages) -> tuple[tuple[str, str], ...]:
    return tuple((turn["role"], fold(turn["content"])) for turn in messages)
