"""The prompts that methods answer: files, repeats, and new ones from the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from test_methods import Echo

from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import ConfigError
from ditto_hub.evaluation.judges import Messages
from ditto_hub.evaluation.prompts import prepare_prompts, read_prompts, write_prompts

DEMOS = DemoSet.from_pairs([("Write one note.", "one!"), ("Write two notes.", "two!")]).demos


class Replies(Echo):
    """Answers with the given texts, whatever is asked."""

    replies: Sequence[str] = ()

    def write(
        self, prompts: Sequence[Messages], samples: int, seed: int, candidate: str | None = None
    ) -> list[list[str]]:
        super().write(prompts, samples, seed, candidate)
        return [list(self.replies) for _ in prompts]


def texts(prompts: Sequence[Messages]) -> list[str]:
    return [prompt[-1]["content"] for prompt in prompts]


@pytest.mark.parametrize(
    "content",
    [
        "Write a.\nWrite b.\n",
        "\ufeffWrite a.\r\n\r\nWrite b.",
        '{"prompt": "Write a."}\n{"prompt": "Write b."}',
        '{"prompt": [{"role": "user", "content": "Write a."}]}\nWrite b.',
        '{"messages": [{"role": "user", "content": "Write a."},'
        ' {"role": "assistant", "content": "done"}]}\nWrite b.',
    ],
)
def test_a_prompts_file_in_each_form(tmp_path: Path, content: str) -> None:
    """Bare lines, JSON lines with prompt or messages, a BOM and CRLF give the same prompts."""
    path = tmp_path / "prompts"
    path.write_bytes(content.encode())
    assert texts(read_prompts(path)) == ["Write a.", "Write b."]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no prompts"),
        (b"\n \n", "has no prompts"),
        (b"fine\n{broken", "Line 2"),
        (b'{"text": "x"}', "Line 1"),
        (b'{"prompt": 3}', "Line 1"),
        (b'{"messages": []}', "Line 1"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "Line 1"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_bad_prompts_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """The message names the file, the line, and what to write."""
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_prompts(path)


def test_a_missing_prompts_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is told."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="Could not read"):
            read_prompts(path)


def test_prompts_of_the_demonstrations_are_marked() -> None:
    """A prompt that only differs in case and spaces from a demonstration's counts as seen."""
    found = prepare_prompts(["write  ONE note.", "Write three notes."], DEMOS)
    assert [(p.id, p.seen) for p in found] == [("prompt-1", True), ("prompt-2", False)]


def test_repeats_are_left_out() -> None:
    """The same prompt twice is one prompt."""
    assert len(prepare_prompts(["Write a.", "write a.", "Write b."], DEMOS)) == 2


def test_no_prompt_is_refused() -> None:
    """Without a prompt nothing can be said, and the message tells how to give some."""
    with pytest.raises(ConfigError, match="--prompts"):
        prepare_prompts([], DEMOS)


def test_new_prompts_in_the_manner_of_the_old() -> None:
    """One-line answers of a like length are taken, cleaned; others and repeats are not."""
    studio = Replies(demonstrations=DEMOS)
    studio.replies = [
        "- Write three notes.",
        '"Write four notes."',
        "Write one note.",
        "write three NOTES.",
        "Sure!\nHere you go.",
        "x",
        "far too long " * 20,
        "5. Write six notes.",
        "Write seven notes.",
    ]
    expected = ["Write three notes.", "Write four notes.", "Write six notes."]
    assert write_prompts(studio, 3, 0) == expected


def test_a_model_that_cannot_write_prompts_gives_none() -> None:
    """Nonsense is not taken for a prompt."""
    studio = Replies(demonstrations=DEMOS)
    studio.replies = ["", "?", "\n\n"]
    assert write_prompts(studio, 3, 0) == []
    assert studio.asked[0][3] is None
