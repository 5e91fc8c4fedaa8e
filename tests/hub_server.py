"""A local Hub for tests: a real HTTP server that speaks the Hub's protocol to unmodified clients.

    python -m tests.hub_server --port 8977          # prints tokens and the HF_ENDPOINT to set

It keeps all in memory and can break on demand: a status, a connection lost before or after the
effect, a stall, latency, a truncated upload, a token that expires midway. `HF_HUB_DISABLE_XET=1`
makes the client upload by LFS over HTTP, which is what is spoken here.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

try:
    from hub_state import LFS_ENDINGS, Blob, Fault, HubState, Refusal, Repo, Token
    from hub_state import front_matter as check_front_matter
except ImportError:  # started by `python -m tests.hub_server`
    from tests.hub_state import LFS_ENDINGS, Blob, Fault, HubState, Refusal, Repo, Token
    from tests.hub_state import front_matter as check_front_matter

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}


class Server(ThreadingHTTPServer):
    """Serve, without a word about clients that have gone."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Hub:
    """Run the server in a thread; use as a context manager.

    Args:
        port: 0 for any free one.
    """

    def __init__(self, port: int = 0) -> None:
        self.state = HubState()
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.authorizations: list[str] = []
        self.released = threading.Event()
        self.server = Server(("127.0.0.1", port), _handler(self))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Hub:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add_user(self, name: str, orgs: dict[str, str] | None = None) -> str:
        """Add a user and return a write token of theirs."""
        self.state.users[name] = orgs or {}
        return self.add_token(name)

    def add_token(self, user: str, role: str = "write", scopes: tuple[str, ...] = (),
                  expires: float | None = None) -> str:  # fmt: skip
        """Add a token and return it."""
        name = f"hf_{user}_{role}_{len(self.state.tokens)}"
        self.state.tokens[name] = Token(user, role, scopes, expires)
        return name

    def forget(self) -> None:
        """Drop faults and the list of requests."""
        self.faults.clear()
        self.requests.clear()
        self.authorizations.clear()
        self.released.set()
        self.released = threading.Event()

    def take_fault(self, request: str) -> Fault | None:
        with self.state.lock:
            self.requests.append(request)
            for fault in self.faults:
                number = len(self.requests)
                now = fault.at in (None, number) and number >= fault.since
                if now and fault.times > 0 and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None


