"""Keys that turn a row's meaning: marks, weights, ratings, roles; and what is left out is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ditto_hub import api
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.importers import load_demos, preview, shapes
from ditto_hub.demos.importers.marks import WEIGHTS
from ditto_hub.errors import DemoError
from ditto_hub.tokens import NOBODY
from ditto_hub.words import told

Row = dict[str, Any]
USER = {"role": "user", "content": "Ask for milk."}
GOOD = {"role": "assistant", "content": "Milk, please!"}
# Every shape of row that a mark may be in.
SHAPES: dict[str, Row] = {
    "completion": {"prompt": "Ask for milk.", "completion": "Milk, please!"},
    "response": {"prompt": "Ask for milk.", "response": "Milk, please!"},
    "messages": {"messages": [USER, GOOD]},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Ask for milk."},
            {"from": "gpt", "value": "Milk, please!"},
        ]
    },
    "alpaca": {"instruction": "Ask for milk.", "input": "", "output": "Milk, please!"},
    "question": {"question": "Ask for milk.", "answer": "Milk, please!"},
    "preference": {"prompt": "Ask for milk.", "chosen": "Milk, please!", "rejected": "Gimme."},
}


def put(folder: Path, rows: list[Row], name: str = "rows.jsonl") -> Path:
    """Write rows, a line each."""
    file = folder / name
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def read(folder: Path, *rows: Row) -> DemoSet:
    """Write rows and load them."""
    return load_demos(put(folder, list(rows)))


def texts(demos: DemoSet) -> list[tuple[str, str]]:
    """Return prompts and completions."""
    return [(demo.prompt_text, demo.completion) for demo in demos]


def said(demos: DemoSet) -> str:
    """Return what a set's notices say."""
    return " ".join(map(str, demos.notices))


BAD_MARKS: list[Row] = [
    {"label": False}, {"label": "false"}, {"label": 0}, {"label": 0.0}, {"label": "bad"},
    {"Label": False}, {"kto_tag": False}, {"KTO_Tag": "False"}, {"label": "undesirable"},
    {"thumbs": "down"}, {"thumbs": "👎"}, {"feedback": "thumbs_down"}, {"feedback": -1},
    {"feedback": {"rating": "thumbsDown"}}, {"vote": "-1"}, {"rating": "bad"}, {"rating": -1},
    {"is_rejected": True}, {"rejected": True}, {"is_preferred": 0}, {"accepted": "no"},
    {"weight": 0}, {"weight": "0"}, {"weight": 0.0}, {"weight": -1}, {"train": False},
    {"keep": False}, {"disliked": 1},
]  # fmt: skip


@pytest.mark.parametrize("mark", BAD_MARKS, ids=str)
@pytest.mark.parametrize("shape", ["completion", "messages", "sharegpt", "alpaca"])
def test_a_row_marked_as_bad_is_left_out(tmp_path: Path, shape: str, mark: Row) -> None:
    """Whatever its shape, a row that is marked as bad is no demonstration, and that is said."""
    demos = read(tmp_path, SHAPES[shape], {**SHAPES[shape], **mark})
    assert len(demos) == 1
    assert "1 left out" in said(demos)


GOOD_MARKS: list[Row] = [
    {"label": True}, {"label": 1}, {"label": "True"}, {"label": None}, {"label": float("nan")},
    {"kto_tag": True}, {"feedback": "👍"}, {"weight": 1}, {"weight": 0.5}, {"rejected": False},
    {"vote": "+1"}, {"accepted": "yes"}, {"rating": 5}, {"rating": "5/5"}, {"rejected": None},
    {"score": 1.0}, {"weight": ""}, {"label": ""},
]  # fmt: skip


