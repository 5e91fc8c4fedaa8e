"""One reader a file: what a preview lists is what picking and loading give, in every encoding."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ditto_hub.cli import main
from ditto_hub.demos.findings import check
from ditto_hub.demos.importers import Choice, load_demos, pick_demos, preview
from ditto_hub.errors import DemoError

PAIRS = [(f"Question {n}", f"Answer, {n}") for n in range(4)]


def put(folder: Path, content: str | bytes, name: str) -> Path:
    """Write a file."""
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def rows(**more: Any) -> str:
    """Return the pairs as JSONL, each with some more keys."""
    return "\n".join(json.dumps({"prompt": p, "completion": c, **more}) for p, c in PAIRS)


def pairs(demos: Any) -> list[tuple[str, str]]:
    """Return prompts and completions."""
    return [(demo.prompt_text, demo.completion) for demo in demos]


IDS: dict[str, Any] = {
    "float": 1.0, "int": 7, "null": None, "nan": float("nan"), "bool": True, "empty": "",
    "text": "a", "object": {"$oid": "5f"}, "list": [1, 2], "infinity": float("inf"),
    "large": 2**70, "fraction": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("value", IDS.values(), ids=IDS)
def test_an_id_of_any_type_is_read(tmp_path: Path, value: Any) -> None:
    """A number, null, or anything else as id is no reason to refuse a row."""
    row = {"id": value, "prompt": "Hi", "completion": "Yo"}
    (demo,) = load_demos(put(tmp_path, json.dumps(row), "a.jsonl"))
    assert isinstance(demo.id, str)
    assert demo.id


def test_whole_numbers_as_ids_have_no_point(tmp_path: Path) -> None:
    """The id 1.0, as tables write 1, is 1."""
    (demo,) = load_demos(put(tmp_path, '{"id": 1.0, "prompt": "a", "completion": "b"}', "a.jsonl"))
    assert demo.id == "1"


@pytest.mark.parametrize(
    "ids",
    [
        [1.0, 2.0, None, 4.0], [datetime.date(2025, 1, n) for n in (1, 2, 3, 4)],
        [datetime.datetime(2025, 1, 1, n) for n in range(4)], [b"a", b"b", b"c", b"d"],
        [decimal.Decimal(n) for n in range(4)], [True, False, None, None], [None] * 4,
    ],
)  # fmt: skip
def test_ids_of_parquet_are_read(tmp_path: Path, ids: list[Any]) -> None:
    """Dates, bytes, decimals and nulls as ids are read."""
    table = pa.table(
        {"id": ids, "Prompt": [p for p, _ in PAIRS], "completion": [c for _, c in PAIRS]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert pairs(load_demos(tmp_path / "a.parquet")) == PAIRS


@pytest.mark.parametrize("key", ["split", "origin", "original", "system", "history", "label"])
@pytest.mark.parametrize("value", [None, float("nan"), ""])
def test_nothing_in_an_optional_key_is_nothing(tmp_path: Path, key: str, value: Any) -> None:
    """Null, NaN and an empty text in a key that may be left out are as if it were."""
    demos = load_demos(put(tmp_path, rows(**{key: value}), "a.jsonl"))
    assert (pairs(demos), demos.demos[0].original) == (PAIRS, None)


def table(delimiter: str, quote: str = '"', header: str = "prompt{0}completion") -> str:
    """Return the pairs as a table."""
    lines = [header.format(delimiter)]
    lines += [f"{quote}{p}{quote}{delimiter}{quote}{c}{quote}" for p, c in PAIRS]
    return "\n".join(lines) + "\n"


TABLES = {
    "comma": table(","), "semicolon": table(";", ""), "tab": table("\t", ""), "bar": table("|", ""),
    "sep line": "sep=;\n" + table(";"), "quoted sep line": '"sep=|"\n' + table("|"),
    "caret": table("^", ""), "line ends": table(";").replace("\n", "\r\n"),
    "old line ends": table(",").replace("\n", "\r"),
    "commas in a heading": table(";", header='"prompt"{0}"completion"').replace(
        "completion\"\n", 'completion";"notes, tags, dates, more"\n', 1
    ).replace("\"\n\"Q", '";"x"\n"Q').rstrip("\n") + ';"x"\n',
    "capitals": table(",", header="PROMPT{0}Completion"), "blank lines": "\n\n" + table(","),
}  # fmt: skip
TABLES["commas in a heading"] = '"prompt";"completion";"notes, tags, dates"\n' + "".join(
    f'"{p}";"{c}";"x"\n' for p, c in PAIRS
)


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_every_delimiter_are_read(tmp_path: Path, text: str, encoding: str) -> None:
    """Whatever parts the cells, the same demonstrations come out."""
    assert pairs(load_demos(put(tmp_path, text.encode(encoding), "a.csv"))) == PAIRS


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_western_text_is_loaded_as_it_is_shown(tmp_path: Path, name: str) -> None:
    """Text that is not UTF-8 is read alike by preview and load, which both say so."""
    text = "prompt,completion\nSay it,Café à la plage\n"
    if name == "a.jsonl":
        text = '{"prompt": "Say it", "completion": "Café à la plage"}\n'
    file = put(tmp_path, text.encode("latin-1"), name)
    demos = load_demos(file)
    assert demos.demos[0].completion == preview(file).rows[0].completion == "Café à la plage"
    assert "Windows-1252" in str(demos.notices[0])


BAD = {
    "broken": "{broken", "a list": "[]", "no answer": '{"prompt": "a"}',
    "a tool": json.dumps({"messages": [{"role": "tool", "content": "x"}]}),
    "null": '{"prompt": "a", "completion": null}',
    "split": '{"prompt":"a","completion":"b","split":"x"}',
    "marked": '{"prompt": "a", "completion": "b", "label": false}',
    "half a letter": '{"prompt": "a", "completion": "\\ud800"}',
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_what_pick_lists_pick_writes(tmp_path: Path, bad: str, place: int) -> None:
    """A row that cannot be used costs the others nothing: numbers mean the same rows in both."""
    lines = rows().split("\n")
    lines.insert(place, bad)
    file = put(tmp_path, "\n".join(lines), "a.jsonl")
    listed = [(r.prompt_text, r.completion) for r in preview(file).rows]
    assert listed == PAIRS
    chosen = pick_demos(file, Choice(rows=(4, 1)))
    assert pairs(chosen) == [listed[3], listed[0]]
    assert pairs(pick_demos(file, Choice())) == listed
    assert pairs(load_demos(file, Choice(rows=(4, 1)))) == pairs(chosen)


@pytest.mark.parametrize("number", range(1, 5))
def test_pick_on_the_command_line_writes_what_it_shows(tmp_path: Path, number: int) -> None:
    """The command writes the row that it listed under a number, whatever is wrong elsewhere."""
    file = put(tmp_path, "{broken\n" + rows(id=float("nan")), "a.jsonl")
    out = tmp_path / "out.jsonl"
    shown = CliRunner().invoke(main, ["pick", str(file)]).stdout.splitlines()[number - 1]
    done = CliRunner().invoke(
        main, ["pick", str(file), "--rows", str(number), "--output", str(out)]
    )
    assert done.exit_code == 0
    (demo,) = load_demos(out)
    assert shown.split(maxsplit=1)[1] == f"{demo.prompt_text} -> {demo.completion}"


def test_two_rows_of_one_id_are_picked(tmp_path: Path) -> None:
    """Rows that share an id are listed, so they are written, the second with another id."""
    file = put(tmp_path, rows(id="a"), "a.jsonl")
    assert [demo.id for demo in pick_demos(file, Choice())][:2] == ["a", "demo-1"]


def test_a_column_without_prompts_is_picked(tmp_path: Path) -> None:
    """A table of completions alone is picked as it is shown, its prompts to be written."""
    file = put(tmp_path, "title,body\nx,One\ny,Two\n", "a.csv")
    choice = Choice(completion="body", rows=(2,))
    assert preview(file, choice=choice).rows[1].completion == "Two"
    assert pairs(pick_demos(file, choice)) == [("", "Two")]


def test_check_says_what_was_left_out_of_the_file(tmp_path: Path) -> None:
    """What a file's reading left out is among what `check` says."""
    file = put(tmp_path, rows() + '\n{"prompt":"a","completion":"b","label":false}', "a.jsonl")
    assert "label: false" in CliRunner().invoke(main, ["check", str(file)]).stdout


def test_identical_demonstrations_are_an_error(tmp_path: Path) -> None:
    """Fewer than two different demonstrations are too few, however many there are."""
    same = load_demos(put(tmp_path, '{"prompt": "a", "completion": "b"}\n' * 3, "a.jsonl"))
    assert [f.code for f in check(same) if f.level == "error"] == ["all-the-same"]
    other = load_demos(put(tmp_path, rows(), "b.jsonl"))
    assert [f for f in check(other) if f.level == "error"] == []


def test_a_thought_is_a_warning() -> None:
    """A typed completion that begins with a thought is warned of."""
    from ditto_hub.demos.demonstrations import DemoSet

    demos = DemoSet.from_pairs([("a", "<think>\nHm.\n</think>\nYes."), ("b", "No.")])
    assert "thought" in [finding.code for finding in check(demos)]


def test_a_file_of_nothing_known_is_refused_in_words(tmp_path: Path) -> None:
    """A text that begins like JSON and is none is a DemoError that says so."""
    with pytest.raises(DemoError, match="neither JSONL"):
        load_demos(put(tmp_path, "[01.03.25] nothing", "a.txt"))
