"""Thoughts that nobody supervised: what steps between a word and its answer carry, so that a small model can tell it.

Words drive an automaton (the product of n elements of a group, a sum, a walk), whose state after them takes n steps to
find. Four models of the same weights learn it from the answer alone: one that answers at once, one that takes as many
empty steps, one that hands tokens of its own invention from step to step, and one that hands hidden states. Lengths
grow by curriculum; all are examined on words longer than any they learned from.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    import jax

    from thinking.environments.automata import Words
    from thinking.experiment.training import Trained
    from thinking.reasoning.thoughts import Thinker
    from thinking.reasoning.thoughts.training import Reinforcement

Kind = Literal["none", "pause", "discrete", "continuous"]
KINDS: tuple[Kind, ...] = ("none", "pause", "discrete", "continuous")
CHUNK = 50
"""Steps between two looks at the metrics."""
LOOKS = 60
"""Times that the thoughts of WATCHED words are written down while a model learns, at most."""
WATCHED = 128
NOT_NEGATIVE = ("chains", "repetition_penalty", "policy_weight", "entropy_weight", "step_cost")
DRAWN = ("grpo", "reinforce", "search")
"""Gradients of thoughts that are drawn, and learn by what they were worth."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach small models serial problems from the answer alone, with thoughts of several kinds."""

    thoughts: tuple[Kind, ...] = option(
        KINDS, "kinds of thoughts, each a model of its own: none, pause, discrete, continuous", affects_weights=False
    )
    problem: str = option("a5", "what words are for: s3, a5, s5, parity, graph, list, modular:M or digits:D")
    length: int = option(8, "symbols of the longest words in training")
    test_length: int | None = option(
        None, "symbols of the longest words examined; None: twice --length", affects_weights=False
    )
    seeds: int = option(1, "models of each kind, of seeds from --seed on", affects_weights=False)
    test_words: int = option(1000, "words of each length that are examined", affects_weights=False)

    code: int | None = option(
        None, "instead: numbers below this must pass through --length tokens of --tokens kinds (8), and be told again"
    )

    end_thought: bool = option(
        False,
        "models end their thoughts by themselves, in words of a length that they master with a thought for each symbol",
    )
    step_cost: float = option(0.001, "end_thought: what a step costs, in nats")
    blind: bool = option(
        False, "answers see the thoughts alone, not the word (none: the word, as ever; pause: nothing)"
    )
    split: bool = option(False, "other blocks than those that think find the answer, from word and thoughts")
    convert: bool = option(False, "models that think begin as the one that answers at once, when it has learned")

    gradient: Literal["straight_through", "gumbel", "grpo", "reinforce", "search", "none"] = option(
        "straight_through",
        "discrete: how thoughts learn: through their choice (straight_through, gumbel), by the log-probability of the "
        "right answer (grpo, reinforce), from the best of --group drawn (search), or only as far as answers teach "
        "them (none)",
    )
    tokens: int | None = option(
        None,
        "discrete, continuous: tokens of thought, with a head of their own; None: one for each answer, with the "
        "answers' head",
    )
    thought_width: int | None = option(
        None, "discrete, continuous: dimensions of the tokens' embeddings; None: --width"
    )
    chains: float = option(0.0, "discrete: weight of a loss that makes thoughts the true states, which is supervision")
    group: int = option(8, "grpo and search: thoughts drawn of each word, which are so many of the --batch")
    policy_weight: float = option(1.0, "grpo, reinforce and search: weight of the policy's loss")
    entropy_weight: float = option(0.01, "grpo, reinforce and search: weight of the entropy bonus")
    discount: float = option(1.0, "grpo, reinforce and search: what a reward counts for one thought earlier, 0 to 1")
    repetition_penalty: float = option(0.0, "grpo, reinforce, search: what a thought pays that repeats the one before")

    width: int = option(128, "dimensions of the model")
    heads: int = option(4, "attention heads")
    layers: int = option(1, "blocks")
    steps: int = option(2500, "training steps of each model")
    batch: int = option(512, "words of a step")
    learning_rate: float = option(0.003, "highest learning rate, falling as a cosine")
    final_rate: float = option(0.05, "share of that rate that is left in the end, 0 to 1")
    mastery: float = option(0.9, "share of right answers that makes words one symbol longer, above 0, up to 1")

    def validate(self) -> None:
        """Raises UserError for values that cannot be trained."""
        from thinking.environments.automata import automaton

        with name_flags(name="--problem"):
            automaton(self.problem)
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            whole = field.type in ("int", "int | None") and field.name != "seed"
            least = 2 if field.name in ("length", "tokens", "code") else 1
            if whole and value is not None and value < least:
                raise UserError(f"{flag} {value}: allowed is a whole number from {least}")
            if field.name in ("discount", "final_rate") and not 0 <= value <= 1:
                raise UserError(f"{flag} {value}: allowed is a number from 0 to 1; take {field.default}")
            if field.name == "learning_rate" and value <= 0:
                raise UserError(f"{flag} {value}: allowed is a number above 0; take {field.default}")
            if field.name in NOT_NEGATIVE and value < 0:
                raise UserError(f"{flag} {value}: allowed is a number from 0; take {field.default}")
        if not self.thoughts:
            raise UserError(f"--thoughts: name at least one of {', '.join(KINDS)}")
        if len(set(self.thoughts)) < len(self.thoughts):
            raise UserError(f"--thoughts {' '.join(self.thoughts)}: a kind stands twice; name each once")
        if not 0 < self.mastery <= 1:
            raise UserError(f"--mastery {self.mastery}: allowed is above 0, up to 1; take 0.9")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width}: allowed is a multiple of twice --heads, {2 * self.heads}")
        if self.code is not None:
            return self._validate_code()
        if self.gradient in ("grpo", "search") and (self.group < 2 or self.batch % self.group):
            raise UserError(f"--group {self.group}: allowed is a divisor of --batch, {self.batch}, from 2 on")
        for flag, given in (("--chains", self.chains), (f"--gradient {self.gradient}", self.gradient in DRAWN)):
            if given and "discrete" not in self.thoughts:
                raise UserError(f"{flag}: only discrete thoughts learn by it; add discrete to --thoughts")
        if self.chains and self.tokens is not None:
            raise UserError("--chains: true states are tokens of the answers' head alone; leave --tokens out")
        if self.end_thought and (self.blind or self.split):
            other = "--blind" if self.blind else "--split"
            raise UserError(f"--end-thought {other}: such an answer needs thoughts of a fixed number; leave one out")
        if self.convert and "none" not in self.thoughts:
            raise UserError("--convert: models begin as the one that answers at once; add none to --thoughts")
        if self.convert and self.tokens is not None:
            raise UserError("--convert: each answer becomes a token; leave --tokens out")

    def _validate_code(self) -> None:
        if self.gradient not in ("straight_through", "gumbel"):
            raise UserError(f"--gradient {self.gradient}: a code is learned through its choice; take gumbel")
        for name in ("end_thought", "blind", "split", "convert", "chains"):
            if getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')}: it is for words, and --code has none; leave one out")
        if (room := (self.tokens or 8) ** self.length) < self.code:
            raise UserError(f"--code {self.code}: so many tokens tell {room} numbers apart; give more --tokens")