@pytest.mark.parametrize("mark", GOOD_MARKS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_marked_as_good_is_read(tmp_path: Path, shape: str, mark: Row) -> None:
    """A mark that says yes, or nothing, changes nothing."""
    row = {**mark, **SHAPES[shape]}
    assert texts(read(tmp_path, row)) == [("Ask for milk.", "Milk, please!")]


def test_a_table_of_thumbs_is_read_alike_in_every_kind_of_file(tmp_path: Path) -> None:
    """The same marks in CSV and Parquet leave the same rows out as in JSONL."""
    rows = [{**SHAPES["completion"], "label": good} for good in (True, False, True)]
    table = pa.table({key: [row[key] for row in rows] for key in rows[0]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(
        "prompt,completion,label\n"
        + "".join(f'"{r["prompt"]}","{r["completion"]}",{r["label"]}\n' for r in rows)
    )
    put(tmp_path, rows, "a.jsonl")
    assert [len(load_demos(tmp_path / f"a.{kind}")) for kind in ("jsonl", "csv", "parquet")] == [
        2
    ] * 3


def test_only_bad_rows_are_refused_with_the_reason(tmp_path: Path) -> None:
    """A file whose every row is marked as bad is refused, with the mark."""
    with pytest.raises(DemoError, match="label: false"):
        read(tmp_path, {**SHAPES["completion"], "label": False})


@pytest.mark.parametrize("scale", [(1, 2, 3, 4, 5), (0.1, 0.9), (1, 9, 10), (5, 95, 100)])
@pytest.mark.parametrize("key", ["rating", "score", "Stars"])
def test_low_ratings_are_left_out(tmp_path: Path, key: str, scale: tuple[float, ...]) -> None:
    """Rows in the lower half of a file's scale are left out, and from where is said."""
    rows = [{**SHAPES["completion"], key: value} for value in scale]
    demos = read(tmp_path, *rows)
    middle = {5: 3, 0.9: 0.5, 10: 5.5, 100: 50}[scale[-1]]
    assert len(demos) == sum(value >= middle for value in scale)
    assert f"{key.lower()} < {middle:g}" in said(demos)


def test_a_score_of_no_known_scale_is_named(tmp_path: Path) -> None:
    """Counts of votes say nothing of good and bad, and are named as ignored."""
    demos = read(tmp_path, *({**SHAPES["completion"], "score": n} for n in (3, 4711)))
    assert (len(demos), "ignored: score (2)" in said(demos)) == (2, True)


@pytest.mark.parametrize("shape", SHAPES)
def test_unknown_keys_are_named(tmp_path: Path, shape: str) -> None:
    """A key that is not read is named with its count, in a preview and when loaded."""
    rows = [{**SHAPES[shape], "weight_x": 3, "empty": None}] * 2
    file = put(tmp_path, rows)
    shown = preview(file)
    assert "ignored: weight_x (2)." in " ".join(map(str, shown.notices))
    assert load_demos(file).notices == shown.notices


def test_unknown_keys_of_turns_are_named(tmp_path: Path) -> None:
    """A key of a turn that is not read is named with the key that held the turns."""
    demos = read(tmp_path, {"messages": [{**USER, "name": "Ann"}, GOOD]})
    assert "ignored: messages.name (1)" in said(demos)


def test_the_keys_that_count_are_documented() -> None:
    """The page on files names the shapes and the kinds of marks that are read."""
    page = (Path(__file__).parents[1] / "docs/how-to/files.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+)`", page))
    assert named >= WEIGHTS
    keys = {*shapes.CONTAINERS[:4], *shapes.PREFERRED[:2], *shapes.REFUSED[:2], *shapes.SYSTEM[:3]}
    assert {*keys, "label", "kto_tag"} <= named


# ---- turns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"label": "bad"}, {"loss": 0}])
def test_an_answer_that_weighs_nothing_is_no_completion(tmp_path: Path, mark: Row) -> None:
    """The last answer that is to be learnt is the completion; what follows is said to be cut."""
    turns = [USER, GOOD, {"role": "user", "content": "Worse."}, {**GOOD, "content": "milk", **mark}]
    demos = read(tmp_path, {"messages": turns})
    assert texts(demos) == [("Ask for milk.", "Milk, please!")]
    assert "1 conversations go on" in said(demos)


def test_a_conversation_of_no_weight_is_left_out(tmp_path: Path) -> None:
    """Where no answer is to be learnt the row is left out."""
    demos = read(tmp_path, SHAPES["messages"], {"messages": [USER, {**GOOD, "weight": 0}]})
    assert (len(demos), "1 left out" in said(demos)) == (1, True)


@pytest.mark.parametrize(
    ("role", "read_as"),
    [
        ("Human", "user"), ("HUMAN", "user"), ("prompter", "user"), ("User", "user"),
        ("developer", "system"), ("System", "system"),
    ],
)  # fmt: skip
def test_roles_of_every_program_are_known(tmp_path: Path, role: str, read_as: str) -> None:
    """Roles are known whatever their case and whichever program wrote them."""
    demos = read(tmp_path, {"messages": [{"role": role, "content": "x"}, USER, GOOD]})
    assert demos.demos[0].prompt[0] == {"role": read_as, "content": "x"}


@pytest.mark.parametrize("role", ["tool", "function", "observation", "narrator"])
def test_an_unknown_role_is_named(tmp_path: Path, role: str) -> None:
    """A role that nobody knows is refused by its name."""
    with pytest.raises(DemoError, match=role):
        read(tmp_path, {"messages": [USER, {"role": role, "content": "x"}, USER, GOOD]})


CONTENTS: list[Any] = [
    [{"type": "text", "text": "Milk, please!"}],
    [{"type": "input_text", "text": "Milk, "}, {"type": "output_text", "text": "please!"}],
    ["Milk, ", "please!"],
    [{"text": "Milk, please!"}],
    {"type": "text", "text": "Milk, please!"},
    {"parts": [{"text": "Milk, "}, {"text": "please!"}]},
    [{"type": "text", "text": {"value": "Milk, please!", "annotations": []}}],
    [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Milk, please!"}],
    "<think>\nHm.\n</think>\n\nMilk, please!",
]


@pytest.mark.parametrize("content", CONTENTS, ids=str)
def test_contents_in_parts_are_one_text(tmp_path: Path, content: Any) -> None:
    """Every program's parts of text are joined; a thought is left out."""
    row = {"messages": [USER, {"role": "assistant", "content": content}]}
    assert texts(read(tmp_path, row)) == [("Ask for milk.", "Milk, please!")]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "image_url", "image_url": {"url": "data:,"}}, "image_url"),
        ({"type": "input_audio"}, "input_audio"), ({"inline_data": {}}, "inline_data"), (7, "int"),
    ],
)  # fmt: skip
def test_a_part_that_is_no_text_is_named(tmp_path: Path, part: Any, told: str) -> None:
    """A picture, a sound and the like are refused by their kind."""
    with pytest.raises(DemoError, match=f"holds {told}"):
        read(tmp_path, {"messages": [{"role": "user", "content": [part]}, GOOD]})


