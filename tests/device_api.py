"""A ZeroGPU of one's own: the device API that the `spaces` package speaks, over real HTTP.

It answers /startup-report, /schedule, /allow and /release as spaces 0.51 asks them, keeps each
visitor's quota with the platform's factors (a `large` GPU asks 1.5 times what is declared, an
`xlarge` one 2 times and is charged 2), gives every refusal there is on demand, and kills a worker
with SIGKILL at the end of what was declared.

By hand, the whole app on a machine without a GPU:

    python tests/device_api.py --quota 300 -- python app.py

starts the API, then the command with `emulated_env`: profile `zerogpu`, workers that compute on the
CPU (tests/emulated_gpu). What each lease asked, used and cost is printed as it ends. A visitor is
whoever the request's `x-ip-token` header names (`ip_token("ann")`); without one all are the same.
Without a network add `--set HF_HUB_OFFLINE=1`: then no base model sits on the GPU, and each lease
loads `pocket`. Add `--day-s 120` for a day of two minutes, `--refuse queue,expired` for refusals to
begin with, and `--set DITTO_HUB_HOME=/tmp/home` for the app's environment. The same from a test:

    with DeviceApi(quota_s=300) as device:
        subprocess.Popen([...], env=emulated_env(device.port))
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SHIM = Path(__file__).with_name("emulated_gpu")
FACTOR = {"large": 1.5, "xlarge": 2.0}  # of what is declared, at admission
CHARGE = {"large": 1.0, "xlarge": 2.0}  # of what is used, in the end
REFUSALS = (
    "quota", "runs", "duration", "credits", "queue", "queue-then-gpu", "expired", "no-gpu",
)  # fmt: skip


@dataclass
class Lease:
    """Hold one grant: seconds asked of the quota and declared, and what became of it."""

    visitor: str
    size: str
    asked_s: float
    declared_s: float
    began: float
    index: int = 0
    used_s: float | None = None
    killed: bool = False
    failed: bool = False


@dataclass
class Account:
    """Hold what a visitor has used since the first use of the day."""

    used_s: float = 0.0
    opened: float | None = None


@dataclass
class DeviceApi:
    """Serve the API on a thread; a context manager.

    Args:
        quota_s: of each visitor a day.
        day_s: how long a day is.
        max_s: a lease that asks for more is illegal; 0 for no bound.
        idle: whether a worker that is still alive may be used again.
        kills: whether a worker is killed at the end of what was declared.
        port: 0 for any.
        told: gets a line whenever a lease ends or is refused.
    """

    quota_s: float = 300.0
    day_s: float = 86_400.0
    max_s: float = 0.0
    idle: bool = True
    kills: bool = True
    port: int = 0
    told: Callable[[str], None] = lambda line: None
    refuse: list[str] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.lock = threading.Lock()
        self._granted: dict[str, Lease] = {}
        self._pids: dict[int, int] = {}

    def __enter__(self) -> DeviceApi:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # ---- quota -----------------------------------------------------------------------------------

    def left_s(self, visitor: str = "") -> float:
        """Return the seconds a visitor has left today, those of leases under way not counted."""
        return self.quota_s - self._account(visitor).used_s

    def leave(self, seconds: float, visitor: str = "ann") -> None:
        """Let a visitor have so many seconds left today."""
        with self.lock:
            account = self._account(visitor)
            account.used_s = self.quota_s - seconds
            account.opened = account.opened or time.monotonic()

    def new_day(self) -> None:
        """Give everybody a whole quota again."""
        with self.lock:
            self.accounts.clear()

    def _account(self, visitor: str) -> Account:
        account = self.accounts.setdefault(visitor, Account())
        if account.opened is not None and time.monotonic() - account.opened >= self.day_s:
            account = self.accounts[visitor] = Account()
        return account

    def wait_s(self, visitor: str) -> float:
        """Return the seconds until a visitor's quota is whole again."""
        opened = self._account(visitor).opened
        return 0.0 if opened is None else max(1.0, self.day_s - (time.monotonic() - opened))

    # ---- leases ----------------------------------------------------------------------------------

    def grant(self, visitor: str, size: str, asked_s: float) -> str:
        """Begin a lease and return its token."""
        with self.lock:
            account = self._account(visitor)
            account.opened = account.opened or time.monotonic()
            declared = asked_s / (1.0 if size == "xlarge" else FACTOR[size])
            taken = {lease.index for lease in self._granted.values()}
            index = next(i for i in range(len(taken) + 1) if i not in taken)
            lease = Lease(visitor, size, asked_s, declared, time.monotonic(), index)
            token = f"allow-{len(self.leases)}"
            self.leases.append(lease)
            self._granted[token] = lease
        if self.kills:
            timer = threading.Timer(declared, self._kill, [lease])
            timer.daemon = True
            timer.start()
        return token

    def allow(self, token: str, pid: int) -> bool:
        """Let a process use the GPU."""
        lease = self._granted.get(token)
        if lease is not None:
            self._pids[lease.index] = pid
        return lease is not None

    def release(self, token: str, failed: bool) -> int:
        """End a lease and charge it; return the HTTP status."""
        lease = self._granted.pop(token, None)
        if lease is None:
            return 404
        lease.failed = failed
        self._settle(lease)
        return 200 if lease.index in self._pids else 204

    def _kill(self, lease: Lease) -> None:
        if lease.used_s is not None:
            return
        lease.killed = True
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.kill(self._pids.pop(lease.index), signal.SIGKILL)

    def kill_now(self) -> None:
        """Take the GPU away from every lease under way."""
        for lease in list(self._granted.values()):
            self._kill(lease)

    def _settle(self, lease: Lease) -> None:
        with self.lock:
            lease.used_s = time.monotonic() - lease.began
            self._account(lease.visitor).used_s += lease.used_s * CHARGE[lease.size]
        self.told(
            f"lease {len(self.leases)} of {lease.visitor or 'nobody'}: asked {lease.asked_s:.0f} s"
            f" ({lease.declared_s:.0f} s declared), used {lease.used_s:.1f} s"
            f"{', killed' if lease.killed else ''}; {self.left_s(lease.visitor):.0f} s left today"
        )

    # ---- answers ---------------------------------------------------------------------------------

    def schedule(self, query: Mapping[str, str]) -> tuple[int, dict[str, str], Any]:
        """Answer /schedule: status, headers, and JSON or a list of server-sent events."""
        visitor = visitor_of(query.get("token"))
        size = query.get("gpuSize", "large")
        asked = float(query.get("durationSeconds", 60 * FACTOR[size]))
        wanted = asked * (FACTOR[size] if size == "xlarge" else 1.0)
        signed_in = {"X-Authenticated": "regular"} if query.get("token") else {}
        left = self.left_s(visitor)
        refusal = self.refuse.pop(0) if self.refuse else ""
        if not refusal and self.max_s and asked > self.max_s:
            refusal = "duration"
        if not refusal and wanted > left:
            refusal = "quota"
        if refusal:
            self.told(f"refused: {refusal} ({wanted:.0f} s asked, {left:.0f} s left)")
        quota = {"left": int(max(0, left)), "wait": f"PT{int(self.wait_s(visitor))}S"}
        codes = {
            "quota": ("quota-exceeded", quota),
            "runs": ("runs-exceeded", {"left": 0, "wait": "PT0S"}),
            "duration": ("illegal-duration", {"left": 0, "wait": "-P1D"}),
            "credits": ("pending-overquota-exceeded", {"left": 0, "wait": "PT0S"}),
        }
        if refusal in codes:
            code, body = codes[refusal]
            return 429, {**signed_in, "X-Approve-Result": code}, body
        if refusal in ("expired", "no-gpu"):
            return {"expired": 401, "no-gpu": 503}[refusal], signed_in, None
        if refusal == "queue":
            return 200, {**signed_in, "X-Queuing-Reason": "node"}, ["event: ping", "event: failed"]
        granted = {
            "idle": self.idle,
            "nvidiaUUID": "GPU-emulated",
            "allowToken": (token := self.grant(visitor, size, asked)),
            "nvidiaIndex": self._granted[token].index,
        }
        if refusal == "queue-then-gpu":
            events = ["event: ping", f"event: succeeded\ndata: {json.dumps(granted)}"]
            return 200, {**signed_in, "X-Queuing-Reason": "node"}, events
        return 200, {**signed_in, "X-Approve-Result": "approved"}, granted


