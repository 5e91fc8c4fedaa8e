"""The card: compared whole, checked against the Hub's rules, and safe from whatever is put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_state import front_matter as check_front_matter
from huggingface_hub import ModelCard

from ditto_hub.config import preset
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import ConfigError, HubError, RunError
from ditto_hub.hub.publishing.card import escape, fence, render_card
from ditto_hub.hub.publishing.card_subject import CardSubject, DemoFacts, Sample
from ditto_hub.hub.publishing.licences import Licence
from ditto_hub.hub.publishing.plot import plot_candidates
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.results import OTHERS, Evaluation, EvaluationPrompt, Score, WinRate

DATA = Path(__file__).with_name("data")
SCORES: dict[str, dict[str, float]] = {
    "sft": {"held_out_loss": 1.91, "style_distance": 0.42, "length_ratio": 1.1, "margin": 0.0},
    "sft-long": {"held_out_loss": 1.85, "style_distance": 0.37, "length_ratio": 1.0, "margin": 0.2},
    "round-1": {"held_out_loss": 1.72, "style_distance": 0.31, "length_ratio": 0.9, "margin": 1.4},
    "round-2": {"held_out_loss": 1.66, "style_distance": 0.28, "length_ratio": 1.4, "margin": 2.5},
}
TEXT = "Hi all, the seminar is off, and we will have it next week. Let me know if this is not ok."


def a_record(**changes: Any) -> RunRecord:
    record = RunRecord(
        id="20261122-0a1b2c3d",
        base_model={"id": "acme/Llama-tiny", "revision": "a" * 40},
        config=preset("fast", seed=7).with_value("update.beta", 0.2).to_json(),
        status="finished",
        seed=7,
        candidates={n: {"scores": s, "degenerate": ""} for n, s in SCORES.items()},
        chosen="round-2",
        chosen_rule="mixture",
        chosen_reason="round-2 has the lowest held-out loss of 4 sound candidates",
        order=[{"round": 1, "rewards": {}, "ordered": 2 / 3}],
        stage_seconds={"warm-start": 61.5, "sampling": 840.0, "update": 395.25},
        versions={"python": "3.12.12", "torch": "2.11.0", "peft": "0.21.2"},
        hardware={"device": "cuda", "name": "NVIDIA H200", "energy_kwh": 0.21, "host": "secret"},
    )
    return replace(record, **changes)


def a_subject(record: RunRecord | None = None, **changes: Any) -> CardSubject:
    demos = DemoSet.from_pairs([(f"Cancel it {n}.", TEXT[: 60 + n]) for n in range(5)]).split()
    subject = CardSubject(
        repo_id="alice/my-voice",
        record=record or a_record(),
        candidate="round-2",
        base_id="acme/Llama-tiny",
        base_revision="a" * 40,
        licence=Licence("llama3.2"),
        demos=DemoFacts.of(demos),
        thinking=True,
        plot="candidates.png",
    )
    return replace(subject, **changes)


def an_evaluation(**changes: Any) -> Evaluation:
    prompts = tuple(
        EvaluationPrompt(f"p{n}", ({"role": "user", "content": f"Move the retreat {n}."},))
        for n in range(12)
    )
    means = {"zero-shot": 0.11, "few-shot": 0.62, "sft": 0.71, "ditto": 0.83}
    evaluation = Evaluation(
        name="grammar",
        judge="grammar",
        date="2026-11-22",
        prompts_source="user",
        prompts_independent=True,
        methods=tuple(means),
        prompts=prompts,
        samples=4,
        scores=tuple(
            Score(m, "total", mean, mean - 0.05, mean + 0.05, 48, 12) for m, mean in means.items()
        ),
        win_rates=(
            WinRate("ditto", OTHERS, 90, 20, 34, 144, 0, 0.694, 0.601, 0.77, 12, "bootstrap", True),
            WinRate("ditto", "sft", 25, 8, 15, 48, 0, 0.604, 0.471, 0.72, 12, "wilson", True),
            WinRate("sft", "ditto", 15, 8, 25, 48, 0, 0.396, 0.28, 0.529, 12, "wilson", True),
        ),
        complete=True,
    )
    return replace(evaluation, **changes)


def read_front(card: str) -> dict[str, Any]:
    data = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(data, dict)
    return data


SUBJECTS: Mapping[str, CardSubject] = {
    "card_without_evaluation.md": a_subject(),
    "card_with_evaluation.md": a_subject(
        evaluations=(an_evaluation(),), samples=(Sample("Move it.", "hey all,\n\nmoved. -A"),)
    ),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_card_equals_the_committed_sample(name: str) -> None:
    """The card is, word for word, the sample in tests/data (write it anew when it is meant to)."""
    assert render_card(SUBJECTS[name]) == (DATA / name).read_text(encoding="utf-8")


def test_a_distilled_warm_start_is_said() -> None:
    """The card says what the warm start was trained on where that is not the demonstrations."""
    config = preset("fast").with_value("warm_start.objective", "distillation").to_json()
    card = render_card(a_subject(a_record(config=config)))
    assert "1. A warm start by context distillation ([arXiv 2209.15189]" in card
    assert "2 to each of their prompts, and to each of at most\n   16 new prompts" in card
    assert "A supervised warm start" not in card


@pytest.mark.parametrize("name", SUBJECTS)
def test_no_heading_is_empty(name: str) -> None:
    """Every heading has text under it before the next one of its level."""
    body = re.sub(r"```.*?```", "code", render_card(SUBJECTS[name]), flags=re.S)
    sections = re.split(r"^#{1,3} .*$", body, flags=re.M)[1:]
    assert all(section.split() for section in sections)


def test_front_matter_is_what_the_hub_takes() -> None:
    """The Hub's rules accept the front matter, and huggingface_hub reads it back."""
    card = render_card(a_subject())
    assert check_front_matter(card) == read_front(card)
    data = ModelCard(card).data
    assert data.base_model == "acme/Llama-tiny"
    assert data.to_dict()["base_model_relation"] == "adapter"
    assert (data.library_name, data.pipeline_tag) == ("peft", "text-generation")
    assert data.language == ["en"]


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (Licence("mit"), {"license": "mit"}),
        (
            Licence("other", "qwen-research", "https://x.example/l"),
            {"license": "other", "license_name": "qwen-research",
             "license_link": "https://x.example/l"},
        ),
        (Licence("other"), {"license": "other", "license_name": "other"}),
        (Licence(), {}),
    ],
)  # fmt: skip
def test_licence_is_inherited(licence: Licence, expected: dict[str, str]) -> None:
    """The base model's licence is the adapter's, with name and link where it is no standard one."""
    found = read_front(render_card(a_subject(licence=licence)))
    assert {k: v for k, v in found.items() if k.startswith("license")} == expected


