"""What every reader of files gives: pairs of prompt and completion, and where each was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ditto_hub.demos import Message
from ditto_hub.errors import DemoError

Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Hold one demonstration as a file has it.

    Args:
        prompt: turns, the last one the user's.
        completion: what is wanted for it; checked to be a text where the demonstration is made.
        original: what the completion was preferred to or edited from.
        voice: whose writing the completion is, where a file holds several people's.
    """

    prompt: tuple[Message, ...]
    completion: Any
    original: Any = None
    voice: str = ""


@dataclass(frozen=True)
class Found:
    """Hold what stands at one place of a file: its pairs, or why there are none.

    Args:
        where: such as "line 3".
        pairs: read from there.
        row: the row itself, where the file is of rows.
        fault: why nothing could be read.
    """

    where: str
    pairs: tuple[Pair, ...] = ()
    row: Row = field(default_factory=dict)
    fault: DemoError | None = None


def turns_of(value: Any) -> list[Message]:
    """Return a list of turns, each with its content as one text where it came in parts.

    Raises:
        DemoError: no list of turns.
    """
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise DemoError(
            f"Turns are needed, and a value of type {type(value).__name__} is there.",
            'Turns are like [{"role": "user", "content": "..."}].',
        )
    return [{**turn, "content": content_of(turn.get("content"))} for turn in value]


def content_of(content: Any) -> Any:
    """Join a content given in parts, as chat APIs do; anything else is left as it is.

    Raises:
        DemoError: a part is no text.
    """
    if not isinstance(content, list):
        return content
    kinds = {
        part.get("type") if isinstance(part, dict) else type(part).__name__ for part in content
    }
    if kinds != {"text"}:
        told = ", ".join(sorted(map(str, kinds))) or "nothing"
        raise DemoError(f"A turn holds {told}.", "Demonstrations are text only.")
    return "".join(str(part.get("text", "")) for part in content)
