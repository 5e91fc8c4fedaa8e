"""Events and folders -> what is shown; pure."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import tiny_config, tiny_demos

from ditto_hub import events as ev
from ditto_hub.cost.estimates import Budget, Estimate
from ditto_hub.cost.profiles import load_profile
from ditto_hub.demos.findings import Finding
from ditto_hub.ditto.loop import plan, total_steps
from ditto_hub.runs import results
from ditto_hub.runs.folder import Run
from ditto_hub.runs.progress import plan_of
from ditto_hub.ui.html import render
from ditto_hub.ui.html.charts import Line, chart
from ditto_hub.ui.html.estimates import about_time, estimate_words
from ditto_hub.ui.html.run_charts import charts
from ditto_hub.ui.html.run_list import Row, parent_panel, run_list
from ditto_hub.ui.html.story import Story, Tail, Tails
from ditto_hub.ui.html.terms import privacy
from ditto_hub.ui.serving.samples import BASE_FILE, base_texts, texts_for, verdict_of
from ditto_hub.words import Message, say, told

EVIL = '<script>alert("x")</script>'
SCORES = {"held_out_loss": 1.5, "style_distance": 0.4, "length_ratio": 1.1}


def tiny_events() -> list[ev.Event]:
    """Return what a run of two rounds has told when it is half through."""
    told: list[ev.Event] = [
        ev.RunStarted(base_model="pocket", demonstrations=2, held_out=1, total_stages=7, time=0),
        ev.StageStarted(stage="warm-start", index=0, total_steps=2, time=1),
    ]
    for step in (1, 2):
        told.append(
            ev.StepTaken(
                stage="warm-start", step=step, total_steps=2, loss=2.0 - step / 2,
                learning_rate=0.1, grad_norm=1.0, metrics={"held_out_loss": 2.5}, time=1 + step,
            )
        )  # fmt: skip
    told += [
        ev.StageFinished(stage="warm-start", seconds=4, time=5),
        ev.StageStarted(stage="sampling", round=0, index=1, total_steps=1, time=5),
        ev.CandidateScored(stage="sampling", round=0, name="sft", scores=SCORES, time=6),
        ev.StageFinished(stage="sampling", round=0, seconds=2, time=7),
        ev.StageStarted(stage="update", round=0, index=2, total_steps=2, time=7),
        ev.StepTaken(
            stage="update", round=0, step=1, total_steps=2, loss=0.69, learning_rate=0.1,
            grad_norm=1.0, metrics={"margin": 0.2, "chosen_log_prob": -9.0}, time=9,
        ),
    ]  # fmt: skip
    return told


def story_of(*events: ev.Event) -> Story:
    """Return the story of a run that told these events."""
    story = Story(tiny_config())
    for event in events or tiny_events():
        story.see(event)
    return story


class Sound(HTMLParser):
    """Check that every tag that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        """Take one that closes itself as it is."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "settings", [(), ("update.rounds=3", "sampling.batch_rows=3"), ("selection.sft_long=false",)]
)
@pytest.mark.parametrize("demos", [2, 7])
def test_the_plan_is_the_loops(settings: tuple[str, ...], demos: int) -> None:
    """The stages known without loading the algorithm are those the loop runs."""
    config = tiny_config(*settings)
    expected = [(name, t, total_steps(config, name, demos)) for name, t in plan(config)]
    assert plan_of(config, demos) == expected


def test_a_story_goes_by_the_last_word() -> None:
    """A step told again after a resume stands once; the end of an earlier stretch is forgotten."""
    events = tiny_events()
    again = replace(events[3], loss=9.0)
    story = story_of(*events, ev.RunPaused(reason="closed"), events[0], again)  # type: ignore[arg-type]
    assert story.warm == {1: (1.5, 2.5), 2: (9.0, 2.5)}
    assert story.ended == ""


@pytest.mark.parametrize(
    ("event", "ended"),
    [
        (ev.RunPaused(reason="closed"), "paused"),
        (ev.RunCancelled(), "cancelled"),
        (ev.RunFailed(error="X", message="m"), "failed"),
        (ev.RunFinished(chosen="sft", seconds=1), "finished"),
    ],
)
def test_a_story_ends_as_the_run_does(event: ev.Event, ended: str) -> None:
    """The four ways in which work on a run ends are told apart."""
    assert story_of(*tiny_events(), event).ended == ended


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Make a run that has told its events and written texts, one of them markup."""
    made = Run.create(
        tiny_demos(2), {"id": "pocket"}, tiny_config(), tmp_path / "run", owner="browser:x"
    )
    made.append_events(tiny_events())
    row = {"demo": "demo-1", "text": EVIL, "ended": False}
    made.write("rollouts/round-0.jsonl", json.dumps(row).encode() + b"\n")
    return made