def test_every_setting_is_there() -> None:
    """Each hyper-parameter of the record has its row."""
    card = render_card(a_subject())
    for section, values in preset("fast").to_json().items():
        if isinstance(values, dict):
            for name in values:
                assert f"| {escape(f'{section}.{name}')} |" in card


def test_numbers_come_from_the_record() -> None:
    """A changed score changes the card where it stands, and nowhere is the old one left."""
    record = a_record()
    record.candidates["round-1"] = {"scores": {"held_out_loss": 1.2345}, "degenerate": ""}
    card = render_card(a_subject(record))
    assert "1.234" in card
    assert "1.72" not in card


def test_settings_that_differ_are_in_the_command() -> None:
    """The command repeats the preset, the seed and every setting that differs from it."""
    card = render_card(a_subject())
    assert "--preset fast --seed 7 --set update.beta=0.2\n" in card


def test_not_evaluated_is_said() -> None:
    """Without an evaluation the results say so and hold no number."""
    section = render_card(a_subject()).split("## Results")[1].split("## ")[0]
    assert "Not evaluated" in section
    assert not re.search(r"\d", section)


@pytest.mark.parametrize(
    "changes",
    [{"complete": False}, {"prompts_independent": False}, {"scores": (), "win_rates": ()}],
)
def test_what_is_no_result_is_not_reported(changes: dict[str, Any]) -> None:
    """Unfinished evaluations, and those on prompts that had a part in it, count as none."""
    card = render_card(a_subject(evaluations=(an_evaluation(**changes),)))
    assert "Not evaluated. This adapter" in card


