"""Requests in the thread of one event loop."""

import asyncio
import threading
import time

from thinking.text import http_client


def test_first_requests_at_once_share_one_event_loop(monkeypatch):
    make_loop = asyncio.new_event_loop

    def make_slowly():
        time.sleep(0.05)
        return make_loop()

    monkeypatch.setattr(asyncio, "new_event_loop", make_slowly)
    http_client._request_loop.cache_clear()
    loops = []

    async def send():
        loops.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=http_client.run_request, args=(send, 10.0)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loops) == 4
    assert len(set(loops)) == 1