def test_a_tail_reads_each_event_once_and_no_half_line(run: Run) -> None:
    """What a crash cut is left for later; what was read is not read again."""
    tail = Tail(run)
    seen = tail.look().seen
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"v": 1, "type": "RunCancelled"')
    assert tail.look().seen == seen
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b"}\nno json\n")
    assert tail.look().seen == seen + 1


def test_tails_forget_the_oldest(run: Run, tmp_path: Path) -> None:
    """The memory of many visitors' runs is bounded."""
    tails = Tails(most=1)
    other = Run.create(tiny_demos(2), {"id": "pocket"}, tiny_config(), tmp_path / "other")
    tails.story(run)
    tails.story(other)
    assert list(tails._tails) == [other.record.id]


@pytest.mark.parametrize(
    ("status", "place", "state"),
    [
        ("created", 2, "waiting"),
        ("created", 0, "running"),
        ("running", 0, "running"),
        ("running", None, "left"),
        ("paused", None, "paused"),
        ("finished", None, "finished"),
    ],
)
def test_states(run: Run, status: str, place: int | None, state: str) -> None:
    """A record that says running while nobody works on it was left by a server that stopped."""
    run.record.status = status
    assert render.state_of(run, place) == state


@pytest.mark.parametrize(
    ("state", "place", "words"),
    [
        ("waiting", 1, "next in line"),
        ("waiting", 3, "3 before you"),
        ("running", 0, "round 1 of 2, update, step 1 of 2"),
        ("left", None, "The server stopped"),
        ("finished", None, "Try it, compare it"),
    ],
)
def test_status_says_it_in_words_beside_the_bar(state: str, place: int | None, words: str) -> None:
    """The bar has its number and its meaning in text."""
    shown = render.status(story_of(), state, place, "en")
    assert words in shown
    percent = re.search(r'aria-valuenow="(\d+)"', shown)
    assert percent is not None
    assert f"{percent[1]} %" in shown
    Sound(shown)


def test_the_timeline_marks_where_the_run_is() -> None:
    """Stages are behind, under way (one), or to come, in the order of the plan."""
    shown = render.timeline(story_of(), "running", "en")
    assert re.findall(r'<li class="d-(\w+)"', shown) == ["done", "done", "now"] + ["todo"] * 5
    assert shown.count('aria-current="step"') == 1
    Sound(shown)


def test_a_chart_is_there_once_it_has_data() -> None:
    """Nothing before the first point; then the curves stand in a fold, all that have data."""
    drawn = charts(story_of(), "en")
    assert charts(Story(tiny_config()), "en") == ""
    assert drawn.startswith('<details class="d-curves"><summary>Training curves')
    assert drawn.count('<svg viewBox="0 0 300') == 4
    Sound(drawn)


@pytest.mark.parametrize(
    "points", [[], [(0, 1.0)], [(0, 2.0), (1, 2.0)], [(0, float("nan")), (1, 1.0)],
               [(n, n * 1e-9) for n in range(5000)]]
)  # fmt: skip
def test_a_chart_takes_any_numbers(points: list[tuple[float, float]]) -> None:
    """No points, one, level ones, none-numbers and thousands: sound HTML without a NaN."""
    shown = chart("A & B", [Line("<one>", points)], "step", "nothing yet")
    assert "nan" not in shown
    assert "A &amp; B" in shown
    assert len(shown) < 20_000
    Sound(shown)


def test_a_chart_names_its_last_values() -> None:
    """What a sighted person reads off the lines stands in words too."""
    shown = chart("Loss", [Line("here", [(1, 3.0), (2, 1.25)])], "step", "")
    assert 'aria-label="Loss: here 1.25"' in shown


def test_the_kept_candidate_is_marked_in_words() -> None:
    """The table says which one was kept; colour alone does not."""
    story = story_of(*tiny_events(), ev.CandidateChosen(name="sft", rule="last", reason="r"))
    shown = render.scores(story, "en")
    assert shown.count("kept as the adapter") == 1
    assert "1.50" in shown
    Sound(shown)


def test_texts_stand_in_the_order_of_training(run: Run) -> None:
    """Shown, before, after the warm start."""
    rows = json.dumps({"demo": "demo-1", "text": "before"}) + "\n"
    run.write(BASE_FILE, rows.encode())
    assert base_texts(run) == {"demo-1": "before"}
    heads = [head for head, _, _ in texts_for(run, "demo-1", 0, "en")]
    assert heads == ["What you showed", "Before training", "After the warm start"]
    assert texts_for(run, "none", 0, "en") == []


