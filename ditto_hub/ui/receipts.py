"""A publication as it goes, its card, and its receipt -> HTML; pure, everything escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ditto_hub.ui.columns import data_url
from ditto_hub.ui.words import say, tell

if TYPE_CHECKING:
    from ditto_hub.hub.packing import CardPreview
    from ditto_hub.hub.receipt import Receipt

WORDS = {
    "receipt.private": "private: only those who may see your repos",
    "receipt.public": "public: everybody",
    "receipt.done": "Published",
    "receipt.same": "Up to date: everything was there already",
    "receipt.where": "Where",
    "receipt.who": "Who sees it",
    "receipt.commit": "Version",
    "receipt.base": "Base model",
    "receipt.check": "Load-back check",
    "receipt.passed": "passed",
    "receipt.failed": "FAILED",
    "receipt.not-run": "not made",
    "receipt.files": "{n} files, {size}",
    "receipt.again": "Nothing has to be trained again. Put right what it says, then press Publish:"
    " it goes on from where it stopped.",
    "card.files": "In the repo: {files}",
}


def steps(done: Sequence[str], now: str, failed: bool, locale: str) -> str:
    """Return the steps of a publication: behind, and under way or failed.

    Args:
        done: sentences of the steps that are behind.
        now: of the one under way, or empty.
        failed: whether that one failed.
    """
    rows = [("done", "✓", text) for text in done]
    if now:
        rows.append(("failed", "✗", now) if failed else ("now", "▸", now))
    items = "".join(
        f'<li class="d-{kind}"><span aria-hidden="true">{mark}</span>{escape(tell(text, locale))}'
        "</li>"
        for kind, mark, text in rows
    )
    return f'<ol class="d-timeline" role="status">{items}</ol>'


def receipt(found: Receipt, locale: str) -> str:
    """Return what came of a publication."""
    head = say("receipt.same" if found.up_to_date else "receipt.done", locale)
    seen = say("receipt.private" if found.private else "receipt.public", locale)
    facts = [
        (say("receipt.where", locale), _link(found.url)),
        (say("receipt.who", locale), escape(seen)),
        (say("receipt.commit", locale), f"<code>{escape(found.commit[:12])}</code>"),
    ]
    if found.base_url:
        facts.append((say("receipt.base", locale), _link(found.base_url)))
    check = found.load_back
    if check is not None:
        status = escape(say(f"receipt.{check.status}", locale))
        kind = {"passed": "good", "failed": "bad"}.get(check.status, "plain")
        words = f'<b class="d-{kind}">{status}</b> {escape(tell(check.message, locale))}'
        facts.append((say("receipt.check", locale), words))
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{v}</dd></div>" for k, v in facts)
    notes = "".join(f'<p class="d-note">{escape(tell(n, locale))}</p>' for n in found.notices)
    kind = "d-receipt" if found.good else "d-receipt d-failed"
    return (
        f'<div class="{kind}" role="status"><h4 class="d-sub">{escape(head)}</h4>'
        f'<dl class="d-facts">{rows}</dl>{_files(found, locale)}{notes}</div>'
    )


def failure(what: str, remedy: str, locale: str) -> str:
    """Say why a publication stopped, and that nothing is lost."""
    again = escape(say("receipt.again", locale))
    return (
        f'<div class="d-receipt d-failed" role="alert"><p class="d-say">{escape(what)}'
        f' {escape(remedy)}</p><p class="d-note">{again}</p></div>'
    )


def card_text(preview: CardPreview) -> str:
    """Return a card's Markdown with its plot in it, as the repo's page will show it."""
    if preview.plot is None:
        return preview.body
    url = data_url(preview.plot)
    return re.sub(r"(!\[[^\]]*\])\([^)]*\)", lambda found: f"{found[1]}({url})", preview.body)


def card_files(preview: CardPreview, locale: str) -> str:
    """Return what would be in the repo, and what should be known before."""
    listed = ", ".join(name for name, _ in preview.files)
    lines = [say("card.files", locale, files=listed), *(tell(n, locale) for n in preview.notices)]
    return "".join(f'<p class="d-note">{escape(line)}</p>' for line in lines)


def size_words(size: int) -> str:
    """Return bytes in the unit a person would use."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _files(found: Receipt, locale: str) -> str:
    total = size_words(sum(file.size for file in found.files))
    head = escape(say("receipt.files", locale, n=len(found.files), size=total))
    rows = "".join(
        f'<tr><th scope="row">{escape(file.path)}</th><td>{size_words(file.size)}</td>'
        f"<td><code>{escape(file.sha256[:12])}</code></td></tr>"
        for file in found.files
    )
    return (
        f'<details class="d-files"><summary>{head}</summary><div class="d-scroll" tabindex="0">'
        f'<table class="d-table"><tbody>{rows}</tbody></table></div></details>'
    )


def _link(url: str) -> str:
    """Return a link; what is no web address stays text."""
    shown = escape(url, quote=True)
    if not url.startswith(("https://", "http://")):
        return shown
    return f'<a href="{shown}" target="_blank" rel="noopener noreferrer">{shown}</a>'
