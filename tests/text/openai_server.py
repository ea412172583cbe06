"""A scripted stub of an OpenAI server on the loopback interface."""

import contextlib
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = ("small-model", "embedder")


class StubServer:
    """Requests that the server received, and how it answers.

    Attributes:
        url: the `base_url` of the server.
        requests: (path, JSON body, Authorization header) of every request, in order.
        script: an action for each of the next requests: a name that `_answer` knows, or (status, body as JSON or bytes,
            headers). Further requests are answered normally.
        answer_fn: maps a prompt to its completion.
        max_concurrent: the largest number of concurrent requests.
        delay: seconds before every answer.
        num_bytes: of the body of the answer "endless" that the client took.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, Any, str]] = []
        self.script: deque[Any] = deque()
        self.answer_fn = lambda prompt: f"1. think of {prompt}\n2. do it"
        self.num_concurrent = self.max_concurrent = 0
        self.delay = 0.0
        self.num_bytes = 0
        self.lock = threading.Lock()


def make_embedding(text: str) -> list[float]:
    """The embedding of a text, not normalized."""
    return [float(len(text)), float(sum(text.encode()) % 97), -1.5]


@contextlib.contextmanager
def run_stub_server() -> Iterator[StubServer]:
    """Serve on a free port."""
    stub = StubServer()

    class Handler(_Handler):
        state = stub

    server = _HttpServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _HttpServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that an interrupted client closed. Report all other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms between its headers and its body
    state: StubServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle(None)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionError("the client was interrupted while it sent its request")
        self._handle(json.loads(content))

    def _handle(self, body: Any) -> None:
        stub, key = self.state, self.headers.get("Authorization", "")
        with stub.lock:
            stub.requests.append((self.path, body, key))
            action = stub.script.popleft() if stub.script and body is not None else None
            stub.num_concurrent += 1
            stub.max_concurrent = max(stub.max_concurrent, stub.num_concurrent)
        try:
            time.sleep(stub.delay)
            self._answer(action, body, key)
        finally:
            with stub.lock:
                stub.num_concurrent -= 1

    def _answer(self, action: Any, body: Any, key: str) -> None:
        path = self.path.partition("?")[0]
        if action == "cut":
            self.close_connection = True
            self.connection.shutdown(2)
        elif action == "slow":
            time.sleep(0.5)
            self.close_connection = True
        elif action in ("drip body", "drip headers"):
            self._drip(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 999\r\n\r\n" if action == "drip body" else b"X: "))
        elif action in ("endless", "endless error"):
            self._flood(200 if action == "endless" else 400)
        elif action == "echo in an error":
            self._send(401, {"error": {"message": f"{key} is no good", "type": "auth", "got": key}})
        elif action == "echo in an answer":
            self._send(200, _completion(f"1. keep {key} well\n2. tell nobody"))
        elif action is not None:
            self._send(*action)
        elif path == "/v1/models":
            self._send(200, {"data": [{"id": name, "object": "model"} for name in MODELS]})
        elif path == "/v1/chat/completions" and body["model"] in MODELS:
            self._send(200, _completion(self.state.answer_fn(body["messages"][-1]["content"])))
        elif path == "/v1/embeddings" and body["model"] in MODELS:
            self._send(200, _embeddings(body))
        else:
            self._send(404, {"error": {"message": "no such thing here"}})

    def _drip(self, start: bytes) -> None:
        """One byte each hundredth of a second, until the client leaves."""
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.wfile.write(start)
            for _ in range(500):
                self.wfile.write(b" ")
                time.sleep(0.01)

    def _flood(self, status: int) -> None:
        """A body of 1.5 GB, until the client leaves."""
        self.close_connection = True
        self.send_response(status)
        self.end_headers()
        part = bytes(2**16)
        with contextlib.suppress(ConnectionError):
            while self.state.num_bytes < 1.5e9:
                self.wfile.write(part)
                self.state.num_bytes += len(part)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)


def _completion(text: str) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }


def _embeddings(body: Any) -> dict[str, Any]:
    """Embeddings in reverse order, as the protocol allows. Each has the index of its text."""
    width = body.get("dimensions", 3)
    data = [{"index": index, "embedding": make_embedding(text)[:width]} for index, text in enumerate(body["input"])]
    return {"object": "list", "data": data[::-1]}
