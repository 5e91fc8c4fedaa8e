"""The hostile visitor of visitors.py: what one browser can send to keep others from being served.

In turns, over eight connections and from one address, until the others have left:

- 45 messages to a model at once, from a page of their own;
- `check` with 50 texts of 20,000 characters;
- the difference of two texts of a thousand repetitive words, as behind every keystroke.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CONNECTIONS = 8
MESSAGES = 45
TEXTS, CHARACTERS = 50, 20_000
BEFORE = " ".join(["a", "b"] * 500)
AFTER = " ".join(["b", "a", "c"] * 333)


@dataclass
class Hostile:
    """Attack an app from one address.

    Args:
        url: of the app.
        address: that the server takes the requests to come from.
    """

    url: str
    address: str = "10.6.6.6"
    answers: Counter[str] = field(default_factory=Counter)
    done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[Counter[str]]:
        """Attack for as long as the block runs, and count the answers by what was sent."""
        attacks = (self.flood, self.long_check, self.long_difference)
        threads = [
            threading.Thread(target=self._again, args=(attacks[n % len(attacks)],), daemon=True)
            for n in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self.answers
        finally:
            self.done.set()
            for thread in threads:
                thread.join(120)

    def _again(self, attack: Any) -> None:
        while not self.done.is_set():
            try:
                attack()
            except OSError as error:
                self.answers[f"{attack.__name__}: {type(error).__name__}"] += 1
                time.sleep(0.2)

    def flood(self) -> None:
        """Send messages to the model, and read how they end."""
        page = secrets.token_hex(5)
        for _ in range(MESSAGES):
            status = self._post("call/bench_write", {"data": [], "session_hash": page})[0]
            self.answers[f"flood: {status}"] += 1

    def long_check(self) -> None:
        """Have the longest texts checked that are taken here."""
        text = "1 rue de A. " * (CHARACTERS // 12)
        rows = [{"prompt": f"{n} {text[:-9]}", "completion": text} for n in range(TEXTS)]
        self._call("check", [rows])

    def long_difference(self) -> None:
        """Have texts compared that make a matcher slow."""
        self._call("bench_difference", [BEFORE, AFTER])

    def _call(self, name: str, data: list[Any]) -> None:
        status, event = self._post(f"call/{name}", {"data": data})
        if status == 200:
            at = f"{self.url}/gradio_api/call/{name}/{event['event_id']}"
            with urllib.request.urlopen(self._asked(at), timeout=300) as answer:
                told = answer.read().decode()
            self.answers[f"{name}: {'done' if 'event: complete' in told else 'refused'}"] += 1
        else:
            self.answers[f"{name}: {status}"] += 1

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked = self._asked(f"{self.url}/gradio_api/{path}", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(asked, timeout=300) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, None

    def _asked(self, at: str, body: bytes | None = None) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "X-Forwarded-For": self.address}
        return urllib.request.Request(at, body, headers)
