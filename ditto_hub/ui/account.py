"""Whose Hugging Face account a publication goes to, and whether its token will last.

A token is a value within one call: it is put into no state, no file and no message.
"""

from __future__ import annotations

import time

import gradio as gr

from ditto_hub.api.publishing import local_token, require_scope
from ditto_hub.errors import HubError
from ditto_hub.ui.session import Shared
from ditto_hub.ui.words import say

WORDS = {
    "account.signed_in": "Signed in as {name}. The sign-in lasts {minutes} more minutes.",
    "account.sign_in": "Sign in with Hugging Face to publish. It asks for one right: to make repos"
    " and to change those it made ({scope}). You can also download the adapter without an account.",
    "account.expired": "You are not signed in any more: a sign-in ends after some hours.",
    "account.expired_remedy": "Sign in again, then press Publish. The run, and what you filled in"
    " here, are kept.",
    "account.short": "Your sign-in ends in less than {minutes} minutes, too soon to publish.",
    "account.local": "Signing in is not set up on this machine. The token that you saved with `hf"
    " auth login` can be used instead, if you say so.",
    "account.local_none": "Signing in is not set up on this machine, and no token is saved here. In"
    " a terminal, run `hf auth login` with a token that may write, then reload this page. Or"
    " download the adapter: that needs no account.",
    "account.ask": "Use the token saved on this machine",
    "account.ask_first": "Nobody is signed in.",
    "account.ask_remedy": "Tick the box that lets this page use the token saved on this machine.",
    "account.nowhere": "Signing in is not set up on this server, so nothing can be published from"
    " it. Download the adapter instead: that needs no account.",
}
SOON_S = 300


class NotSignedInError(HubError):
    """Nobody is signed in for long enough; the words are in the visitor's language. Sign in."""


def can_use_local(shared: Shared) -> bool:
    """Tell whether this is one's own machine, where its own token may be asked for."""
    return shared.profile.name == "own" and not shared.sign_in


def account_words(
    shared: Shared,
    profile: gr.OAuthProfile | None,
    token: gr.OAuthToken | None,
    locale: str,
) -> str:
    """Say who is signed in and for how long, or what can be done instead."""
    if profile is not None and token is not None:
        minutes = max(0, int(token.expires_at - time.time()) // 60)
        return say("account.signed_in", locale, name=profile.username, minutes=minutes)
    if shared.sign_in:
        scope = next(iter(shared.profile.scopes), "contribute-repos")
        return say("account.sign_in", locale, scope=scope)
    if not can_use_local(shared):
        return say("account.nowhere", locale)
    return say("account.local" if local_token() else "account.local_none", locale)


def token_to_publish(
    shared: Shared, token: gr.OAuthToken | None, use_local: bool, locale: str
) -> str:
    """Return a token that will last for a publication.

    Raises:
        NotSignedInError: there is none, or it ends too soon; in the visitor's words already.
        HubError: it may not make repos.
    """
    if token is not None:
        left = token.expires_at - time.time()
        if left < SOON_S:
            key = "account.expired" if left <= 0 else "account.short"
            raise _refused(locale, key, "account.expired_remedy")
        require_scope(token.scope or "")
        return str(token.token)
    if shared.sign_in:
        raise _refused(locale, "account.expired", "account.expired_remedy")
    if not can_use_local(shared):
        raise _refused(locale, "account.nowhere")
    if not use_local:
        raise _refused(locale, "account.ask_first", "account.ask_remedy")
    found = local_token()
    if not found:
        raise _refused(locale, "account.local_none")
    return found


def _refused(locale: str, what: str, remedy: str = "") -> NotSignedInError:
    minutes = SOON_S // 60
    return NotSignedInError(
        say(what, locale, minutes=minutes), say(remedy, locale) if remedy else ""
    )
