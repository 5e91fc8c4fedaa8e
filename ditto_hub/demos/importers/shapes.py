"""The shapes that a row of demonstrations may have; to learn another, add it to `SHAPES`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ditto_hub.demos.demonstrations import as_messages
from ditto_hub.demos.importers.chats import APP_SHAPES
from ditto_hub.demos.importers.exports import read_chatgpt, read_claude
from ditto_hub.demos.importers.marks import is_bad, mark_keys
from ditto_hub.demos.importers.pairs import Notes, Pair, Row, is_absent, says_nothing
from ditto_hub.demos.importers.turns import (
    ROLE_KEYS,
    ROLES,
    alternating,
    content_of,
    from_json_text,
    last_answer,
    plain_turns,
    turns_of,
    without_thought,
)
from ditto_hub.errors import DemoError

CONTAINERS = (
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "dialog",
    "turns",
    "contents",
)
ASKED = (
    "prompt", "instruction", "question", "query", "input", "user", "human", "user_message",
    "user_input", "user_prompt",
)  # fmt: skip
ANSWERED = (
    "completion", "response", "output", "answer", "reply", "assistant", "gpt", "assistant_message",
    "model_output", "assistant_response",
)  # fmt: skip
PREFERRED = ("chosen", "preferred_output", "preferred", "better", "accepted", "winner")
REFUSED = ("rejected", "non_preferred_output", "dispreferred", "worse", "loser")
SYSTEM = (
    "system", "system_prompt", "system_message", "systemprompt", "system_instruction",
    "systeminstruction", "instructions",
)  # fmt: skip
MORE = {"instruction": ("input", "context"), "question": ("context",)}
CONTEXT = (*SYSTEM, "history")
AROUND = frozenset({*CONTEXT, "original"})
KEPT = ("id", "split", "origin", "original", "prompt_by")
# Of a run's own pairs (`ditto-hub pairs`): whose chosen text a model wrote, whose rejected one is a
# sample and no text that was edited.
MODEL_WROTE, SAMPLED = ("intermodel", "vote"), ("online", "replay")
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


@dataclass(frozen=True)
class Shape:
    """Know one shape of row.

    Args:
        name: for people, naming the keys.
        fits: whether a row is of this shape.
        read: row, notes -> its demonstrations; may raise DemoError.
        texts: the keys of a row that it reads; None where a row is another program's own, of
            whose keys none is named as ignored.
    """

    name: str
    fits: Callable[[Row], bool]
    read: Callable[[Row, Notes], Iterable[Pair]]
    texts: Callable[[Row], set[str]] | None = None


def shape_of(row: Row) -> Shape | None:
    """Return the first shape that a row has, or None."""
    return next((shape for shape in SHAPES if shape.fits(row)), None)


def read_row(row: Row, notes: Notes) -> list[Pair]:
    """Return a row's demonstrations; none where its marks say that it is a bad example.

    Raises:
        DemoError: it is of no known shape, or of a shape and damaged.
    """
    shape = shape_of(row)
    if shape is None:
        known = "; ".join(shape.name for shape in SHAPES)
        keys = ", ".join(map(str, list(row)[:20]))[:200] or "(none)"
        raise DemoError("files.no_shape", keys=keys, known=known)
    if shape.texts is None:
        return list(shape.read(row, notes))
    texts = shape.texts(row)
    for key in row.keys() - texts - mark_keys(row) - {*KEPT, *CONTEXT}:
        if not says_nothing(row[key]):
            notes.ignore(key)
    if is_bad(row, notes, texts):
        return []
    return [_finished(pair, row, notes) for pair in shape.read(row, notes)]


def read_columns(row: Row, prompt: str, completion: str, notes: Notes) -> list[Pair]:
    """Take two columns of a row as prompt and completion.

    Args:
        prompt: "" for none: the prompt is empty then, and yet to be written.

    Raises:
        DemoError: a column is missing, or holds no text.
    """
    for name in filter(None, (prompt, completion)):
        if not isinstance(row.get(name), str):
            raise DemoError("files.column_no_text", name=name)
    if is_bad(row, notes, {prompt, completion}):
        return []
    return [Pair(as_messages(row[prompt] if prompt else ""), row[completion])]


def _finished(pair: Pair, row: Row, notes: Notes) -> Pair:
    """Return a pair with what its row says around it: a system turn, a history, the original."""
    if not AROUND & row.keys():
        return pair
    turns = [dict(turn) for turn in pair.prompt]
    opened = [turn for turn in turns if turn["role"] == "system"]
    rest = turns[1:] if turns[0]["role"] == "system" else turns
    history = _history(row.get("history"), notes)
    system = next((row[key] for key in SYSTEM if not says_nothing(row.get(key))), None)
    if system is not None and not opened:
        opened = [{"role": "system", "content": content_of(system, notes)}]
    elif system is not None and opened[0]["content"] != system:
        notes.ignore("system")
    original = pair.original
    if original is None and not says_nothing(row.get("original")):
        original = row["original"]
    if history or len(opened) + len(rest) != len(turns):
        pair = replace(pair, prompt=plain_turns([*opened[:1], *history, *rest]))
    return replace(pair, original=original)


def _history(value: Any, notes: Notes) -> list[dict[str, Any]]:
    """Return the rounds before a question, given as pairs, as turns, or as alternating texts.

    Raises:
        DemoError: none of these.
    """
    value = from_json_text(value)
    if says_nothing(value):
        return []
    if isinstance(value, list):
        if all(isinstance(entry, str) for entry in value) and len(value) % 2 == 0:
            return alternating(value)
        if all(isinstance(entry, (list, tuple)) and len(entry) == 2 for entry in value):
            return alternating([text for entry in value for text in entry])
        if all(isinstance(entry, dict) for entry in value):
            return [dict(turn) for turn in turns_of(value, notes, "history")]
    raise DemoError("files.history")


def _first(row: Row, keys: Sequence[str]) -> str:
    """Return the first of some keys that a row has; "" where it has none."""
    return next((key for key in keys if key in row), "")


# ---- prompt and completion ----------------------------------------------------------------------


def _pair_keys(row: Row) -> tuple[str, ...]:
    """Return the keys of a row's question and answer, and of what belongs to the question."""
    asked = _first(row, ASKED)
    answered = _first(row, [key for key in ANSWERED if key != asked])
    if not asked or not answered:
        return ()
    return asked, answered, *(key for key in MORE.get(asked, ()) if key in row)


