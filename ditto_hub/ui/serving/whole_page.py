"""Change the page on its way out: once its body is whole, what is sent can depend on it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]
Edit = Callable[[bytes], tuple[bytes, Headers]]


class WholePage:
    """Send the page as `edit` has it; leave all else that is served alone.

    Args:
        app: what serves the page.
        edit: gets the page's body, returns the one to send and headers to send besides.
    """

    def __init__(self, app: ASGIApp, edit: Edit) -> None:
        self.app = app
        self.edit = edit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in ("", "/")
        await self.app(scope, receive, _Answer(send, self.edit) if page else send)


class _Answer:
    """Hold one answer back until its body is whole, then send it edited."""

    def __init__(self, send: Send, edit: Edit) -> None:
        self.send = send
        self.edit = edit
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
        body, more = self.edit(self.body)
        length = str(len(body)).encode()
        headers = [
            (name, length if name.lower() == b"content-length" else value)
            for name, value in self.start["headers"]
        ]
        await self.send({**self.start, "headers": [*headers, *more]})
        await self.send({"type": "http.response.body", "body": body})
