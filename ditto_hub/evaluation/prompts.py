"""The prompts that methods answer: the user's, or new ones the model writes; never the training's.

A prompt that stood among the demonstrations is kept and marked `seen`, and counted apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ditto_hub.demos.demonstrations import Demonstration, as_messages
from ditto_hub.errors import ConfigError, DemoError
from ditto_hub.evaluation.judges import Messages
from ditto_hub.evaluation.methods import Studio
from ditto_hub.runs.results import EvaluationPrompt

NEW_PROMPT_REQUEST = (
    "Below are requests that somebody made to a writing assistant. Write one more request of the"
    " same kind, in the same manner, about something else. Answer with the request alone, on one"
    " line."
)
TRIES_A_PROMPT = 4


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


def request_for_prompts(own: Sequence[str]) -> list[dict[str, str]]:
    """Return what asks a model for a prompt in the manner of somebody's own."""
    listed = "\n".join(f"- {' '.join(text.split())}" for text in dict.fromkeys(own))
    return [{"role": "user", "content": f"{NEW_PROMPT_REQUEST}\n\n{listed}"}]


def new_requests(drawn: Sequence[str], own: Sequence[str]) -> list[str]:
    """Take the one-line answers about as long as the demonstrations' prompts, none twice."""
    lengths = [len(text) for text in own]
    taken = {_fold(text) for text in own}
    found = []
    for text in drawn:
        request = re.sub(r"^[-*\u2022\d.)\s]+", "", text.strip()).strip('" ')
        fits = min(lengths) / 3 <= len(request) <= max(lengths) * 3
        if fits and "\n" not in request and _fold(request) not in taken:
            taken.add(_fold(request))
            found.append(request)
    return found


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
    return tuple((turn["role"], _fold(turn["content"])) for turn in messages)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