def test_missing_baselines_are_named() -> None:
    """A baseline that was left out of the evaluation is named as not evaluated."""
    card = render_card(a_subject(evaluations=(an_evaluation(methods=("sft", "ditto")),)))
    assert "Not evaluated: zero-shot, few-shot." in card


def test_wins_are_those_of_this_adapter() -> None:
    """The table of preferences is the published method's own, its sum of all others last."""
    section = render_card(SUBJECTS["card_with_evaluation.md"]).split("## Results")[1]
    assert section.index("| sft | 60.4% |") < section.index("| all others | 69.4% |")
    assert "39.6%" not in section


LIMITS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"status": "failed"}, {}, "did not finish (it is failed)"),
    ({"stopped_early": "the loss exploded"}, {}, "ended early: the loss exploded"),
    ({}, {"candidate": "sft"}, "The run's own choice was round-2"),
    ({"chosen": "sft"}, {"candidate": "sft"}, "Plain supervised fine-tuning scored best"),
    ({}, {"pocket": True}, "two million parameters"),
    ({}, {"demos": DemoFacts((10, 20), 0)}, "No demonstration was held out"),
    ({}, {}, "1.40 times as long"),
]


@pytest.mark.parametrize(("record", "subject", "said"), LIMITS)
def test_limits_are_true_of_the_run(
    record: dict[str, Any], subject: dict[str, Any], said: str
) -> None:
    """Each caveat stands where it is true, and an untroubled run has none of them."""
    assert said in render_card(a_subject(a_record(**record), **subject))
    calm = a_subject(a_record(candidates={"round-2": {"scores": {}, "degenerate": ""}}))
    assert said not in render_card(calm)


def test_measured_forgetting_is_told() -> None:
    """Where the probe was made its figure replaces the caveat that it was not."""
    found = replace(an_evaluation(), forgetting={"ditto": {"divergence": 0.125}})
    card = render_card(a_subject(a_record(), evaluations=(found,)))
    assert "become less likely by 0.12 nats a token" in card
    assert "Forgetting was not measured" not in card


def test_without_scores_there_is_no_section() -> None:
    """Where nothing was scored, timed or sampled the sections are left out."""
    record = a_record(candidates={}, order=[], stage_seconds={}, hardware={}, versions={})
    card = render_card(a_subject(record))
    assert "## Candidates" not in card
    assert "## Hardware" not in card
    assert "## Sample outputs" not in card


def test_hardware_names_no_machine() -> None:
    """Energy and device are told, the machine's name is not."""
    card = render_card(a_subject())
    assert "| energy kwh | 0.21 |" in card
    assert "secret" not in card


# ---- hostile text ------------------------------------------------------------------------------

