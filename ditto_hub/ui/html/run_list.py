"""My runs -> HTML, each with its buttons; pure, everything from outside escaped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ditto_hub.runs.folder import LONGEST_NAME, Run
from ditto_hub.runs.progress import plan_of
from ditto_hub.ui.html.receipts import size_words
from ditto_hub.ui.html.render import candidate_name, notice
from ditto_hub.words import say

AT_WORK = ("running", "waiting")


@dataclass(frozen=True)
class Row:
    """Hold what My runs shows of a run.

    Args:
        run: whose.
        state: as a person sees it.
        size: of its folder in bytes.
        text: one that it wrote last, or else was shown.
    """

    run: Run
    state: str
    size: int
    text: str

    @property
    def resumable(self) -> bool:
        """Whether it stopped before its end."""
        return self.state not in (*AT_WORK, "finished")

    def matches(self, wanted: str, locale: str) -> bool:
        """Tell whether a row has the words that somebody looks for."""
        record = self.run.record
        told = (self.run.title, record.id, record.base_model["id"], say(_state(self), locale))
        return wanted.strip().casefold() in " ".join(map(str, told)).casefold()


def run_list(rows: Sequence[Row], wanted: str, shown: str, locale: str) -> str:
    """Return My runs, each with its buttons (`PRESS_JS`).

    Args:
        wanted: words that the shown ones have; "" for all.
        shown: id of the run that is on the page.
    """
    if not rows:
        return notice(say("run.none", locale), "plain")
    found = [row for row in rows if row.matches(wanted, locale)]
    size = size_words(sum(row.size for row in rows))
    total = escape(say("runs.total", locale, n=len(found), of=len(rows), size=size))
    cards = "".join(
        f'<article class="d-card">{run_card(row, row.run.record.id == shown, locale)}'
        f"{_buttons(number, row, locale)}</article>"
        for number, row in enumerate(found, start=1)
    )
    return f'<p class="d-note" role="status">{total}</p>{cards}'


def _state(row: Row) -> str:
    return f"state.{row.state}"


def run_card(row: Row, shown: bool, locale: str) -> str:
    """Return a run: its name, its state, a text, and what else there is to know."""
    here = f" <small>{escape(say('run.shown', locale))}</small>" if shown else ""
    rows = "".join(
        f"<div><dt>{escape(say(f'run.{key}', locale))}</dt><dd>{escape(value)}</dd></div>"
        for key, value in _facts(row, locale).items()
    )
    return (
        f'<div class="d-run d-{row.state}"><p class="d-run-head">'
        f'<b dir="auto">{escape(row.run.title)}</b>'
        f' <span class="d-badge">{escape(_where(row, locale))}</span>{here}</p>'
        f'<p class="d-run-text" dir="auto">{escape(row.text)}</p>'
        f'<dl class="d-facts">{rows}</dl></div>'
    )


def _where(row: Row, locale: str) -> str:
    """Return a run's state, and where it stopped if it did."""
    state = say(_state(row), locale)
    if not row.resumable or not row.run.record.stages:
        return state
    plan = plan_of(row.run.config, _demos(row.run))
    percent = round(100 * len(row.run.record.stages) / len(plan))
    return say("runs.stopped_at", locale, state=state, percent=min(percent, 99))


def _facts(row: Row, locale: str) -> dict[str, str]:
    record = row.run.record
    kept = candidate_name(record.chosen, locale) if record.chosen else "–"
    score: Mapping[str, Any] = record.candidates.get(record.chosen or "", {}).get("scores", {})
    if "held_out_loss" in score:
        kept += f", {say('scores.held_out', locale).lower()} {score['held_out_loss']:.2f}"
    return {
        "base": str(record.base_model["id"]),
        "demos": str(_demos(row.run)),
        "kept": kept,
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created)),
        "size": size_words(row.size),
        "id": record.id,
    }


def _demos(run: Run) -> int:
    path = run.folder / "demos.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _buttons(number: int, row: Row, locale: str) -> str:
    """Return what can be done with a run; what asks for more folds out."""
    run, buttons = row.run, []

    def button(name: str, event: str, step: str = "", kind: str = "d-small") -> str:
        return (
            f'<button type="button" class="{kind}" id="runs-{name}-{number}" data-event="{event}"'
            f' data-run="{escape(run.record.id)}" data-step="{step}">'
            f"{escape(say(f'runs.{name}', locale))}</button>"
        )

    def fold(name: str, content: str) -> str:
        return (
            f'<details name="runs-{number}" data-fold="{name}-{escape(run.record.id)}">'
            f'<summary class="d-small" id="runs-{name}-{number}">'
            f"{escape(say(f'runs.{name}', locale))}</summary>"
            f'<div class="d-fold">{content}</div></details>'
        )

    if row.resumable:
        buttons.append(button("resume", "retry", kind="d-small d-first"))
    buttons.append(button("open", "select", "train"))
    if run.candidates():
        buttons.append(button("try", "select", "compare"))
    if (run.folder / "adapter").is_dir():
        buttons += [button("publish", "select", "publish"), button("again", "edit", "show")]
    label = escape(say("runs.name", locale), quote=True)
    field = (
        f'<input type="text" dir="auto" maxlength="{LONGEST_NAME}" aria-label="{label}"'
        f' value="{escape(run.title, quote=True)}" />'
    )
    buttons.append(fold("rename", field + button("save", "apply")))
    buttons.append(fold("delete", button("sure", "delete", kind="d-stop")))
    return f'<div class="d-card-foot">{"".join(buttons)}</div>'


def parent_panel(run: Run, locale: str) -> str:
    """Return what a new run goes on from: the old demonstrations, apart from the new ones."""
    demos = run.demos()
    head = escape(say("runs.goes_on", locale, name=run.title))
    about = escape(say("runs.goes_on_about", locale, n=len(demos)))
    old = escape(say("runs.old_demos", locale, n=len(demos)))
    items = "".join(
        f'<li><p class="d-task" dir="auto"><b>{escape(demo.prompt_text)}</b></p>'
        f'<p class="d-text" dir="auto">{escape(demo.completion)}</p></li>'
        for demo in demos
    )
    return (
        f'<div class="d-parent"><p class="d-say"><b dir="auto">{head}</b> {about}</p>'
        f'<details><summary>{old}</summary><ol class="d-old">{items}</ol></details></div>'
    )