def _read_pair(row: Row, notes: Notes) -> list[Pair]:
    """Take question and answer, each a text or turns."""
    asked, answered, *more = _pair_keys(row)
    value = row[asked]
    if more and isinstance(value, str):
        extra = [row[key] for key in more if isinstance(row[key], str) and row[key].strip()]
        value = "\n\n".join([*filter(None, [value]), *extra])
    refused = _first(row, REFUSED)
    original = _rejected(row[refused], notes) if refused else None
    return [Pair(_prompt(value, notes), _answer(row[answered], notes), original)]


def _pair_texts(row: Row) -> set[str]:
    refused = {key for key in REFUSED if isinstance(row.get(key), (str, list, dict))}
    return {*_pair_keys(row), *refused}


# ---- conversations ------------------------------------------------------------------------------


def _read_turns(row: Row, notes: Notes) -> list[Pair]:
    name = _first(row, CONTAINERS)
    value = from_json_text(row[name])
    if isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) for v in value):
        return last_answer(alternating(value), notes)
    turns = turns_of(value, notes, name)
    answered = _first(row, ANSWERED)
    if answered and turns and turns[-1]["role"] == "user":
        return [Pair(plain_turns(turns), _answer(row[answered], notes))]
    return last_answer(turns, notes)


def _turn_texts(row: Row) -> set[str]:
    """Return the key of the turns, and of an answer that is given beside them."""
    name, answered = _first(row, CONTAINERS), _first(row, ANSWERED)
    turns = row[name]
    last = turns[-1] if isinstance(turns, list) and turns else None
    role = next((last[k] for k in ROLE_KEYS if k in last), "") if isinstance(last, dict) else ""
    open_ended = isinstance(role, str) and ROLES.get(role.lower()) == "user"
    return {name, answered} if answered and open_ended else {name}


# ---- preferences --------------------------------------------------------------------------------


def _preference_keys(row: Row) -> tuple[str, str]:
    """Return the keys of the wanted and the refused answer; "" where there is none."""
    wanted = next((k for k in PREFERRED if isinstance(row.get(k), (str, list, dict))), "")
    if wanted in ("better", "accepted", "winner", "preferred") and not _first(row, REFUSED):
        wanted = ""
    return wanted, _first(row, REFUSED)


def _is_preference(row: Row) -> bool:
    wanted, refused = _preference_keys(row)
    asked = any(key in row for key in (*ASKED, *CONTAINERS))
    return bool(wanted) and (asked or bool(refused))


def _read_preference(row: Row, notes: Notes) -> list[Pair]:
    """Take what is wanted as the completion, and what it was preferred to as the original."""
    wanted, refused = _preference_keys(row)
    if row.get("kind") in MODEL_WROTE:
        notes.leave("files.left_model_wrote")
        return []
    if row.get("kind") in SAMPLED:
        refused = ""
    original = _rejected(row.get(refused), notes) if refused else None
    chosen = from_json_text(row[wanted])
    turns = turns_of(chosen, notes, wanted) if isinstance(chosen, list) else []
    if any(turn.get("role") == "user" for turn in turns):
        return [replace(pair, original=original) for pair in last_answer(turns, notes)]
    prompt = _asked_before(row, chosen, wanted, notes)
    if isinstance(chosen, str) and chosen.startswith(HUMAN):
        before, _, chosen = chosen.rpartition(ASSISTANT)
        original = row[refused].rpartition(ASSISTANT)[2].strip() or None if refused else None
        return [Pair(plain_turns(_hh_turns(before)), chosen.strip(), original)]
    return [Pair(prompt, _answer(chosen, notes), original)]


