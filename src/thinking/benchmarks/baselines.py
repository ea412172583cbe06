"""Baselines: the same decoder in PyTorch, and generation by Hugging Face.

Both are optional: the configuration torch-cpu of run_manual.sh has them, or `pip install torch transformers` into the
environment that runs the benchmark. The PyTorch decoder has the same weights, and its logits are compared before it is
timed.
"""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from thinking.benchmarks.config import GenerationConfig, TrainingConfig
from thinking.benchmarks.decoders import PROMPT_LENGTH, VOCABULARY_SIZE, make_example_decoder
from thinking.benchmarks.measurement import Row
from thinking.errors import RunError
from thinking.experiment import Run


def list_missing(*packages: str) -> list[str]:
    """The packages that cannot be imported."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def check_installed(run: Run, part: str, *packages: str) -> bool:
    """Whether all packages of a baseline are installed; if not, logs what to install."""
    missing = list_missing(*packages)
    if missing:
        run.log(f"{part} has no baseline, as it is not installed: pip install {' '.join(missing)}")
    return not missing


def torch_training_ms(config: TrainingConfig, num_microbatches: int | None = None) -> float:
    """Milliseconds of a training step in PyTorch, with SDPA and fused AdamW: the best of 5 times `config.num_steps`.

    Args:
        config: sizes.
        num_microbatches: parts of a batch; by default those of `config`.

    Raises:
        RunError: if the logits differ by more than 1e-3.
    """
    import torch
    from torch.nn import functional

    rows, length, num_parts = config.batch_size, config.sequence_length, num_microbatches or config.num_microbatches
    model = make_example_decoder(config.decoder, length)
    params = jax.jit(model.init)(jax.random.key(0))
    batch = np.asarray(jax.random.randint(jax.random.key(1), (rows, length), 0, VOCABULARY_SIZE))
    torch_model = _make_torch_model(params, config.decoder.num_heads)
    tokens = torch.from_numpy(batch.astype(np.int64))
    with torch.no_grad():
        ours = np.asarray(jax.jit(model.apply)(params, batch).logits)
        difference = float(np.abs(torch_model(tokens).numpy() - ours).max())
    if difference > 1e-3:
        raise RunError(f"the decoder's logits in PyTorch differ by {difference:.2g}; the two are not the same model")
    optimizer = torch.optim.AdamW(torch_model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

    def train_steps() -> None:
        for _ in range(config.num_steps):
            optimizer.zero_grad(set_to_none=True)
            for microbatch in tokens.chunk(num_parts):
                logits = torch_model(microbatch)[:, :-1].reshape(-1, VOCABULARY_SIZE)
                (functional.cross_entropy(logits, microbatch[:, 1:].reshape(-1)) / num_parts).backward()
            optimizer.step()

    return _best_seconds(train_steps, repeats=5) / config.num_steps * 1e3


def measure_huggingface_generation(config: GenerationConfig) -> Row:
    """Tokens per second of Hugging Face's `generate`, with a Llama of about the same size."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    rows, max_new_tokens, width = config.batch_size, config.max_new_tokens, config.decoder.width
    llama = transformers.LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=width,
        intermediate_size=8 * width // 3,  # three matrices instead of two, as many weights
        num_hidden_layers=config.decoder.num_layers,
        num_attention_heads=config.decoder.num_heads,
        max_position_embeddings=PROMPT_LENGTH + max_new_tokens,
        tie_word_embeddings=True,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(llama).eval()
    prompts = torch.randint(0, VOCABULARY_SIZE, (rows, PROMPT_LENGTH))

    def generate() -> None:
        with torch.inference_mode():
            tokens = model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=max_new_tokens,
                min_new_tokens=max_new_tokens,
                do_sample=True,
                top_k=0,
            )
        if tokens.shape != (rows, PROMPT_LENGTH + max_new_tokens):
            raise RunError(
                f"Hugging Face wrote {tuple(tokens.shape)} tokens, not {(rows, PROMPT_LENGTH + max_new_tokens)}"
            )

    return {
        "huggingface_tokens_per_second": rows * max_new_tokens / _best_seconds(generate, repeats=3),
        "huggingface_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _best_seconds(function: Callable[[], None], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times[1:])  # the first is the warm-up


def _make_torch_model(params: Any, num_heads: int) -> Any:
    """A PyTorch module with the weights of a decoder of `make_example_decoder`."""
    import torch
    from torch import nn
    from torch.nn import functional

    def tensor(leaf: Any) -> Any:
        return torch.from_numpy(np.array(leaf))

    def linear(weights: dict[str, Any]) -> nn.Linear:
        in_features, out_features = weights["kernel"].shape
        module = nn.Linear(in_features, out_features, bias="bias" in weights)
        with torch.no_grad():
            module.weight.copy_(tensor(weights["kernel"]).T)
            if "bias" in weights:
                module.bias.copy_(tensor(weights["bias"]))
        return module

    def embedding(weights: Any) -> nn.Embedding:
        return nn.Embedding.from_pretrained(tensor(weights["embedding"]), freeze=False)

    def norm(weights: Any) -> nn.RMSNorm:
        module = nn.RMSNorm(len(weights["scale"]), eps=1e-6)
        with torch.no_grad():
            module.weight.copy_(tensor(weights["scale"]))
        return module

    class Block(nn.Module):
        def __init__(self, weights: Any) -> None:
            super().__init__()
            attention, inner = weights["mixer"], weights["feed_forward"]
            self.mixer_norm, self.feed_forward_norm = (
                norm(weights["mixer_norm"]),
                norm(weights["feed_forward_norm"]),
            )
            self.qkv_proj, self.out_proj = linear(attention["qkv_proj"]), linear(attention["out_proj"])
            self.up_proj, self.down_proj = linear(inner["up_proj"]), linear(inner["down_proj"])

        def forward(self, x: Any) -> Any:
            rows, tokens, width = x.shape
            q, k, v = (
                self.qkv_proj(self.mixer_norm(x))
                .view(rows, tokens, 3, num_heads, width // num_heads)
                .permute(2, 0, 3, 1, 4)
            )
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out_proj(mixed.transpose(1, 2).reshape(rows, tokens, width))
            return x + self.down_proj(functional.relu(self.up_proj(self.feed_forward_norm(x))))

    class TorchDecoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token_embedding, self.position_embedding = (
                embedding(params["token_embedding"]),
                embedding(params["positional_encoding"]["position_embedding"]),
            )
            self.blocks = nn.ModuleList(Block(params["blocks"][layer]) for layer in range(len(params["blocks"])))
            self.norm = norm(params["norm"])

        def forward(self, tokens: Any) -> Any:
            x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.norm(x) @ self.token_embedding.weight.T

    return TorchDecoder()