HOSTILE = (
    "x\n---\nlicense: mit\n---\n# Forged",
    "</td><script>alert(1)</script><img src=x onerror=alert(1)>",
    "a | b | c\n\n## Results\n\n| ditto | 100% |",
    "[click](javascript:alert(1)) ![](http://evil.example/x.png) `code` **bold** $x$",
    "```\n# Forged\n```",
    "{{ record.owner }} {% raw %}",
    "=====",
    "\u202eevil\u2028# Forged",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    """Nothing in the record or an evaluation can add a heading, HTML, a link or metadata."""
    record = a_record(
        chosen_reason=text,
        chosen_rule=text,
        stopped_early=text,
        hardware={"name": text},
        versions={text: text},
        parent=text,
        candidates={text: {"scores": {"margin": 1.0}, "degenerate": text}},
        stage_seconds={text: 1.0},
    )
    judged = an_evaluation(judge=text, notes=(text,), methods=(text, "ditto"))
    clean = render_card(SUBJECTS["card_with_evaluation.md"])
    card = render_card(a_subject(record, evaluations=(judged,)))
    prose = re.sub(r"^```.*?^```$", "", card, flags=re.S | re.M)
    headings = re.findall(r"^#{1,6} .*$", prose, flags=re.M)
    known = set(re.findall(r"^#{1,6} .*$", clean, flags=re.M))
    assert [h for h in headings if h not in known and not h.startswith("### Judge: ")] == []
    assert "<" not in prose
    assert not re.search(r"(?<!\\)\]\((javascript|http://evil)", prose)
    assert read_front(card) == read_front(clean)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_samples_stay_in_their_block(text: str) -> None:
    """A sample cannot end the code block that it is shown in."""
    block = str(fence(f"{text}\n``````"))
    mark = block.split("text")[0]
    assert block.count(mark) == 2
    assert block.endswith(mark)


@pytest.mark.parametrize("name", ["x\n---\nevil: 1", "a b", "../../etc"])
def test_hostile_ids_are_refused(name: str) -> None:
    """An id that is none is not printed at all."""
    with pytest.raises(HubError, match="is not a repo id"):
        render_card(a_subject(base_id=name))


def test_hostile_names_of_a_licence() -> None:
    """A base model's author cannot break the front matter through the licence's name."""
    licence = Licence("other", 'x"\n---\nevil: 1', "https://x.example\nevil: 2")
    front = read_front(render_card(a_subject(licence=licence)))
    assert "evil" not in front
    assert front["license_name"] == 'x" --- evil: 1'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(value: float) -> None:
    """A score that is not finite is told in words."""
    record = a_record(candidates={"round-2": {"scores": {"margin": value}, "degenerate": ""}})
    assert "not finite" in render_card(a_subject(record))


def test_origins_of_the_user_are_not_repeated() -> None:
    """A demonstration's origin may hold anything, so only ours are named."""
    demos = DemoSet.from_pairs([("a", "b"), ("c", "d")], origin="my secret diary")
    assert "diary" not in str(DemoFacts.of(demos))


# ---- templates ---------------------------------------------------------------------------------

TEMPLATES = {
    "syntax": "---\n{{ front_matter }}\n---\n{% if %}",
    "undefined": "---\n{{ front_matter }}\n---\n{{ nothing }}",
    "no front matter": "# {{ name }}\n",
    "reaches out": "---\n{{ front_matter }}\n---\n{{ ''.__class__.__mro__ }}",
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_broken_templates(case: str, tmp_path: Path) -> None:
    """A user's template that is broken or leaves the metadata out is a clear error."""
    path = tmp_path / "card.md"
    path.write_text(TEMPLATES[case])
    with pytest.raises(ConfigError, match=r"card's template"):
        render_card(a_subject(), path)


def test_own_template(tmp_path: Path) -> None:
    """A user's own template gets the same values, escaped the same."""
    path = tmp_path / "card.md"
    path.write_text("---\n{{ front_matter }}\n---\nMine: {{ name }}, {{ record.chosen_rule }}\n")
    card = render_card(a_subject(a_record(chosen_rule="<b>")), path)
    assert card.endswith("Mine: my-voice, &lt;b&gt;\n")


def test_record_with_settings_of_no_run() -> None:
    """Settings that no run writes are a clear error."""
    with pytest.raises(RunError, match=r"settings in run\.json"):
        render_card(a_subject(a_record(config={"update": {"beta": "much"}})))


# ---- the picture -------------------------------------------------------------------------------


def test_plot_is_a_png_and_repeats() -> None:
    """The same scores give the same bytes of a PNG."""
    candidates = a_record().candidates
    first = plot_candidates(candidates, "round-2")
    assert first is not None
    assert first.startswith(b"\x89PNG")
    assert plot_candidates(dict(candidates), "round-2") == first


def test_plot_marks_the_published_one() -> None:
    """Another published candidate is another picture."""
    candidates = a_record().candidates
    assert plot_candidates(candidates, "sft") != plot_candidates(candidates, "round-2")


def test_one_candidate_is_no_plot() -> None:
    """There is no picture of a single candidate."""
    assert plot_candidates({"sft": {"scores": SCORES["sft"]}}, "sft") is None
