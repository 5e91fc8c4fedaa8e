"""Chats of other programs: Open WebUI, LibreChat, Telegram, Slack, Discord, Messenger, WhatsApp.

A chat of two people is read, each being a voice; one of more is refused by its app's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ditto_hub.demos.importers.exports import branch_of, is_disliked, voices_of
from ditto_hub.demos.importers.pairs import LONGEST_NAME, Notes, Pair, Row
from ditto_hub.demos.importers.talk import Said, two_sided
from ditto_hub.errors import DemoError

Messages = list[dict[str, Any]]


def _dicts(value: Any) -> Messages:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _some(row: Row, *keys: str) -> bool:
    """Return whether the first of a row's messages has some keys."""
    messages = _dicts(row.get("messages"))
    return bool(messages) and all(key in messages[0] for key in keys)


def _text(value: Any) -> str:
    """Return a text, or the text of what is given in pieces, each a text or {text}."""
    if isinstance(value, str):
        return value
    pieces = (part if isinstance(part, str) else part.get("text", "") for part in _pieces(value))
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _pieces(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from (part for part in value if isinstance(part, (str, dict)))


# ---- chats with models --------------------------------------------------------------------------


def _is_open_webui(row: Row) -> bool:
    chat = row.get("chat")
    return isinstance(chat, dict) and bool({"history", "messages"} & chat.keys())


def _read_open_webui(row: Row, notes: Notes) -> list[Pair]:
    """Take one chat along the branch that was read last."""
    chat = row["chat"]
    history = chat.get("history") if isinstance(chat.get("history"), dict) else {}
    nodes = history.get("messages")
    if isinstance(nodes, dict) and nodes:
        messages = list(branch_of(nodes, history.get("currentId"), "parentId"))[::-1]
        if len(nodes) > len(messages):
            notes.leave("files.left_branches", "", len(nodes) - len(messages))
    else:
        messages = list(_dicts(chat.get("messages")))
    said = [(str(message.get("role")), _text(message.get("content"))) for message in messages]
    said = [one for one in said if one[0] in ("user", "assistant")]
    disliked = [_text(m.get("content")) for m in messages if is_disliked(m)]
    return _of_model(said, disliked, row.get("title") or chat.get("title"), notes)


def _is_librechat(row: Row) -> bool:
    return _some(row, "isCreatedByUser")


def _read_librechat(row: Row, notes: Notes) -> list[Pair]:
    """Take one conversation, its messages in a list or each inside the one before it."""
    messages = _dicts(row["messages"])
    if len(messages) == 1 and isinstance(messages[0].get("children"), list):
        messages = list(_last_children(messages[0]))
    said = [
        ("user" if message.get("isCreatedByUser") else "assistant", _librechat_text(message))
        for message in messages
    ]
    disliked = [_librechat_text(message) for message in messages if is_disliked(message)]
    return _of_model(said, disliked, row.get("title"), notes)


def _last_children(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while message:
        yield message
        message = next(reversed(_dicts(message.get("children"))), {})


def _librechat_text(message: Mapping[str, Any]) -> str:
    parts = [part for part in _dicts(message.get("content")) if part.get("type") == "text"]
    return (_text(message.get("text")) or "".join(_text(p.get("text")) for p in parts)).strip()


def _of_model(said: list[Said], disliked: list[str], title: Any, notes: Notes) -> list[Pair]:
    if blank := sum(not text.strip() for _, text in said):
        notes.leave("files.left_parts", count=blank)
    if disliked:
        notes.leave("files.left_marked", "👎", len(disliked))
    return list(voices_of(said, title, (text.strip() for text in disliked)))


# ---- chats of people ----------------------------------------------------------------------------


def _is_telegram(row: Row) -> bool:
    first = next(iter(_dicts(row.get("messages"))), {})
    return "type" in row and "date" in first and ("from" in first or "actor" in first)


def _read_telegram(row: Row, notes: Notes) -> list[Pair]:
    messages = [m for m in _dicts(row["messages"]) if m.get("type", "message") == "message"]
    said = ((_name(m.get("from")), _text(m.get("text"))) for m in messages)
    return two_sided(said, "Telegram", notes)


def _is_telegram_account(row: Row) -> bool:
    chats = row.get("chats")
    return isinstance(chats, dict) and isinstance(chats.get("list"), list)


def _read_telegram_account(row: Row, notes: Notes) -> list[Pair]:
    """Take every chat of two people of an account's export; the others are named."""
    pairs: list[Pair] = []
    for chat in _dicts(row["chats"]["list"]):
        try:
            pairs += _read_telegram(chat, notes) if _dicts(chat.get("messages")) else []
        except DemoError:
            notes.leave("files.left_chats")
    return pairs


def _is_discord(row: Row) -> bool:
    return "channel" in row and _some(row, "author", "content")


def _read_discord(row: Row, notes: Notes) -> list[Pair]:
    messages = _dicts(row["messages"])
    said = ((_name(m.get("author")), _text(m.get("content"))) for m in messages)
    return two_sided(said, "Discord", notes)


def _is_messenger(row: Row) -> bool:
    return "participants" in row and _some(row, "sender_name")


def _read_messenger(row: Row, notes: Notes) -> list[Pair]:
    """Take a chat of Messenger or Instagram, which write the newest message first."""
    messages = [m for m in _dicts(row["messages"]) if isinstance(m.get("timestamp_ms"), int)]
    messages.sort(key=lambda message: message["timestamp_ms"])
    said = ((_unmangled(_name(m.get("sender_name"))), _unmangled(_text(m.get("content"))))
            for m in messages)  # fmt: skip
    return two_sided(said, "Messenger", notes)


def _unmangled(text: str) -> str:
    """Return UTF-8 that was written as if it were Latin-1."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _name(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("nickname") or value.get("global_name") or value.get("name")
        value = value or ""
    return " ".join(str(value).split())[:LONGEST_NAME] if isinstance(value, (str, int)) else ""


AppShape = tuple[str, Callable[[Row], bool], Callable[[Row, Notes], Iterable[Pair]]]
APP_SHAPES: tuple[AppShape, ...] = (
    ("Open WebUI", _is_open_webui, _read_open_webui),
    ("LibreChat", _is_librechat, _read_librechat),
    ("Telegram", _is_telegram, _read_telegram),
    ("Telegram", _is_telegram_account, _read_telegram_account),
    ("Discord", _is_discord, _read_discord),
    ("Messenger", _is_messenger, _read_messenger),
)


# ---- a message a row ----------------------------------------------------------------------------


def app_of(row: Row) -> str:
    """Return the app whose messages a table's rows are; "" where they are none."""
    if {"authorid", "author", "content"} <= row.keys():
        return "Discord"
    if {"ts", "user", "text"} <= row.keys() or {"ts", "type", "text"} <= row.keys():
        return "Slack"
    if {"id", "timestamp", "contents", "attachments"} <= row.keys():
        return "Discord (own messages)"
    return ""


def of_messages(rows: Iterable[Row], app: str, notes: Notes) -> list[Pair]:
    """Return the replies of a chat that has a message a row.

    Raises:
        DemoError: other than two people write in it.
    """
    said = []
    for row in rows:
        if app == "Slack" and (row.get("subtype") or row.get("bot_id")):
            notes.leave("files.left_parts")  # somebody joined, a bot posted
            continue
        profile = row.get("user_profile") or {}
        named = profile.get("real_name") if isinstance(profile, dict) else None
        who = named or row.get("author") or row.get("user") or "me"
        said.append((_name(who), _text(row.get("content", row.get("text")))))
    return two_sided(said, app, notes)


# ---- WhatsApp -----------------------------------------------------------------------------------

STAMP = re.compile(
    r"[\u200e\u200f\ufeff]*\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\.?,?[ \u202f\u00a0]{1,2}"
    r"[^\W\d_]{0,6}[ \u202f\u00a0]?\d{1,2}[:.]\d{2}(?:[:.]\d{2})?"
    r"(?:[ \u202f\u00a0]?[^\W\d_]\.?[ \u202f\u00a0]?[^\W\d_]\.?)?"
    r"(?:\]| -|:) (?P<said>.*)"
)
SAID = re.compile(r"(?P<who>[^:\n]{1,80}?): ?(?P<text>.*)")
MEDIA = re.compile(
    r"<[^<>]{0,40}>|\[[^\[\]]{0,20}\]|.{0,80}\.(?:jpg|opus|mp4|webp|pdf|vcf) \(.{0,40}\)"
    r"|(?:image|video|audio|sticker|GIF|document|Contact card) omitted"
)
EDITED = "<This message was edited>"


def is_whatsapp(text: str) -> bool:
    """Return whether a text is a chat that WhatsApp wrote out."""
    lines = [line for line in text[:4000].splitlines() if line.strip()][:3]
    stamped = [STAMP.match(line) for line in lines]
    return bool(lines) and stamped[0] is not None and any(
        stamp and SAID.match(stamp["said"]) for stamp in stamped
    )  # fmt: skip


def read_whatsapp(lines: Iterable[str], notes: Notes) -> list[Pair]:
    """Return the replies of a chat that WhatsApp wrote out.

    Raises:
        DemoError: other than two people write in it.
    """
    said: list[tuple[str, list[str]]] = []
    for line in lines:
        stamp = STAMP.match(line[:300])
        if stamp is None:
            if said:
                said[-1][1].append(line)
            continue
        message = SAID.match(line[stamp.start("said") :].lstrip("\u200e\u200f"))
        said.append((message["who"].strip(), [message["text"]]) if message else ("", []))
    texts = [(who, "\n".join(text).strip().removesuffix(EDITED).strip()) for who, text in said]
    kept = [
        (who, text) for who, text in texts if text[:1] != "\u200e" and not MEDIA.fullmatch(text)
    ]
    if left := sum(bool(who) for who, _ in texts) - sum(bool(who) for who, _ in kept):
        notes.leave("files.left_parts", "", left)
    return two_sided(kept, "WhatsApp", notes)
