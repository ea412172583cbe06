"""Text generation by a causal language model of Hugging Face, plain or steered toward an embedding.

Axes: V vocabulary, N texts, D dimensions of a vector.
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
        model: of `transformers`, in evaluation mode.
        tokenizer: of `transformers`.
        end_tokens: tokens that end an answer.
    """

    model: Any
    tokenizer: Any
    end_tokens: frozenset[int]


def load(name: str) -> CausalModel:
    """Load a causal model by its name on the Hugging Face hub or its folder; uses HF_TOKEN if set.

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
        ends = find_end_tokens(model.generation_config.eos_token_id, tokenizer.eos_token_id)
        return CausalModel(model, tokenizer, ends)
    raise UserError(
        f"{name}: not a causal model that can be loaded ({reason}); give a folder, or a name on the hub, "
        "with HF_TOKEN in the environment or in secrets.env if it needs a login"
    )


def find_end_tokens(*named: int | Sequence[int] | None) -> frozenset[int]:
    """The tokens that end an answer: the first that are named, as by the model and by its tokenizer. 0 is a token."""
    ends = next((tokens for tokens in named if tokens is not None), ())
    return frozenset(int(token) for token in np.atleast_1d(ends))


def make_answer_fn(causal: CausalModel, *, max_new_tokens: int = 512) -> Callable[[str], str]:
    """Make `answer(prompt) -> answer` by greedy decoding."""
    import torch

    def answer(prompt: str) -> str:
        prompt_tokens = _encode_prompt(causal, prompt)
        num_new_tokens = _clip_max_new_tokens(causal, prompt_tokens, max_new_tokens)
        tokens = torch.tensor([prompt_tokens], device=causal.model.device)
        with torch.no_grad():
            completions = causal.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=num_new_tokens,
                do_sample=False,
                pad_token_id=min(causal.end_tokens, default=0),
                temperature=None,  # else transformers warns about the model's own settings
                top_p=None,
                top_k=None,
            )
        return causal.tokenizer.decode(completions[0, tokens.shape[1] :], skip_special_tokens=True)

    return answer


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
    """Generate text whose next-token scores are shifted toward a target embedding; see `steer_tokens`.

    The whole text is processed for every token, so this suits short texts and small models.

    Args:
        causal: the model.
        embedder: embeds the text so far.
        target: [D] the target embedding.
        prompt: the user's message.
        strength: nats that a cosine similarity of 1 adds to a token's logit.
        top_k: candidates for each token.
        max_new_tokens: maximum number of new tokens.
    """
    import torch

    prompt_tokens = _encode_prompt(causal, prompt)
    max_new_tokens = _clip_max_new_tokens(causal, prompt_tokens, max_new_tokens)

    def next_scores(tokens: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            inputs = torch.tensor([[*prompt_tokens, *tokens]], device=causal.model.device)
            return causal.model(inputs).logits[0, -1].float().cpu().numpy()

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
    """Generate tokens greedily by scores shifted toward a target: weighted decoding (Ghazvininejad et al. 2017).

    Among the `top_k` most likely tokens, takes the one with the largest log-probability plus `strength` times the
    cosine similarity of the target and the embedding of the text with that token. Ties go to the more likely token;
    strength 0 is greedy decoding. An end token, or one that leaves the text blank, keeps the similarity of the text
    before it.

    Args:
        next_scores: logits [V] of the next token, given the tokens so far.
        decode: tokens to text.
        embed_fn: texts to unit vectors [N, D].
        target: [D], of nonzero length.
        strength: nats that a cosine similarity of 1 adds.
        top_k: candidates for each token.
        max_new_tokens: maximum number of tokens.
        end_tokens: tokens that end the text; they are not part of the result.

    Raises:
        ValueError: without candidates, or for a target of length 0.
    """
    length = float(np.linalg.norm(target))
    if top_k < 1 or not 0 < length < np.inf:
        raise ValueError(
            f"steer_tokens: top_k {top_k}, target of length {length}: allowed are at least 1, and a length above 0"
        )
    tokens: list[int] = []
    similarity = 0.0
    while len(tokens) < max_new_tokens:
        logits = np.asarray(next_scores(tokens), np.float64)
        candidates = np.argsort(-logits, kind="stable")[:top_k]
        similarities = np.full(len(candidates), similarity)
        texts = [decode([*tokens, int(token)]) for token in candidates]
        scored = [
            index for index, token in enumerate(candidates) if int(token) not in end_tokens and texts[index].strip()
        ]
        if scored:
            similarities[scored] = embed_fn([texts[index] for index in scored]) @ (target / length)
        # Logits and log-probabilities differ by a constant, so the argmax is the same.
        best = int(np.argmax(logits[candidates] + strength * similarities))
        if int(candidates[best]) in end_tokens:
            break
        tokens.append(int(candidates[best]))
        similarity = float(similarities[best])
    return tokens


def _clip_max_new_tokens(causal: CausalModel, prompt_tokens: Sequence[int], max_new_tokens: int) -> int:
    """Maximum number of new tokens within the model's context; raises UserError if the prompt fills it."""
    limit = getattr(causal.model.config, "max_position_embeddings", None) or len(prompt_tokens) + max_new_tokens
    if limit <= len(prompt_tokens):
        raise UserError(f"a prompt of {len(prompt_tokens)} tokens, and the model reads {limit}; take another model")
    return min(max_new_tokens, limit - len(prompt_tokens))


def _encode_prompt(causal: CausalModel, prompt: str) -> list[int]:
    """Prompt tokens, in the chat template where the model has one."""
    if not causal.tokenizer.chat_template:
        return causal.tokenizer(prompt)["input_ids"]
    messages = [{"role": "user", "content": prompt}]
    text = causal.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return causal.tokenizer(text, add_special_tokens=False)["input_ids"]
