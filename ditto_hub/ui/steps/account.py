"""Whose Hugging Face account a publication goes to, and whether its token will last.

A token is a value within one call: it is put into no state, no file and no message.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gradio as gr

from ditto_hub.api.publishing import has_local_token, require_scope
from ditto_hub.errors import HubError
from ditto_hub.tokens import MACHINE, NOBODY, Token, as_token
from ditto_hub.ui.serving.session import Shared
from ditto_hub.words import say

SOON_S = 300


class NotSignedInError(HubError):
    """Nobody is signed in for long enough; the words are in the visitor's language. Sign in."""


def can_use_local(shared: Shared) -> bool:
    """Tell whether this is one's own machine, where its own token may be asked for."""
    return shared.profile.name == "own" and not shared.sign_in


@dataclass(frozen=True)
class Account:
    """Say how it stands with an account to publish to.

    Args:
        words: who is signed in, and the one thing to do next.
        ready: whether a press on Publish would publish.
        signed_in: whether somebody is, for long enough.
    """

    words: str
    ready: bool
    signed_in: bool = False


def account_of(
    shared: Shared,
    profile: gr.OAuthProfile | None,
    token: gr.OAuthToken | None,
    use_local: bool,
    locale: str,
) -> Account:
    """Tell whose account a publication would go to, or what can be done instead."""
    if profile is not None and token is not None:
        minutes = max(0, int(token.expires_at - time.time()) // 60)
        if minutes * 60 >= SOON_S:
            words = say("account.signed_in", locale, name=profile.username, minutes=minutes)
            return Account(words, ready=True, signed_in=True)
        return Account(say("account.ends", locale, name=profile.username), ready=False)
    if shared.sign_in:
        scope = next(iter(shared.profile.scopes), "contribute-repos")
        return Account(say("account.sign_in", locale, scope=scope), ready=False)
    if not can_use_local(shared):
        return Account(say("account.nowhere", locale), ready=False)
    if not has_local_token():
        return Account(say("account.local_none", locale), ready=False)
    key = "account.local_ready" if use_local else "account.local"
    return Account(say(key, locale), ready=use_local)


def token_to_publish(
    shared: Shared, token: gr.OAuthToken | None, use_local: bool, locale: str
) -> Token:
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
        return as_token(str(token.token))
    if shared.sign_in:
        raise _refused(locale, "account.expired", "account.expired_remedy")
    if not can_use_local(shared):
        raise _refused(locale, "account.nowhere")
    if not use_local:
        raise _refused(locale, "account.ask_first", "account.ask_remedy")
    if not has_local_token():
        raise _refused(locale, "account.local_none")
    return MACHINE


def token_to_look(shared: Shared, token: gr.OAuthToken | None, use_local: bool) -> Token:
    """Return the token with which a publication is looked at ahead; nobody's where there is none.

    Args:
        use_local: whether the visitor let this machine's token be used.
    """
    if token is not None:
        return as_token(str(token.token)) if token.expires_at > time.time() else NOBODY
    return MACHINE if use_local and can_use_local(shared) else NOBODY


def _refused(locale: str, what: str, remedy: str = "") -> NotSignedInError:
    minutes = SOON_S // 60
    return NotSignedInError(
        say(what, locale, minutes=minutes), say(remedy, locale) if remedy else ""
    )
