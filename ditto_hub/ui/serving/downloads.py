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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ditto_hub import api
from ditto_hub.errors import BackendError, DittoError, RunError
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token, as_token
from ditto_hub.ui.i18n.words import locale_of
from ditto_hub.ui.serving.background import status
from ditto_hub.ui.serving.session import Visitor, browser_owner, own_run, signed_in, token_of
from ditto_hub.words import told

SECRET_HEADER = "x-ditto-secret"
CLOSED = ("/gradio_api/file", "/gradio_api/stream", "/gradio_api/proxy", "/gradio_api/deep_link",
          "/gradio_api/vibe", "/gradio_api/undo-vibe", "/gradio_api/run-history", "/file",
          "/gradio_api/process_recording", "/gradio_api/component_server")  # fmt: skip
AT_ONCE = 2  # downloads of one run
HEADERS = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}

Pack = Callable[[Run, BinaryIO], None]

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
  link.download = `ditto-${runId}-FILE`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return [];
}""".replace("SECRET", SECRET_HEADER)
ADAPTER, GGUF, PAIRS = "adapter.zip", "gguf.zip", "pairs.jsonl"


def download_js(file: str) -> str:
    """Return the script that fetches one of the files of the run that is shown."""
    return FETCH_JS.replace("FILE", file)


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
        Route(f"/ditto/runs/{{run_id}}/{ADAPTER}", adapter_zip),
        Route(f"/ditto/runs/{{run_id}}/{GGUF}", gguf_zip),
        Route(f"/ditto/runs/{{run_id}}/{PAIRS}", pairs_jsonl),
        Route("/ditto/status", server_status),
    ]


def server_status(request: Request) -> Response:
    """Say whether each background thread is alive; 503 where one is not."""
    found = status()
    return JSONResponse(found, 200 if all(found.values()) else 503, HEADERS)


def adapter_zip(request: Request) -> Response:
    """Serve the adapter of the asking visitor's run as a zip; 404 for another's, or none."""
    return _serve(request, ADAPTER, lambda run, file: api.pack(run, file))


def gguf_zip(request: Request) -> Response:
    """Serve the adapter of the asking visitor's run for llama.cpp and Ollama, as a zip.

    404 for another's run, or none; 422 where its base model has no place in a GGUF file.
    """
    token = _token_of(request)
    return _serve(request, GGUF, lambda run, file: api.pack_gguf(run, file, token=token))


def _serve(request: Request, name: str, pack: Pack) -> Response:
    locale = locale_of(request)
    try:
        run = own_run(request.path_params["run_id"], _asking(request))
        with contextlib.ExitStack() as held:
            held.enter_context(_one_of_few(run.record.id))
            path = write_zip(run, pack)
            held.callback(path.unlink, missing_ok=True)
            return _Zip(path, f"ditto-{run.record.id}-{name}", held.pop_all())
    except DittoError as error:
        kinds = ((RunError, 404), (BackendError, 429))
        status = next((code for kind, code in kinds if isinstance(error, kind)), 422)
        return PlainTextResponse(told(error.both, locale), status, HEADERS)


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


def write_zip(run: Run, pack: Pack) -> Path:
    """Write what is packed of a run into a new temporary zip.

    Raises:
        DittoError: it could not be packed.
    """
    descriptor, name = tempfile.mkstemp(suffix=".zip", prefix="ditto-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            pack(run, file)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def _asking(request: Request) -> Visitor:
    """Tell who asks for a file; the session is there where signing in is set up."""
    secret = request.headers.get(SECRET_HEADER, "")
    if user := _session_of(request):
        return signed_in(str(user["userinfo"]["preferred_username"]), secret)
    return Visitor(browser_owner(secret), None)


def _token_of(request: Request) -> Token:
    """Return whose Hub token reads a base model's config for who asks."""
    user = _session_of(request)
    return as_token(str(user["access_token"])) if user else token_of(None)


def _session_of(request: Request) -> Mapping[str, Any] | None:
    """Return what signing in left in the session, None for nobody."""
    session: Mapping[str, Any] = request.scope.get("session") or {}
    from gradio.oauth import _get_valid_oauth_info_from_session

    return _get_valid_oauth_info_from_session(dict(session)) if session else None
