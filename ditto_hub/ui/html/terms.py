"""Privacy and limits in words a person reads; pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ditto_hub.cost.profiles import Profile
from ditto_hub.words import say


def page_head() -> str:
    """Return the page's title."""
    return "<h1>DITTO Hub</h1>"


def language_switch(names: Mapping[str, str]) -> str:
    """Return the choice of a language, each by its own name."""
    options = "".join(
        f'<option value="{escape(tag)}" lang="{escape(tag)}">{escape(name)}</option>'
        for tag, name in names.items()
    )
    return f'<select id="app-language-choice">{options}</select>'


def privacy(profile: Profile, locale: str) -> str:
    """Say what is kept, where, how long, who sees it, how to delete it, and the limits."""
    own = profile.name == "own"
    where = say("privacy.own" if own else "privacy.space", locale)
    lines = [
        say("privacy.kept", locale, where=where),
        say("privacy.for_ever", locale)
        if own
        else say("privacy.how_long", locale, hours=profile.keep_hours),
        say("privacy.who", locale),
        say("privacy.delete", locale),
        say("privacy.consent", locale),
        say(
            "privacy.caps" if profile.runs_per_visitor else "privacy.no_caps",
            locale,
            runs=profile.runs_per_visitor,
            demos=profile.max_demos,
            chars=f"{profile.max_text_chars:,}",
            mb=profile.max_upload_bytes // 1_000_000,
        ),
    ]
    return '<ul class="d-privacy">' + "".join(f"<li>{escape(x)}</li>" for x in lines) + "</ul>"
