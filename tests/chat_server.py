"""A loopback server that speaks chat completions as it is told, for tests of the endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from triage.ticket import Ticket, render_ticket

Response = tuple[int, dict[str, str], bytes]
JSON = {"content-type": "application/json"}


def completion(content: Ticket | str | None, *, finish: str = "stop", **message: Any) -> Response:
    """A 200 answer whose message is a ticket or any text."""
    text = render_ticket(content) if isinstance(content, Ticket) else content
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    body = {"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 700, "completion_tokens": 50, "total_tokens": 750}}
    return 200, JSON, json.dumps(body).encode()


def refusal(status: int, code: str = "", **headers: str) -> Response:
    """An error with a body as OpenAI's."""
    body = {"error": {"message": "the customer wrote: secret", "type": "some_error", "code": code or None}}
    return status, {**JSON, **headers}, json.dumps(body).encode()


class ChatServer:
    """Answers each POST with `reply(body)`; `bodies` and `keys` are what it was sent. A context manager."""

    def __init__(self, reply: Callable[[dict[str, Any]], Response]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.busiest = 0
        busy = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal busy
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    busy += 1
                    outer.busiest = max(outer.busiest, busy)
                    outer.bodies.append(body)
                    outer.keys.append(self.headers.get("authorization"))
                status, headers, content = reply(body)
                with lock:
                    busy -= 1
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except ConnectionError:
                    return  # the client gave up, as some tests want it to

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)
