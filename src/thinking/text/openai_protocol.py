"""Texts and embeddings from any server of the OpenAI protocol, a paid one or one's own.

Every answer is kept at once (see `cache`), so a run cut short goes on where it was.

Axes: N texts, D dimensions of a vector.
"""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from thinking.batching import cut_rows
from thinking.text import response_cache
from thinking.text.embedders import Embedder, make_embedder
from thinking.text.server import Server

MAX_PARALLEL = 4  # requests under way at once
BATCH_SIZE = 64  # texts in one request for embeddings

Item = TypeVar("Item")
Result = TypeVar("Result")


def make_openai_answer_fn(
    server: Server, model: str, *, system: str | None = None, temperature: float | None = 0.0
) -> Callable[[str], str]:
    """`ask(prompt) -> answer` by chat completion; an answer that is kept is not asked for again.

    Args:
        server: who is asked.
        model: by which model.
        system: what the model is told first, if anything.
        temperature: 0 for the likeliest answer; None leaves it to the server, for models that allow no other.

    Returns:
        `ask`, which raises UserError where no answer can be had.
    """
    settings = {} if temperature is None else {"temperature": temperature}

    def ask(prompt: str) -> str:
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": prompt})
        asked = {"model": model, "messages": messages, **settings}
        request = {"server": server.url, "endpoint": "chat/completions", **asked}
        answer = response_cache.get(server.folder, request, lambda kept: isinstance(kept, str))
        if answer is None:
            create = server.client.chat.completions.with_raw_response.create
            answer = server.redact(server.request_answer(model, lambda: create(**asked), _content))
            response_cache.put(server.folder, request, answer, server.redact)
        return answer

    return ask


def openai_embedder(server: Server, model: str, *, dims: int | None = None) -> Embedder:
    """Embeddings by a server. Each text is asked for once, in batches, and kept.

    Args:
        server: who is asked.
        model: by which model.
        dims: D, if the server shall shorten its vectors to that; None: its own, found by embedding one word.

    Raises:
        UserError: no answer can be had; `embed_texts` raises it too.
    """
    settings = {} if dims is None else {"dimensions": dims}

    def request(text: str) -> Mapping[str, Any]:
        return {"server": server.url, "endpoint": "embeddings", "model": model, "text": text, **settings}

    def ask(texts: Sequence[str], width: int | None) -> dict[str, list[float]]:
        create = server.client.embeddings.with_raw_response.create
        vectors = server.request_answer(
            model,
            lambda: create(model=model, input=list(texts), encoding_format="float", **settings),
            lambda sent: _vectors(sent, len(texts), width),
        )
        for text, vector in zip(texts, vectors, strict=True):
            response_cache.put(server.folder, request(text), vector, server.redact)
        return dict(zip(texts, vectors, strict=True))

    def embed(texts: Sequence[str], width: int | None) -> np.ndarray:
        kept = {
            text: response_cache.get(server.folder, request(text), lambda found: _is_vector(found, width))
            for text in texts
        }
        missing = [text for text, vector in kept.items() if vector is None]
        for vectors in map_in_order(lambda batch: ask(batch, width), cut_rows(missing, BATCH_SIZE), MAX_PARALLEL):
            kept |= vectors
        return np.array([kept[text] for text in texts], np.float32)

    width = dims or embed(["width"], None).shape[1]
    return make_embedder(model, width, lambda texts: embed(texts, width))


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], num_workers: int) -> Iterator[Result]:
    """`map(function, items)` with so many calls under way at once, in threads that no end of the program waits for.

    When a call fails, those under way are waited for, as what they ask is sent and paid for; on Ctrl-C nothing is.
    """
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()

    def work(future: concurrent.futures.Future[Result], item: Item) -> None:
        try:
            future.set_result(function(item))
        except Exception as error:
            future.set_exception(error)

    try:
        for item in items:
            if len(pending) == num_workers:
                yield pending.popleft().result()
            pending.append(concurrent.futures.Future())
            threading.Thread(target=work, args=(pending[-1], item), daemon=True).start()
        while pending:
            yield pending.popleft().result()
    except Exception:
        concurrent.futures.wait(pending)
        raise


def _content(sent: Any) -> str:
    if not sent["choices"]:
        raise ValueError("it holds no choice")
    content = sent["choices"][0]["message"]["content"]
    if not isinstance(content, str):
        raise ValueError("its content is null" if content is None else "its content is no text")
    return content


def _vectors(sent: Any, count: int, width: int | None) -> list[list[float]]:
    """A vector for each text asked about, in their order, rounded as float32 holds them."""
    data = sent["data"]
    if len(data) != count:
        raise ValueError(f"it holds {len(data)} embeddings for {count} texts")
    ordered = sorted(data, key=lambda item: item["index"])
    if [item["index"] for item in ordered] != list(range(count)):
        raise ValueError("its embeddings are not numbered from 0")
    vectors = [item["embedding"] for item in ordered]
    if not all(_is_vector(vector, width or len(vectors[0])) for vector in vectors):
        raise ValueError(f"an embedding is not {width or len(vectors[0])} finite numbers, or it is 0")
    return [[float(f"{number:.9g}") for number in np.float32(vector).tolist()] for vector in vectors]


def _is_vector(found: Any, width: int | None) -> bool:
    return (
        isinstance(found, list)
        and len(found) == (width or len(found))
        and all(type(number) in (int, float) and abs(number) < 1e15 for number in found)
        and any(abs(number) > 1e-15 for number in found)
    )
