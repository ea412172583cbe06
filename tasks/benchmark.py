"""What this machine does: kernels, guides, attention, decoders, search, and what saving costs, beside their rivals."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from thinking.errors import UserError
from thinking.experiment import Run, RunConfig, main, option

Row = dict[str, Any]
Part = Literal[
    "kernels",
    "guides",
    "attention",
    "training",
    "generation",
    "search",
    "post_training",
    "long_context",
    "embedding",
    "utilisation",
]

SEQUENCES: dict[str, dict[str, dict[str, Any]]] = {
    "full": {
        "attention": {"window": 128, "tokens": 4096, "long_tokens": (2**12, 2**14, 2**17), "block": 64, "blocks": 16},
        "training": {"width": 128, "layers": 4, "rows": 64, "tokens": 64, "steps": 10, "parts": 4},
        "generation": {"width": 128, "layers": 4, "rows": 32, "new": 256},
        # No tree of 32 simulations among 16 considered actions comes deeper.
        "search": {
            "width": 128, "layers": 4, "vocabulary": 64, "rows": 64, "prefix": 64, "simulations": 32, "depth": 4
        },
        "post_training": {"width": 64, "layers": 2, "problems": 128, "group": 4, "new": 64, "updates": 30},
        "long_context": {"tokens": 128_000, "width": 128, "layers": 4, "window": 128, "first": 16},
        "embedding": {"texts": 1024, "batch": 64, "repeats": 5},
        "utilisation": {
            "width": 768, "layers": 12, "heads": 12, "vocabulary": 50_257, "rows": 32, "tokens": 1024, "steps": 5
        },
    },
    "tiny": {
        "attention": {"window": 4, "tokens": 32, "long_tokens": (32, 64), "block": 4, "blocks": 2},
        "training": {"width": 16, "layers": 1, "rows": 2, "tokens": 8, "steps": 2, "parts": 2},
        "generation": {"width": 16, "layers": 1, "rows": 2, "new": 4},
        "search": {"width": 16, "layers": 1, "vocabulary": 16, "rows": 2, "prefix": 4, "simulations": 4, "depth": 2},
        "post_training": {"width": 16, "layers": 1, "problems": 2, "group": 2, "new": 4, "updates": 3},
        "long_context": {"tokens": 256, "width": 16, "layers": 1, "window": 4, "first": 2},
        "embedding": {"texts": 4, "batch": 64, "repeats": 1},
        "utilisation": {
            "width": 16, "layers": 1, "heads": 2, "vocabulary": 32, "rows": 2, "tokens": 8, "steps": 2
        },
    },
}  # fmt: skip
"""Sizes of what is measured of sequence models."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Measure this machine. With --kills: kill training again and again, and compare the weights in the end."""

    parts: tuple[Part, ...] = option(
        (
            *("kernels", "guides", "attention", "training", "generation"),
            *("search", "post_training", "long_context", "embedding"),
        ),
        "what is measured; `utilisation` trains a decoder of GPT-2's size and wants a GPU",
        affects_weights=False,
    )
    sequences: Literal["full", "tiny"] = option(
        "full", "sizes of what is measured of sequence models", affects_weights=False
    )
    rows: int = option(1024, "kernels: rows of a fit and of an infer", affects_weights=False)
    width: int = option(128, "kernels: dimensions of the transformer", affects_weights=False)
    slots: int = option(
        32, "kernels: hypotheses per question of the transformer and the linear memory", affects_weights=False
    )
    nodes: int = option(32, "guides: nodes of the graph to plan on", affects_weights=False)
    steps: int = option(20, "kernels, guides: fits and infers timed together", affects_weights=False)
    train_steps: int = option(
        600, "guides: training steps over which the cost of checkpoints is measured", affects_weights=False
    )
    kills: int = option(
        0, "kill training by SIGKILL so often, at random instants, instead of measuring", affects_weights=False
    )

    def validate(self) -> None:
        """Raises UserError for sizes that nothing can have."""
        for name in ("rows", "slots", "nodes", "steps", "train_steps", "kills"):
            value, least = getattr(self, name), {"nodes": 2, "kills": 0}.get(name, 1)
            if value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: allowed is a whole number from {least}")
        if self.width < 8 or self.width % 8:
            raise UserError(f"--width {self.width}: allowed is a multiple of 8")


PRESETS = {
    "default": Config(),
    "smoke": Config(sequences="tiny", rows=32, width=16, slots=4, nodes=8, steps=2, train_steps=10),
}


