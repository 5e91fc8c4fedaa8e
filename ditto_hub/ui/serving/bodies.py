"""What a request may bring: so many bytes, and no address that the server would fetch.

Gradio reads a body whole, however long it is. And wherever a value may hold a file, which is in
every input, it fetches a file that is named by an address, whole and into memory.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ditto_hub.cost.profiles import Profile
from ditto_hub.ui.i18n.words import locale_of
from ditto_hub.ui.serving.uploads import ADDRESS
from ditto_hub.words import say

BYTES_A_LETTER = 4  # at most, in UTF-8
REST_BYTES = 2_000_000  # a page's settings, a chat
AN_ADDRESS = 4  # bodies of the largest size, that one address may have under way
EVERYBODY = 20  # and all addresses together
WHOLE_WITHIN_S = 60.0


class _Refused(Exception):
    """A body that is not passed on.

    Args:
        status: of the answer.
        code: of its words.
    """

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code


class BodyCap:
    """Read each body that is no upload, and pass on those that may be.

    Args:
        app: what is behind it.
        max_bytes: of one body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.most = max_bytes
        self._held: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has no body, and a body once it is whole."""
        if not _is_bounded(scope):
            await self.app(scope, receive, send)
            return
        who, body = str((scope.get("client") or ("",))[0]), bytearray()
        try:
            await self._read(who, body, receive)
            await self.app(scope, _again(bytes(body), receive), send)
        except ClientDisconnect:
            return
        except _Refused as error:
            said = say(error.code, locale_of(Request(scope)), mb=self.most // 1_000_000)
            answer = PlainTextResponse(said, error.status, {"connection": "close"})
            await answer(scope, receive, send)
        finally:
            self._held[who] -= len(body)
            self._held += Counter()  # drops what is down to zero

    async def _read(self, who: str, body: bytearray, receive: Receive) -> None:
        """Fill in a body, which counts as its sender's."""
        more = True
        try:
            async with asyncio.timeout(WHOLE_WITHIN_S):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    self._grow(who, body, message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            raise _Refused(408, "ui.request_too_slow") from None
        if names_an_address(bytes(body)):
            raise _Refused(400, "ui.file_by_address")

    def _grow(self, who: str, body: bytearray, part: bytes) -> None:
        body += part
        self._held[who] += len(part)
        if len(body) > self.most:
            raise _Refused(413, "ui.request_too_large")
        mine, everybodys = self._held[who], self._held.total()
        if mine > AN_ADDRESS * self.most or everybodys > EVERYBODY * self.most:
            raise _Refused(429, "ui.too_many_requests")


def _is_bounded(scope: Scope) -> bool:
    """Tell whether a request may have a body and is no upload, which is counted as it comes."""
    if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    return not str(scope.get("path", "")).startswith(ADDRESS)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read, and after it what comes."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def first_the_body() -> Message:
        return left.pop() if left else await receive()

    return first_the_body


def names_an_address(body: bytes) -> bool:
    """Tell whether JSON holds a file of Gradio's that is somewhere else; other bodies hold none."""
    try:
        left: list[Any] = [json.loads(body)]
    except (ValueError, RecursionError):  # which is refused where it is read
        return False
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "meta" in value and "://" in str(value.get("path")):
                return True
            left += value.values()
        elif isinstance(value, list):
            left += value
    return False


def capped_bodies(profile: Profile) -> Middleware:
    """Return the middleware that bounds bodies: a page with all the texts that a run may have."""
    texts = 2 * profile.max_demos * profile.max_text_chars
    return Middleware(BodyCap, max_bytes=BYTES_A_LETTER * texts + REST_BYTES)
