"""HTTP requests with a deadline, and answers of a limited size.

The timeouts of HTTP libraries are for each read, so an answer that drips byte by byte would never end. Requests run in
the event loop of one thread, where each can be cancelled as a whole.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import httpx2

from thinking.errors import UserError

Result = TypeVar("Result")

_LOCK = threading.Lock()


def run_request(send: Callable[[], Awaitable[Result]], seconds: float) -> Result:
    """Await `send()` in the thread of the requests, and return its result.

    Raises:
        TimeoutError: it took longer than `seconds`, and is cancelled.
    """

    async def send_in_time() -> Result:
        async with asyncio.timeout(seconds):
            return await send()

    # A cache alone would let two first requests make two loops, and a client belongs to one.
    with _LOCK:
        loop = _request_loop()
    return asyncio.run_coroutine_threadsafe(send_in_time(), loop).result()


@functools.cache
def _request_loop() -> asyncio.AbstractEventLoop:
    """The event loop of all requests, in a daemon thread that lives as long as the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="requests").start()
    return loop


def make_client(
    *, auth: tuple[str, ...], max_bytes: int, on_request: Callable[[httpx2.Request], Awaitable[None]]
) -> httpx2.AsyncClient:
    """Make an HTTP client that reads at most `max_bytes` of an answer. Redirects are not followed.

    Args:
        auth: user and password, if any.
        max_bytes: of the body of an answer. A longer one raises UserError as soon as that many are read, and so does
            a compressed one, which could unfold to any size.
        on_request: called before each request is sent.
    """

    async def limit_body(response: httpx2.Response) -> None:
        host = response.url.host
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UserError(f"{host} compressed its answer, though it was asked not to; check its settings")
        response.stream = _LimitedStream(response.stream, host, max_bytes)

    return httpx2.AsyncClient(
        auth=auth or None,
        timeout=None,  # `run_request` limits the whole request
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [on_request], "response": [limit_body]},
    )


class _LimitedStream(httpx2.AsyncByteStream):
    """The body of an answer, up to a number of bytes."""

    def __init__(self, stream: Any, host: str, max_bytes: int) -> None:
        self._stream, self._host, self._max_bytes = stream, host, max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for part in self._stream:
            num_bytes += len(part)
            if num_bytes > self._max_bytes:
                raise UserError(
                    f"{self._host} sent more than {self._max_bytes:,} bytes as an answer; check the address"
                )
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
