"""Thoughts in language modelling on real text, with controls.

A small decoder is trained on a text; it is the reference. Four models start from its weights and train on the same
windows: one without thoughts, one with pause tokens, one whose thoughts are rewarded by the likelihood of the true text
after them, and one trained by expert iteration, which ends its thoughts itself. All are evaluated on held-out text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinking.experiment import Run, main
from thinking.recipes.lm_think.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    import numpy as np

    from thinking.experiment.training_loop import TrainResult
    from thinking.recipes.lm_think.evaluation import WindowScores

NUM_SHOWN = 4
"""Held-out windows of each model to print."""
COLUMNS = {
    "thoughts": "thoughts",
    "seed": "seed",
    "bits_per_byte": "bits per byte",
    "bits_per_byte_saved": "saved",
    "mean_thought_length": "thought length",
    "train_seconds": "seconds",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Train the reference and a model of every kind, for every seed, and write the results."""
    import jax

    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.lm_think.evaluation import plot_bits
    from thinking.recipes.lm_think.training import REFERENCE, load_text, train_model

    text, trained, rows = load_text(config), {}, []
    for seed in range(config.seed, config.seed + config.seeds):
        stages = {REFERENCE: train_model(config, run, REFERENCE, seed, None)}
        for kind in config.thoughts:
            stages[kind] = train_model(config, run, kind, seed, stages[REFERENCE].state.train_state.params)
        rows += evaluate(config, seed, stages)
        trained |= {f"{name}-{seed}": stage.state for name, stage in stages.items()}
    kinds = (REFERENCE, *config.thoughts)
    bits = {kind: [row["bits_per_byte"] for row in rows if row["thoughts"] == kind] for kind in kinds}
    plot_bits(run.plots_folder / "bits_per_byte.png", bits)
    plots.plot_learning_curves(
        run, ["loss/continuation", "loss/context", "reward", "thoughts/mean_length", "entropy", "loss/policy"]
    )
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(next(iter(trained.values())).train_state.params))
    write_results(
        run,
        rows,
        trained,
        headline="bits per byte of new text: "
        + ", ".join(f"{kind} {sum(bits[kind]) / len(bits[kind]):.3f}" for kind in bits),
        columns=COLUMNS,
        num_parameters=num_parameters,
        num_train_tokens=len(text.train),
        vocab_size=len(text.token_bytes),
    )


def evaluate(config: Config, seed: int, stages: dict[str, TrainResult]) -> list[dict[str, Any]]:
    """A row for each model of a seed, all on the same windows."""
    import jax

    from thinking.recipes.lm_think.evaluation import compute_metrics, evaluate_windows, held_out_windows
    from thinking.recipes.lm_think.training import build_decoder, build_thought_policy, load_text

    text, vocabulary, context = load_text(config), build_decoder(config)[1], config.window.context_length
    windows = held_out_windows(text.held_out, config.eval.num_windows, context + config.window.target_length)
    scores, key = {}, jax.random.key(seed)
    for kind, stage in stages.items():
        params = stage.state.train_state.params
        scores[kind] = evaluate_windows(build_thought_policy(config, kind), vocabulary, params, windows, context, key)
    rows = []
    for kind, kind_scores in scores.items():
        show_thoughts(config, kind, windows, kind_scores)
        rows.append(
            {
                "thoughts": kind,
                "seed": seed,
                **compute_metrics(kind_scores, windows[:, context:], text.token_bytes, scores.get("none")),
                "train_seconds": stages[kind].seconds,
                "compile_seconds": stages[kind].compile_seconds,
            }
        )
    return rows


def show_thoughts(config: Config, kind: str, windows: np.ndarray, scores: WindowScores) -> None:
    """Print a few held-out windows with the model's thoughts."""
    from thinking import progress
    from thinking.generation.display import color_numbered_thoughts
    from thinking.recipes.lm_think.training import load_text

    if not scores.length.any():
        return
    text, context = load_text(config), config.window.context_length
    progress.console().print(f"{kind}: context | thought | what follows")
    for index in range(0, len(windows), -(-len(windows) // NUM_SHOWN)):
        thought = scores.thoughts[index, : scores.length[index] - 1] - len(text.token_bytes)
        window = windows[index].tolist()
        before, after = text.decode(window[:context]), text.decode(window[context:])
        progress.console().print(color_numbered_thoughts(before, thought.tolist(), after), soft_wrap=True)


if __name__ == "__main__":
    main("lm_think", run, PRESETS, EXAMPLES)
