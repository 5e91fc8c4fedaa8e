"""What a run or a set of demonstrations says -> HTML; pure, everything from outside escaped."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Sequence
from html import escape

from ditto_hub.demos.findings import Finding
from ditto_hub.errors import describe
from ditto_hub.runs.folder import Run
from ditto_hub.runs.lease_words import Around, lease_words
from ditto_hub.runs.progress import clock
from ditto_hub.ui.html.story import Story
from ditto_hub.words import Message, known, say, told

COMPARED_PAIRS = 20_000  # of words or of lines: some 140 of each, a tenth of a second at worst
SAME = 2  # findings of a kind that are still told one by one
DEMO_ID = re.compile(r"\bdemo-(\d+)\b")


def notice(text: str, kind: str = "warning") -> str:
    """Return a line that says something; a warning is read out at once."""
    role = "alert" if kind == "warning" else "status"
    return f'<p class="d-notice d-{kind}" role="{role}">{escape(text)}</p>'


def failure(error: BaseException, locale: str) -> str:
    """Say what went wrong and what to do next."""
    what, remedy = describe(error, locale, page=True)
    return notice(f"{what} {remedy}".strip())


# ---- demonstrations ------------------------------------------------------------------------------


def findings(
    first: Finding, found: Sequence[Finding], cards: Sequence[int], tokens: int, locale: str
) -> str:
    """Say how many demonstrations there are, what would help most, and the rest.

    What holds of many demonstrations is said of the first, with the numbers of the others.

    Args:
        cards: number of the card on which each demonstration stands.
    """

    def words(finding: Finding) -> str:
        said = told(finding.said, locale)
        return escape(
            DEMO_ID.sub(lambda n: say("check.card", locale, n=cards[int(n[1]) - 1]), said)
        )

    def of_all(same: Sequence[Finding]) -> str:
        others = [of for f in same[1:] for of in _cards_of(f, cards)]
        told_of = words(same[0])
        if others:
            numbers = ", ".join(map(str, sorted(set(others))))
            told_of += f" {escape(say('check.same', locale, n=len(same) - 1, cards=numbers))}"
        if same[0].code == "empty-prompt":
            told_of += f" {escape(say('check.empty_prompt', locale))}"
        return told_of

    groups = _alike(found)
    count = len(cards)
    key = {0: "check.zero", 1: "check.one"}.get(count, "check.count")
    head = f'<p class="d-count">{escape(say(key, locale, n=count, tokens=tokens))}</p>'
    if not count:
        return head
    if first.code == "good":
        head += f'<p class="d-good">{escape(told(Message("findings.good"), locale))}</p>'
    else:
        most = escape(say("check.most", locale))
        same = next((s for s in groups if s[0].said == first.said), [first])
        head += f'<p class="d-most d-{first.level}"><b>{most}</b> {of_all(same)}</p>'
    rows = ""
    for same in groups:
        if same[0].said == first.said:
            continue
        level = escape(say(f"check.{same[0].level}", locale))
        rows += f'<li class="d-{same[0].level}"><b>{level}:</b> {of_all(same)}</li>'
    return f'{head}<ul class="d-findings">{rows}</ul>' if rows else head


def _alike(found: Sequence[Finding]) -> list[list[Finding]]:
    """Put findings of one code that name demonstrations together, where there are many."""
    groups: dict[str, list[Finding]] = {}
    for finding in found:
        groups.setdefault(finding.code if finding.ids else str(id(finding)), []).append(finding)
    return [
        part
        for group in groups.values()
        for part in ([group] if len(group) > SAME else [[finding] for finding in group])
    ]


def _cards_of(finding: Finding, cards: Sequence[int]) -> list[int]:
    """Return the number of the last card that a finding names."""
    numbers = [int(n) for n in DEMO_ID.findall(" ".join(finding.ids))]
    return [cards[n - 1] for n in numbers[-1:]]


def difference(before: str, after: str) -> str:
    """Show what was taken out of a text and what was put in: by words, of long edits by lines."""
    old, new = before.split(), after.split()
    if not _comparable(old, new):
        old, new = before.splitlines(), after.splitlines()
    parts = []
    for what, a, b, c, d in _opcodes(old, new):
        if what == "equal":
            parts.append(escape(" ".join(old[a:b])))
            continue
        if b > a:
            parts.append(f"<del>{escape(' '.join(old[a:b]))}</del>")
        if d > c:
            parts.append(f"<ins>{escape(' '.join(new[c:d]))}</ins>")
    return f'<p class="d-diff" dir="auto">{" ".join(parts)}</p>'


def _opcodes(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Return what turns one list into the other; what is too long to compare is replaced whole."""
    head, tail = _ends(old, new)
    a, b = old[head : len(old) - tail], new[head : len(new) - tail]
    if _comparable(old, new):
        found = difflib.SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes()
        middle = [(w, i + head, j + head, k + head, m + head) for w, i, j, k, m in found]
    else:
        middle = [("replace", head, len(old) - tail, head, len(new) - tail)]
    first = ("equal", 0, head, 0, head)
    last = ("equal", len(old) - tail, len(old), len(new) - tail, len(new))
    return [code for code in (first, *middle, last) if code[1] < code[2] or code[3] < code[4]]


