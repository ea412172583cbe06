"""Thoughts in language modelling on real text, beside controls that think nothing.

A small decoder learns a text; it is the reference. From its weights four models go on, with the same windows of the
text: one that does not think, one that pauses, one whose thoughts are rewarded by how likely the true text becomes
behind them, and one that imitates its best thoughts and ends them by itself. All are examined on text that none has
seen.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    import numpy as np

    from thinking.experiment.training import Trained
    from thinking.networks.decoder import Decoder
    from thinking.reasoning.thoughts.before_text import Manner, Words
    from thinking.reasoning.thoughts.before_text_training import Practice
    from thinking.recipes.lm_think.evaluation import Exam
    from thinking.text.corpus import Corpus

Kind = Literal["plain", "pause", "judged", "supervised"]
KINDS: tuple[Kind, ...] = ("plain", "pause", "judged", "supervised")
REFERENCE = "reference"
CHUNK = 20
"""Steps between two looks at the metrics."""
SHOWN = 4
"""Held-out windows of each model that are shown on the terminal."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach small language models to think before the next tokens of real text."""

    thoughts: tuple[Kind, ...] = option(
        KINDS,
        "kinds of thoughts, each a model of its own: plain (none), pause (empty tokens), judged (rewarded against the "
        "reference), supervised (the best are imitated, and end by themselves)",
        affects_weights=False,
    )
    text: str = option(
        "python", "what is read: python (its own documentation), a UTF-8 file, or hf:NAME[:COLUMN] of Hugging Face"
    )
    characters: int = option(2_000_000, "characters of the text at most; the last tenth is held out")
    bpe: int | None = option(None, "tokens of a byte-level BPE, from 257; None: bytes")
    seeds: int = option(1, "models of each kind, of seeds from --seed on", affects_weights=False)
    test_windows: int = option(4000, "held-out windows that are examined", affects_weights=False)

    context: int = option(32, "tokens that are read before a thought")
    ahead: int = option(4, "tokens that follow a thought; 1: a thought before each next token")
    thought_length: int = option(4, "tokens of a thought; of a supervised one, at most")
    thought_kinds: int = option(8, "tokens to think in")
    group: int = option(
        4, "judged and supervised: thoughts of each window; 1: judged ones are told from the reference alone"
    )
    entropy_weight: float = option(0.01, "judged: weight of the entropy bonus")

    width: int = option(128, "dimensions of the decoder")
    heads: int = option(4, "attention heads")
    layers: int = option(2, "blocks")
    reference_steps: int = option(4000, "training steps of the reference")
    steps: int = option(800, "training steps of each model from there")
    batch: int = option(32, "windows of a step")
    learning_rate: float = option(0.002, "highest learning rate, falling as a cosine")

    def validate(self) -> None:
        """Raises UserError for values that cannot be trained."""
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            least = {"context": 2, "bpe": 257}.get(field.name, 1)
            if field.type in ("int", "int | None") and field.name != "seed" and value is not None and value < least:
                raise UserError(f"{flag} {value}: allowed is a whole number from {least}")
        if not self.thoughts or len(set(self.thoughts)) < len(self.thoughts):
            raise UserError(f"--thoughts {' '.join(self.thoughts)}: name some of {', '.join(KINDS)}, each once")
        if self.group < 2 and "supervised" in self.thoughts:
            raise UserError(f"--group {self.group}: the best of one thought is no choice; give at least 2")
        if self.entropy_weight < 0:
            raise UserError(f"--entropy-weight {self.entropy_weight}: allowed is a number from 0; take 0.01")
        if not self.learning_rate > 0:
            raise UserError(f"--learning-rate {self.learning_rate}: allowed is a number above 0; take 0.002")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width}: allowed is a multiple of twice --heads, {2 * self.heads}")


PRESETS = {
    "default": Config(),
    "bpe": Config(bpe=1024, ahead=1),
    "smoke": Config(
        characters=40_000, width=16, heads=2, layers=1, reference_steps=20, steps=10, batch=8, test_windows=50
    ),
}


def run(config: Config, run: Run) -> None:
    """Train the reference and a model of every kind, for every seed, and tell what thoughts were worth."""
    import jax

    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.lm_think.evaluation import draw_bits

    text = text_of(config)
    if min(len(text.train), len(text.held_out)) < config.context + config.ahead:
        raise UserError(f"--text {config.text}: it is too short for --context {config.context}; give a longer text")
    trained, rows = {}, []
    for seed in range(config.seed, config.seed + config.seeds):
        stages = {REFERENCE: teach(config, run, REFERENCE, seed, None)}
        for kind in config.thoughts:
            stages[kind] = teach(config, run, kind, seed, stages[REFERENCE].state.train_state.params)
        rows += examined(config, run, seed, stages)
        trained |= {f"{name}-{seed}": stage.state for name, stage in stages.items()}
    kinds = (REFERENCE, *config.thoughts)
    bits = {kind: [row["bits_per_byte"] for row in rows if row["thoughts"] == kind] for kind in kinds}
    draw_bits(run.plots / "bits_per_byte.png", bits)
    plots.learning_curves(run, ["loss", "context_loss", "gain", "thought_tokens", "entropy", "policy_loss"])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(next(iter(trained.values())).train_state.params))
    write_results(run, rows, trained, parameters=parameters, train_tokens=len(text.train), text_tokens=len(text.sizes))


