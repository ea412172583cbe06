"""Speed of sentence embedding, beside sentence-transformers with the same weights.

Sentence-transformers is optional: the configuration torch-cpu of run_manual.sh has it, or
`pip install sentence-transformers` into the environment that runs the benchmark.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from thinking.benchmarks import baselines
from thinking.benchmarks.config import EmbeddingConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.errors import RunError
from thinking.text import minilm

Embed = Callable[[Sequence[str]], np.ndarray]

WORDS = """
a and of to the with before because if then or not is are was one two seven nine ten number sum product
answer question problem proof step path node goal child teacher man woman house river mountain tree stone water light
city day night road music story word read write see find think learn remember walk carry eat open old new small large
quick slow red green blue today never always
"""
"""Each word is one token."""


def measure_embedding(config: EmbeddingConfig, setup: Setup) -> Measurement:
    """Sentences of 4 to 18 words per second: the median of several times after a warm-up; both sides alternate.

    Raises:
        UserError: if there are no weights.
        RunError: if an embedding differs by more than 1e-5.
    """
    texts = config.num_texts
    compare = baselines.check_installed(setup.run, "embedding", "torch", "transformers", "sentence_transformers")
    rng = np.random.default_rng(0)
    words = WORDS.split()
    sentences = [" ".join(rng.choice(words, rng.integers(4, 19))) for _ in range(texts)]
    encoder = minilm.load_encoder()
    sides: dict[str, Embed] = {"ours": lambda batch: minilm.embed_texts(encoder, batch)}
    row: Row = {"benchmark": "embedding, all-MiniLM-L6-v2", "rows": texts, "threads": _threads()}
    row["tokens"] = sum(len(sentence) for sentence in encoder.tokenize(sentences))
    if compare:
        sides["theirs"] = _sentence_transformers(config.batch_size)
        row["largest_difference"] = _largest_difference(sides, sentences)
    seconds = _median_seconds(sides, sentences, config.num_repeats)
    row["sentences_per_second"] = texts / seconds["ours"]
    if compare:
        row["sentence_transformers_sentences_per_second"] = texts / seconds["theirs"]
        row["times_faster_than_sentence_transformers"] = seconds["theirs"] / seconds["ours"]
    return Measurement([row])


def _threads() -> int:
    """Threads that XLA starts on a CPU: as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sentence_transformers(batch: int) -> Embed:
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.logging.disable_progress_bar()
    torch.set_num_threads(_threads())
    model = SentenceTransformer(
        str(minilm.find_model_folder()), device="cuda" if jax.default_backend() == "gpu" else "cpu"
    )
    return lambda texts: model.encode(list(texts), batch_size=batch, show_progress_bar=False)


def _largest_difference(sides: dict[str, Embed], sentences: Sequence[str]) -> float:
    difference = float(np.abs(sides["ours"](sentences) - sides["theirs"](sentences)).max())
    if not difference <= 1e-5:
        raise RunError(f"sentence-transformers differs by {difference:.2g}; the two are not the same model")
    return difference


def _median_seconds(sides: dict[str, Embed], sentences: Sequence[str], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, embed in sides.items():
            start = time.perf_counter()
            embed(sentences)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
