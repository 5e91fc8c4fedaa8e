"""What a request brings: so many bytes, whole within a time, and no address to be fetched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from ditto_hub.cost.profiles import load_profile
from ditto_hub.ui.app import launch_options
from ditto_hub.ui.serving import bodies
from ditto_hub.ui.serving.bodies import BodyCap, capped_bodies, names_an_address
from ditto_hub.ui.serving.downloads import closed_files

SMALL = replace(load_profile("cpu"), max_demos=1, max_text_chars=1)
MOST = 8 + bodies.REST_BYTES
FILE = {"path": "https://example.com/large", "meta": {"_type": "gradio.FileData"}}


async def take(request: Request) -> Response:
    """Answer with the length of what came."""
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def client() -> TestClient:
    """Return a client of an app behind the cap."""
    routes = [Route("/{path:path}", take, methods=["GET", "POST", "PUT"])]
    return TestClient(Starlette(routes=routes, middleware=[capped_bodies(SMALL)]))


def in_pieces(size: int) -> Iterator[bytes]:
    """Yield a body without saying how long it is."""
    yield from (b"x" * 100_000 for _ in range(size // 100_000 + 1))


def test_a_body_has_a_largest_size(client: TestClient) -> None:
    """What fits comes whole; what does not is refused in words, said beforehand or not."""
    assert client.post("/gradio_api/run/x", content=b"x" * MOST).text == str(MOST)
    for content in (b"x" * (MOST + 1), in_pieces(MOST)):
        refused = client.post("/gradio_api/queue/join", content=content)
        assert refused.status_code == 413
        assert "2 MB" in refused.text


def test_uploads_are_counted_elsewhere(client: TestClient) -> None:
    """A file may be larger than a page's texts."""
    large = client.post("/gradio_api/upload", content=b"x" * (MOST + 1))
    assert large.text == str(MOST + 1)


@pytest.mark.parametrize(
    "data",
    [FILE, [FILE], {"data": ["a", {"x": [{"y": FILE}]}]}, {**FILE, "path": "HTTP://example.com"},
     {**FILE, "path": "ftp://example.com"}, {**FILE, "meta": None}],
    ids=str,
)  # fmt: skip
def test_no_address_is_fetched(data: Any, client: TestClient) -> None:
    """A file that is named by an address is refused, in whichever input, however it is spelt."""
    text = json.dumps(data)
    escaped = text.replace("path", "\\u0070ath").replace("/", "\\/")
    for body in (text.encode(), escaped.encode(), text.encode("utf-16")):
        refused = client.post("/gradio_api/run/x", content=body)
        assert (refused.status_code, "uploaded" in refused.text) == (400, True)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"path": "/tmp/x", "meta": {}}', b'"https://a"',
     b'{"prompt": "https://example.com", "path": "https://example.com"}', b"1e999", b"NaN"],
)  # fmt: skip
def test_other_bodies_pass(body: bytes, client: TestClient) -> None:
    """A text with an address in it is a text; what is no JSON is refused where it is read."""
    assert not names_an_address(body)
    assert client.post("/gradio_api/run/x", content=body).text == str(len(body))


def test_bodies_under_way_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address has so many at once, all addresses together too; each is free when it is over."""
    cap = BodyCap(take, 10)  # type: ignore[arg-type]
    for _ in range(bodies.AN_ADDRESS):
        cap._grow("hostile", bytearray(), b"x" * 10)
    with pytest.raises(bodies._Refused):
        cap._grow("hostile", bytearray(), b"x")
    cap._grow("other", bytearray(), b"x" * 10)
    monkeypatch.setattr(bodies, "EVERYBODY", 5)
    with pytest.raises(bodies._Refused):
        cap._grow("late", bytearray(), b"x" * 10)


def test_what_was_counted_is_free_again() -> None:
    """After any number of bodies, refused ones among them, nothing is held."""
    cap = BodyCap(Starlette(routes=[Route("/", take, methods=["POST"])]), 10)
    client = TestClient(cap)
    for size in (10, 11, 5, 0) * 10:
        assert client.post("/", content=b"x" * size).status_code == (413 if size > 10 else 200)
    assert not cap._held


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends the beginning and no more holds a place for so long and no longer."""
    monkeypatch.setattr(bodies, "WHOLE_WITHIN_S", 0.05)
    cap, sent = BodyCap(take, 10), []  # type: ignore[arg-type]
    came = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Any:
        return came.pop() if came else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "client": ("a", 1)}
    with start_blocking_portal() as portal:
        portal.call(cap, scope, receive, send)
    assert sent[0]["status"] == 408
    assert not cap._held


@pytest.mark.parametrize("name", ["own", "cpu", "gpu", "zerogpu"])
def test_every_profile_bounds_bodies(name: str) -> None:
    """The app is served with the cap, and with room for all the texts that a run may have."""
    profile = load_profile(name)
    (found,) = [m for m in launch_options(profile)["app_kwargs"]["middleware"] if m.cls is BodyCap]
    letters = "\u65e5" * profile.max_text_chars
    card = len(json.dumps({"prompt": letters, "completion": letters}, ensure_ascii=False).encode())
    assert profile.max_demos * card < found.kwargs["max_bytes"] < 50_000_000


@pytest.mark.parametrize(
    "path", ["process_recording", "component_server", "component_server/", "undo-vibe-edit",
             "vibe-edit", "proxy=https://huggingface.co", "file=/etc/passwd", "stream/x/y/1/a.ts"]
)  # fmt: skip
def test_what_gradio_serves_besides_is_closed(path: str) -> None:
    """Doors that this app has no use for answer 404: they read files, or write them uncounted."""
    routes = [Route("/{path:path}", take, methods=["GET", "POST"])]
    client = TestClient(Starlette(routes=routes, middleware=[closed_files()]))
    assert client.post(f"/gradio_api/{path}").status_code == 404
    assert client.get(f"/gradio_api/{path}").status_code == 404
