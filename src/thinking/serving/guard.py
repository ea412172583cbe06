"""Checks of every request before it is answered, and the headers of every response. An ASGI middleware."""

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thinking.serving.responses import make_refusal

MAX_TARGET = 1000
"""Bytes of a path and its query."""
MAX_HEADERS = 16 * 1024
"""Bytes of all headers."""
MAX_BODY = 16 * 1024
"""Bytes of a request's body."""
MAX_REQUESTS = 32
"""Requests that are answered at the same time."""
_LOCAL = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every response that has not set them itself."""


class Guard:
    """Refuses what no page of this server sends; all else goes to the application.

    - The name in `Host` must be this machine's, so that no foreign name that resolves to it gives a page access.
    - A POST must come from a page of this server, be JSON, and be short.
    - At most `MAX_REQUESTS` are answered at a time.

    Args:
        app: the application.
        host: the address that the server listens on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host
        self._num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if refusal := self._find_refusal(scope):
            return await make_refusal(scope, *refusal)(scope, receive, send_with_headers)
        self._num_requests += 1
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._num_requests -= 1

    def _find_refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason of a refusal; None for a request that is as it must be."""
        headers = Headers(scope=scope)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
            return 414, f"the address is too long; at most {MAX_TARGET} bytes are allowed"
        if sum(len(name) + len(value) for name, value in headers.raw) > MAX_HEADERS:
            return 431, f"the headers are too long; at most {MAX_HEADERS} bytes are allowed"
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not is_host_allowed(hosts[0], self._host):
            return 421, "unknown host name; open the address that thinking serve printed"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET, HEAD and POST are allowed"
        if self._num_requests >= MAX_REQUESTS:
            return 503, "too many requests at a time; try again in a moment"
        return _refuse_post(headers) if scope["method"] == "POST" else None


def is_host_allowed(header: str, host: str) -> bool:
    """Whether a `Host` header names this machine; its port may be another, as behind a tunnel.

    Args:
        header: of the request.
        host: the address that the server listens on. If it can be reached from outside, any IP address is
            allowed, as DNS rebinding needs a name.
    """
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?", header)
    if not found:
        return False
    name = (found[1] or found[2]).lower()
    if host.lower() in _LOCAL:
        return name in _LOCAL
    return name in (*_LOCAL, host.lower(), socket.gethostname().lower()) or _is_address(name)


def _refuse_post(headers: Headers) -> tuple[int, str] | None:
    origins = headers.getlist("origin")
    if origins != [f"http://{headers['host']}"]:
        return 403, "only pages of this server may ask"
    if _read_media_type(headers.getlist("content-type")) != "application/json":
        return 415, "only application/json is allowed"
    if headers.get("content-encoding", "identity") != "identity":
        return 415, "no content-encoding is allowed"
    length = headers.get("content-length", "0")
    if not re.fullmatch(r"\d{1,19}", length) or int(length) > MAX_BODY:
        return 413, f"the body is too long; at most {MAX_BODY} bytes are allowed"
    return None


def _read_media_type(values: Iterable[str]) -> str:
    """The media type without its parameters; empty unless there is one header."""
    values = list(values)
    return values[0].partition(";")[0].strip().lower() if len(values) == 1 else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
