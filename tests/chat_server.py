"""A local server with the OpenAI chat API, which answers, and fails, as a script says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """Say what one request gets: a text, or a status, a body and a delay of its own."""

    text: str = "ANSWER: A"
    status: int = 200
    finish: str = "stop"
    body: bytes | None = None
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """Return the body that is sent."""
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


class ChatServer:
    """Answer by a function of the request; `requests` and `keys` hold what came.

    `models` is the body of the list of models, as the router of the Inference Providers has it.
    """

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.keys: list[str | None] = []
        self.models: Any = {"object": "list", "data": []}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(request)
                outer.keys.append(self.headers.get("authorization"))
                reply = outer.answer(request)
                time.sleep(reply.delay_s)
                payload = reply.payload()
                try:
                    self.send_response(reply.status if self.path.endswith("/completions") else 404)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(payload)))
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(payload)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def do_GET(self) -> None:
                payload = json.dumps(outer.models).encode()
                self.send_response(200 if self.path.endswith("/models") else 404)
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    @contextmanager
    def running(self) -> Iterator[ChatServer]:
        """Serve inside the block."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@contextmanager
def serving(*replies: Reply) -> Iterator[ChatServer]:
    """Serve these replies in turn, the last one for ever."""
    left = list(replies)
    server = ChatServer(lambda _: left.pop(0) if len(left) > 1 else left[0])
    with server.running():
        yield server
