"""Conversations as ChatGPT and Claude export them: what the person wrote, and what was answered.

Each conversation gives pairs of two voices. "assistant": a message and the answer to it. "user":
what the person wrote, the prompt being the message it answers, or the title at the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ditto_hub.demos.demonstrations import as_messages
from ditto_hub.demos.importers.marks import verdict
from ditto_hub.demos.importers.pairs import Notes, Pair, Row
from ditto_hub.demos.importers.talk import Said, merged
from ditto_hub.errors import DemoError

VOICES = ("assistant", "user")
CITATION = re.compile("\ue200[^\ue200\ue201]*\ue201")
# What Claude's export writes where a part of a message is no text.
PLACEHOLDER = re.compile(
    r"(?:```\s*)?This block is not supported on your current device yet\.(?:\s*```)?"
)
NO_TEXT: Said = ("", "")


def read_chatgpt(row: Row, notes: Notes) -> list[Pair]:
    """Take one conversation of ChatGPT's export, along the branch that was read last.

    Raises:
        DemoError: its tree of messages is damaged.
    """
    nodes = row["mapping"]
    if not isinstance(nodes, dict):
        raise DemoError("files.no_tree")
    branch = list(reversed(list(branch_of(nodes, row.get("current_node"), "parent"))))
    turns = [_chatgpt_turn(node.get("message"), notes) for node in branch]
    if len(nodes) > len(branch):
        notes.leave("files.left_branches", "", len(nodes) - len(branch))
    return list(voices_of(turns, row.get("title")))


def read_claude(row: Row, notes: Notes) -> list[Pair]:
    """Take one conversation of Claude's export.

    Raises:
        DemoError: its messages are no list.
    """
    messages = row["chat_messages"]
    if not isinstance(messages, list):
        raise DemoError("files.no_list")
    turns = []
    for message in messages:
        if isinstance(message, dict):
            role = {"human": "user", "assistant": "assistant"}.get(str(message.get("sender")), "")
            turns.append((role, _claude_text(message, notes)))
    return list(voices_of(turns, row.get("name")))


def _claude_text(message: Mapping[str, Any], notes: Notes) -> str:
    """Return the texts among a message's parts, else its text without what stands for others."""
    parts = message.get("content")
    parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    texts = [p["text"] for p in parts if p.get("type") == "text" and isinstance(p.get("text"), str)]
    others = sum(part.get("type") != "text" for part in parts)
    if not any(text.strip() for text in texts):
        texts = [text] if isinstance(text := message.get("text"), str) else []
    kept, count = PLACEHOLDER.subn("", "\n\n".join(text.strip() for text in texts))
    if others or count:
        notes.leave("files.left_parts", "", max(others, count))
    return kept.strip()


def branch_of(nodes: Mapping[str, Any], leaf: Any, parent: str) -> Iterator[Mapping[str, Any]]:
    """Yield the nodes from a leaf up to the root; a tree that runs in a circle ends there.

    Args:
        parent: the key under which a node names the one before it.
    """
    if not isinstance(leaf, str) or leaf not in nodes:
        leaf = next((name for name in reversed(list(nodes)) if not _children(nodes[name])), None)
    seen: set[str] = set()
    while isinstance(leaf, str) and leaf not in seen and isinstance(nodes.get(leaf), dict):
        seen.add(leaf)
        yield nodes[leaf]
        leaf = nodes[leaf].get(parent)


def _children(node: Any) -> Any:
    return node.get("children", node.get("childrenIds")) if isinstance(node, dict) else None


def _chatgpt_turn(message: Any, notes: Notes) -> Said:
    """Return role and text of a message that a person saw; ("", "") of any other."""
    if not isinstance(message, dict):
        return NO_TEXT
    author, content = message.get("author"), message.get("content")
    if not isinstance(author, dict) or not isinstance(content, dict):
        return NO_TEXT
    shown = (
        author.get("role") in VOICES
        and message.get("recipient") in (None, "all")
        and content.get("content_type") in ("text", "multimodal_text")
        and isinstance(content.get("parts"), list)
    )
    hidden = message.get("metadata")
    if isinstance(hidden, dict) and hidden.get("is_visually_hidden_from_conversation"):
        return NO_TEXT
    if not shown:
        if author.get("role") != "system":
            notes.leave("files.left_parts")
        return NO_TEXT
    texts = [_part(part, notes) for part in content["parts"]]
    return author["role"], CITATION.sub("", "\n".join(filter(None, texts))).strip()


def _part(part: Any, notes: Notes) -> str:
    """Return a part's text; speech has been written down, pictures have none."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("content_type") == "audio_transcription":
        return str(part.get("text") or "")
    notes.leave("files.left_parts")
    return ""


def voices_of(turns: Iterable[Said], title: Any, disliked: Iterable[str] = ()) -> Iterator[Pair]:
    """Yield what the person wrote and what was answered, each with what it follows.

    Args:
        title: of the conversation, which stands for a prompt of its first message.
        disliked: answers that are no demonstrations.
    """
    before, unwanted = "", set(disliked)
    for role, text in merged(turns):
        if role == "user":
            about = f'Write a message about "{title}".' if title else "Write a message."
            yield Pair(as_messages(before or about), text, voice="user")
        elif before and text not in unwanted:
            yield Pair(as_messages(before), text, voice="assistant")
        before = text


def is_disliked(message: Mapping[str, Any]) -> bool:
    """Return whether the person marked an answer as bad."""
    marks = (message.get(key) for key in ("annotation", "feedback", "rating"))
    return any(mark is not None and verdict(mark) is False for mark in marks)
