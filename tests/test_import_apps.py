"""Chats of other programs: read where two people or a person and a model talk, else named."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ditto_hub.demos.importers import Choice, load_demos, preview
from ditto_hub.errors import DemoError

SAID = [("Ines", "Is the boat in?"), ("Kim", "Aye, she is!"), ("Ines", "Thanks!"), ("Kim", "Hm.")]
REPLIES = [("Is the boat in?", "Aye, she is!"), ("Thanks!", "Hm.")]
MODEL = [("user", "Is the boat in?"), ("assistant", "Aye, she is!")] * 2


def put(folder: Path, content: Any, name: str = "chat.json") -> Path:
    """Write a file: a text as it is, anything else as JSON."""
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file


def read(file: Path, voice: str = "") -> list[tuple[str, str]]:
    """Return prompts and completions of a voice."""
    return [(d.prompt_text, d.completion) for d in load_demos(file, Choice(voice=voice))]


def messages(**more: Any) -> list[dict[str, Any]]:
    """Return Telegram's messages."""
    return [
        {"id": n, "type": "message", "date": "2025-03-01T10:00:00", "from": who, "text": text}
        for n, (who, text) in enumerate(SAID)
    ]  # fmt: skip


TELEGRAM = {"name": "Ines", "type": "personal_chat", "id": 1, "messages": messages()}
DISCORD = {
    "guild": {}, "channel": {"name": "x"},
    "messages": [{"type": "Default", "author": {"name": w}, "content": t} for w, t in SAID],
}  # fmt: skip
MESSENGER = {
    "participants": [{"name": "Ines"}, {"name": "Kim"}],
    "messages": [
        {"sender_name": who, "timestamp_ms": 100 - n, "content": text}
        for n, (who, text) in enumerate(reversed(SAID))
    ],
}  # fmt: skip
SLACK = [
    {"type": "message", "user": who, "text": text, "ts": f"{n}"}
    for n, (who, text) in enumerate(SAID)
]
STAMPS = [
    "[01.03.25, 10:00:01] {}: {}", "\u200e[01.03.25, 10:00:01] {}: {}",
    "01/03/2025, 10:00 - {}: {}", "3/1/25, 10:00 AM - {}: {}", "[3/1/25, 10:00:01\u202fAM] {}: {}",
    "2025-03-01, 10:00 - {}: {}", "01.03.25, 10:00 - {}: {}", "2025/3/1 上午10:00 - {}: {}",
    "[2025/3/1 上午10:00:01] {}: {}",
]  # fmt: skip


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_whatsapp_chat_is_read(tmp_path: Path, stamp: str) -> None:
    """Whatever the phone and its language write before a message, replies are read by voice."""
    text = "\n".join(stamp.format(*said) for said in SAID)
    file = put(tmp_path, text, "chat.txt")
    assert read(file, "Kim") == REPLIES
    assert preview(file).voices == ("Kim", "Ines")


def test_whatsapps_own_lines_and_media_are_left_out(tmp_path: Path) -> None:
    """Notes of the app and media are no messages; lines of one message stay together."""
    text = (
        "01/03/2025, 09:59 - Messages and calls are end-to-end encrypted. Tap to learn more.\n"
        "01/03/2025, 10:00 - Ines: Is the boat in?\nOr not?\n"
        "01/03/2025, 10:01 - Kim: <Media omitted>\n"
        "01/03/2025, 10:01 - Kim: Aye.\n01/03/2025, 10:02 - Kim: See: she is!"
    )
    demos = load_demos(put(tmp_path, text, "chat.txt"))
    assert [(d.prompt_text, d.completion) for d in demos] == [
        ("Is the boat in?\nOr not?", "Aye.\nSee: she is!")
    ]
    assert "1 messages or parts without text" in " ".join(map(str, demos.notices))


@pytest.mark.parametrize(
    "chat", [TELEGRAM, {"chats": {"list": [TELEGRAM]}}, DISCORD, MESSENGER, SLACK],
    ids=("telegram", "telegram account", "discord", "messenger", "slack"),
)  # fmt: skip
def test_a_chat_of_two_people_is_read(tmp_path: Path, chat: Any) -> None:
    """Each app's export of a chat of two gives each one's replies."""
    assert read(put(tmp_path, chat), "Kim") == REPLIES


def test_a_discord_table_is_read(tmp_path: Path) -> None:
    """A chat with a message a row gives the same replies."""
    rows = "".join(f'1,{who},2025-03-01,"{text}",,\n' for who, text in SAID)
    file = put(tmp_path, "AuthorID,Author,Date,Content,Attachments,Reactions\n" + rows, "c.csv")
    assert read(file, "Kim") == REPLIES


def test_texts_in_pieces_are_joined(tmp_path: Path) -> None:
    """Telegram's formatted texts come in pieces."""
    pieces = ["Aye, ", {"type": "bold", "text": "she"}, " is!"]
    chat = {**TELEGRAM, "messages": [{**m} for m in messages()]}
    chat["messages"][1]["text"] = pieces
    assert read(put(tmp_path, chat), "Kim")[0][1] == "Aye, she is!"


GROUPS: dict[str, Any] = {
    "Telegram": {**TELEGRAM, "messages": [*messages(), {**messages()[0], "from": "Bo"}]},
    "Discord": {
        **DISCORD, "messages": [*DISCORD["messages"], {"author": {"name": "Bo"}, "content": "x"}],
    },
    "Slack": [*SLACK, {**SLACK[0], "user": "Bo"}],
    "WhatsApp": "\n".join(STAMPS[0].format(who, "x") for who in ("Ines", "Kim", "Bo")),
}  # fmt: skip


