"""Let a browser whose language the app does not have get the nearest one that it has.

Gradio looks the browser's first language up as it is, so that zh-HK, zh-Hant or plain zh get
English. `launch(head=...)` comes too late: by then the language is settled. So the page begins with
a script that names the nearest of ours, found in the same way as `words.locale_of` does for what
the server says.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

START = b"<head>"
SCRIPT = b"""<script>
(() => {
  const ours = (tag) => /^zh-(hant|tw|hk|mo)/i.test(tag) ? "zh-TW"
    : /^zh(-|$)/i.test(tag) ? "zh-CN" : /^en(-|$)/i.test(tag) ? "en" : null;
  const found = (navigator.languages || [navigator.language]).map(ours).find((tag) => tag);
  if (found && found !== "en") Object.defineProperty(navigator, "language", { get: () => found });
})();
</script>"""


def nearest_language() -> Middleware:
    """Return the middleware that puts the script into the page."""
    return Middleware(NearestLanguage)


class NearestLanguage:
    """Put the script at the beginning of the page; leave all else that is served alone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in ("", "/")
        await self.app(scope, receive, _Page(send) if page else send)


class _Page:
    """Hold one answer back until it is whole, then send it with the script in it."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.body = b""
        self.start: Message = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_whole()
        else:
            await self.send(message)

    async def _send_whole(self) -> None:
        body = self.body.replace(START, START + SCRIPT, 1)
        length = str(len(body)).encode()
        headers = [
            (name, length if name.lower() == b"content-length" else value)
            for name, value in self.start["headers"]
        ]
        await self.send({**self.start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
