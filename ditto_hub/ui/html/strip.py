"""One line on a run: where it is, how long it takes yet, or how it ended; pure."""

from __future__ import annotations

from html import escape

from ditto_hub.runs.progress import clock
from ditto_hub.ui.html.story import Story
from ditto_hub.words import say


def run_strip(story: Story, state: str, place: int | None, locale: str) -> str:
    """Return the line; how a run ended is read out, how it goes is not, every few seconds."""
    label = escape(say("strip.label", locale))
    role = "" if state in ("running", "waiting") else ' role="status"'
    words = escape(_words(story, state, place, locale))
    return f'<p class="d-strip d-{state}"{role}><b>{label}</b> {words}</p>'


def _words(story: Story, state: str, place: int | None, locale: str) -> str:
    parts = [say(f"state.{state}", locale)]
    if state == "waiting":
        ahead = place or 1
        parts.append(say("told.place" if ahead > 1 else "told.next", locale, n=ahead))
    if state == "running":
        parts = _going(story, locale)
    return say("strip.between", locale).join(parts)


def _going(story: Story, locale: str) -> list[str]:
    """Say the round or the stage, and the time left where it is known."""
    progress, rounds = story.progress, story.config.update.rounds
    if progress.round is not None and progress.round < rounds:
        where = say("strip.round", locale, n=progress.round + 1, of=rounds)
    else:
        where = say("strip.stage", locale, stage=say(f"stage.{progress.stage or 'base'}", locale))
    left = progress.seconds_left() if progress.stage else None
    return [where] if left is None else [where, say("told.left", locale, time=clock(left))]
