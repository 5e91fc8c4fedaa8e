"""Demonstrations: their records, the held-out split, and what `check` finds."""

from __future__ import annotations

import json
import pickle

import pytest

from ditto_hub.demos.demonstrations import Demonstration, DemoSet, as_messages
from ditto_hub.demos.findings import check, require_usable
from ditto_hub.demos.languages import language_of
from ditto_hub.errors import DemoError

LETTERS = [
    "Hi all, the potluck on Friday is off because the kitchen is flooded. Cheers, Ann",
    "Dear team, we will meet at ten in room 12 and go through the budget. Bring notes. Ann",
    "Folks! Ice cream after the seminar, this time for real. Tell me your flavour by noon.",
    "Quick one: the printer on floor two is dead again, so please use the one near the lift.",
    "Hello everyone, my last day is the 3rd. I have learnt a lot from you, and thank you.",
]


def some(count: int) -> DemoSet:
    return DemoSet.from_pairs(
        (f"Write note {n}.", f"Note {n}: {'x' * n} done") for n in range(count)
    )


def found(demos: DemoSet, **more: object) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f.level, f.code, f.ids) for f in check(demos, **more)]  # type: ignore[arg-type]


def with_last(prompt: str, completion: str) -> DemoSet:
    pairs = [(f"Write letter {n}.", text) for n, text in enumerate(LETTERS[:4])]
    return DemoSet.from_pairs([*pairs, (prompt, completion)])


def test_string_prompt_is_one_user_turn() -> None:
    """A prompt given as a string becomes one user turn."""
    assert as_messages("Hi") == ({"role": "user", "content": "Hi"},)


def test_demo_json_has_the_run_folders_keys() -> None:
    """`to_json` has exactly the keys of demos.jsonl, and no `original` unless edited."""
    demo = Demonstration("demo-1", as_messages("Hi"), "Hello.")
    assert demo.to_json() == {
        "id": "demo-1",
        "prompt": [{"role": "user", "content": "Hi"}],
        "completion": "Hello.",
        "split": "train",
        "origin": "typed",
    }


def test_demo_json_reads_back() -> None:
    """A demonstration survives JSON, edited output and several turns included."""
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Bye \U0001f44b"},
    ]
    demo = Demonstration(
        "a", as_messages(turns), "Ciao", "held_out", "edited", original="Bye.", prompt_by="model"
    )
    assert Demonstration.from_json(json.loads(json.dumps(demo.to_json()))) == demo


def test_demo_pickles_and_hashes() -> None:
    """A demonstration may cross a process and stand in a set."""
    demo = Demonstration("a", as_messages("Hi"), "Hello.")
    assert pickle.loads(pickle.dumps(demo)) in {demo}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": " "}, "empty id"),
        ({"id": 3}, "The id is of type int"),
        ({"completion": None}, "The completion is null"),
        ({"completion": "\ud83d"}, "half a character"),
        ({"original": 5}, "The original is of type int"),
        ({"split": "test"}, "'test'"),
        ({"prompt_by": "Ann"}, "'Ann'"),
        ({"prompt_by": ["model"]}, "neither|none of"),
        ({"prompt": None}, "A prompt is null"),
        ({"prompt": []}, "A prompt is empty"),
        ({"prompt": ["Hi"]}, "lacks its role"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "'tool'"),
        ({"prompt": [{"role": "user", "content": 1}]}, "The content is of type int"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "last turn has the role 'assistant'"),
        ({"extra": 1}, "has the keys"),
    ],
)
def test_bad_demo_is_refused_with_the_value(change: dict[str, object], told: str) -> None:
    """A value of the wrong kind is refused, and the message names it."""
    good = {"id": "a", "prompt": "Hi", "completion": "Yo", "split": "train", "origin": "file"}
    with pytest.raises(DemoError, match=told):
        Demonstration.from_json({**good, **change})


def test_ids_are_numbered_and_same_prompt_counts_twice() -> None:
    """Two demonstrations of one prompt are two, each with its own id."""
    demos = DemoSet.from_pairs([("Hi", "Hello."), ("Hi", "Good day.")])
    assert [demo.id for demo in demos] == ["demo-1", "demo-2"]


