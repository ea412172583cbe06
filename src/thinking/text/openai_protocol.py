"""Text generation and embeddings by a server of the OpenAI protocol.

Every answer is cached at once (see `response_cache`), so an interrupted run does not repeat requests.

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
from thinking.text.openai_server import Server

MAX_PARALLEL = 4  # requests under way at once
BATCH_SIZE = 64  # texts in one request for embeddings
_CUT_SHORT = ("length", "content_filter")  # reasons why an answer ends before its end

Item = TypeVar("Item")
Result = TypeVar("Result")


def make_openai_answer_fn(
    server: Server, model: str, *, system: str | None = None, temperature: float | None = 0.0
) -> Callable[[str], str]:
    """Make `answer(prompt) -> answer` by chat completion; cached answers are not requested again.

    Args:
        server: the server.
        model: its model.
        system: system message, if any.
        temperature: 0 for greedy decoding; None for the server's default, as some models require.

    Returns:
        `answer`, which raises UserError if there is no answer.
    """
    settings = {} if temperature is None else {"temperature": temperature}

    def request_completion(prompt: str) -> str:
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": prompt})
        body = {"model": model, "messages": messages, **settings}
        request = {"server": server.url, "endpoint": "chat/completions", **body}
        answer = response_cache.get(server.folder, request, lambda cached: isinstance(cached, str))
        if answer is None:
            create = server.client.chat.completions.with_raw_response.create
            answer = server.redact(server.request_answer(model, lambda: create(**body), _content))
            response_cache.put(server.folder, request, answer, server.redact)
        return answer

    return request_completion


def openai_embedder(server: Server, model: str, *, dims: int | None = None) -> Embedder:
    """An embedder that requests each text once, in batches, and caches the vectors.

    Args:
        server: the server.
        model: its model.
        dims: D, if the server shall shorten its vectors; None: its default, found by embedding one word.

    Raises:
        UserError: if there is no answer; the embedder raises it too.
    """
    settings = {} if dims is None else {"dimensions": dims}

    def request(text: str) -> Mapping[str, Any]:
        return {"server": server.url, "endpoint": "embeddings", "model": model, "text": text, **settings}

    def request_vectors(texts: Sequence[str], width: int | None) -> dict[str, list[float]]:
        create = server.client.embeddings.with_raw_response.create
        vectors = server.request_answer(
            model,
            lambda: create(model=model, input=list(texts), encoding_format="float", **settings),
            lambda response: _vectors(response, len(texts), width),
        )
        for text, vector in zip(texts, vectors, strict=True):
            response_cache.put(server.folder, request(text), vector, server.redact)
        return dict(zip(texts, vectors, strict=True))

    def embed(texts: Sequence[str], width: int | None) -> np.ndarray:
        cached = {
            text: response_cache.get(server.folder, request(text), lambda found: _is_vector(found, width))
            for text in texts
        }
        missing = [text for text, vector in cached.items() if vector is None]
        for vectors in map_in_order(
            lambda batch: request_vectors(batch, width), cut_rows(missing, BATCH_SIZE), MAX_PARALLEL
        ):
            cached |= vectors
        return np.array([cached[text] for text in texts], np.float32)

    width = embed(["width"], None).shape[1] if dims is None else dims
    return make_embedder(model, width, lambda texts: embed(texts, width))


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], num_workers: int) -> Iterator[Result]:
    """`map(function, items)` with `num_workers` calls at once, in daemon threads.

    If a call fails, the calls in progress are awaited, because their requests are paid for; on Ctrl-C they are not.
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


def _content(response: Any) -> str:
    if not response["choices"]:
        raise ValueError("it holds no choice")
    choice = response["choices"][0]
    if (reason := choice.get("finish_reason")) in _CUT_SHORT:
        raise ValueError(f"its answer was cut short, by the finish_reason {reason}")
    content = choice["message"]["content"]
    if not isinstance(content, str):
        raise ValueError("its content is null" if content is None else "its content is no text")
    return content


def _vectors(response: Any, count: int, width: int | None) -> list[list[float]]:
    """The vectors of `count` texts in order, rounded to float32."""
    data = response["data"]
    if len(data) != count:
        raise ValueError(f"it holds {len(data)} embeddings for {count} texts")
    ordered = sorted(data, key=lambda item: item["index"])
    if [item["index"] for item in ordered] != list(range(count)):
        raise ValueError("its embeddings are not numbered from 0")
    vectors = [item["embedding"] for item in ordered]
    width = len(vectors[0]) if width is None else width
    if not all(_is_vector(vector, width) for vector in vectors):
        raise ValueError(f"an embedding is not {width} finite numbers, or it is 0")
    return [[float(f"{number:.9g}") for number in np.float32(vector).tolist()] for vector in vectors]


def _is_vector(vector: Any, width: int | None) -> bool:
    return (
        isinstance(vector, list)
        and width in (None, len(vector))
        and all(type(number) in (int, float) and abs(number) < 1e15 for number in vector)
        and any(abs(number) > 1e-15 for number in vector)
    )