def text_of(config: Config) -> Corpus:
    """What is read."""
    from thinking.text.corpus import corpus

    with name_flags(source="--text"):
        return corpus(config.text, config.characters, config.bpe)


@functools.lru_cache
def build(config: Config) -> tuple[Decoder, Words]:
    """The decoder, which is the same for all kinds, and its words."""
    from thinking.networks.blocks import BlockConfig
    from thinking.networks.decoder import decoder
    from thinking.reasoning.thoughts.before_text import Words

    words = Words(len(text_of(config).sizes), config.thought_kinds)
    model = decoder(
        vocabulary=words.total,
        context_length=config.context + config.thought_length + 1 + config.ahead,
        block=BlockConfig(width=config.width, heads=config.heads, gated=True),
        layers=config.layers,
    )
    return model, words


def manner_of(config: Config, kind: str) -> Manner:
    """How a model of a kind thinks; the reference does not."""
    from thinking.reasoning.thoughts.before_text import manner

    return manner("plain" if kind == REFERENCE else kind, *build(config), config.thought_length)


def lessons_of(config: Config, kind: str) -> Manner:
    """How a model of a kind thinks while it learns.

    The reference learns to read on behind thoughts that say nothing, and without any. Models that go on from it would
    else spend their training on getting used to thoughts, and the one that does not think would win by that alone.
    """
    from thinking.reasoning.thoughts.before_text import manner

    return manner("idle" if kind == REFERENCE else kind, *build(config), config.thought_length)


def practice(config: Config, kind: str) -> Practice:
    """What a kind learns from."""
    from thinking.reasoning.thoughts.before_text_training import Practice, by_best, by_group

    sizes = {"context": config.context, "ahead": config.ahead, "batch": config.batch}
    if kind == "judged":
        return Practice(**sizes, credit=by_group, group=config.group, entropy_weight=config.entropy_weight)
    if kind == "supervised":
        return Practice(**sizes, credit=by_best, group=config.group)
    return Practice(**sizes)


def teach(config: Config, run: Run, kind: str, seed: int, reference: Any) -> Trained:
    """Train a model from the reference's parameters, or the reference from nothing."""
    import jax
    import jax.numpy as jnp

    from thinking.experiment.training import train
    from thinking.learning.optimizers import adamw, warmup_cosine
    from thinking.reasoning.thoughts.before_text_training import thinking_step
    from thinking.train_state import RunnerState, init_train_state

    steps = config.steps if reference is not None else config.reference_steps
    optimizer = adamw(warmup_cosine(config.learning_rate, steps, min(100, steps // 10)))
    # The reference and those who go on from it read different windows, these among each other the same.
    init_key, *keys = jax.random.split(jax.random.key(seed), 3)

    def begin() -> RunnerState:
        params = jax.jit(build(config)[0].init)(init_key) if reference is None else reference
        key, judging = keys[reference is not None], () if reference is None else reference
        return RunnerState(init_train_state(params, optimizer), key, reference=judging)

    step = thinking_step(
        lessons_of(config, kind),
        manner_of(config, REFERENCE),
        optimizer,
        jnp.asarray(text_of(config).train),
        practice(config, kind),
    )
    return train(run, f"{kind}-{seed}", init=begin, step=step, steps=steps, chunk=CHUNK, watch="loss")


def examined(config: Config, run: Run, seed: int, stages: dict[str, Trained]) -> list[dict[str, Any]]:
    """A row for each model of a seed, all of the same windows."""
    from thinking.recipes.lm_think.evaluation import figures, held_out_windows

    text = text_of(config)
    windows = held_out_windows(text.held_out, config.test_windows, config.context + config.ahead)
    exams = {kind: examine_one(config, kind, seed, stage, windows) for kind, stage in stages.items()}
    rows = []
    for kind, exam in exams.items():
        show(config, kind, windows, exam)
        rows.append(
            {
                "thoughts": kind,
                "seed": seed,
                **figures(exam, windows[:, config.context :], text.sizes, exams.get("plain")),
                "train_seconds": stages[kind].seconds,
                "compile_seconds": stages[kind].compile_seconds,
            }
        )
    return rows


def examine_one(config: Config, kind: str, seed: int, stage: Trained, windows: np.ndarray) -> Exam:
    """Let one model think about held-out windows."""
    import jax
    import numpy as np

    from thinking.recipes.lm_think.evaluation import examine

    thinker, words, key = manner_of(config, kind), build(config)[1], jax.random.key(seed)
    exam = jax.jit(lambda params: examine(thinker, words, params, windows, config.context, key))
    return jax.tree.map(np.asarray, exam(stage.state.train_state.params))


def show(config: Config, kind: str, windows: np.ndarray, exam: Exam) -> None:
    """Print a few held-out windows with what a model thought."""
    from thinking import progress
    from thinking.recipes.lm_think.evaluation import coloured

    if not exam.length.any():
        return
    progress.console().print(f"{kind}: context | thought | what follows")
    for index in range(0, len(windows), -(-len(windows) // SHOWN)):
        thought = exam.thoughts[index, : exam.length[index] - 1].tolist()
        line = coloured(
            windows[index].tolist(), config.context, thought, text_of(config).decode, len(text_of(config).sizes)
        )
        progress.console().print(line, soft_wrap=True)


if __name__ == "__main__":
    main("lm_think", run, PRESETS)