def _comparable(old: list[str], new: list[str]) -> bool:
    """Tell whether what differs is short: repeated words make `difflib` cubic."""
    both = sum(_ends(old, new))
    return (len(old) - both) * (len(new) - both) <= COMPARED_PAIRS


def _ends(old: list[str], new: list[str]) -> tuple[int, int]:
    """Return how many of the first and of the last items two lists have in common."""
    shorter = min(len(old), len(new))
    head = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    left = shorter - head
    tail = next((i for i in range(left) if old[-1 - i] != new[-1 - i]), left)
    return head, tail


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
    about = escape(_told(story, state, place, locale))
    return (
        f'<div class="d-status d-{state}"><p class="d-state" role="status">{head}</p>'
        f'<div class="d-bar-row"><div class="d-bar" role="progressbar" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{percent}" aria-label="{head}">'
        f'<div style="width:{percent}%"></div></div><span class="d-percent">{percent} %</span>'
        "</div>"
        f'<p class="d-told">{about}</p>{_lease(story, state, locale, job_usd)}</div>'
    )


def _lease(story: Story, state: str, locale: str, job_usd: float | None) -> str:
    """Return what was last told of a GPU lease, where it still matters."""
    if story.lease is None or state in ("finished", "cancelled"):
        return ""
    line = lease_words(story.lease, Around(now=time.time(), job_usd=job_usd), locale)
    return f'<p class="d-note">{escape(line)}</p>' if line else ""


def _told(story: Story, state: str, place: int | None, locale: str) -> str:
    if state == "waiting":
        ahead = (place or 1) - 0
        return say("told.place", locale, n=ahead) if ahead > 1 else say("told.next", locale)
    if state == "running":
        return _now(story, locale)
    if state == "failed":
        return say("told.failed", locale, error=told(story.reason, locale))
    if state == "finished" and story.reason:
        return say("told.finished_early", locale, reason=told(story.reason, locale))
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


def stepper(story: Story, state: str, locale: str) -> str:
    """Return where a run is in a line of steps: warm start, each round, choosing."""
    names = [say("candidate.sft", locale)]
    names += [say("candidate.round", locale, n=n + 1) for n in range(story.config.update.rounds)]
    names.append(say("stepper.choosing", locale))
    here = len(names) if state == "finished" else _step_of(story)
    items = ""
    for number, name in enumerate(names):
        kind = "done" if number < here else "now" if number == here else "todo"
        current = ' aria-current="step"' if kind == "now" else ""
        items += f'<li class="d-{kind}"{current}>{escape(name)}</li>'
    return f'<ol class="d-stepper">{items}</ol>'


def _step_of(story: Story) -> int:
    """Return the number of the step under way: 0 the warm start, then the rounds, then choosing."""
    rounds, stage = story.config.update.rounds, story.progress.stage
    if stage in ("sft-long", "scoring") and story.progress.round is None:
        return rounds + 1
    if story.progress.round is None:
        return 0
    return min(story.progress.round, rounds) + 1


def verdict(lines: Sequence[tuple[str, str]]) -> str:
    """Return what came of a run, first of all: lines, each with its kind of notice."""
    return f'<div class="d-verdict">{"".join(notice(text, kind) for text, kind in lines)}</div>'


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
    key = f"candidate.{name}"
    return say(key, locale) if known(key) else name[:60]  # a record may name anything


def scores(story: Story, locale: str) -> str:
    """Return the candidates with their scores and the one that was kept, as a table."""
    if not story.scores:
        return ""
    heads = ("candidate", "held_out", "style", "length", "note")
    top = "".join(f'<th scope="col">{escape(say(f"scores.{h}", locale))}</th>' for h in heads)
    rows = ""
    for name, score in story.scores.items():
        note = told(story.degenerate.get(name, ""), locale)
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


def voices(texts: Sequence[tuple[str, str, bool]], at: int, locale: str) -> str:
    """Show the first text that was written for one prompt beside a later one, large.

    Args:
        texts: (heading, text, whether it ended); the first is what the person showed, the others
            what was written, in order.
        at: which of those that were written is shown beside the first of them.
    """
    own = "".join(_voice(*text, first=True, locale=locale) for text in texts[:1])
    if len(texts) < 2:
        none = escape(say("voice.none", locale))
        return f'<div class="d-voices">{own}<p class="d-note">{none}</p></div>'
    before, *later = texts[1:]
    pair = [before, later[min(max(at, 1), len(later)) - 1]] if later else [before]
    cells = "".join(_voice(*text, first=False, locale=locale) for text in pair)
    return f'<div class="d-voices d-pair">{cells}</div><div class="d-voices">{own}</div>'


def _voice(head: str, text: str, ended: bool, *, first: bool, locale: str) -> str:
    cut = "" if ended else f" <small>{escape(say('voice.cut', locale))}</small>"
    kind = " d-shown" if first else ""
    return (
        f'<section class="d-voice{kind}"><h4>{escape(head)}</h4>'
        f'<p dir="auto">{escape(text)}{cut}</p></section>'
    )