PRESETS = {
    "default": Config(),
    "policy": Config(thoughts=("discrete",), gradient="reinforce", length=4, steps=4000),
    "sum": Config(thoughts=("none", "discrete"), problem="digits:3", length=3, test_length=3, steps=1200),
    "code": Config(code=64, length=2, tokens=8, gradient="gumbel", width=64, steps=3000),
    "smoke": Config(problem="parity", length=3, steps=4, batch=16, width=16, heads=2, test_words=20),
}


def run(config: Config, run: Run) -> None:
    """Train a model of every kind and seed, examine it, look at its thoughts, and write what came of it."""
    if config.code is not None:
        return invent_code(config, run)

    import jax
    import numpy as np

    from thinking.environments.automata import automaton
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.think_tokens import evaluation, thought_plots

    machine, longest = automaton(config.problem), config.test_length or 2 * config.length
    trained = teach_all(config, run)
    stages = {name(*key): stage for key, stage in trained.items()}
    models = {name(*key): (build(config, key[0]), stage.state.train_state.params) for key, stage in trained.items()}
    words = evaluation.asked(machine, config.seed, config.length, config.length, config.test_words)
    size = {"seed": config.seed, "longest": longest, "count": config.test_words}
    exact = {key: evaluation.exact_by_length(*model, machine, **size) for key, model in models.items()}
    told = {key: evaluation.figures(*model, words, machine) for key, model in models.items()}

    by_kind = {kind: np.array([exact[name(kind, seed)] for seed in seeds(config)]) for kind in config.thoughts}
    thought_plots.draw_lengths(run.plots / "lengths.png", by_kind, config.length)
    firsts = {kind: models[name(kind, config.seed)] for kind in config.thoughts}
    evaluation.draw_thoughts(run, firsts, words, machine)
    plots.learning_curves(run, ["loss", "exact", "length"])
    evaluation.write_page(
        run, {kind: name(kind, config.seed) for kind in config.thoughts}, watched_words(config), machine
    )
    write_results(
        run,
        [row(config, kind, exact, told) for kind in config.thoughts],
        {key: stage.state for key, stage in stages.items()},
        exact_by_length=exact,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(next(iter(models.values()))[1])),
        train_seconds={key: stage.seconds for key, stage in stages.items()},
        compile_seconds={key: stage.compile_seconds for key, stage in stages.items()},
    )


