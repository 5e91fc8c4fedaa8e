"""Files of interaction logs: every kind read as it is found in the wild, and bombs defused."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zipfile
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ditto_hub.demos.importers import (
    Choice,
    columns,
    load_demos,
    load_table,
    preview,
    preview_bytes,
)
from ditto_hub.demos.importers.mail import split_quoted
from ditto_hub.errors import DemoError

Q, A = "Write a note.", "Hi,\nall “done”, Ann"
USER, ANSWER = {"role": "user", "content": Q}, {"role": "assistant", "content": A}


def put(folder: Path, content: str | bytes, name: str) -> Path:
    """Write a file."""
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


ROWS: dict[str, dict[str, Any]] = {
    "sharegpt": {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]},
    "sharegpt with roles": {"conversations": [USER, ANSWER]},
    "alpaca": {"instruction": Q, "input": "", "output": A},
    "alpaca without input": {"instruction": Q, "output": A},
    "dolly": {"instruction": Q, "context": "", "response": A, "category": "x"},
    "openai chat": {"messages": [USER, ANSWER], "tools": []},
    "prompt and response": {"prompt": Q, "response": A},
    "question and answer": {"question": Q, "answer": A},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_usual_row_is_read(tmp_path: Path, row: dict[str, Any]) -> None:
    """Each usual shape of row gives the same demonstration."""
    (demo,) = load_demos(put(tmp_path, json.dumps(row) + "\n", "a.jsonl"))
    assert (demo.prompt_text, demo.completion, demo.original) == (Q, A, None)


PREFERENCES: dict[str, dict[str, Any]] = {
    "openai": {
        "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    },
    "trl": {"prompt": Q, "chosen": A, "rejected": "No."},
    "trl turns": {
        "prompt": [USER],
        "chosen": [ANSWER],
        "rejected": [{"role": "assistant", "content": "No."}],
    },
    "trl implicit": {
        "chosen": [USER, ANSWER],
        "rejected": [USER, {"role": "assistant", "content": "No."}],
    },
}


@pytest.mark.parametrize("row", PREFERENCES.values(), ids=PREFERENCES)
def test_the_preferred_is_shown_and_the_other_kept(tmp_path: Path, row: dict[str, Any]) -> None:
    """Of a preference the preferred text is the completion, the other one the original."""
    (demo,) = load_demos(put(tmp_path, json.dumps([row]), "a.json"))
    assert (demo.prompt_text, demo.completion, demo.original) == (Q, A, "No.")


def test_alpaca_input_joins_the_instruction(tmp_path: Path) -> None:
    """An instruction with an input is one prompt of both."""
    row = {"instruction": "Shorten.", "input": "A long text.", "output": "Text."}
    (demo,) = load_demos(put(tmp_path, json.dumps(row), "a.json"))
    assert demo.prompt_text == "Shorten.\n\nA long text."


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"input": "x", "preferred_output": []}, "holds no messages"),
        ({"conversations": "x"}, "type str"),
        ({"conversations": [{"from": "tool", "value": "x"}, {"from": "gpt", "value": A}]}, "tool"),
        ({"instruction": 5, "output": "x"}, "type int"),
        ({"instruction": "x", "output": None}, "null"),
        ({"messages": [{"content": "x"}, ANSWER]}, "lacks its role"),
        ({"mapping": [], "current_node": "x"}, "not a tree"),
        ({"chat_messages": {}}, "not a list"),
    ],
)
def test_damaged_rows_are_told(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    """A row of a known shape that is damaged is a DemoError with its line."""
    with pytest.raises(DemoError, match=rf"line 1: .*{told}"):
        load_demos(put(tmp_path, json.dumps([row]), "a.json"))


# ---- exports ------------------------------------------------------------------------------------


def node(name: str, parent: str | None, role: str, text: Any, **more: Any) -> dict[str, Any]:
    """Return a node of ChatGPT's tree."""
    content = {"content_type": "text", "parts": [text]}
    message = {"author": {"role": role}, "content": content, "recipient": "all", **more}
    return {"id": name, "parent": parent, "children": [], "message": message}


def chatgpt() -> list[dict[str, Any]]:
    """Return an export with a branch not taken, hidden and tool messages, a picture, a citation."""
    hidden = {"metadata": {"is_visually_hidden_from_conversation": True}}
    picture = {"content_type": "multimodal_text", "parts": [{"asset_pointer": "x"}, "See this."]}
    nodes = [
        {"id": "root", "parent": None, "children": ["s"], "message": None},
        node("s", "root", "system", "Be kind.", **hidden),
        node("u1", "s", "user", "First question"),
        node("a0", "u1", "assistant", "A branch that was left"),
        node("a1", "u1", "assistant", "Answer one\ue200cite\ue202turn0\ue201"),
        node("call", "a1", "assistant", "search()", recipient="browser"),
        node("tool", "call", "tool", "results"),
        node("a2", "tool", "assistant", "and more"),
        node("u2", "a2", "user", "", content=picture),
        node("a3", "u2", "assistant", "Answer two"),
    ]
    return [
        {"title": "Boats", "mapping": {n["id"]: n for n in nodes}, "current_node": "a3", "id": "c"},
        {"title": "Empty", "mapping": {}, "current_node": None},
    ]


