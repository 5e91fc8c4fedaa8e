"""Turns of a conversation as programs write them: roles, contents in parts, thoughts, weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ditto_hub.demos.demonstrations import Message as Turn
from ditto_hub.demos.demonstrations import as_messages
from ditto_hub.demos.importers.marks import BAD, GOOD, RATINGS, WEIGHTS, number_of, verdict
from ditto_hub.demos.importers.pairs import Notes, Pair, is_absent, says_nothing
from ditto_hub.errors import DemoError

ROLES = {
    "human": "user", "user": "user", "prompter": "user", "person": "user", "customer": "user",
    "client": "user", "question": "user", "student": "user",
    "system": "system", "developer": "system",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "bot": "assistant", "ai": "assistant",
    "claude": "assistant", "chatbot": "assistant", "llm": "assistant", "answer": "assistant",
    "agent": "assistant", "gemini": "assistant",
}  # fmt: skip
ROLE_KEYS = ("role", "from", "sender", "speaker", "author")
CONTENT_KEYS = ("content", "value", "text", "parts", "message")
# One dict that holds a question with its answer, as lists of rounds do.
ROUNDS = (
    ("human", "assistant"), ("user", "assistant"), ("input", "output"), ("prompt", "response"),
    ("question", "answer"), ("human", "gpt"), ("prompt", "completion"), ("query", "response"),
)  # fmt: skip
TURN_MARKS = GOOD | BAD | WEIGHTS | RATINGS
TURN_KEYS = frozenset({*ROLE_KEYS, *CONTENT_KEYS, *TURN_MARKS, "id", "timestamp", "type"})
TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
THOUGHT_PARTS = frozenset({"thinking", "reasoning", "redacted_thinking", "reasoning_text"})
THOUGHT = re.compile(r"\s*<(think|thinking|thought|reasoning)>.*?</\1>\s*", re.DOTALL)
CALLS = ("tool_calls", "function_call")
MOST_TURNS = 1000
UNTRAINED = "untrained"  # where a turn is marked as one that shows nothing to learn


def turns_of(value: Any, notes: Notes, name: str = "messages") -> list[dict[str, Any]]:
    """Return a list of turns of {role, content}, each content as one text where it came in parts.

    Args:
        value: a list of turns, one turn, or JSON text of either.
        notes: gets the names of keys that are not read, and what is left out.
        name: the key that held it.

    Raises:
        DemoError: no list of turns, too many, or a part that is no text.
    """
    value = from_json_text(value)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise DemoError("files.turns", kind=type(value).__name__)
    if len(value) > MOST_TURNS:
        raise DemoError("files.many_turns", count=len(value), most=MOST_TURNS)
    return [turn for given in value for turn in _turns(given, notes, name)]


def from_json_text(value: Any) -> Any:
    """Return what a cell of a table says in JSON; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _turns(given: Mapping[Any, Any], notes: Notes, name: str) -> Iterator[dict[str, Any]]:
    turn = {str(key).strip().lower(): value for key, value in given.items()}
    role_key = next((key for key in ROLE_KEYS if key in turn), None)
    if role_key is None:
        yield from _round(turn, notes)
        return
    content_key = next((k for k in CONTENT_KEYS if not is_absent(turn.get(k))), "content")
    role = _role(turn[role_key])
    if is_absent(turn.get(content_key)) and any(turn.get(key) for key in CALLS):
        raise DemoError("files.calls_tool", role=str(role))
    content = content_of(turn.get(content_key), notes)
    if role == "assistant":
        content = without_thought(content, notes)
    for key, value in turn.items():
        if key not in TURN_KEYS and not says_nothing(value):
            notes.ignore(f"{name}.{key}")
    read: dict[str, Any] = {"role": role, "content": content}
    if role == "assistant" and _is_unwanted(turn):
        read[UNTRAINED] = True
    yield read