def _handler(device: DeviceApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            device.calls.append((url.path, query))
            if url.path == "/schedule":
                self._answer(*device.schedule(query))
            elif url.path == "/allow":
                known = device.allow(query["allowToken"], int(query["pid"]))
                self._answer(200 if known else 404, {}, None)
            elif url.path == "/release":
                failed = query.get("fail") == "true"
                self._answer(device.release(query["allowToken"], failed), {}, None)
            else:
                self._answer(200 if url.path == "/startup-report" else 404, {}, None)

        def _answer(self, status: int, headers: Mapping[str, str], body: Any) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if isinstance(body, list):
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                for event in body:
                    self.wfile.write(f"{event}\n\n".encode())
                    self.wfile.flush()
                    time.sleep(0.05)  # one event a read, as the client takes them
                self.close_connection = True
                return
            data = b"" if body is None else json.dumps(body).encode()
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def ip_token(user: str) -> str:
    """Return what the huggingface.co page sends in `x-ip-token` for a visitor: a JWT."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(p).encode()).decode() for p in ({}, {"user": user})
    ]
    return ".".join([*(part.rstrip("=") for part in parts), "signature"])


def visitor_of(token: str | None) -> str:
    """Return whom a token names; "" where there is none."""
    if not token:
        return ""
    payload = token.split(".")[1]
    data: dict[str, str] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return data["user"]


def emulated_env(port: int, **more: str) -> dict[str, str]:
    """Return the environment of a process that is to believe it runs on ZeroGPU."""
    paths = [str(SHIM), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{port}",
        "ZEROGPU_OFFLOAD_DIR": tempfile.mkdtemp(prefix="zerogpu-"),
        "DITTO_HUB_PROFILE": "zerogpu",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "OMP_NUM_THREADS": "1",  # a fork after threaded computing would hang
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(paths),
        **more,
    }


def main() -> int:
    """Run the API, and a command under it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--quota", type=float, default=300.0, help="seconds a visitor and day")
    parser.add_argument("--day-s", type=float, default=86_400.0)
    parser.add_argument("--max-s", type=float, default=0.0, help="longest a lease may ask")
    parser.add_argument("--refuse", default="", help=f"to begin with, of {', '.join(REFUSALS)}")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("command", nargs="*")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(f"[device] {line}", file=sys.stderr, flush=True)

    device = DeviceApi(given.quota, given.day_s, given.max_s, port=given.port, told=say)
    device.refuse = [name for name in given.refuse.split(",") if name]
    with device:
        say(f"http://127.0.0.1:{device.port}, {given.quota:.0f} s of quota")
        if given.command:
            more = dict(pair.split("=", 1) for pair in given.set)
            return subprocess.call(given.command, env=emulated_env(device.port, **more))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