def test_a_chatgpt_export_gives_both_voices(tmp_path: Path) -> None:
    """Along the branch taken, answers and what the person wrote are both there to choose."""
    found = preview(put(tmp_path, json.dumps(chatgpt()), "conversations.json"))
    assert found.voices == ("assistant", "user")
    assert [(row.prompt_text, row.completion) for row in found.of_voice("assistant")] == [
        ("First question", "Answer one\n\nand more"),
        ("See this.", "Answer two"),
    ]
    assert [(row.prompt_text, row.completion) for row in found.of_voice("user")] == [
        ('Write a message about "Boats".', "First question"),
        ("Answer one\n\nand more", "See this."),
    ]


def test_a_loop_in_the_tree_ends(tmp_path: Path) -> None:
    """A tree whose parents run in a circle is read once around."""
    (one, _) = chatgpt()
    one["mapping"]["root"]["parent"] = "a3"
    assert len(load_demos(put(tmp_path, json.dumps([one]), "c.json"))) == 2


def test_the_choice_of_voice_and_rows_is_taken(tmp_path: Path) -> None:
    """Loading takes the voice asked for, and of it the rows asked for, in their order."""
    file = put(tmp_path, json.dumps(chatgpt()), "conversations.json")
    demos = load_demos(file, Choice(voice="user", rows=(2, 1)))
    assert [demo.completion for demo in demos] == ["See this.", "First question"]
    assert [demo.completion for demo in load_demos(file)][1] == "Answer two"


@pytest.mark.parametrize(
    ("choice", "told"),
    [(Choice(voice="ann"), "nothing written by 'ann'"), (Choice(rows=(9,)), "no row 9")],
)
def test_a_choice_that_is_not_there_is_told(tmp_path: Path, choice: Choice, told: str) -> None:
    """A voice or a row that the file lacks is a DemoError."""
    with pytest.raises(DemoError, match=told):
        load_demos(put(tmp_path, json.dumps(chatgpt()), "c.json"), choice)


def test_a_claude_export_is_read(tmp_path: Path) -> None:
    """Claude's export gives the same two voices."""
    messages = [
        {"sender": "human", "text": "Hello", "content": []},
        {"sender": "assistant", "text": "Hi there"},
    ]
    export = [{"uuid": "x", "name": "Chat", "chat_messages": messages}]
    found = preview(put(tmp_path, json.dumps(export), "conversations.json"))
    assert [(r.voice, r.completion) for r in found.rows] == [
        ("user", "Hello"),
        ("assistant", "Hi there"),
    ]


def zipped(**files: bytes) -> bytes:
    """Return a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return stream.getvalue()


def test_a_zipped_export_is_read(tmp_path: Path) -> None:
    """Of an export's zip the conversations are read, and nothing else."""
    data = zipped(chat__html=b"<html>", conversations__json=json.dumps(chatgpt()).encode())
    assert len(load_demos(put(tmp_path, data, "export.zip"))) == 2


def test_a_zip_bomb_stays_small(tmp_path: Path) -> None:
    """Of a member that unpacks to 60 MB no more is read than the limit."""
    rows = b'{"prompt": "a", "completion": "' + b"b" * 60_000_000 + b'"}'
    file = put(tmp_path, zipped(conversations__json=rows), "bomb.zip")
    assert file.stat().st_size < 1_000_000
    with pytest.raises(DemoError):
        preview(file)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (zipped(xl=b"x"), "an archive or an office document without conversations.json"),
        (zipped(conversations__json=b"x")[:40], "cannot be unpacked"),
        (
            zipped(conversations__json=b"x").replace(b"\x50\x4b\x01\x02", b"XXXX"),
            "cannot be unpacked",
        ),
        (gzip.compress(b"{}"), "a gzip archive, not text"),
        (b"%PDF-1.7\n", "a PDF, not text"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a picture, not text"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "is HTML or XML"),
        (b"prompt,completion\na,b\0c\n", "NUL"),
        (b"\x00\x01\x02\x03", "NUL"),
        (b"PAR1 nothing", "not a Parquet file"),
    ],
    ids=(
        "another zip", "half a zip", "damaged zip", "gzip", "PDF", "PNG", "HTML", "NUL in a table",
        "binary", "Parquet",
    ),
)  # fmt: skip
def test_what_is_no_text_is_named(data: bytes, told: str) -> None:
    """An archive, a picture, a page and other binary files are named for what they are."""
    with pytest.raises(DemoError, match=told):
        preview_bytes(data, "demos.jsonl")


