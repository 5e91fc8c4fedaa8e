"""What a run or a set of demonstrations says -> HTML; pure, everything from outside escaped."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ditto_hub.demos import Finding
from ditto_hub.lease_words import WORDS as LEASE_WORDS
from ditto_hub.lease_words import Around, lease_line
from ditto_hub.progress import clock
from ditto_hub.runs import Run
from ditto_hub.ui.story import Story
from ditto_hub.ui.words import say, tell, tell_error, words

WORDS = {
    "state.created": "Ready to start",
    "state.waiting": "Waiting in line",
    "state.running": "Training",
    "state.paused": "Paused",
    "state.cancelled": "Cancelled",
    "state.failed": "Failed",
    "state.finished": "Finished",
    "state.left": "Stopped",
    "stage.warm-start": "warm start",
    "stage.sampling": "sampling",
    "stage.update": "update",
    "stage.scoring": "scoring",
    "stage.sft-long": "warm start continued",
    "stage.base": "loading the base model",
    "candidate.sft": "Warm start",
    "candidate.sft-long": "Warm start continued",
    "candidate.round": "Round {n}",
    "told.round": "round {n} of {of}",
    "told.step": "{stage}, step {step} of {of}",
    "told.left": "about {time} left",
    "told.no_left": "working out the time left",
    "told.place": "{n} before you",
    "told.next": "next in line",
    "told.took": "took {time}",
    "told.kept": "kept as the adapter",
    "told.cancelled": "What it has is kept. Resume goes on from there.",
    "told.paused": "What it has is kept. Resume goes on from there.",
    "told.left_over": "The server stopped while it worked. What it had is kept; Resume goes on.",
    "told.finished": "The adapter is ready: compare it, publish it, or download it.",
    "told.finished_early": "The adapter is ready. It stopped before its last round: {reason}",
    "told.failed": "{error} What it had is kept; Resume goes on from there.",
    "told.created": "Nothing has been trained yet. Resume starts it.",
    "voice.shown": "What you showed",
    "voice.before": "Before training",
    "voice.sft": "After the warm start",
    "voice.round": "After round {n}",
    "voice.sft-long": "After the warm start continued",
    "voice.none": "Nothing is written yet. The first texts come with round 1.",
    "voice.cut": "(cut at the length cap)",
    "scores.candidate": "Candidate",
    "scores.held_out": "Held-out loss",
    "scores.style": "Distance in style",
    "scores.length": "Length",
    "scores.note": "Note",
    "scores.about": "Lower is better for the first two; length is the samples' over yours.",
    "check.error": "Must be mended",
    "check.warning": "Doubtful",
    "check.advice": "Could be better",
    "check.most": "What would help most:",
    "check.count": "{n} demonstrations, about {tokens} tokens in all",
    "check.one": "1 demonstration, about {tokens} tokens",
    "check.zero": "No demonstration yet",
    "check.card": "Card {n}",
    "run.base": "Base model",
    "run.demos": "Demonstrations",
    "run.kept": "Kept",
    "run.started": "Started",
    "run.size": "On disk",
    "run.none": "You have no runs here yet.",
    "run.shown": "shown in the other steps",
}


LEASES = LEASE_WORDS.keys()  # words.py has them in every language
DEMO_ID = re.compile(r"\bdemo-(\d+)\b")
GOOD = "These demonstrations are ready to train on."


def notice(text: str, kind: str = "warning") -> str:
    """Return a line that says something; a warning is read out at once."""
    role = "alert" if kind == "warning" else "status"
    return f'<p class="d-notice d-{kind}" role="{role}">{escape(text)}</p>'


def told(error: BaseException, locale: str) -> str:
    """Say what went wrong and what to do next."""
    what, remedy = tell_error(error, locale)
    return notice(f"{what} {remedy}".strip())


# ---- demonstrations ------------------------------------------------------------------------------


def findings(
    first: Finding, found: Sequence[Finding], cards: Sequence[int], tokens: int, locale: str
) -> str:
    """Say how many demonstrations there are, what would help most, and the rest.

    Args:
        cards: number of the card on which each demonstration stands.
    """

    def words(finding: Finding) -> str:
        told = tell(finding.message, locale)
        return escape(
            DEMO_ID.sub(lambda n: say("check.card", locale, n=cards[int(n[1]) - 1]), told)
        )

    count = len(cards)
    key = {0: "check.zero", 1: "check.one"}.get(count, "check.count")
    head = f'<p class="d-count">{escape(say(key, locale, n=count, tokens=tokens))}</p>'
    if not count:
        return head
    if first.code == "good":
        head += f'<p class="d-good">{escape(tell(GOOD, locale))}</p>'
    else:
        most = escape(say("check.most", locale))
        head += f'<p class="d-most d-{first.level}"><b>{most}</b> {words(first)}</p>'
    rows = "".join(
        f'<li class="d-{f.level}"><b>{escape(say(f"check.{f.level}", locale))}:</b> {words(f)}</li>'
        for f in found
        if f.message != first.message
    )
    return f'{head}<ul class="d-findings">{rows}</ul>' if rows else head


def difference(before: str, after: str) -> str:
    """Show by words what was taken out of a text and what was put in."""
    old, new = before.split(), after.split()
    parts = []
    for what, a, b, c, d in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if what == "equal":
            parts.append(escape(" ".join(old[a:b])))
            continue
        if b > a:
            parts.append(f"<del>{escape(' '.join(old[a:b]))}</del>")
        if d > c:
            parts.append(f"<ins>{escape(' '.join(new[c:d]))}</ins>")
    return f'<p class="d-diff" dir="auto">{" ".join(parts)}</p>'


# ---- a run as it goes ----------------------------------------------------------------------------


def state_of(run: Run, place: int | None) -> str:
    """Return a run's state as a person sees it.

    Args:
        place: in the line of this machine: 0 under work, None not in it.
    """
    if place is not None:
        return "waiting" if place else "running"
    return "left" if run.record.status == "running" else run.record.status


def status(
    story: Story, state: str, place: int | None, locale: str, job_usd: float | None = None
) -> str:
    """Return the headline, a bar with its number in words, and what to do next.

    Args:
        job_usd: what the rest would cost as a Job, 0 where that is not known; None for no offer.
    """
    share = 1.0 if state == "finished" else story.progress.fraction
    percent = round(100 * share)
    head = escape(say(f"state.{state}", locale))
    told = escape(_told(story, state, place, locale))
    return (
        f'<div class="d-status d-{state}"><p class="d-state" role="status">{head}</p>'
        f'<div class="d-bar-row"><div class="d-bar" role="progressbar" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{percent}" aria-label="{head}">'
        f'<div style="width:{percent}%"></div></div><span class="d-percent">{percent} %</span>'
        "</div>"
        f'<p class="d-told">{told}</p>{_lease(story, state, locale, job_usd)}</div>'
    )


def _lease(story: Story, state: str, locale: str, job_usd: float | None) -> str:
    """Return what was last told of a GPU lease, where it still matters."""
    if story.lease is None or state in ("finished", "cancelled"):
        return ""
    texts = {key: told.get(locale, told["en"]) for key, told in words().items() if key in LEASES}
    line = lease_line(story.lease, Around(now=time.time(), job_usd=job_usd)).put(texts)
    return f'<p class="d-note">{escape(line)}</p>' if line else ""


def _told(story: Story, state: str, place: int | None, locale: str) -> str:
    if state == "waiting":
        ahead = (place or 1) - 0
        return say("told.place", locale, n=ahead) if ahead > 1 else say("told.next", locale)
    if state == "running":
        return _now(story, locale)
    if state == "failed":
        return say("told.failed", locale, error=tell(story.reason, locale))
    if state == "finished" and story.reason:
        return say("told.finished_early", locale, reason=tell(story.reason, locale))
    key = {"left": "left_over"}.get(state, state)
    return say(f"told.{key}", locale)


def _now(story: Story, locale: str) -> str:
    progress = story.progress
    if not progress.stage:
        return say("stage.base", locale)
    stage = say(f"stage.{progress.stage}", locale)
    parts = [say("told.step", locale, stage=stage, step=progress.step, of=progress.total_steps)]
    rounds = story.config.update.rounds
    if progress.round is not None and progress.round < rounds:
        parts.insert(0, say("told.round", locale, n=progress.round + 1, of=rounds))
    left = progress.seconds_left()
    parts.append(
        say("told.no_left", locale) if left is None else say("told.left", locale, time=clock(left))
    )
    return ", ".join(parts)


def timeline(story: Story, state: str, locale: str) -> str:
    """Return the stages as a list: behind, under way, to come."""
    rows = []
    now = (story.progress.stage, story.progress.round)
    for name, t, _ in story.plan:
        seconds = story.stages.get((name, t))
        kind = "done" if seconds is not None else "todo"
        if seconds is None and (name, t) == now and state != "finished":
            kind = "now"
        label = say(f"stage.{name}", locale)
        if t is not None and name != "scoring":
            label = f"{say('candidate.round', locale, n=t + 1)}: {label}"
        took = (
            f" <small>{escape(say('told.took', locale, time=clock(seconds)))}</small>"
            if (seconds is not None)
            else ""
        )
        mark = {"done": "✓", "now": "▸", "todo": "·"}[kind]
        current = ' aria-current="step"' if kind == "now" else ""
        rows.append(
            f'<li class="d-{kind}"{current}><span aria-hidden="true">{mark}</span>'
            f"{escape(label)}{took}</li>"
        )
    return f'<ol class="d-timeline">{"".join(rows)}</ol>'


def candidate_name(name: str, locale: str) -> str:
    """Return a candidate's name in words."""
    if name.startswith("round-"):
        return say("candidate.round", locale, n=name.removeprefix("round-"))
    return say(f"candidate.{name}", locale)