def run(config: Config, run: Run) -> None:
    """Measure, print and write."""
    if config.kills:
        return kill_again_and_again(config, run)

    from thinking.experiment.device import matmul_gflops, memory_gbps
    from thinking.experiment.results import write_results

    gflops, bandwidth = matmul_gflops(), memory_gbps()
    run.log(f"float32 matrix product: {gflops:.0f} GFLOP/s; memory: {bandwidth:.1f} GB/s")
    rows, states, figures = measure_laboratory(config, run, gflops)
    for part in config.parts:
        if part in SEQUENCES[config.sequences]:
            run.log(f"measuring {part}")
            rows += measure_sequences(part, SEQUENCES[config.sequences][part], run, gflops)
    again = matmul_gflops()  # a neighbour may have come or gone meanwhile
    write_results(run, rows, states, matmul_gflops=gflops, matmul_gflops_after=again, memory_gbps=bandwidth, **figures)


def measure_laboratory(config: Config, run: Run, gflops: float) -> tuple[list[Row], dict[str, Any], Row]:
    """Rows of kernels and guides, the states of the kernels, and what checkpoints cost."""
    from thinking.benchmarks import guides, kernels

    rows, states, figures = [], {}, {}
    sizes = {"width": config.width, "slots": config.slots, "nodes": config.nodes}
    if "kernels" in config.parts:
        rows, states = kernels.measure_kernels(rows=config.rows, steps=config.steps, gflops=gflops, **sizes)
    if "guides" in config.parts:
        rows += guides.measure_guides(guides.GUIDES, steps=config.steps, **sizes)
        figures = guides.measure_checkpoints(run, steps=config.train_steps, **sizes)
        run.log(f"checkpoints take {figures['checkpoint_share_of_training']:.2%} of training time")
    return rows, states, figures


def measure_sequences(part: Part, sizes: dict[str, Any], run: Run, gflops: float) -> list[Row]:
    """Rows of one part of the sequence models, with its rivals where they are installed."""
    from thinking.benchmarks import attention, embedding, long_context, post_training, rivals, sequences

    match part:
        case "attention":
            return attention.measure_attention(**sizes)
        case "search":
            return [sequences.measure_search(**sizes)]
        case "post_training":
            return [post_training.measure_post_training(run, **sizes)]
        case "long_context":
            return [long_context.measure_long_context(**sizes)]
        case "embedding":
            lacking = rivals.missing("torch", "transformers", "sentence_transformers")
            return [embedding.measure_embedding(**sizes, rival=not lacking)]
        case "utilisation":
            return [sequences.measure_utilisation(**sizes)]
    needed = ["torch"] if part == "training" else ["torch", "transformers"]
    lacking = rivals.missing(*needed)
    if lacking:
        run.log(f"{part} has no rival, as it is not installed: pip install {' '.join(lacking)}")
    if part == "training":
        row = sequences.measure_training(**sizes, gflops=gflops)
        if not lacking:
            row["torch_ms"] = rivals.torch_training_ms(**sizes)
            row["torch_ms_at_once"] = rivals.torch_training_ms(**sizes | {"parts": 1})
            best = min(row["torch_ms"], row["torch_ms_at_once"])
            row["times_faster_than_torch"] = best / min(row["ms"], row["ms_at_once"])
    else:
        row = sequences.measure_generation(**sizes)
        if not lacking:
            row |= rivals.huggingface_tokens_per_second(**sizes)
            row["times_faster_than_huggingface"] = row["tokens_per_second"] / row["huggingface_tokens_per_second"]
    return [row]


def kill_again_and_again(config: Config, run: Run) -> None:
    """Train on a graph, killed at random instants, until so many kills are survived; compare with a run left alone."""
    import sys
    import tempfile
    from pathlib import Path as Folder

    from thinking.experiment.results import write_results
    from thinking.experiment.robustness import final_digest, run_killed, run_undisturbed

    task = Folder(__file__).with_name("simple.py")
    flags = ["--sets", "table", "linear", "skip_transformer", "--steps", str(config.train_steps), "--max-hops", "16"]
    rows, survived = [], 0
    with tempfile.TemporaryDirectory(dir=run.folder) as folder:

        def command(name: str) -> list[str]:
            return [sys.executable, str(task), *flags, "--artifacts", f"{folder}/{name}"]

        seconds = run_undisturbed(command("undisturbed"))
        right = final_digest(Folder(folder, "undisturbed", "simple"))
        while survived < config.kills:
            name = f"run {len(rows) + 1}"
            killed = run_killed(command(name), seconds, config.kills - survived, config.seed + survived)
            survived += killed
            same = final_digest(Folder(folder, name, "simple")) == right
            rows.append({"run": name, "kills": killed, "bit_identical": same})
            run.log(f"{name}: killed {killed} times, final weights {'bit-identical' if same else 'DIFFERENT'}")
    write_results(run, rows, {}, kills=survived, undisturbed_seconds=seconds)


if __name__ == "__main__":
    main("benchmark", run, PRESETS)