# ---- mail ---------------------------------------------------------------------------------------


def letter(body: str, charset: str = "utf-8", **headers: str) -> bytes:
    """Return a letter as bytes."""
    message = EmailMessage()
    for name, value in {"From": "Ann <Ann@Example.org>", "Subject": "Lunch", **headers}.items():
        message[name] = value
    message.set_content(body, charset=charset)
    return message.as_bytes()


def mbox(*letters: bytes) -> bytes:
    """Return letters as an mbox, with the lines that begin with From quoted."""
    parts = [
        b"From ann Mon Jan  1 10:00:00 2024\n" + text.replace(b"\nFrom ", b"\n>From ") + b"\n"
        for text in letters
    ]
    return b"".join(parts)


def test_an_mbox_gives_letters_by_sender(tmp_path: Path) -> None:
    """A letter's own text is the completion; senders are told apart, the commonest first."""
    box = mbox(
        letter("Come at noon.\nFrom me, Ann\n"),
        letter("Yes!", From="Bo <bo@example.org>"),
        letter("Größe 38, süß 👋", "utf-8", Subject="Re: Schuhe für 美玲"),
        letter("日本語です", "iso-2022-jp", Subject=""),
    )
    found = preview(put(tmp_path, box, "sent.mbox"))
    assert found.voices == ("ann@example.org", "bo@example.org")
    assert [(r.prompt_text, r.completion) for r in found.of_voice("ann@example.org")] == [
        ("Write an email with the subject: Lunch", "Come at noon.\nFrom me, Ann"),
        ("Write an email with the subject: Re: Schuhe für 美玲", "Größe 38, süß 👋"),
        ("Write an email.", "日本語です"),
    ]


def test_one_letter_is_read(tmp_path: Path) -> None:
    """An .eml file is one letter; CRLF line ends are none of the text's."""
    data = letter("Hi,\n\nbye\n").replace(b"\n", b"\r\n")
    (demo,) = load_demos(put(tmp_path, data, "a.eml"))
    assert demo.completion == "Hi,\n\nbye"


def test_html_mail_gives_its_text(tmp_path: Path) -> None:
    """Of HTML alone the text is taken, quoted blocks apart, scripts left out."""
    message = EmailMessage()
    message["From"] = "ann@example.org"
    message.set_content(
        "<style>p{}</style><div>Dear&nbsp;Bo,</div><p>all <b>good</b>.<br>Ann</p>"
        "<script>x()</script><div>On Monday Bo wrote:</div>"
        "<blockquote><p>How are you?</p></blockquote>",
        subtype="html",
    )
    (demo,) = load_demos(put(tmp_path, bytes(message), "a.eml"))
    assert demo.completion == "Dear Bo,\nall good.\nAnn"
    assert demo.prompt_text == "Reply to this email:\n\nHow are you?"


def test_attachments_are_left_out(tmp_path: Path) -> None:
    """A text that is attached is none of the letter's own."""
    message = EmailMessage()
    message["From"], message["Subject"] = "ann@example.org", "x"
    message.set_content("Mine.")
    message.add_attachment("Not mine.", filename="a.txt")
    (demo,) = load_demos(put(tmp_path, bytes(message), "a.eml"))
    assert demo.completion == "Mine."