def scores(story: Story, locale: str) -> str:
    """Return the candidates with their scores and the one that was kept, as a table."""
    if not story.scores:
        return ""
    heads = ("candidate", "held_out", "style", "length", "note")
    top = "".join(f'<th scope="col">{escape(say(f"scores.{h}", locale))}</th>' for h in heads)
    rows = ""
    for name, score in story.scores.items():
        note = tell(story.degenerate.get(name, ""), locale)
        if name == story.kept:
            note = say("told.kept", locale)
        cells = [_figure(score.get(k)) for k in ("held_out_loss", "style_distance", "length_ratio")]
        kept = ' class="d-kept"' if name == story.kept else ""
        rows += (
            f'<tr{kept}><th scope="row">{escape(candidate_name(name, locale))}</th>'
            + "".join(f"<td>{c}</td>" for c in cells)
            + f"<td>{escape(note)}</td></tr>"
        )
    about = escape(say("scores.about", locale))
    return (
        f'<div class="d-scroll" tabindex="0"><table class="d-table"><thead><tr>{top}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="d-note">{about}</p>'
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def voices(texts: Sequence[tuple[str, str, bool]], locale: str) -> str:
    """Show what was shown and what was written for one prompt, side by side.

    Args:
        texts: (heading, text, whether it ended); the first is what the person showed.
    """
    if len(texts) < 2:
        shown = _voice(*texts[0], first=True, locale=locale) if texts else ""
        none = escape(say("voice.none", locale))
        return f'<div class="d-voices">{shown}<p class="d-note">{none}</p></div>'
    cells = "".join(
        _voice(head, text, ended, first=n == 0, locale=locale)
        for n, (head, text, ended) in enumerate(texts)
    )
    return f'<div class="d-voices">{cells}</div>'


def _voice(head: str, text: str, ended: bool, *, first: bool, locale: str) -> str:
    cut = "" if ended else f" <small>{escape(say('voice.cut', locale))}</small>"
    kind = " d-shown" if first else ""
    return (
        f'<section class="d-voice{kind}"><h4>{escape(head)}</h4>'
        f'<p dir="auto">{escape(text)}{cut}</p></section>'
    )


# ---- my runs -------------------------------------------------------------------------------------


def run_card(run: Run, state: str, size: int, shown: bool, locale: str) -> str:
    """Return one run of My runs: state, base, demonstrations, scores, age, size."""
    record = run.record
    kept = candidate_name(record.chosen, locale) if record.chosen else "–"
    score: Mapping[str, Any] = record.candidates.get(record.chosen or "", {}).get("scores", {})
    if "held_out_loss" in score:
        kept += f", {say('scores.held_out', locale).lower()} {score['held_out_loss']:.2f}"
    facts = {
        "base": str(record.base_model["id"]),
        "demos": str(_lines(run)),
        "kept": kept,
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created)),
        "size": f"{size / 1e6:.1f} MB",
    }
    rows = "".join(
        f"<div><dt>{escape(say(f'run.{k}', locale))}</dt><dd>{escape(v)}</dd></div>"
        for k, v in facts.items()
    )
    here = f" <small>{escape(say('run.shown', locale))}</small>" if shown else ""
    return (
        f'<div class="d-run d-{state}"><p class="d-run-head"><b>{escape(record.id)}</b>'
        f' <span class="d-badge">{escape(say(f"state.{state}", locale))}</span>{here}</p>'
        f'<dl class="d-facts">{rows}</dl></div>'
    )


def run_list_empty(locale: str) -> str:
    """Say that there is no run yet."""
    return notice(say("run.none", locale), "plain")


def _lines(run: Run) -> int:
    path = run.folder / "demos.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0
