"""Start tests/lease_app.py under the emulated ZeroGPU, and speak to it as a browser does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from device_api import DeviceApi, emulated_env, ip_token

from ditto_hub import events as ev
from ditto_hub.runs.folder import Run

APP = Path(__file__).with_name("lease_app.py")
OWNER = "hub:ann"


@dataclass
class App:
    """Hold a running app: its address, its handlers' numbers, and what it said."""

    port: int
    log: Path
    ids: dict[str, int]

    def call(self, name: str, data: list[Any], token: str | None = ip_token("ann")) -> list[Any]:
        """Send one event as the page does, and return what the handler gave last.

        A fresh header goes with each event, as huggingface.co gives one.
        """
        session = f"s{time.monotonic_ns()}"
        base = f"http://127.0.0.1:{self.port}/gradio_api"
        headers = {"x-gradio-user": "app"} | ({"x-ip-token": token} if token else {})
        body = {"data": data, "fn_index": self.ids[name], "session_hash": session}
        httpx.post(f"{base}/queue/join", json=body, headers=headers).raise_for_status()
        url = f"{base}/queue/data?session_hash={session}"
        with httpx.stream("GET", url, timeout=240) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "process_completed":
                    assert message["success"], message
                    found: list[Any] = message["output"].get("data", [])
                    return found
        raise AssertionError(self.log.read_text())

    def lease(self, run: Run, cap_s: float = 60, owner: str = OWNER, **how: Any) -> ev.Event:
        """Take one lease for a run and return its last event."""
        before = len(run.events())
        found = self.call("work", [str(run.folder), owner, cap_s], **how)
        events = run.events()
        return events[-1] if len(events) > before else ev.from_json(json.loads(found[0]))

    def chain(self, run: Run, cap_s: float = 60, most: int = 60) -> list[ev.Event]:
        """Take leases as the page does, until the last event says that none follows."""
        ends = []
        for _ in range(most):
            ends.append(self.lease(run, cap_s))
            if not getattr(ends[-1], "goes_on", False):
                break
        return ends

    def write(self, target: str, requests: list[dict[str, Any]]) -> Any:
        """Write texts in a lease."""
        return json.loads(self.call("write", [target, json.dumps(requests), OWNER])[0])


@contextlib.contextmanager
def started(device: DeviceApi, home: Path, *arguments: str) -> Iterator[App]:
    """Run the app until the block ends."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "app.log"
    with log.open("wb") as out:
        app = subprocess.Popen(
            [sys.executable, str(APP), *arguments],
            env=emulated_env(device.port, DITTO_HUB_HOME=str(home)),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        port = _port(app, log)
        config = httpx.get(f"http://127.0.0.1:{port}/config").json()
        yield App(port, log, {d["api_name"]: d["id"] for d in config["dependencies"]})
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(app.pid, signal.SIGKILL)  # its workers too
        app.wait()


def _port(app: subprocess.Popen[bytes], log: Path) -> int:
    for _ in range(1200):
        found = re.search(r"^listening on (\d+)$", log.read_text(errors="replace"), re.M)
        if found:
            return int(found[1])
        assert app.poll() is None, log.read_text()
        threading.Event().wait(0.1)
    raise AssertionError(log.read_text())