def test_shared_id_is_refused() -> None:
    """An id stands for one demonstration only."""
    demo = Demonstration("a", as_messages("Hi"), "Hello.")
    with pytest.raises(DemoError, match="'a' is given to 2"):
        DemoSet((demo, demo))


@pytest.mark.parametrize(
    ("count", "held_out"), [(2, 0), (3, 0), (4, 1), (7, 1), (8, 2), (20, 2), (50, 2)]
)
def test_default_split_grows_with_the_set(count: int, held_out: int) -> None:
    """None under four demonstrations are held out, one for 4 to 7, two from 8."""
    split = some(count).split()
    assert (len(split.held_out), len(split.train)) == (held_out, count - held_out)


def test_split_keeps_order_and_texts() -> None:
    """A split changes nothing but the mark."""
    demos = some(9)
    assert [d.completion for d in demos.split(3, seed=5)] == [d.completion for d in demos]


def test_split_is_settled_by_the_seed() -> None:
    """The same seed holds out the same; over seeds every demonstration gets its turn."""
    demos = some(6)
    assert demos.split(1, seed=3) == demos.split(1, seed=3)
    assert len({demos.split(1, seed=s).held_out[0].id for s in range(60)}) == 6


@pytest.mark.parametrize(
    ("count", "held_out", "told"),
    [(1, None, "leaves 1"), (4, 3, "leaves 1"), (2, 5, "leaves -3"), (8, -2, "Holding out -2")],
)
def test_split_leaves_two_to_train(count: int, held_out: int | None, told: str) -> None:
    """A split that leaves fewer than two to train on is refused."""
    with pytest.raises(DemoError, match=told):
        some(count).split(held_out)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("prompts", "held_out"), [("aabb", 2), ("aabc", 1), ("aaabbc", 3), ("aaaabbcd", 2)]
)
def test_split_keeps_a_prompts_demos_together(prompts: str, held_out: int, seed: int) -> None:
    """Demonstrations that share a prompt are on one side where the count allows it."""
    demos = DemoSet.from_pairs((p, f"Answer {n}") for n, p in enumerate(prompts))
    split = demos.split(held_out, seed)
    sides = [{d.prompt_text for d in side} for side in (split.train, split.held_out)]
    assert len(split.held_out) == held_out
    assert not sides[0] & sides[1]


def test_split_parts_a_prompts_demos_where_it_must() -> None:
    """With two prompts of two demonstrations each, one can still be held out."""
    demos = DemoSet.from_pairs((p, f"Answer {n}") for n, p in enumerate("aabb"))
    assert len(demos.split(1).held_out) == 1


def test_split_keeps_marks_that_are_there() -> None:
    """Demonstrations marked as held out stay so, unless a number is asked for."""
    demos = some(6).split(3, seed=1)
    assert demos.split(None, seed=9) == demos
    assert len(demos.split(1).held_out) == 1


def test_good_set_has_no_findings() -> None:
    """Five different letters in one voice leave nothing to say."""
    assert found(with_last("Write a farewell.", LETTERS[4])) == []


@pytest.mark.parametrize(
    ("count", "finding"),
    [
        (0, ("error", "too-few", ())),
        (1, ("error", "too-few", ())),
        (2, ("advice", "few", ())),
        (3, ("advice", "few", ())),
        (51, ("error", "too-many", ())),
    ],
)
def test_check_counts(count: int, finding: tuple[str, str, tuple[str, ...]]) -> None:
    """Fewer than 2 and more than 50 are errors; 4 to 7 are advised."""
    assert finding in found(some(count))


LONG = "So it goes on and on and on, and nobody knows why it does. "