@dataclass
class Reply:
    """Hold an answer: JSON, or bytes with headers, or what writes a stream until it returns."""

    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    stream: Callable[[Callable[[bytes], object]], None] | None = None


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 60

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self) -> None:
            url = urlsplit(self.path)
            fault = hub.take_fault(f"{self.command} {url.path}")
            kind = fault.kind if fault else ""
            body = self._read(half=kind == "truncated")
            if kind == "stalled" and fault:
                hub.released.wait(fault.seconds)
            if kind in ("lost-before", "stalled", "truncated"):
                self._drop()
                return
            if kind == "slow" and fault:
                hub.released.wait(fault.seconds)
            header = self.headers.get("Authorization")
            hub.authorizations.append((header or "").removeprefix("Bearer "))
            if kind == "expire" and header:
                hub.state.tokens[header.removeprefix("Bearer ")].dead = True
            reply = self._reply(fault, unquote(url.path), parse_qs(url.query), body, header)
            if kind == "lost-after":
                self._drop()
                return
            self._send(reply)

        def _reply(self, fault: Fault | None, path: str, query: dict[str, list[str]],
                   body: bytes, header: str | None) -> Reply:  # fmt: skip
            if fault and fault.kind == "status":
                return Reply({"error": fault.message}, fault.headers, fault.status)
            method = "GET" if self.command == "HEAD" else self.command
            with hub.state.lock:
                try:
                    token = hub.state.token(header)
                    return route(hub, method, path, query, body, token)
                except Refusal as refusal:
                    return Reply(refusal.body, refusal.headers, refusal.status)

        def _read(self, half: bool) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length // 2 if half else length)

        def _drop(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def _send(self, reply: Reply) -> None:
            if reply.stream is not None:
                self._send_stream(reply, reply.stream)
                return
            raw = isinstance(reply.body, bytes)
            data = reply.body if raw else json.dumps(reply.body).encode()
            with contextlib.suppress(OSError):  # the client may have given up
                self.send_response(reply.status)
                kind = "application/octet-stream" if raw else "application/json"
                for name, value in {"Content-Type": kind, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

        def _send_stream(self, reply: Reply, stream: Callable[..., None]) -> None:
            self.close_connection = True

            def write(data: bytes) -> None:
                self.wfile.write(data)
                self.wfile.flush()

            with contextlib.suppress(OSError):  # the client may have gone
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
                stream(write)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    return Handler


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = []
ID = r"(?P<id>[^/]+/[^/]+)"


def on(method: str, pattern: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Register a function for a method and path."""

    def add(function: Callable[..., Reply]) -> Callable[..., Reply]:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return add


@dataclass
class Call:
    """Hold what a route needs."""

    hub: Hub
    query: dict[str, list[str]]
    body: bytes
    token: Token | None

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def find(self, kind: str, repo_id: str) -> Repo:
        return self.hub.state.find(KINDS[kind], repo_id, self.token)


def route(hub: Hub, method: str, path: str, query: dict[str, list[str]], body: bytes,
          token: Token | None) -> Reply:  # fmt: skip
    """Answer one request."""
    call = Call(hub, query, body, token)
    for wanted, pattern, function in ROUTES:
        found = pattern.fullmatch(path)
        if wanted == method and found:
            return function(call, **found.groupdict())
    raise Refusal(404, f"Not spoken here: {method} {path}")


@on("GET", "/api/whoami-v2")
def whoami(call: Call) -> Reply:
    return Reply(call.hub.state.whoami(call.token))


@on("GET", "/api/spaces/zero-gpu/quota")
def zero_gpu_quota(call: Call) -> Reply:
    if call.token is None:
        raise Refusal(401, "Invalid username or password.")
    if call.token.role == "oauth" and "read-billing" not in call.token.scopes:
        raise Refusal(403, "The access token lacks the scope read-billing")
    found = call.hub.state.quotas.get(call.token.user, {"base": 300, "current": 300})
    return Reply({"resetsAt": None, "overquotaUsed": 0, **found})


@on("POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Reply:
    check_front_matter(call.json["content"])
    return Reply({"errors": [], "warnings": []})


@on("POST", "/api/repos/create")
def create(call: Call) -> Reply:
    state, data = call.hub.state, call.json
    owner = data.get("organization") or (call.token.user if call.token else "")
    kind, repo_id = data.get("type") or "model", f"{owner}/{data['name']}"
    state.require_write(call.token, repo_id)
    url = f"{call.hub.endpoint}/{repo_id}"
    if (kind, repo_id) in state.repos:
        raise Refusal(409, f"You already created this {kind} repo", url=url)
    private = data.get("private", data.get("visibility") == "private")
    by_app = call.token is not None and call.token.role == "oauth"
    state.add_repo(repo_id, {}, kind=kind, private=private, by_app=by_app)
    return Reply({"url": url, "name": repo_id})


@on("GET", f"/api/(?P<kind>models|datasets|spaces)/{ID}/auth-check(?P<write>/write)?")
def auth_check(call: Call, kind: str, id: str, write: str | None) -> Reply:
    repo = call.find(kind, id)
    call.hub.state.require_read(repo, call.token)
    if write:
        call.hub.state.require_write(call.token, id, repo)
    return Reply({})


@on("GET", f"/api/(?P<kind>models|datasets|spaces)/{ID}(/revision/(?P<rev>[^/]+))?")
def info(call: Call, kind: str, id: str, rev: str | None) -> Reply:
    repo = call.find(kind, id)
    return Reply(repo.to_json(repo.at(rev or "main")))


@on("GET", f"/api/(?P<kind>models|datasets|spaces)/{ID}/tree/(?P<rev>[^/]+)(/(?P<under>.*))?")
def tree(call: Call, kind: str, id: str, rev: str, under: str | None) -> Reply:
    repo = call.find(kind, id)
    files = repo.at(rev).files.items()
    rows = [b.to_json(p) for p, b in sorted(files) if p.startswith(f"{under}/" if under else "")]
    if under and not rows:
        raise Refusal(404, f"{under} does not exist", "EntryNotFound")
    return Reply(rows)


@on("GET", f"/api/(?P<kind>models|datasets|spaces)/{ID}/refs")
def refs(call: Call, kind: str, id: str) -> Reply:
    repo = call.find(kind, id)
    main = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head.oid}]
    tags = [
        {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid}
        for name, oid in repo.tags.items()
    ]
    return Reply({"branches": main, "converts": [], "tags": tags})


@on("POST", f"/api/(?P<kind>models|datasets|spaces)/{ID}/tag/(?P<rev>[^/]+)")
def add_tag(call: Call, kind: str, id: str, rev: str) -> Reply:
    repo = call.find(kind, id)
    call.hub.state.require_write(call.token, id, repo)
    if call.json["tag"] in repo.tags:
        raise Refusal(409, "Tag reference exists already")
    repo.tags[call.json["tag"]] = repo.at(rev).oid
    return Reply({})


@on("DELETE", f"/api/(?P<kind>models|datasets|spaces)/{ID}/tag/(?P<name>[^/]+)")
def delete_tag(call: Call, kind: str, id: str, name: str) -> Reply:
    repo = call.find(kind, id)
    call.hub.state.require_write(call.token, id, repo)
    if repo.tags.pop(name, None) is None:
        raise Refusal(404, f"No tag {name}", "RevisionNotFound")
    return Reply({})


@on("PUT", f"/api/(?P<kind>models|datasets|spaces)/{ID}/settings")
def settings(call: Call, kind: str, id: str) -> Reply:
    repo, data = call.find(kind, id), call.json
    call.hub.state.require_write(call.token, id, repo)
    if "visibility" in data or "private" in data:
        repo.private = data.get("private", data.get("visibility") == "private")
    return Reply({"private": repo.private})


@on("POST", f"/api/(?P<kind>models|datasets|spaces)/{ID}/preupload/(?P<rev>[^/]+)")
def preupload(call: Call, kind: str, id: str, rev: str) -> Reply:
    repo = call.find(kind, id)
    call.hub.state.require_write(call.token, id, repo)
    files = repo.at(rev).files
    rows = [
        {
            "path": f["path"],
            "uploadMode": "lfs" if f["path"].endswith(LFS_ENDINGS) else "regular",
            "shouldIgnore": False,
            "oid": files[f["path"]].oid if f["path"] in files else None,
        }
        for f in call.json["files"]
    ]
    return Reply({"files": rows})


@on("POST", f"/{ID}[.]git/info/lfs/objects/batch")
def lfs_batch(call: Call, id: str) -> Reply:
    state = call.hub.state
    state.require_write(call.token, id, call.find("models", id))
    rows = []
    for item in call.json["objects"]:
        row = {"oid": item["oid"], "size": item["size"]}
        if state.quota is not None and item["size"] > state.quota:
            row["error"] = {"code": 403, "message": "Private repository storage limit reached"}
        elif item["oid"] not in state.objects:
            base = f"{call.hub.endpoint}/lfs/{item['oid']}"
            row["actions"] = {"upload": {"href": base}, "verify": {"href": f"{base}/verify"}}
        rows.append(row)
    return Reply({"transfer": "basic", "objects": rows})


@on("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
def lfs_put(call: Call, oid: str) -> Reply:
    if Blob(call.body).sha256 != oid:
        raise Refusal(400, "The content does not have the hash that was announced")
    call.hub.state.objects[oid] = call.body
    return Reply(b"")


@on("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify")
def lfs_verify(call: Call, oid: str) -> Reply:
    if len(call.hub.state.objects.get(oid, b"")) != call.json["size"]:
        raise Refusal(404, "Object does not exist")
    return Reply({})


@on("POST", f"/api/(?P<kind>models|datasets|spaces)/{ID}/commit/(?P<rev>[^/]+)")
def commit(call: Call, kind: str, id: str, rev: str) -> Reply:
    state, repo = call.hub.state, call.find(kind, id)
    state.require_write(call.token, id, repo)
    lines = [json.loads(line) for line in call.body.splitlines()]
    header = lines[0]["value"]
    if header.get("parentCommit", repo.head.oid) != repo.head.oid:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repo.head.files)
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            if value["oid"] not in state.objects:
                raise Refusal(400, f"LFS pointer to a file that does not exist: {value['oid']}")
            files[value["path"]] = Blob(state.objects[value["oid"]], lfs=True)
        elif line["key"] == "deletedFile" and files.pop(value["path"], None) is None:
            raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
    if "README.md" in files:
        check_front_matter(files["README.md"].data.decode())
    made = repo.commit(header["summary"], files)
    url = f"{call.hub.endpoint}/{id}/commit/{made.oid}"
    return Reply({"commitOid": made.oid, "commitUrl": url, "success": True})


@on("GET", f"(/(?P<kind>datasets))?/{ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
def resolve(call: Call, kind: str | None, id: str, rev: str, path: str) -> Reply:
    repo = call.find(kind or "models", id)
    call.hub.state.require_read(repo, call.token)
    made = repo.at(rev)
    blob = made.files.get(path)
    if blob is None:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    headers = {"X-Repo-Commit": made.oid, "ETag": f'"{blob.sha256 if blob.lfs else blob.oid}"'}
    if blob.lfs:
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(blob.data))}
    return Reply(blob.data, headers)


@contextlib.contextmanager
def local_hub(port: int = 0) -> Iterator[Hub]:
    """Run a Hub with the users alice (write token) and mallory, and alice's organisations."""
    with Hub(port) as hub:
        hub.add_user("alice", {"acme": "write", "readers": "read"})
        hub.add_user("mallory")
        yield hub


def main() -> None:
    parser = argparse.ArgumentParser(description="A local Hub, empty at every start.")
    parser.add_argument("--port", type=int, default=8977)
    with local_hub(parser.parse_args().port) as hub:
        token = next(name for name, t in hub.state.tokens.items() if t.user == "alice")
        print("Set these in the shell that publishes or loads, then publish to alice/my-voice:")
        print(f"export HF_ENDPOINT={hub.endpoint} HF_HUB_DISABLE_XET=1 HF_TOKEN={token}")
        print("Ctrl-C ends it; nothing is kept.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