def _asked_before(row: Row, chosen: Any, wanted: str, notes: Notes) -> tuple[dict[str, str], ...]:
    """Return the prompt of a preference.

    Raises:
        DemoError: the row has none.
    """
    if name := _first(row, CONTAINERS):
        turns = turns_of(row[name], notes, name)
        while turns and turns[-1]["role"] == "assistant":
            turns.pop()
        return plain_turns(turns)
    asked = _first(row, ASKED)
    if wanted == "preferred_output":
        given = row.get("input")
        if not isinstance(given, Mapping) or "messages" not in given:
            raise DemoError("files.input_no_messages")
        return plain_turns(turns_of(given["messages"], notes, "input.messages"))
    if not asked:
        if isinstance(chosen, str) and chosen.startswith(HUMAN) and ASSISTANT in chosen:
            return ()
        raise DemoError("files.preference_no_prompt")
    value = row[asked]
    extra = [row[k] for k in MORE.get(asked, ()) if isinstance(row.get(k), str) and row[k].strip()]
    return _prompt("\n\n".join([value, *extra]) if isinstance(value, str) else value, notes)


def _hh_turns(text: str) -> list[dict[str, str]]:
    """Return the turns of a text in which they are written as Human: and Assistant:."""
    turns = []
    for asked in text.split(HUMAN)[1:]:
        question, _, answer = asked.partition(ASSISTANT)
        turns.append({"role": "user", "content": question.strip()})
        if answer.strip():
            turns.append({"role": "assistant", "content": answer.strip()})
    return turns


def _preference_texts(row: Row) -> set[str]:
    asked = _first(row, CONTAINERS) or _first(row, ASKED)
    own = ("kind", "round") if row.get("kind") in (*MODEL_WROTE, *SAMPLED, "edit") else ()
    return {asked, *_preference_keys(row), *MORE.get(asked, ()), *own}


def is_preference(row: Row) -> bool:
    """Return whether a row says of two completions which one is preferred."""
    return _is_preference(row) and bool(_preference_keys(row)[1])


# ---- sides --------------------------------------------------------------------------------------


def _prompt(value: Any, notes: Notes) -> tuple[dict[str, str], ...]:
    value = from_json_turns(value)
    if isinstance(value, (list, dict)):
        return plain_turns(turns_of(value, notes, "prompt"))
    return as_messages(value)


def _answer(value: Any, notes: Notes) -> Any:
    """Return a text, or the content of the assistant turn in a list; else the value as it is."""
    value = from_json_turns(value)
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        turns = turns_of([t for t in value if t.get("type") != "reasoning"], notes, "answer")
        answers = [turn for turn in turns if turn.get("role") == "assistant"]
        return answers[-1]["content"] if answers and answers[-1] is turns[-1] else value
    if isinstance(value, dict):
        return _answer([value], notes)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return without_thought(value, notes)


def from_json_turns(value: Any) -> Any:
    """Return the turns that a cell holds as JSON; any other text, JSON or not, is a text."""
    read = from_json_text(value)
    is_turns = isinstance(read, list) and read and all(isinstance(turn, dict) for turn in read)
    return read if is_turns and all({"role", "from"} & turn.keys() for turn in read) else value


def _rejected(value: Any, notes: Notes) -> str | None:
    turns = from_json_turns(value)
    if isinstance(turns, list) and turns:
        turns = turns[-1:]
    if is_absent(turns):
        return None
    answer = _answer(turns, Notes())
    return answer if isinstance(answer, str) and answer.strip() else None


def _has(*keys: str) -> Callable[[Row], bool]:
    return lambda row: all(key in row for key in keys)


SHAPES: tuple[Shape, ...] = (
    *(Shape(name, fits, read) for name, fits, read in APP_SHAPES),
    Shape("ChatGPT", _has("mapping", "current_node"), read_chatgpt),
    Shape("Claude", _has("chat_messages"), read_claude),
    Shape(
        "prompt, chosen, rejected (TRL); input, preferred_output, non_preferred_output (OpenAI)",
        _is_preference, _read_preference, _preference_texts,
    ),
    Shape(
        "prompt, completion; instruction, input, output (Alpaca); question, answer",
        lambda row: bool(_pair_keys(row)) and not _is_conversation(row), _read_pair, _pair_texts,
    ),
    Shape(
        "messages (OpenAI); conversations (ShareGPT); contents (Gemini)",
        lambda row: bool(_first(row, CONTAINERS)), _read_turns, _turn_texts,
    ),
)  # fmt: skip


def _is_conversation(row: Row) -> bool:
    """Return whether a row holds turns; its question and answer are then named as ignored."""
    held = next((row[key] for key in CONTAINERS if key in row), None)
    explicit = "prompt" in row and "completion" in row
    return isinstance(held, list) and bool(held) and not explicit