def test_what_the_kept_candidate_wrote_comes_last(run: Run) -> None:
    """Beside the first text: whatever was kept, what stands first stays there."""
    line = json.dumps({"demo": "demo-1", "text": "one", "ended": True}) + "\n"
    for name in ("round-0", "sft-long", "round-1"):
        run.write(f"rollouts/{name}.jsonl", line.encode())

    def heads(chosen: str) -> list[str]:
        run.record.chosen = chosen
        return [head for head, _, _ in texts_for(run, "demo-1", 0, "en")][1:]

    start, long, one = "After the warm start", "After the warm start continued", "After round 1"
    assert heads("sft-long") == [start, one, f"{long}: your adapter"]
    assert heads("round-1") == [start, long, f"{one}: your adapter"]
    assert heads("sft") == [f"{start}: your adapter", long, one]
    run.write(BASE_FILE, line.encode())
    assert heads("sft") == ["Before training", long, one, f"{start}: your adapter"]


def test_a_text_that_was_cut_is_told_as_such(run: Run) -> None:
    """At the length cap."""
    assert "cut at the length cap" in render.voices(texts_for(run, "demo-1", 3, "en"), 9, "en")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ok \ufffd\ufffd", "not readable writing"),
        (" ", "texts are empty"),
        ("COPY", "copy most of an example"),
        ("and so on and on " * 20, "repeat themselves"),
        ("A fair text of its own.", "Whether it beats prompting alone is not measured"),
    ],
)
def test_a_verdict_names_what_is_wrong(run: Run, text: str, said: str) -> None:
    """Gibberish, empty and copied texts are called so; a sound one claims nothing unmeasured."""
    demo = run.demos().train[0]
    row = {"demo": demo.id, "text": demo.completion if text == "COPY" else text, "ended": True}
    run.write("rollouts/round-0.jsonl", (json.dumps(row) + "\n").encode())
    run.record.chosen = "sft"
    first, *_ = verdict_of(run, "en")
    assert said in first[0]
    assert verdict_of(run, "en")[-1][0].startswith("Kept: Warm start.")


def test_a_degenerate_candidate_is_no_good_news(run: Run) -> None:
    """What selection found is said, also where nothing better was there to keep."""
    why = Message("ditto.no_end", share=1.0)
    run.record.candidates = {"sft": {"scores": SCORES, "degenerate": why}}
    run.record.chosen = "sft"
    run.save_record()
    said, kind = verdict_of(Run.load(run.folder), "en")[0]
    assert kind == "warning"
    assert told(why) in said


@pytest.mark.parametrize(
    ("method", "against", "low", "high", "said"),
    [
        ("ditto", "few-shot", 0.6, 0.9, "better"),
        ("few-shot", "ditto", 0.6, 0.9, "worse"),
        ("ditto", "few-shot", 0.4, 0.7, "even"),
    ],
)
def test_a_verdict_is_what_was_measured(
    run: Run, method: str, against: str, low: float, high: float, said: str
) -> None:
    """Against prompting, from whichever side it was told, under the name the round had then."""
    rate = results.WinRate(
        method, against, 5, 0, 3, 8, 0, (low + high) / 2, low, high, 4, "wilson", True
    )
    prompts = tuple(results.EvaluationPrompt(f"p{i}", ()) for i in range(4))
    found = results.Evaluation(
        "stylometric", "stylometric", "2026-11-27", "user", True, (method, against), prompts,
        settings={"ditto": "round-1"}, win_rates=(rate,), complete=True,
    )  # fmt: skip
    results.save(run, found)
    run.record.chosen = "round-1"
    standing = verdict_of(run, "en")[0][0]
    shares = [low, high] if method == "ditto" else [1 - high, 1 - low]
    figures = {
        "rate": f"{sum(shares) / 2:.0%}",
        "low": f"{shares[0]:.0%}",
        "high": f"{shares[1]:.0%}",
    }
    assert standing == say(f"verdict.{said}", "en", n=8, **figures)


