"""What a browser fetches as a file: our own route with an owner check; Gradio's are closed.

Gradio's file route serves whatever lies in its cache to anybody who has the address. Nothing of
this app's needs it, so it answers 404; a run's adapter goes out through `/ditto/runs/...`, which
takes the browser's secret in a header, or the signed-in user from the session.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ditto_hub import api
from ditto_hub.errors import BackendError, DittoError, RunError
from ditto_hub.runs.folder import Run
from ditto_hub.ui.i18n.words import locale_of
from ditto_hub.ui.serving.background import status
from ditto_hub.ui.serving.session import Visitor, browser_owner, own_run, signed_in
from ditto_hub.words import told

SECRET_HEADER = "x-ditto-secret"
CLOSED = ("/gradio_api/file", "/gradio_api/stream", "/gradio_api/proxy", "/gradio_api/deep_link",
          "/gradio_api/vibe", "/gradio_api/undo-vibe", "/gradio_api/run-history", "/file",
          "/gradio_api/process_recording", "/gradio_api/component_server")  # fmt: skip
AT_ONCE = 2  # downloads of one run
HEADERS = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}

_sending: Counter[str] = Counter()
_counting = threading.Lock()

# Fetches with the secret in a header, so that it stands in no address, log or history.
FETCH_JS = """async (runId, secret) => {
  if (!runId) return [];
  const headers = {"SECRET": secret || ""};
  const answer = await fetch(`ditto/runs/${runId}/FILE`, {headers});
  if (!answer.ok) { alert(await answer.text()); return []; }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `ditto-${runId}END`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return [];
}""".replace("SECRET", SECRET_HEADER)
DOWNLOAD_JS = FETCH_JS.replace("FILE", "adapter.zip").replace("END", ".zip")
PAIRS_JS = FETCH_JS.replace("FILE", "pairs.jsonl").replace("END", "-pairs.jsonl")


class ClosedFiles:
    """Answer 404 for every address under which Gradio would serve a file of a visitor's."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is open."""
        path = str(scope.get("path", ""))
        if scope["type"] == "http" and path.startswith(CLOSED):
            await PlainTextResponse("Not found.", 404)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def closed_files() -> Middleware:
    """Return the middleware that closes Gradio's file routes."""
    return Middleware(ClosedFiles)


def download_routes() -> list[Route]:
    """Return the routes that serve a visitor's own files, and the server's status."""
    return [
        Route("/ditto/runs/{run_id}/adapter.zip", adapter_zip),
        Route("/ditto/runs/{run_id}/pairs.jsonl", pairs_jsonl),
        Route("/ditto/status", server_status),
    ]


def server_status(request: Request) -> Response:
    """Say whether each background thread is alive; 503 where one is not."""
    found = status()
    return JSONResponse(found, 200 if all(found.values()) else 503, HEADERS)


def adapter_zip(request: Request) -> Response:
    """Serve the adapter of the asking visitor's run as a zip; 404 for another's, or none."""
    locale = locale_of(request)
    try:
        run = own_run(request.path_params["run_id"], _asking(request))
        with contextlib.ExitStack() as held:
            held.enter_context(_one_of_few(run.record.id))
            path = zip_adapter(run)
            held.callback(path.unlink, missing_ok=True)
            return _Zip(path, f"ditto-{run.record.id}.zip", held.pop_all())
    except RunError as error:
        return PlainTextResponse(told(error.both, locale), 404, HEADERS)
    except BackendError as error:
        return PlainTextResponse(told(error.both, locale), 429, HEADERS)


def pairs_jsonl(request: Request) -> Response:
    """Serve the comparisons of the asking visitor's run; 404 for another's, or none."""
    locale = locale_of(request)
    try:
        run = own_run(request.path_params["run_id"], _asking(request))
        with _one_of_few(run.record.id):
            data = api.preferences_bytes(run)
    except RunError as error:
        return PlainTextResponse(told(error.both, locale), 404, HEADERS)
    except BackendError as error:
        return PlainTextResponse(told(error.both, locale), 429, HEADERS)
    return Response(data, headers=HEADERS, media_type="application/jsonl")


class _Zip(FileResponse):
    """Send a temporary file, and let go of what it held however the sending ends."""

    def __init__(self, path: Path, name: str, held: contextlib.ExitStack) -> None:
        super().__init__(path, filename=name, headers=HEADERS)
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            await super().__call__(scope, receive, send)


@contextlib.contextmanager
def _one_of_few(run_id: str) -> Iterator[None]:
    """Count a download; each has a file of its own for as long as its reader takes.

    Raises:
        BackendError: as many of this run are under way as may be.
    """
    global _sending
    with _counting:
        if _sending[run_id] >= AT_ONCE:
            raise BackendError("ui.downloads_under_way", n=AT_ONCE)
        _sending[run_id] += 1
    try:
        yield
    finally:
        with _counting:
            _sending -= Counter([run_id])  # and drops what is down to zero


def zip_adapter(run: Run) -> Path:
    """Write a run's adapter, with its card and a script that loads it, into a new temporary zip.

    Raises:
        RunError: the run has no whole adapter.
    """
    descriptor, name = tempfile.mkstemp(suffix=".zip", prefix="ditto-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            api.pack(run, file)
    except DittoError:
        Path(name).unlink()
        raise
    return Path(name)


def _asking(request: Request) -> Visitor:
    """Tell who asks for a file; the session is there where signing in is set up."""
    session: Mapping[str, Any] = request.scope.get("session") or {}
    from gradio.oauth import _get_valid_oauth_info_from_session

    secret = request.headers.get(SECRET_HEADER, "")
    user = _get_valid_oauth_info_from_session(dict(session)) if session else None
    if user:
        return signed_in(str(user["userinfo"]["preferred_username"]), secret)
    return Visitor(browser_owner(secret), None)
