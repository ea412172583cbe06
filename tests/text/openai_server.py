"""A server of the OpenAI protocol on the loopback, which does what a test tells it to."""

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


class Stub:
    """What the server got, and what it shall do.

    Attributes:
        url: for `base_url`.
        requests: (path, JSON body, Authorization header) of every request, in order.
        script: what is done with the next requests, one each; afterwards they are answered as they should be. Each is a
            name that `_extract_answer` knows, or (status, body as JSON or bytes, headers).
        says: answers a prompt.
        most: how many requests were under way at once.
        slow: seconds that every answer takes.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, Any, str]] = []
        self.script: deque[Any] = deque()
        self.says = lambda prompt: f"1. think of {prompt}\n2. do it"
        self.under_way = self.most = 0
        self.slow = 0.0
        self.lock = threading.Lock()


def embedding(text: str) -> list[float]:
    """The vector of a text, not of length 1."""
    return [float(len(text)), float(sum(text.encode()) % 97), -1.5]


@contextlib.contextmanager
def serving() -> Iterator[Stub]:
    """Serve on a free port."""
    stub = Stub()

    class Handler(_Handler):
        state = stub

    server = _Server(("127.0.0.1", 0), Handler)
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


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was interrupted hangs up, which is no error of the server's; others are told as ever."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Stub

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
            told = stub.script.popleft() if stub.script and body is not None else None
            stub.under_way += 1
            stub.most = max(stub.most, stub.under_way)
        try:
            time.sleep(stub.slow)
            self._answer(told, body, key)
        finally:
            with stub.lock:
                stub.under_way -= 1

    def _answer(self, told: Any, body: Any, key: str) -> None:
        if told == "cut":
            self.close_connection = True
            self.connection.shutdown(2)
        elif told == "slow":
            time.sleep(0.5)
            self.close_connection = True
        elif told == "echo in an error":
            self._send(401, {"error": {"message": f"{key} is no good", "type": "auth", "got": key}})
        elif told == "echo in an answer":
            self._send(200, _completion(f"1. keep {key} well\n2. tell nobody"))
        elif told is not None:
            self._send(*told)
        elif self.path == "/v1/models":
            self._send(200, {"data": [{"id": name, "object": "model"} for name in MODELS]})
        elif self.path == "/v1/chat/completions" and body["model"] in MODELS:
            self._send(200, _completion(self.state.says(body["messages"][-1]["content"])))
        elif self.path == "/v1/embeddings" and body["model"] in MODELS:
            self._send(200, _embeddings(body))
        else:
            self._send(404, {"error": {"message": "no such thing here"}})

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
    """Vectors in the wrong order, as the protocol allows; their index says which is whose."""
    width = body.get("dimensions", 3)
    data = [{"index": index, "embedding": embedding(text)[:width]} for index, text in enumerate(body["input"])]
    return {"object": "list", "data": data[::-1]}
