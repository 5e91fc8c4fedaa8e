"""Prompts for texts that have none: which are sound, which is taken, what is said of the rest."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ditto_hub import RunConfig, prompts_for, train
from ditto_hub.api.prompting import stream_prompts, with_prompts
from ditto_hub.backends import backtranslation
from ditto_hub.backends.backtranslation import (
    PromptRequest,
    fault_of,
    plain_prompt,
    tidy,
    write_prompts,
)
from ditto_hub.cli import main
from ditto_hub.config import Lora
from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.demos.importers import load_demos
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.choice import AnyEngine, open_engine
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import DemoError
from ditto_hub.hub.publishing.card_sections import demo_words
from ditto_hub.hub.publishing.card_subject import DemoFacts
from ditto_hub.pocket import voice_path
from ditto_hub.pocket.asking import requests_of
from ditto_hub.pocket.grammar import parse_prompt
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

ROOF = (
    "Mr. Avery, the roof of the workshop leaks again, for the 3rd time. Please send somebody to"
    " look at it this week, and tell me when."
)
GERMAN = "Liebe Anna, das Dach ist nicht dicht und der Keller ist nass. Ich rufe dich morgen an."
CHINESE = "各位邻居，周六下午我们在院子里办一个小小的聚会，请带一把椅子来，我准备好了茶和点心。"


@pytest.mark.parametrize(
    ("prompt", "text", "fault"),
    [
        ("Write an email to Mr. Avery about the leaking roof.", ROOF, ""),
        ("", ROOF, "short"),
        ("Write\nsomething about a roof", ROOF, "lines"),
        ("Write " + "very " * 60 + "much", ROOF, "long"),
        ("I'm sorry, but I cannot help with that.", ROOF, "refusal"),
        ("As an AI language model I write about a roof.", ROOF, "refusal"),
        ("写一封关于屋顶的邮件", ROOF, "script"),
        ("Schreibe eine Mail, dass das Dach nicht dicht ist und der Keller nass", ROOF, "language"),
        ("Write: the roof of the workshop leaks again", ROOF, "copy"),
        ("Write an email to Mr. Smith about the roof.", ROOF, "invented"),
        ("Write an email about the 12 leaks in the roof.", ROOF, "invented"),
        ("Schreibe Anna eine Nachricht über den nassen Keller.", GERMAN, ""),
        ("写一条给邻居的聚会邀请", CHINESE, ""),
        ("写一条：周六下午我们在院子里办一个小小的聚会", CHINESE, "copy"),
    ],
)
def test_a_fault_is_found(prompt: str, text: str, fault: str) -> None:
    """A prompt is one short line in its text's language that neither copies nor invents."""
    assert fault_of(prompt, text) == fault


def test_a_plain_prompt_is_in_the_text_s_language() -> None:
    """It has the text's first words, and no more of it."""
    assert (
        plain_prompt(ROOF) == "Write a text that begins: Mr. Avery, the roof of the workshop leaks"
    )
    assert plain_prompt(GERMAN).startswith("Schreibe einen Text, der so beginnt: Liebe Anna")
    assert "\n" not in plain_prompt("One\nline\n\nafter another")
    assert len(plain_prompt("x" * 10_000)) < 100


def test_marks_around_a_prompt_go() -> None:
    """Quotes and stars that models put around an answer are taken off."""
    assert tidy(' **"Write a note."** \n') == "Write a note."


@pytest.fixture(scope="module")
def pocket() -> AnyEngine:
    """Return the embedded base model."""
    base = {"id": "pocket", "revision": None}
    return open_engine(*load_base(base, token=NOBODY), Lora(), 0, base)


@pytest.mark.parametrize("voice", ["harbor", "gazette", "sprout"])
def test_pocket_finds_what_a_voice_was_asked_for(pocket: AnyEngine, voice: str) -> None:
    """The prompt of a text of the grammar names the event, audience, day and hour that it has."""
    demos = load_demos(voice_path(voice))
    requests = [PromptRequest(demo.completion) for demo in demos]
    batches = write_prompts(pocket, {"id": "pocket"}, requests)
    written = {number: found for batch in batches for number, found in batch}
    right = 0
    for number, demo in enumerate(demos):
        prompt, fault = written[number]
        asked, found = parse_prompt(demo.prompt_text), parse_prompt(prompt)
        assert fault == ""
        assert (found.event, found.audience, found.day) == (asked.event, asked.audience, asked.day)
        right += found.act == asked.act
    assert right >= len(demos) - 1


def test_a_text_outside_the_grammar_is_none_of_pocket_s() -> None:
    """Pocket is refused for such texts before it is loaded, in words that name another model."""
    assert requests_of(ROOF) == []
    with pytest.raises(DemoError, match=r"demo-1.*smollm2"):
        prompts_for([ROOF], "pocket")


