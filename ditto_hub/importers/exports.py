"""Conversations as ChatGPT and Claude export them: what the person wrote, and what was answered.

Each conversation gives pairs of two voices. "assistant": a message and the answer to it. "user":
what the person wrote, the prompt being the message it answers, or the title at the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ditto_hub.demos import as_messages
from ditto_hub.errors import DemoError
from ditto_hub.importers.pairs import Pair, Row

VOICES = ("assistant", "user")
CITATION = re.compile("\ue200.*?\ue201", re.DOTALL)
Turn = tuple[str, str]


def read_chatgpt(row: Row) -> list[Pair]:
    """Take one conversation of ChatGPT's export, along the branch that was read last.

    Raises:
        DemoError: its tree of messages is damaged.
    """
    nodes = row["mapping"]
    if not isinstance(nodes, dict):
        raise DemoError("The mapping of a conversation is no tree.", "Export the data again.")
    turns: list[Turn] = []
    for node in reversed(list(_branch(nodes, row.get("current_node")))):
        _append(turns, _chatgpt_turn(node.get("message")))
    return list(_pairs(turns, row.get("title")))


def read_claude(row: Row) -> list[Pair]:
    """Take one conversation of Claude's export.

    Raises:
        DemoError: its messages are no list.
    """
    messages = row["chat_messages"]
    if not isinstance(messages, list):
        raise DemoError("The chat_messages of a conversation are no list.", "Export it again.")
    turns: list[Turn] = []
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("text"), str):
            role = {"human": "user", "assistant": "assistant"}.get(str(message.get("sender")), "")
            _append(turns, (role, message["text"].strip()))
    return list(_pairs(turns, row.get("name")))


def _branch(nodes: Mapping[str, Any], leaf: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the nodes from a leaf up to the root; a tree that runs in a circle ends there."""
    if leaf not in nodes:
        leaf = next((name for name in reversed(list(nodes)) if not _children(nodes[name])), None)
    seen: set[str] = set()
    while isinstance(leaf, str) and leaf not in seen and isinstance(nodes.get(leaf), dict):
        seen.add(leaf)
        yield nodes[leaf]
        leaf = nodes[leaf].get("parent")


def _children(node: Any) -> Any:
    return node.get("children") if isinstance(node, dict) else None


def _chatgpt_turn(message: Any) -> Turn:
    """Return role and text of a message that a person saw; ("", "") of any other."""
    if not isinstance(message, dict):
        return "", ""
    author, content = message.get("author"), message.get("content")
    hidden = (message.get("metadata") or {}) if isinstance(message.get("metadata"), dict) else {}
    if (
        not isinstance(author, dict)
        or not isinstance(content, dict)
        or author.get("role") not in VOICES
        or message.get("recipient") not in (None, "all")
        or hidden.get("is_visually_hidden_from_conversation")
        or content.get("content_type") not in ("text", "multimodal_text")
        or not isinstance(content.get("parts"), list)
    ):
        return "", ""
    texts = [_part(part) for part in content["parts"]]
    return author["role"], CITATION.sub("", "\n".join(filter(None, texts))).strip()


def _part(part: Any) -> str:
    """Return a part's text; speech has been written down, pictures have none."""
    if isinstance(part, str):
        return part
    spoken = isinstance(part, dict) and part.get("content_type") == "audio_transcription"
    return str(part.get("text") or "") if spoken else ""


def _append(turns: list[Turn], turn: Turn) -> None:
    """Add a turn, to the one before it where the same one went on."""
    role, text = turn
    if not role or not text:
        return
    if turns and turns[-1][0] == role:
        turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
    else:
        turns.append(turn)


def _pairs(turns: list[Turn], title: Any) -> Iterator[Pair]:
    before = ""
    for role, text in turns:
        if role == "user":
            about = f'Write a message about "{title}".' if title else "Write a message."
            yield Pair(as_messages(before or about), text, voice="user")
        elif before:
            yield Pair(as_messages(before), text, voice="assistant")
        before = text