def test_a_call_of_a_tool_is_named(tmp_path: Path) -> None:
    """A turn that calls a tool and has no text is refused as such."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    with pytest.raises(DemoError, match="calls a tool"):
        read(tmp_path, {"messages": [USER, call, GOOD]})


# ---- context ------------------------------------------------------------------------------------

HISTORIES: list[Any] = [
    [["Who?", "Kim."]],
    [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Kim."}],
    [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Kim."}],
    ["Who?", "Kim."],
    '[["Who?", "Kim."]]',
]


@pytest.mark.parametrize("history", HISTORIES, ids=str)
@pytest.mark.parametrize("shape", ["completion", "alpaca", "question", "preference"])
def test_system_and_history_come_before_the_question(
    tmp_path: Path, shape: str, history: Any
) -> None:
    """A prompt is the system turn, the rounds before, and the question."""
    row = {**SHAPES[shape], "system": "You are Kim.", "history": history}
    (demo,) = read(tmp_path, row)
    assert [(turn["role"], turn["content"]) for turn in demo.prompt] == [
        ("system", "You are Kim."), ("user", "Who?"), ("assistant", "Kim."),
        ("user", "Ask for milk."),
    ]  # fmt: skip


@pytest.mark.parametrize("nothing", [None, "", [], float("nan")])
def test_an_empty_history_is_none(tmp_path: Path, nothing: Any) -> None:
    """No history and no system turn leave the question alone."""
    row = {**SHAPES["alpaca"], "system": nothing, "history": nothing}
    assert [turn["role"] for turn in read(tmp_path, row).demos[0].prompt] == ["user"]


def test_a_damaged_history_is_told(tmp_path: Path) -> None:
    """A history of another form is refused rather than left out."""
    with pytest.raises(DemoError, match="history"):
        read(tmp_path, {**SHAPES["alpaca"], "history": [["only one"]]})


@pytest.mark.parametrize("key", ["system_prompt", "System", "system_message"])
def test_a_system_text_is_a_turn_of_conversations_too(tmp_path: Path, key: str) -> None:
    """A system text beside the turns becomes the first of them."""
    (demo,) = read(tmp_path, {**SHAPES["messages"], key: "You are Kim."})
    assert demo.prompt[0] == {"role": "system", "content": "You are Kim."}


# ---- preferences --------------------------------------------------------------------------------

WANTED: Row = {"from": "gpt", "value": "Milk, please!"}
REFUSED: Row = {"from": "gpt", "value": "Gimme."}
OPENED: Row = {"conversations": [{"from": "human", "value": "Ask for milk."}]}
PREFERENCES: dict[str, Row] = {
    "sharegpt": {**OPENED, "chosen": WANTED, "rejected": REFUSED},
    "sharegpt lists": {**OPENED, "chosen": [WANTED], "rejected": [REFUSED]},
    "sharegpt texts": {**OPENED, "chosen": "Milk, please!", "rejected": "Gimme."},
    "messages": {"messages": [USER], "chosen": GOOD, "rejected": {**GOOD, "content": "Gimme."}},
    "messages that hold the answer": {
        "messages": [USER, GOOD], "chosen": "Milk, please!", "rejected": "Gimme.",
    },
    "alpaca": {
        "instruction": "Ask for milk.", "input": "", "chosen": "Milk, please!",
        "rejected": "Gimme.",
    },
    "question": {"question": "Ask for milk.", "chosen": "Milk, please!", "rejected": "Gimme."},
    "whole conversations": {
        "prompt": "Ask for milk.", "chosen": [USER, GOOD],
        "rejected": [USER, {**GOOD, "content": "Gimme."}], "score_chosen": 9, "score_rejected": 2,
    },
    "one text": {
        "chosen": "\n\nHuman: Ask for milk.\n\nAssistant: Milk, please!",
        "rejected": "\n\nHuman: Ask for milk.\n\nAssistant: Gimme.",
    },
    "completion and rejected": {
        "prompt": "Ask for milk.", "completion": "Milk, please!", "rejected": "Gimme.",
    },
    "capitals": {"Prompt": "Ask for milk.", "Chosen": "Milk, please!", "Rejected": "Gimme."},
}  # fmt: skip


@pytest.mark.parametrize("row", PREFERENCES.values(), ids=PREFERENCES)
def test_the_chosen_answer_is_the_completion(tmp_path: Path, row: Row) -> None:
    """In every shape the chosen answer is the completion, the rejected one the original."""
    (demo,) = read(tmp_path, row)
    assert (demo.prompt_text, demo.completion) == ("Ask for milk.", "Milk, please!")
    assert demo.original == "Gimme."


def test_a_preference_for_the_worse_score_is_left_out(tmp_path: Path) -> None:
    """Where the scores say that the rejected answer is the better one the row is left out."""
    row = {**PREFERENCES["alpaca"], "score_chosen": 1, "score_rejected": 4}
    demos = read(tmp_path, row, PREFERENCES["alpaca"])
    assert (len(demos), "score_chosen" in said(demos)) == (1, True)


# ---- other shapes -------------------------------------------------------------------------------

OTHERS: dict[str, Row] = {
    "conversation": {"conversation": [USER, GOOD]},
    "rounds": {"conversation": [{"human": "Ask for milk.", "assistant": "Milk, please!"}]},
    "rounds of input": {"conversation": [{"input": "Ask for milk.", "output": "Milk, please!"}]},
    "from in messages": {"messages": SHAPES["sharegpt"]["conversations"]},
    "role in conversations": {"conversations": [USER, GOOD]},
    "gemini": {
        "contents": [
            {"role": "user", "parts": [{"text": "Ask for milk."}]},
            {"role": "model", "parts": [{"text": "Milk, please!"}]},
        ]
    },
    "responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Ask for milk."}]}],
        "output": [
            {"type": "reasoning", "summary": []},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Milk, please!"}]},
        ],
    },
    "query and reply": {"query": "Ask for milk.", "reply": "Milk, please!"},
    "input and output": {"input": "Ask for milk.", "output": "Milk, please!"},
    "turns and a response": {"messages": [USER], "response": "Milk, please!"},
    "JSON in a cell": {"messages": json.dumps([USER, GOOD])},
    "capitals in turns": {"Messages": [{"Role": "User", "Content": "Ask for milk."}, GOOD]},
    "texts in turn": {"dialog": ["Ask for milk.", "Milk, please!"]},
    "spaces": {" prompt ": "Ask for milk.", "Completion": "Milk, please!"},
}


@pytest.mark.parametrize("row", OTHERS.values(), ids=OTHERS)
def test_other_spellings_of_the_usual_shapes_are_read(tmp_path: Path, row: Row) -> None:
    """Other programs' names for the same things give the same demonstration."""
    assert texts(read(tmp_path, row)) == [("Ask for milk.", "Milk, please!")]


