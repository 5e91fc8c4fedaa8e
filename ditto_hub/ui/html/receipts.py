"""A publication as it goes, its card, and its receipt -> HTML; pure, everything escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from ditto_hub.ui.html.side_by_side import data_url
from ditto_hub.words import Text, say, told

FIRST_SECTIONS = 4  # of a card, its head counted

if TYPE_CHECKING:
    from ditto_hub.api.publishing import CardPreview, Receipt


def steps(done: Sequence[Text], now: Text, failed: bool, locale: str) -> str:
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
        f'<li class="d-{kind}"><span aria-hidden="true">{mark}</span>{escape(told(text, locale))}'
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
        words = f'<b class="d-{kind}">{status}</b> {escape(told(check.message, locale))}'
        facts.append((say("receipt.check", locale), words))
    facts.append((say("receipt.share", locale), _sharing(found, locale)))
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{v}</dd></div>" for k, v in facts)
    notes = "".join(f'<p class="d-note">{escape(told(n, locale))}</p>' for n in found.notices)
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


def card_text(preview: CardPreview) -> tuple[str, str]:
    """Return a card's Markdown with its pictures in it, as the repo's page will show it.

    Returns:
        Its first sections, which say what it is, how it is loaded and made, and what came out; and
        the rest.
    """
    urls = {quote(name): data_url(data) for name, data in preview.pictures.items()}
    body = re.sub(
        r"(!\[[^\]]*\])\(([^)]*)\)",
        lambda found: f"{found[1]}({urls.get(found[2], found[2])})",
        preview.body,
    )
    sections = re.split(r"(?m)^(?=## )", body)
    return "".join(sections[:FIRST_SECTIONS]), "".join(sections[FIRST_SECTIONS:])


def card_files(preview: CardPreview, locale: str) -> str:
    """Return what would be in the repo, and what should be known before."""
    listed = ", ".join(name for name, _ in preview.files)
    lines = [say("card.files", locale, files=listed), *(told(n, locale) for n in preview.notices)]
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


def _sharing(found: Receipt, locale: str) -> str:
    """Say how others get to see it: by its link, or not before its owner lets them."""
    if not found.private:
        return escape(say("receipt.share_public", locale))
    settings = _link(f"{found.url}/settings", say("receipt.settings", locale))
    return f"{escape(say('receipt.share_private', locale))} {settings}"


def share_text(found: Receipt, demos: int, locale: str) -> str:
    """Return what somebody may post about a publication; plain text."""
    return say("receipt.post", locale, n=demos, url=found.url)


def _link(url: str, words: str = "") -> str:
    """Return a link; what is no web address stays text."""
    shown = escape(url, quote=True)
    if not url.startswith(("https://", "http://")):
        return shown
    told = escape(words) or shown
    return f'<a href="{shown}" target="_blank" rel="noopener noreferrer">{told}</a>'
