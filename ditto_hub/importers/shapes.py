"""The shapes that a row of demonstrations may have; to learn another, add it to `SHAPES`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ditto_hub.demos import Message, as_messages
from ditto_hub.errors import DemoError
from ditto_hub.importers.exports import read_chatgpt, read_claude
from ditto_hub.importers.pairs import Pair, Row, turns_of


@dataclass(frozen=True)
class Shape:
    """Know one shape of row.

    Args:
        name: for people, naming the keys.
        keys: a row that has all of these is of this shape.
        read: row -> its demonstrations; may raise DemoError.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[Row], Iterable[Pair]]


def shape_of(row: Row) -> Shape | None:
    """Return the first shape that a row has, or None."""
    return next((s for s in SHAPES if all(key in row for key in s.keys)), None)


def read_row(row: Row) -> list[Pair]:
    """Return a row's demonstrations.

    Raises:
        DemoError: it is of no known shape, or of a shape and damaged.
    """
    shape = shape_of(row)
    if shape is None:
        known = "; ".join(shape.name for shape in SHAPES)
        raise DemoError(
            f"A row with the keys {', '.join(map(str, row))[:200] or '(none)'} is of no known"
            " shape.",
            f"Known shapes: {known}.",
        )
    return list(shape.read(row))


def read_columns(row: Row, prompt: str, completion: str) -> Pair:
    """Take two columns of a row as prompt and completion.

    Raises:
        DemoError: a column is missing, or holds no text.
    """
    for name in (prompt, completion):
        if not isinstance(row.get(name), str):
            raise DemoError(f"The column {name!r} holds no text.", "Choose another column.")
    return Pair(as_messages(row[prompt]), row[completion])


def _read_pair(row: Row) -> list[Pair]:
    """Take prompt (text or turns) and completion (text, or one assistant turn in a list)."""
    original = row.get("original")
    return [Pair(_prompt(row["prompt"]), _answer(row["completion"]), original)]


def _read_messages(row: Row) -> list[Pair]:
    return [_last_answer(turns_of(row["messages"]))]


SHAREGPT_ROLES = {
    "human": "user", "user": "user", "system": "system",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant",
}  # fmt: skip


def _read_sharegpt(row: Row) -> list[Pair]:
    turns = row["conversations"]
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        turns = [
            {
                "role": SHAREGPT_ROLES.get(str(role := turn.get("from", turn.get("role"))), role),
                "content": turn.get("value", turn.get("content")),
            }
            for turn in turns
        ]
        if isinstance(row.get("system"), str) and row["system"].strip():
            turns.insert(0, {"role": "system", "content": row["system"]})
    return [_last_answer(turns_of(turns))]


def _read_instruction(row: Row, answer: str, more: str) -> list[Pair]:
    asked = [row["instruction"]]
    if isinstance(row.get(more), str) and row[more].strip():
        asked.append(row[more])
    if not isinstance(asked[0], str):
        return [Pair(as_messages(asked[0]), row[answer])]
    return [Pair(as_messages("\n\n".join(asked)), row[answer])]


def _read_openai_preference(row: Row) -> list[Pair]:
    asked = row["input"]
    if not isinstance(asked, Mapping) or "messages" not in asked:
        raise DemoError(
            "The input of a preference row holds no messages.",
            'It is like {"messages": [{"role": "user", "content": "..."}]}.',
        )
    return [
        Pair(
            as_messages(turns_of(asked["messages"])),
            _answer(row["preferred_output"]),
            _rejected(row.get("non_preferred_output")),
        )
    ]


def _read_preference(row: Row) -> list[Pair]:
    """Take TRL's prompt, chosen, rejected: what is wanted, and what it was preferred to."""
    rejected = _rejected(row.get("rejected"))
    return [Pair(_prompt(row["prompt"]), _answer(row["chosen"]), rejected)]


def _read_implicit_preference(row: Row) -> list[Pair]:
    if isinstance(row["chosen"], str):
        raise DemoError(
            "The row has chosen and rejected texts, but no prompt.", "Add the prompt of each."
        )
    pair = _last_answer(turns_of(row["chosen"]))
    rejected = turns_of(row["rejected"])
    return [Pair(pair.prompt, pair.completion, _rejected(rejected[-1:]))]


def _last_answer(turns: Sequence[Message]) -> Pair:
    """Take the last assistant turn as the completion, all before it as the prompt."""
    answers = [place for place, turn in enumerate(turns) if turn.get("role") == "assistant"]
    if not answers or not answers[-1]:
        raise DemoError(
            "The messages hold no question with an answer.",
            "They need a user turn and, after it, an assistant turn: the completion.",
        )
    return Pair(as_messages(turns[: answers[-1]]), turns[answers[-1]]["content"])


def _prompt(value: Any) -> tuple[Message, ...]:
    return as_messages(value if isinstance(value, str) else turns_of(value))


def _answer(value: Any) -> Any:
    """Return a text, or the content of one assistant turn in a list; else the value as it is."""
    if isinstance(value, list) and len(value) == 1:
        (turn,) = turns_of(value)
        return turn["content"] if turn.get("role") == "assistant" else value
    return value


def _rejected(value: Any) -> str | None:
    answer = _answer(value)
    return answer if isinstance(answer, str) and answer.strip() else None


SHAPES: tuple[Shape, ...] = (
    Shape("prompt and completion", ("prompt", "completion"), _read_pair),
    Shape("messages, the last answer being the completion", ("messages",), _read_messages),
    Shape("conversations (ShareGPT)", ("conversations",), _read_sharegpt),
    Shape(
        "input, preferred_output and non_preferred_output (OpenAI preference)",
        ("input", "preferred_output"),
        _read_openai_preference,
    ),
    Shape("prompt, chosen and rejected", ("prompt", "chosen"), _read_preference),
    Shape("chosen and rejected turns", ("chosen", "rejected"), _read_implicit_preference),
    Shape(
        "instruction, input and output (Alpaca)",
        ("instruction", "output"),
        lambda row: _read_instruction(row, "output", "input"),
    ),
    Shape(
        "instruction, context and response",
        ("instruction", "response"),
        lambda row: _read_instruction(row, "response", "context"),
    ),
    Shape(
        "prompt and response",
        ("prompt", "response"),
        lambda row: [Pair(_prompt(row["prompt"]), _answer(row["response"]))],
    ),
    Shape(
        "question and answer",
        ("question", "answer"),
        lambda row: [Pair(_prompt(row["question"]), _answer(row["answer"]))],
    ),
    Shape("a ChatGPT export", ("mapping", "current_node"), read_chatgpt),
    Shape("a Claude export", ("chat_messages",), read_claude),
)
