"""Texts from a causal language model of Hugging Face that runs here, and writing that is steered toward a plan.

Axes: V words of the vocabulary, D dimensions of a vector.
"""

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from thinking.errors import UserError
from thinking.text.embedders import Embedder, EmbedFn


class CausalModel(NamedTuple):
    """A model and its tokenizer.

    Attributes:
        model: of `transformers`, in evaluation.
        tokenizer: of `transformers`.
        end_tokens: tokens that end an answer.
    """

    model: Any
    tokenizer: Any
    end_tokens: frozenset[int]


def load(name: str) -> CausalModel:
    """A causal model by its name on the Hugging Face hub or its folder; HF_TOKEN is used where it is set.

    Raises:
        UserError: PyTorch or transformers is not installed, or there is no such model.
    """
    try:
        import torch  # noqa: F401
        import transformers
    except ModuleNotFoundError as error:
        raise UserError(
            f"a model of Hugging Face needs {error.name}, which is not installed: `pip install torch transformers`, "
            "or the configuration torch-cpu of run_manual.sh"
        ) from None
    token = os.environ.get("HF_TOKEN") or None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, token=token)
        model = transformers.AutoModelForCausalLM.from_pretrained(name, token=token).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200].replace(token or "\0", "***")
    else:
        ends = np.atleast_1d(model.generation_config.eos_token_id or tokenizer.eos_token_id or ())
        return CausalModel(model, tokenizer, frozenset(int(token) for token in ends))
    raise UserError(
        f"{name}: not a causal model that can be loaded ({reason}); give a folder, or a name on the hub, "
        "with HF_TOKEN in the environment or in secrets.env if it needs a login"
    )


def make_answer_fn(causal: CausalModel, *, max_new_tokens: int = 512) -> Callable[[str], str]:
    """`ask(prompt) -> answer`, the likeliest token each time, in at most so many tokens."""
    import torch

    def ask(prompt: str) -> str:
        start = _encode_prompt(causal, prompt)
        room = _clip_max_new_tokens(causal, start, max_new_tokens)
        tokens = torch.tensor([start], device=causal.model.device)
        with torch.no_grad():
            written = causal.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=room,
                do_sample=False,
                pad_token_id=min(causal.end_tokens, default=0),
                temperature=None,  # else those that a model brings along are warned of
                top_p=None,
                top_k=None,
            )
        return causal.tokenizer.decode(written[0, tokens.shape[1] :], skip_special_tokens=True)

    return ask


def generate_steered(
    causal: CausalModel,
    embedder: Embedder,
    target: np.ndarray,
    prompt: str,
    *,
    strength: float = 4.0,
    top_k: int = 8,
    max_new_tokens: int = 128,
) -> str:
    """What a causal model answers when its next-token scores are shifted toward the embedding of a plan; see `steer_tokens`.

    The whole text goes through the model for every token, so this is for short texts and small models.

    Args:
        causal: the model.
        embedder: embeds what is written so far.
        target: [D] the plan's embedding.
        prompt: what the model is told.
        strength: nats that a cosine of 1 adds.
        top_k: candidates for each token.
        max_new_tokens: tokens at most.
    """
    import torch

    start = _encode_prompt(causal, prompt)
    max_new_tokens = _clip_max_new_tokens(causal, start, max_new_tokens)

    def next_scores(tokens: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            read = torch.tensor([[*start, *tokens]], device=causal.model.device)
            return causal.model(read).logits[0, -1].float().cpu().numpy()

    def decode(tokens: Sequence[int]) -> str:
        return causal.tokenizer.decode(list(tokens), skip_special_tokens=True)

    tokens = steer_tokens(
        next_scores,
        decode,
        embedder.embed,
        target,
        strength=strength,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        end_tokens=causal.end_tokens,
    )
    return decode(tokens)


def steer_tokens(
    next_scores: Callable[[Sequence[int]], np.ndarray],
    decode: Callable[[Sequence[int]], str],
    embed_fn: EmbedFn,
    target: np.ndarray,
    *,
    strength: float,
    top_k: int,
    max_new_tokens: int,
    end_tokens: Collection[int] = (),
) -> list[int]:
    """Tokens written greedily by scores shifted toward a target: weighted decoding (Ghazvininejad et al. 2017).

    Of the `top_k` likeliest tokens the one is taken that is best by log-probability plus `strength` times the cosine of
    target and embedding of all that is then written. Of equal ones the likelier is taken. With strength 0 this is
    greedy decoding. A text that is still blank, or ends, is as near to the target as what was written before it.

    Args:
        next_scores: of the tokens written so far, the model's logits [V] for the next.
        decode: the text of tokens.
        embed_fn: texts -> [N, D] of length 1.
        target: [D], of any length but 0.
        strength: nats that a cosine of 1 adds.
        top_k: candidates for each token.
        max_new_tokens: tokens at most.
        end_tokens: tokens that end the text, and are not part of it.

    Raises:
        ValueError: without candidates, or for a target of length 0.
    """
    length = float(np.linalg.norm(target))
    if top_k < 1 or not 0 < length < np.inf:
        raise ValueError(f"steer: top {top_k}, target of length {length}: allowed are at least 1, and a length above 0")
    written: list[int] = []
    near = 0.0
    while len(written) < max_new_tokens:
        logits = np.asarray(next_scores(written), np.float64)
        candidates = np.argsort(-logits, kind="stable")[:top_k]
        cosines = np.full(len(candidates), near)
        texts = [decode([*written, int(token)]) for token in candidates]
        grows = [
            index for index, token in enumerate(candidates) if int(token) not in end_tokens and texts[index].strip()
        ]
        if grows:
            cosines[grows] = embed_fn([texts[index] for index in grows]) @ (target / length)
        # The sum over all words shifts every candidate alike, so logits do in place of log-probabilities.
        best = int(np.argmax(logits[candidates] + strength * cosines))
        if int(candidates[best]) in end_tokens:
            break
        written.append(int(candidates[best]))
        near = float(cosines[best])
    return written


def _clip_max_new_tokens(causal: CausalModel, start: Sequence[int], max_new_tokens: int) -> int:
    """How many tokens may follow; raises UserError if the model can read no more than the prompt, or not even that."""
    limit = getattr(causal.model.config, "max_position_embeddings", None) or len(start) + max_new_tokens
    if limit <= len(start):
        raise UserError(f"a prompt of {len(start)} tokens, and the model reads {limit}; take another model")
    return min(max_new_tokens, limit - len(start))


def _encode_prompt(causal: CausalModel, prompt: str) -> list[int]:
    """The prompt in tokens, as a conversation where the model knows one."""
    if not causal.tokenizer.chat_template:
        return causal.tokenizer(prompt)["input_ids"]
    said = [{"role": "user", "content": prompt}]
    text = causal.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    return causal.tokenizer(text, add_special_tokens=False)["input_ids"]