@pytest.mark.parametrize("app", GROUPS)
def test_a_group_is_refused_by_the_apps_name(tmp_path: Path, app: str) -> None:
    """A chat of more than two people is refused, with the app and how many there are."""
    name = "c.txt" if app == "WhatsApp" else "c.json"
    with pytest.raises(DemoError, match=f"{app} chat in which 3 people"):
        load_demos(put(tmp_path, GROUPS[app], name))


# ---- chats with models --------------------------------------------------------------------------


def open_webui(**answer: Any) -> list[dict[str, Any]]:
    """Return an export with an answer that was generated again."""
    nodes = {
        "a": {"id": "a", "parentId": None, "role": "user", "content": "Is the boat in?"},
        "b": {"id": "b", "parentId": "a", "role": "assistant", "content": "No."},
        "c": {"id": "c", "parentId": "a", "role": "assistant", "content": "Aye, she is!", **answer},
    }
    return [{"title": "t", "chat": {"history": {"currentId": "c", "messages": nodes}}}]


LIBRECHAT = {
    "conversationId": "c",
    "title": "t",
    "messages": [
        {"messageId": f"{n}", "isCreatedByUser": role == "user", "text": text}
        for n, (role, text) in enumerate(MODEL[:2])
    ],
}


@pytest.mark.parametrize("chat", [open_webui(), LIBRECHAT], ids=("Open WebUI", "LibreChat"))
def test_a_chat_with_a_model_gives_both_voices(tmp_path: Path, chat: Any) -> None:
    """What the model answered and what the person wrote can both be chosen."""
    file = put(tmp_path, chat)
    assert read(file, "assistant") == [("Is the boat in?", "Aye, she is!")]
    assert read(file, "user") == [('Write a message about "t".', "Is the boat in?")]


def test_a_disliked_answer_is_left_out(tmp_path: Path) -> None:
    """An answer with a thumb down is no demonstration."""
    found = preview(put(tmp_path, open_webui(annotation={"rating": -1})))
    assert (found.totals, "1 left out" in " ".join(map(str, found.notices))) == ({"user": 1}, True)


def test_branches_not_taken_are_counted(tmp_path: Path) -> None:
    """Messages on another branch of a conversation are said to be left out."""
    found = preview(put(tmp_path, open_webui()))
    assert "1 messages are on branches" in " ".join(map(str, found.notices))


def claude(*parts: dict[str, Any], text: str = "") -> list[dict[str, Any]]:
    """Return an export whose answer is of some parts."""
    asked = {"sender": "human", "text": "Is the boat in?", "content": []}
    answer = {"sender": "assistant", "text": text, "content": list(parts)}
    return [{"name": "t", "chat_messages": [asked, answer]}]


PLACEHOLDER = "```\nThis block is not supported on your current device yet.\n```"
CLAUDE = {
    "parts": claude(
        {"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Aye, she is!"},
        {"type": "tool_use", "name": "x"}, text=f"{PLACEHOLDER}\n\nAye, she is!",
    ),
    "placeholder in a part": claude({"type": "text", "text": f"{PLACEHOLDER}\nAye, she is!"}),
    "placeholder in the text": claude(text=f"Aye, she is!\n\n{PLACEHOLDER}"),
    "text": claude(text="Aye, she is!"),
}  # fmt: skip


@pytest.mark.parametrize("export", CLAUDE.values(), ids=CLAUDE)
def test_claudes_answers_are_their_texts(tmp_path: Path, export: Any) -> None:
    """Thoughts, tools and the placeholders that stand for them are no part of an answer."""
    file = put(tmp_path, export, "conversations.json")
    assert read(file, "assistant") == [("Is the boat in?", "Aye, she is!")]


def archive(folder: Path, **files: Any) -> Path:
    """Write a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            told = data if isinstance(data, str) else json.dumps(data)
            made.writestr(name.replace("__", ".").replace("_0", "-0"), told)
    (folder / "export.zip").write_bytes(stream.getvalue())
    return folder / "export.zip"


def test_a_split_export_is_read_whole(tmp_path: Path) -> None:
    """Conversations in several numbered files are read one after the other."""
    one = claude(text="One."), claude(text="Two.")
    file = archive(tmp_path, conversations_001__json=one[1], conversations_000__json=one[0], b="x")
    assert [text for _, text in read(file, "assistant")] == ["One.", "Two."]


def test_parts_of_an_export_that_are_not_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit in what is read of an archive is named."""
    from ditto_hub.demos.importers import archives

    data = archive(
        tmp_path, conversations_000__json=claude(text="One."), conversations_001__json=[]
    )
    source = archives.Source("export.zip", data.read_bytes())
    _, notices = archives.unpack(source, limit=60)
    assert "conversations-001.json" in str(notices[0])


@pytest.mark.parametrize("name", ["_chat.txt", "WhatsApp Chat with Kim.txt"])
def test_a_zipped_whatsapp_chat_is_read(tmp_path: Path, name: str) -> None:
    """The phone's zip of a chat is read like the chat."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr(name, "\n".join(STAMPS[0].format(*said) for said in SAID))
        made.writestr("photo.jpg", b"\xff\xd8\xff")
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    assert read(tmp_path / "a.zip", "Kim") == REPLIES
