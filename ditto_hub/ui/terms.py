"""Privacy and limits in words a person reads; pure."""

from __future__ import annotations

from html import escape

from ditto_hub.profiles import Profile
from ditto_hub.ui.words import say

WORDS = {
    "privacy.what": "What is kept: your demonstrations, the samples drawn from the model, the"
    " adapters, and the run's record, in one folder a run on {where}. Drafts that are not trained"
    " on are kept in your browser alone; while the page is open, and for an hour after, they are"
    " in this machine's memory too.",
    "privacy.space": "this Space's disk",
    "privacy.own": "this machine",
    "privacy.how_long": "How long: a run that has ended or stands idle is removed after {hours}"
    " hours. Publish or download what you want to keep.",
    "privacy.for_ever": "How long: until you delete it.",
    "privacy.who": "Who sees it: you, by your Hugging Face account or a random secret in this"
    " browser. Whoever runs this machine can read its disk. Texts stand in no log.",
    "privacy.delete": "How to delete it: My runs, then Delete; the folder goes with everything in"
    " it. What you published on the Hub is yours, and deleted there.",
    "privacy.consent": "Imitate somebody else's voice only with their consent. A model can repeat"
    " parts of what it was shown: leave out names, addresses and secrets.",
    "privacy.caps": "Limits here: {runs} runs a day, {demos} demonstrations a run, {chars}"
    " characters a text, {mb} MB a file.",
    "privacy.no_caps": "Limits here: {demos} demonstrations a run, {chars} characters a text, {mb}"
    " MB a file.",
}


def page_head() -> str:
    """Return the page's title."""
    return "<h1>DITTO Hub</h1>"


def privacy(profile: Profile, locale: str) -> str:
    """Say what is kept, where, how long, who sees it, how to delete it, and the limits."""
    own = profile.name == "own"
    where = say("privacy.own" if own else "privacy.space", locale)
    lines = [
        say("privacy.what", locale, where=where),
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