@pytest.fixture
def babbling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no prompt be sound, as luck has it with a model of random weights."""
    monkeypatch.setattr(backtranslation, "fault_of", lambda prompt, text: "copy")


@pytest.mark.usefixtures("babbling")
def test_no_sound_prompt_gives_a_plain_one(tiny: Callable[[str], Path]) -> None:
    """A model that only babbles gives plain prompts, which are marked and told of."""
    found = prompts_for([ROOF, ROOF.replace("roof", "door")], str(tiny("qwen3")))
    assert found.prompt_authors == {"text": 2}
    assert [demo.prompt_text for demo in found] == [plain_prompt(demo.completion) for demo in found]
    assert str(found.notices[0]).startswith("demo-1: the base model wrote no usable prompt")


def test_the_likeliest_sound_prompt_is_taken(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the sound ones that were drawn, the engine's log-probability of the text decides."""
    base = {"id": str(tiny("qwen3")), "revision": None}
    policy = open_engine(*load_base(base, token=NOBODY), Lora(), 0, base)
    sample, drawn = policy.sample, itertools.cycle(("a note.", "a card.", "I cannot.", "the\nroof"))
    monkeypatch.setattr(policy.format, "decode", lambda ids: f" {next(drawn)}")
    monkeypatch.setattr(
        policy,
        "sample",
        lambda *given: [[replace(d, ended=True) for d in r] for r in sample(*given)],
    )
    ((_, (prompt, fault)),) = next(write_prompts(policy, base, [PromptRequest(ROOF)]))

    def score(prompt: str) -> float:
        row = policy.format.encode([{"role": "user", "content": prompt}], ROOF)
        with policy.adapter_off():
            return policy.log_probs([Row(tuple(row.prompt_ids), tuple(row.completion_ids))])[0]

    assert (prompt, fault) == (max(("Write a note.", "Write a card."), key=score), "")


@pytest.mark.usefixtures("babbling")
def test_what_is_there_stays(tiny: Callable[[str], Path]) -> None:
    """Only prompts that are missing are written; a text that is empty is told of."""
    demos = DemoSet((
        Demonstration("mine", "My prompt.", "A text."),  # type: ignore[arg-type]
        Demonstration("bare", "", ROOF),  # type: ignore[arg-type]
        Demonstration("empty", "", " "),  # type: ignore[arg-type]
        Demonstration("long", "", ROOF * 40),  # type: ignore[arg-type]
    ))  # fmt: skip
    found = with_prompts(demos, str(tiny("qwen3")), token=NOBODY)
    assert [demo.prompt_by for demo in found] == ["user", "text", "user", "text"]
    said = [str(notice) for notice in found.notices]
    assert said[0].startswith("bare: the base model wrote no usable prompt")
    assert said[1] == "empty: the text is empty, so no prompt was written."
    assert said[2].startswith("long: the text is long. Its prompt was written from the first 2,000")
    assert said[3].startswith("long: the base model wrote no usable prompt")


@pytest.mark.usefixtures("babbling")
def test_each_prompt_is_said_when_it_is_written(tiny: Callable[[str], Path]) -> None:
    """A step a text: how many of how many, the demonstration, and what went wrong with it."""
    demos = DemoSet.from_pairs([("", ROOF), ("Mine.", "A text."), ("", ROOF * 40)])
    steps = list(stream_prompts(demos, str(tiny("qwen3")), token=NOBODY))
    assert [(s.done, s.count, s.demo.id) for s in steps] == [(1, 2, "demo-1"), (2, 2, "demo-3")]
    assert [[n.code for n in s.notices] for s in steps] == [
        ["prompts.plain"], ["prompts.long", "prompts.plain"],
    ]  # fmt: skip


@pytest.mark.usefixtures("babbling")
def test_the_command_says_each_prompt_with_what_went_wrong(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """`pick --texts-alone` prints how far it is, a line a text, and its reason under it, once."""
    file = tmp_path / "texts.txt"
    file.write_text(f"{ROOF}\n---\n{ROOF * 40}")
    words = ["pick", str(file), "--texts-alone", "--base-model", str(tiny("qwen3"))]
    result = CliRunner().invoke(main, [*words, "--output", str(tmp_path / "demos.jsonl")])
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("1/2 demo-1: "))
    assert lines[first + 1].startswith("    demo-1: the base model wrote no usable prompt (")
    assert sum("demo-2: the text is long" in line for line in lines) == 1


def test_texts_alone_are_checked_too(tmp_path: Path) -> None:
    """`check --texts-alone` looks at texts as at demonstrations whose prompts are still missing."""
    file = tmp_path / "texts.txt"
    file.write_text(f"{ROOF}\n---\nCall me on +44 20 7946 0958.")
    result = CliRunner().invoke(main, ["check", str(file), "--texts-alone"])
    assert result.stdout.startswith("2 texts.\n")
    assert "phone" in result.stdout
    assert "empty prompt" not in result.stdout
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("texts", "told"), [([], "No text lacks a prompt"), ([ROOF] * 51, "51 texts lack a prompt")]
)
def test_no_text_or_too_many_is_told(texts: list[str], told: str) -> None:
    """Nothing to write prompts for, or a whole mailbox, is an error in words at once."""
    with pytest.raises(DemoError, match=told):
        prompts_for(texts)


def test_the_run_knows_and_the_card_says_so(tmp_path: Path) -> None:
    """Who wrote the prompts is in the run's file, its record, and counted in its card."""
    texts = [demo.completion for demo in load_demos(voice_path("harbor"))]
    demos = prompts_for(texts[:3], "pocket")
    config = RunConfig()
    for text in ("update.rounds=1", "sampling.samples=1", "warm_start.max_steps=1"):
        config = config.with_setting(text)
    run = train(demos, "pocket", config, output=tmp_path / "run")
    run = Run.load(run.folder)
    assert run.record.prompt_authors == {"model": 3}
    assert [demo.prompt_by for demo in run.demos()] == ["model"] * 3
    told = "prompts of 3 of 3 demonstrations were written by the base model"
    assert told in demo_words(DemoFacts.of(run.demos()))
    assert told in (run.folder / "adapter" / "README.md").read_text("utf-8")
