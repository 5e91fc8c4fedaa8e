"""Texts side by side, a ballot, a tally, a report -> HTML; pure, everything escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import OTHERS, Evaluation, WinRate
from ditto_hub.words import Message, Text, say, told


def side_by_side(texts: Sequence[tuple[str, str]], kept: str, locale: str) -> str:
    """Return texts in columns that wrap where there is no room.

    Args:
        texts: (name of the method in words, text).
        kept: the name of the one that is the adapter; it is marked by a border and by its name.
    """
    cells = "".join(
        _column(name, text, "d-column d-kept" if name == kept else "d-column", locale)
        for name, text in texts
    )
    return f'<div class="d-columns">{cells}</div>'


def ballot(task: str, left: str, right: str, votes: tuple[int, int], locale: str) -> str:
    """Return a question: the task and two texts that no method is named for."""
    cast, planned = votes
    head = escape(say("ballot.progress", locale, n=cast + 1, of=planned))
    about = escape(say("ballot.task", locale))
    return (
        f'<p class="d-ballot-head" role="status">{head}</p>'
        f'<p class="d-task" dir="auto"><b>{about}:</b> {escape(task)}</p>'
        f'<div class="d-columns d-two">'
        f"{_column(say('ballot.left', locale), left, 'd-column', locale)}"
        f"{_column(say('ballot.right', locale), right, 'd-column', locale)}</div>"
    )


def own_texts(texts: Sequence[str]) -> str:
    """Return the author's own texts, to look at while voting."""
    cells = "".join(f'<p class="d-text" dir="auto">{escape(text)}</p>' for text in texts)
    return f'<div class="d-columns">{cells}</div>'


def tally(trial: Evaluation, cast: int, names: dict[str, str], locale: str) -> str:
    """Return the votes counted: a row a method, and the same in words.

    Args:
        cast: votes a person gave; equal texts count as ties beside.
        names: method -> its name in words.
    """
    rates = [r for r in (*trial.win_rates, *trial.seen_win_rates) if r.against == OTHERS]
    if not rates:
        return _note(say("tally.none", locale))
    best = sorted(rates, key=lambda r: -r.rate)
    title = escape(say("tally.title", locale, n=cast, tasks=len(trial.prompts)))
    skipped = sum(not pair.usable for pair in trial.pairs)
    notes = [say("tally.skipped", locale, n=skipped)] if skipped else []
    if any(prompt.seen for prompt in trial.prompts):
        notes.append(say("report.no_result", locale))
    notes += [say("tally.small", locale), *(told(n, locale) for n in trial.notes)]
    return (
        f'<h4 class="d-sub">{title}</h4>{_rates_table(best, names, locale)}'
        f'<p class="d-say">{escape(told(best[0].sentence(names), locale))}</p>'
        + "".join(_note(n) for n in notes)
    )


def report(
    evaluation: Evaluation,
    rows: Sequence[Sequence[str]],
    heads: Sequence[str],
    said: tuple[Sequence[Text], Sequence[Text]],
    plots: Sequence[tuple[str, bytes]],
    locale: str,
) -> str:
    """Return what one judge found out: plot, table, sentences, caveats.

    Args:
        rows: of the table; the first cell of each names it.
        heads: of the table.
        said: sentences of the comparison with each baseline, and caveats.
        plots: key of what one shows, and PNG.
    """
    judge = escape(say("report.judge", locale, judge=evaluation.judge))
    parts = [f'<section class="d-report"><h4 class="d-sub">{judge}</h4>']
    if not evaluation.prompts_independent:
        parts.append(_note(say("report.no_result", locale)))
    for key, png in plots:
        about = escape(say(key, locale), quote=True)
        parts.append(f'<img class="d-plot" alt="{about}" src="{data_url(png)}">')
    parts.append(_table(heads, rows))
    parts += [f'<p class="d-say">{escape(told(line, locale))}</p>' for line in said[0]]
    parts += [_note(told(line, locale)) for line in said[1]]
    return "".join(parts) + "</section>"


def no_report(locale: str) -> str:
    """Say that nothing has been evaluated."""
    return f'<p class="d-say">{escape(say("report.none", locale))}</p>'


def data_url(png: bytes) -> str:
    """Return a picture as an address that holds it, so that no file of it is served."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def chosen_words(run: Run, name: str, locale: str) -> str:
    """Say why a candidate is the adapter, with its name in words."""
    why = run.record.chosen_reason
    if isinstance(why, Message):
        why = Message(why.code, **{**why.values, "name": name})
    return told(why, locale)


def _column(name: str, text: str, kind: str, locale: str) -> str:
    shown = text.strip() or say("columns.empty", locale)
    return (
        f'<section class="{kind}"><h4>{escape(name)}</h4>'
        f'<p class="d-text" dir="auto">{escape(shown)}</p></section>'
    )


def _rates_table(rates: Sequence[WinRate], names: dict[str, str], locale: str) -> str:
    keys = ("method", "rate", "interval", "n", "wld")
    heads = [say(f"tally.{key}", locale) for key in keys]
    rows = [
        (
            names.get(r.method, r.method),
            f"{r.rate:.0%}",
            f"{r.low:.0%} – {r.high:.0%}",
            str(r.n),
            f"{r.wins}, {r.ties}, {r.losses}",
        )
        for r in rates
    ]
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="d-scroll" tabindex="0"><table class="d-table"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _note(text: str) -> str:
    return f'<p class="d-note">{escape(text)}</p>'