def _round(turn: dict[str, Any], notes: Notes) -> Iterator[dict[str, Any]]:
    """Yield the question and the answer that one dict holds.

    Raises:
        DemoError: it holds neither these nor a role.
    """
    keys = next((keys for keys in ROUNDS if all(key in turn for key in keys)), None)
    if keys is None:
        raise DemoError("demos.turn_incomplete")
    if not says_nothing(turn.get("system")):
        yield {"role": "system", "content": turn["system"]}
    yield {"role": "user", "content": content_of(turn[keys[0]], notes)}
    answer = without_thought(content_of(turn[keys[1]], notes), notes)
    yield {"role": "assistant", "content": answer, UNTRAINED: _is_unwanted(turn)}


def _role(value: Any) -> Any:
    if isinstance(value, Mapping):  # an author with a role or a name
        value = value.get("role", value.get("name"))
    return ROLES.get(value.strip().lower(), value) if isinstance(value, str) else value


def _is_unwanted(turn: Mapping[str, Any]) -> bool:
    for key in turn.keys() & TURN_MARKS:
        value = turn[key]
        number = None if isinstance(value, bool) else number_of(value)
        if is_absent(value):
            continue
        if number is not None and (key in WEIGHTS or key in RATINGS):
            if number < 0 or (key in WEIGHTS and number == 0):
                return True
        elif (said := verdict(value)) is not None and said is (key in BAD):
            return True
    return False


def content_of(content: Any, notes: Notes) -> Any:
    """Join a content given in parts, as chat APIs do; anything else is left as it is.

    Raises:
        DemoError: a part is no text.
    """
    if isinstance(content, Mapping):
        content = content.get("parts", [content])
    if not isinstance(content, list):
        return content
    texts: list[str] = []
    strange: set[str] = set()
    for part in content:
        text = _text_of(part, notes)
        if text is None:
            strange.add(_kind_of(part))
        else:
            texts.append(text)
    if strange or not content:
        kinds = ", ".join(sorted(strange)[:5]) or "nothing"
        raise DemoError("files.turn_holds", kinds=kinds)
    return "".join(texts)


def _text_of(part: Any, notes: Notes) -> str | None:
    """Return a part's text, "" for a thought, None where it has no text."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return None
    kind = part.get("type")
    if kind in THOUGHT_PARTS or part.get("thought") is True:
        notes.leave("files.left_thoughts")
        return ""
    if kind is not None and kind not in TEXT_PARTS:
        return None
    text = part.get("text")
    if isinstance(text, Mapping):
        text = text.get("value")
    return text if isinstance(text, str) else None


def _kind_of(part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind is None and isinstance(part, Mapping):
        kind = next(iter(part), "nothing")
    return str(kind or type(part).__name__)[:40]


def without_thought(text: Any, notes: Notes) -> Any:
    """Return an answer without the thought that a reasoning model wrote before it."""
    if isinstance(text, str) and (thought := THOUGHT.match(text)):
        notes.leave("files.left_thoughts")
        return text[thought.end() :]
    return text


def plain_turns(turns: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Return turns as a prompt.

    Raises:
        DemoError: an unknown role, a content that is no text, or a last turn not the user's.
    """
    return as_messages([
        {key: value for key, value in turn.items() if key != UNTRAINED} for turn in turns
    ])  # fmt: skip


def last_answer(turns: Sequence[Mapping[str, Any]], notes: Notes) -> list[Pair]:
    """Take the last assistant turn that is to be learnt as the completion, all before as prompt.

    Raises:
        DemoError: there is no question with an answer.
    """
    answers = [place for place, turn in enumerate(turns) if turn.get("role") == "assistant"]
    if not answers or not answers[-1]:
        raise DemoError("files.no_answer")
    wanted = [place for place in answers if place and not turns[place].get(UNTRAINED)]
    if not wanted:
        notes.leave("files.left_marked", "weight: 0")
        return []
    last = wanted[-1]
    if last + 1 < len(turns):
        notes.leave("files.left_after")
    return [Pair(plain_turns(turns[:last]), turns[last]["content"])]


def alternating(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return texts as turns, the user's first."""
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