@pytest.mark.parametrize(
    ("prompt", "completion", "finding"),
    [
        (" \n", LETTERS[4], ("error", "empty-prompt", ("demo-5",))),
        ("Write it.", "\t\u00a0", ("error", "empty-completion", ("demo-5",))),
        ("Write letter 0.", LETTERS[0], ("warning", "duplicate", ("demo-1", "demo-5"))),
        ("Other.", LETTERS[0] + "!", ("warning", "near-duplicate", ("demo-1", "demo-5"))),
        (
            "Write to the lab.",
            f"Write  to the LAB.\n{LETTERS[4]}",
            ("warning", "holds-prompt", ("demo-5",)),
        ),
        ("Write it.", LONG * 140, ("warning", "over-long", ("demo-5",))),
        ("Write it.", LONG * 140, ("advice", "unbalanced", ("demo-1", "demo-5"))),
        (
            "Write it.",
            "Liebe alle, das Treffen ist am Montag und wir müssen das Buch nicht lesen.",
            ("warning", "mixed-languages", ("demo-5",)),
        ),
        (
            "Write it.",
            "Дорогие друзья, встреча отменяется. До свидания!",
            ("warning", "mixed-languages", ("demo-5",)),
        ),
        (
            "Write it.",
            LETTERS[4] + " ann.b@mail.example.org",
            ("advice", "personal-data", ("demo-5",)),
        ),
        ("Write it.", LETTERS[4] + " +44 20 7946 0958", ("advice", "personal-data", ("demo-5",))),
        ("Call (555) 010-9999", LETTERS[4], ("advice", "personal-data", ("demo-5",))),
    ],
)
def test_check_finds(
    prompt: str, completion: str, finding: tuple[str, str, tuple[str, ...]]
) -> None:
    """Each fault and weakness is found, by the id of the demonstration that has it."""
    assert finding in found(with_last(prompt, completion))


@pytest.mark.parametrize(
    "text", ["on 2024-01-15 10:30", "15.01.2024 10:30", "12 345 678 EUR", "3-4 pm", "@ann"]
)
def test_dates_and_sums_are_no_personal_data(text: str) -> None:
    """A date, a sum of money or a handle is not taken for a phone number or an address."""
    assert found(with_last("Write it.", f"{LETTERS[4]} {text}")) == []


def test_personal_data_is_not_repeated() -> None:
    """A finding points at personal data and does not quote it."""
    (finding,) = check(with_last("Write it.", LETTERS[4] + " ann@example.org"))
    assert "example.org" not in finding.message


def test_long_demos_are_told_with_the_tokenizers_count() -> None:
    """With a base model's tokenizer the token count is its own, over prompt and completion."""
    demos = with_last("Write it.", "one two three")
    (finding,) = [
        f
        for f in check(demos, lambda text: 10 * ("three" in text), max_tokens=9)
        if f.code == "over-long"
    ]
    assert "10 tokens, more than 9" in finding.message


def test_errors_come_first() -> None:
    """Findings are in the order error, warning, advice."""
    demos = DemoSet.from_pairs([("Hi", "Same."), ("Hi", "Same."), ("Hi", "")])
    assert [f.level for f in check(demos)] == ["error", "warning", "advice"]


def test_require_usable_tells_every_error() -> None:
    """A run is refused with all errors at once."""
    with pytest.raises(DemoError, match=r"too few.*empty completion"):
        require_usable(DemoSet.from_pairs([("Hi", " ")]))


def test_require_usable_lets_warnings_pass() -> None:
    """Warnings and advice do not stop a run."""
    require_usable(DemoSet.from_pairs([("Hi", "Same."), ("Hello", "Same.")]))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (LETTERS[0] + LETTERS[1], "English"),
        ("Je ne sais pas si vous êtes dans la salle, et nous le voulons.", "French"),
        ("明日の会議はキャンセルになりました。", "Japanese"),
        ("会议取消了,请大家明天再来一次吧", "Cjk"),
        ("ok", None),
        ("Xyzzy plugh frobnicate quux", None),
        ("12:30 !!! \U0001f600", None),
    ],
)
def test_language_is_named_or_left_open(text: str, language: str | None) -> None:
    """A language is named where script or common words settle it, else none."""
    assert language_of(text) == language