@pytest.mark.parametrize(
    ("body", "own", "quoted"),
    [
        ("Hi", "Hi", ""),
        ("Hi\n-- \nAnn\nPhone 1", "Hi", ""),
        ("Hi\n\nSent from my iPhone", "Hi", ""),
        ("寫好了\n\n從我的 iPhone 傳送", "寫好了", ""),
        ("Yes.\n\nOn Mon, 1 Jan at 10:00, Bo <b@x.org>\nwrote:\n> We?\n> Bo", "Yes.", "We?\nBo"),
        ("Ja.\n\nAm 1.1.2024 um 10:00 schrieb Bo:\n> Oder?", "Ja.", "Oder?"),
        ("好。\n\n在 2024年1月1日,小王 写道：\n\n> 去吗？", "好。", "去吗？"),
        ("好。\n\n小王 於 2024年1月1日 寫道：\n> 去嗎？", "好。", "去嗎？"),
        ("> Shall we?\nYes.\n> And then?\nHome.", "Yes.\nHome.", "Shall we?\nAnd then?"),
        ("Ok\n\n-----Original Message-----\nFrom: Bo\nSent: Monday\nTo: A\n\nWe?", "Ok", "We?"),
        ("Ok\n\nFrom: Bo\nSent: Monday\nTo: Ann\n\nShall we?", "Ok", "Shall we?"),
        ("See\n\n------ Forwarded message -----\nFrom: Bo\nDate: x\n\nNews", "See", "News"),
        ("Hi\n-- \nAnn\n\nOn Monday Bo wrote:\n> Hm?", "Hi", "Hm?"),
        ("On Monday we wrote:\nthree letters.", "On Monday we wrote:\nthree letters.", ""),
        ("From: the start to the end", "From: the start to the end", ""),
        ("\r\nHi\r\n\r\n\r\n\r\nBye\r\n", "Hi\n\nBye", ""),
        ("> only quoted", "", "only quoted"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_quotes_and_signatures_are_taken_out(body: str, own: str, quoted: str) -> None:
    """What the writer wrote is parted from what is quoted, forwarded and signed."""
    assert split_quoted(body) == (own, quoted)


def test_letters_without_text_are_left_out(tmp_path: Path) -> None:
    """A letter that only forwards another one is passed over."""
    box = mbox(letter("> quoted"), letter("Mine."))
    assert [demo.completion for demo in load_demos(put(tmp_path, box, "sent.mbox"))] == ["Mine."]


@pytest.mark.parametrize(
    "data",
    [
        b"From x\nSubject: =?utf-8?B?####?=\nContent-Type: text/plain; charset=nonsense\n\nHi",
        b"From x\nSubject: a\nContent-Type: multipart/mixed; boundary=\n\nHi",
        b"From x\nSubject: a\nContent-Transfer-Encoding: base64\nTo: b\n\n!!!!",
        b"From x\nSubject: \xff\xfe\nFrom: \xff\n\n\xff\xfe\xfd",
        b"From x\nSubject: " + b"=?utf-8?q?a?= " * 300_000 + b"\n\nHi",
        b"From x\nContent-Type: multipart/mixed; boundary=b0\n\n"
        + b"".join(
            b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1)
            for n in range(3000)
        ),
    ],
)
def test_damaged_letters_raise_nothing_else(data: bytes) -> None:
    """Mail that breaks the rules is read as far as it can be, or is a DemoError."""
    with contextlib.suppress(DemoError):
        preview_bytes(data, "a.mbox")


# ---- tables -------------------------------------------------------------------------------------


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    """Any two columns of a table can be prompt and completion, and their names are told."""
    file = put(tmp_path, "Frage;Antwort;Antwort;n\nWas?;Das.;Dies.;1\n", "a.csv")
    assert columns(file) == ("frage", "antwort", "antwort (3)", "n")
    (demo,) = load_table(file, prompt="Frage", completion="antwort (3)")
    assert (demo.prompt_text, demo.completion) == ("Was?", "Dies.")


def test_a_column_that_is_missing_is_told(tmp_path: Path) -> None:
    """A column the table lacks is a DemoError."""
    file = put(tmp_path, "a,b\n1,2\n", "a.csv")
    with pytest.raises(DemoError, match="The column 'c' holds no text"):
        load_table(file, prompt="a", completion="c")


def test_tsv_is_read(tmp_path: Path) -> None:
    """Tabs part the cells of a .tsv."""
    file = put(tmp_path, "prompt\tcompletion\nHi, you\tYo, me\n", "a.tsv")
    assert load_demos(file).demos[0].completion == "Yo, me"


@pytest.mark.parametrize("formula", ["=1+1", '=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)"])
def test_formulas_are_text(tmp_path: Path, formula: str) -> None:
    """A cell that a spreadsheet would compute comes through letter by letter."""
    quoted = formula.replace('"', '""')
    file = put(tmp_path, f'prompt,completion\nHi,"{quoted}"\n', "a.csv")
    assert load_demos(file).demos[0].completion == formula


def test_scripts_and_every_script_of_writing_come_through(tmp_path: Path) -> None:
    """HTML, right-to-left text, emoji and joiners are text like any other."""
    text = "<script>alert(1)</script> שלום \u202emirror\u202c 👩🏽\u200d🚀 ไทย"
    (demo,) = load_demos(put(tmp_path, json.dumps({"prompt": "x", "completion": text}), "a.jsonl"))
    assert demo.completion == text


def test_parquet_is_read(tmp_path: Path) -> None:
    """A Parquet file is read by the same shapes, nested turns too."""
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"Messages": [[USER, ANSWER]], "n": [1]}), file)
    (demo,) = load_demos(file)
    assert (demo.prompt_text, demo.completion) == (Q, A)