def seeds(config: Config) -> range:
    """Of the models of each kind."""
    return range(config.seed, config.seed + config.seeds)


def name(kind: Kind, seed: int) -> str:
    """Of a stage of training."""
    return f"{kind}-{seed}"


@functools.lru_cache
def build(config: Config, kind: Kind) -> Thinker:
    """The model of a kind; all have the same weights."""
    from thinking.environments.automata import automaton
    from thinking.networks.blocks import BlockConfig
    from thinking.reasoning.thoughts import thinker

    states, symbols = automaton(config.problem).table.shape
    return thinker(
        kind=kind,
        symbols=symbols,
        answers=states,
        block=BlockConfig(width=config.width, heads=config.heads, gated=True),
        layers=config.layers,
        choice=config.gradient if config.gradient in ("straight_through", "gumbel") else "drawn",
        kinds=states if config.convert else config.tokens,
        thought_width=config.thought_width,
        ends=config.end_thought,
        blind=config.blind,
        split=config.split,
    )


def watched_words(config: Config) -> Words:
    """Words whose thoughts are written down while models learn."""
    from thinking.environments.automata import automaton
    from thinking.recipes.think_tokens.evaluation import asked

    return asked(automaton(config.problem), config.seed + 1, config.length, config.length, WATCHED)


def teach_all(config: Config, run: Run) -> dict[tuple[Kind, int], Trained]:
    """Models of all kinds and seeds; where they are converted, those that do not think come first."""
    from thinking.reasoning.thoughts import converted

    trained: dict[tuple[Kind, int], Trained] = {}
    for kind in sorted(config.thoughts, key=lambda kind: config.convert and kind != "none"):
        for seed in seeds(config):
            first = None
            if config.convert and kind != "none":
                first = converted(trained["none", seed].state.train_state.params)
            trained[kind, seed] = teach(config, run, kind, seed, first)
    return trained


