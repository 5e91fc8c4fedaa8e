"""Files that visitors upload: bounded a visitor, and removed when nobody has used them.

A file that is used is read and deleted at once. One that is not, because its page went away or was
never ours, would stay for hours.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import deque
from pathlib import Path

from gradio.utils import get_upload_folder
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ditto_hub.cost.profiles import Profile
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.ui.i18n.words import locale_of
from ditto_hub.words import say

ADDRESS = "/gradio_api/upload"
WINDOW_S = 600.0
FILES = 5  # of the largest size, that one address may send in a window
EVERYBODY = 40  # and all addresses together
UNUSED_S = 600.0
FILE_BYTES = 100_000  # that a file counts at least: a hundred thousand empty ones are no less work
FORM = re.compile(r"multipart/form-data; *boundary=\"?([\w'()+,./:=?-]{1,70})\"?", re.ASCII)


class _Refused(Exception):
    """The upload that is under way takes more than is left."""


class _Parts:
    """Count the files of a form as it comes, wherever it is cut."""

    def __init__(self, boundary: str) -> None:
        self._mark = f"--{boundary}".encode()
        self._tail = b""

    def count(self, data: bytes) -> int:
        """Return how many begin with these bytes."""
        data = self._tail + data
        self._tail = data[1 - len(self._mark) :]
        return data.count(self._mark)


class UploadCap:
    """Count the bytes and files that each address uploads, and refuse more than a window's.

    Args:
        app: what is behind it.
        max_bytes: of one file.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.most = FILES * max_bytes
        self.most_of_all = EVERYBODY * max_bytes
        self._sent: deque[tuple[float, str, int]] = deque()
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no upload, and an upload for as long as it stays within the bounds."""
        path = str(scope.get("path", ""))
        if scope["type"] != "http" or scope["method"] != "POST" or not path.startswith(ADDRESS):
            await self.app(scope, receive, send)
            return
        who = str((scope.get("client") or ("",))[0])
        form = FORM.fullmatch(Headers(scope=scope).get("content-type", ""))
        if form is None:  # as every browser sends it; how another is read is not ours to guess
            await PlainTextResponse("Invalid content type.", 400)(scope, receive, send)
            return
        parts, answered = _Parts(form[1]), False

        async def counted() -> Message:
            message = await receive()
            body = message.get("body", b"")
            if not self._take(who, len(body) + FILE_BYTES * parts.count(body)):
                raise _Refused
            return message

        async def sent(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            if not self._take(who, 0):
                raise _Refused
            await self.app(scope, counted, sent)
        except _Refused:
            if not answered:
                mb = self.most // 1_000_000
                said = say("ui.too_many_uploads", locale_of(Request(scope)), mb=mb)
                refused = PlainTextResponse(said, 429, {"connection": "close"})
                await refused(scope, receive, send)

    def _take(self, who: str, count: int) -> bool:
        """Note what an address has sent, and tell whether it is within the bounds."""
        now = time.monotonic()
        with self._lock:
            while self._sent and self._sent[0][0] < now - WINDOW_S:
                self._sent.popleft()
            if count:
                self._sent.append((now, who, count))
            mine = sum(size for _, name, size in self._sent if name == who)
            return mine <= self.most and sum(s for _, _, s in self._sent) <= self.most_of_all


def capped_uploads(profile: Profile) -> list[Middleware]:
    """Return the middleware that bounds uploads; none on one's own machine."""
    if profile.name == "own":
        return []
    return [Middleware(UploadCap, max_bytes=profile.max_upload_bytes)]


def sweep_uploads(now: float | None = None, folder: Path | None = None) -> int:
    """Remove uploads that nobody has used for ten minutes, and return how many.

    Args:
        now: seconds since the epoch.
        folder: where uploads are; default Gradio's.

    Raises:
        StorageError: the disk refused.
    """
    place = folder or Path(get_upload_folder())
    before = (now or time.time()) - UNUSED_S
    with told_as_storage_error(place):
        old = [p for p in place.glob("*") if p.lstat().st_mtime < before]
        for path in old:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return len(old)