def test_no_text_becomes_markup(run: Run) -> None:
    """Texts of users, models and errors are escaped wherever they are shown."""
    finding = Finding("warning", "x", EVIL)
    run.record.base_model = {"id": EVIL}
    run.rename(EVIL)
    shown = [
        render.voices(texts_for(run, "demo-1", 0, "en"), 9, "en"),
        render.findings(finding, [finding], [1], 1, "en"),
        render.difference(EVIL, f"{EVIL} more"),
        render.notice(EVIL),
        render.failure(ValueError(EVIL), "en"),
        run_list([Row(run, "paused", 1, EVIL)], "", run.record.id, "en"),
        parent_panel(run, "en"),
        render.status(story_of(ev.RunFailed(error="X", message=EVIL)), "failed", None, "en"),
    ]
    for html in shown:
        assert "<script" not in html
        Sound(html)


def test_a_difference_shows_what_was_taken_and_put() -> None:
    """Words that stay, go and come are told apart."""
    shown = render.difference("Dear all, see you", "hey all, see you soon")
    assert "<del>Dear</del> <ins>hey</ins> all, see you <ins>soon</ins>" in shown


@pytest.mark.parametrize(("count", "words"), [(0, "No demonstration yet"), (1, "1 demonstration,")])
def test_findings_count(count: int, words: str) -> None:
    """None and one have words of their own."""
    assert words in render.findings(Finding("advice", "good", ""), [], range(count), 9, "en")


def test_what_holds_of_many_cards_is_said_once() -> None:
    """Thirty findings of a kind are one line with their number; two are told one by one."""
    each = [
        Finding("warning", "over-long", f"demo-{n} is long.", (f"demo-{n}",)) for n in range(1, 31)
    ]
    good = Finding("advice", "good", "")
    shown = render.findings(good, each, range(1, 31), 9, "en")
    assert shown.count("<li") == 1
    assert "Card 1 is long. The same holds of 29 more: 2, 3, 4" in shown
    assert render.findings(good, each[:2], [1, 2], 9, "en").count("<li") == 2
    shown = render.findings(each[0], each, range(1, 31), 9, "en")
    assert "29 more" in shown
    assert "<li" not in shown  # it stands under what would help most
    assert "<li" not in render.findings(each[0], each[:1], [1], 9, "en")


def test_a_finding_names_the_card() -> None:
    """Empty cards are no demonstrations, so the second one may stand on the third card."""
    found = Finding("warning", "duplicate", "demo-1 and demo-2 are the same; it counts twice.")
    shown = render.findings(Finding("advice", "good", ""), [found], [1, 3], 9, "en")
    assert "Card 1 and Card 3 are the same" in shown


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (80, "80 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_time_in_a_persons_units(seconds: float, words: str) -> None:
    """Seconds, minutes and hours."""
    assert about_time(seconds, "en") == words


def test_an_estimate_says_leases_and_what_would_fit() -> None:
    """On ZeroGPU the leases and the quota; where it does not fit, what would."""
    found = Estimate(
        {"update": 100.0}, 9_000_000_000, "computed", words="a GPU", fits=False, possible=False,
        remedies=("a smaller base",), budget=Budget(3, 5, 10, 150, 30, 5),
    )  # fmt: skip
    shown = estimate_words(found, load_profile("zerogpu"), "en")
    for words in (
        "2 min",
        "drafting 10 s, training 150 s, comparing 30 s, trying the result 5 s",
        "300 s a day",
        "195 s",
        "9.0 GB",
        "a smaller base",
        "does not fit",
    ):
        assert words in shown
    Sound(shown)


def test_a_refused_run_is_told_what_a_job_would_cost() -> None:
    """The price of the rest as a Job stands in the refusal; without an offer, nothing."""
    story = Story(tiny_config())
    story.lease = ev.LeaseRefused(reason="quota", asked_s=90, left_s=41, retry_at=2e9)
    shown = render.status(story, "paused", None, "en", 0.4)
    assert "or now with a Job for about $0.40." in shown
    assert "Job" not in render.status(story, "paused", None, "en")


def test_a_job_is_priced_with_its_setting_up() -> None:
    """On hardware that is not the Space's, the money, five minutes of setting up in it."""
    found = Estimate({"update": 300.0}, 1, "computed", device="a10g-small", words="a GPU",
                     price_usd=0.1)  # fmt: skip
    shown = estimate_words(found, load_profile("cpu"), "en")
    assert "$0.17" in shown
    assert "5 minutes" in shown


@pytest.mark.parametrize("name", ["own", "cpu", "gpu", "zerogpu"])
@pytest.mark.parametrize("locale", ["en", "zh-TW", "zh-CN"])
def test_privacy_says_what_how_long_and_how_to_delete(name: str, locale: str) -> None:
    """Six lines in each language and on each kind of machine."""
    shown = privacy(load_profile(name), locale)
    assert shown.count("<li>") == 6
    Sound(shown)