def teach(config: Config, run: Run, kind: Kind, seed: int, first: Any = None) -> Trained:
    """Train one model; words are a function of the seed and the step alone, and longer the better it does.

    Args:
        config: of the run.
        run: that takes what is saved.
        kind: of thoughts.
        seed: of the model.
        first: parameters to begin with; None: those of the seed.
    """
    import jax

    from thinking.environments.automata import automaton, draw_words
    from thinking.experiment.training import train
    from thinking.learning.curriculum import curriculum
    from thinking.learning.optimizers import adamw, warmup_cosine
    from thinking.reasoning.thoughts.training import init_thought_training, thinking_step, watched
    from thinking.recipes.think_tokens.thoughts_page import record_of

    model, machine = build(config, kind), automaton(config.problem)
    lengths = curriculum(config.length, threshold=config.mastery, memory=8.0 * config.batch, least=4 * config.batch)
    warmup = min(100, config.steps // 10)
    optimizer = adamw(warmup_cosine(config.learning_rate, config.steps, warmup, config.final_rate), weight_decay=0.01)

    # The last step always ends a thought; there is one more where ending with the longest words is to be learned.
    room = config.length + config.end_thought

    def words(key: jax.Array, asked: jax.Array) -> Words:
        return draw_words(machine, key, asked, room)

    discrete = kind == "discrete"
    step = thinking_step(
        model,
        optimizer,
        words,
        lengths,
        batch=config.batch,
        reinforcement=reinforcement(config) if discrete else None,
        chains=config.chains if discrete else 0.0,
        step_cost=config.step_cost if config.end_thought else 0.0,
        mastery=config.mastery,
    )
    every = CHUNK * -(-config.steps // (CHUNK * LOOKS))
    step = watched(step, model, watched_words(config), every, config.steps)

    def begin() -> Any:
        return jax.jit(lambda key: init_thought_training(model, optimizer, lengths, key, first))(jax.random.key(seed))

    size = {"steps": config.steps, "chunk": CHUNK}
    return train(run, name(kind, seed), init=begin, step=step, **size, watch="length", tell=record_of)


def reinforcement(config: Config) -> Reinforcement | None:
    """How discrete thoughts learn from what they were worth, where they do."""
    from thinking.reasoning.thoughts.training import Reinforcement

    if config.gradient not in DRAWN:
        return None
    return Reinforcement(
        group=1 if config.gradient == "reinforce" else config.group,
        best=config.gradient == "search",
        weight=config.policy_weight,
        entropy=config.entropy_weight,
        discount=config.discount,
        repetition=config.repetition_penalty,
    )


def row(config: Config, kind: Kind, exact: dict[str, list[float]], told: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What is known of a kind of thought, over its seeds."""
    import numpy as np

    names = [name(kind, seed) for seed in seeds(config)]
    by_length = np.array([exact[each] for each in names])
    found: dict[str, Any] = {"thoughts": kind, "seeds": config.seeds}
    for length in sorted({min(config.length, by_length.shape[1]), by_length.shape[1]}):
        at = by_length[:, length - 1]
        found |= {f"exact_at_{length}": at.mean(), f"exact_at_{length}_std": at.std()}
    return found | {figure: np.mean([told[each][figure] for each in names]) for figure in told[names[0]]}


def invent_code(config: Config, run: Run) -> None:
    """The smallest study of inventing a code: numbers pass through --length tokens of --tokens kinds."""
    import jax

    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.experiment.training import train
    from thinking.learning.optimizers import adamw, warmup_cosine
    from thinking.recipes.thought_code.autoencoder import code_of, coder, coding_step
    from thinking.train_state import TrainState, init_train_state

    warmup = min(100, config.steps // 10)
    optimizer = adamw(warmup_cosine(config.learning_rate, config.steps, warmup, config.final_rate), weight_decay=0.0)
    sizes = {"thoughts": config.length, "kinds": config.tokens or 8}
    model = coder(values=config.code, width=config.width, choice=config.gradient, **sizes)

    def coded(seed: int) -> Trained:
        def begin() -> TrainState:
            return init_train_state(jax.jit(model.init)(jax.random.key(seed)), optimizer)

        key = jax.random.key(seed + 1)
        step = coding_step(model, optimizer, values=config.code, batch=config.batch, key=key)
        return train(run, f"code-{seed}", init=begin, step=step, steps=config.steps, chunk=CHUNK, watch="exact")

    trained, rows = {seed: coded(seed) for seed in seeds(config)}, []
    for seed, stage in trained.items():
        tokens, told = code_of(model, stage.state.params, config.code)
        used = {tuple(code) for code in tokens.tolist()}
        right = sum(number == said for number, said in enumerate(told.tolist()))
        rows.append({"seed": seed, "numbers": config.code, **sizes, "exact": right / config.code, "codes": len(used)})
    plots.learning_curves(run, ["loss", "exact"])
    write_results(run, rows, {f"code-{seed}": stage.state for seed, stage in trained.items()})


if __name__ == "__main__":
    main("think_tokens", run, PRESETS)