WRAPPED: dict[str, Callable[[list[Row]], str]] = {
    "data": lambda rows: json.dumps({"data": rows}),
    "rows of a viewer": lambda rows: json.dumps({"rows": [{"row": row} for row in rows]}),
    "printed over lines": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    "old line ends": lambda rows: "\r".join(map(json.dumps, rows)),
    "an array": lambda rows: json.dumps(rows, indent=1),
}


@pytest.mark.parametrize("write", WRAPPED.values(), ids=WRAPPED)
def test_rows_are_found_however_they_are_laid_out(
    tmp_path: Path, write: Callable[[list[Row]], str]
) -> None:
    """Rows in an object, over several lines, or with old line ends are all read."""
    (tmp_path / "a.json").write_bytes(write([SHAPES["completion"]] * 3).encode())
    assert len(load_demos(tmp_path / "a.json")) == 3


def test_a_run_keeps_what_was_left_out_of_its_file(tmp_path: Path) -> None:
    """Training on a file says what checking it says."""
    rows = [{"prompt": f"Note {n}.", "completion": f"Done {n}.", "label": n != 2} for n in range(4)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    run = api.create_run(path, output=tmp_path / "run", token=NOBODY)
    assert len(run.demos()) == 3
    assert [told(notice["message"]) for notice in run.record.notices] == [
        "1 left out: marked as bad or as not to be learnt (label: false)."
    ]
