"""Decide the language of a page: what its visitor chose, else the nearest to the browser's.

A choice is a cookie of the app's own, so that it holds over a reload: what the server says follows
it by the request's header, which is set to it on the way in (`locale_of` reads nothing else).

Gradio looks the browser's first language up as it is, so that zh-HK, zh-Hant or plain zh get
English. `launch(head=...)` comes too late: by then the language is settled. So the page begins with
a script that names the chosen or the nearest of ours, found in the same way as `words.locale_of`.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ditto_hub.ui.serving.whole_page import Headers, WholePage
from ditto_hub.words import LANGUAGES

COOKIE = "ditto-hub-language"
NAMES = {"en": "English", "zh-TW": "繁體中文", "zh-CN": "简体中文"}
START = b"<head>"
SCRIPT = b"""<script>
(() => {
  const ours = (tag) => /^zh-(hant|tw|hk|mo)/i.test(tag) ? "zh-TW"
    : /^zh(-|$)/i.test(tag) ? "zh-CN" : /^en(-|$)/i.test(tag) ? "en" : null;
  const chosen = document.cookie.match(/(?:^|; )ditto-hub-language=(en|zh-TW|zh-CN)(?:;|$)/)?.[1];
  const asked = (navigator.languages || [navigator.language]).map(ours).find((tag) => tag);
  const found = chosen || (asked !== "en" && asked);
  if (found) Object.defineProperty(navigator, "language", { get: () => found });
})();
</script>"""


def nearest_language() -> list[Middleware]:
    """Return what puts the script into the page, and what lets the server follow a choice."""
    return [Middleware(WholePage, edit=_with_script), Middleware(ChosenLanguage)]


def _with_script(page: bytes) -> tuple[bytes, Headers]:
    return page.replace(START, START + SCRIPT, 1), []


class ChosenLanguage:
    """Let a request ask for the language that its cookie names.

    Args:
        app: what answers it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        chosen = _chosen(scope) if scope["type"] == "http" else ""
        if chosen:
            others = [pair for pair in scope["headers"] if pair[0] != b"accept-language"]
            scope = {**scope, "headers": [*others, (b"accept-language", chosen.encode())]}
        await self.app(scope, receive, send)


def _chosen(scope: Scope) -> str:
    """Return the language of a request's cookie, "" for none or one that the app lacks."""
    sent = "; ".join(v.decode("latin-1") for name, v in scope["headers"] if name == b"cookie")
    try:
        cookie = SimpleCookie(sent).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie is not None and cookie.value in LANGUAGES else ""
