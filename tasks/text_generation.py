"""Write toward a target by reward alone: the smallest task in which a policy makes texts.

A decoder writes letter by letter and is rewarded for what it wrote: when all is written (the outcome), or letter by
letter (the process). REINFORCE teaches it from nothing, all of the target at once, or longer and longer parts of it
(`--curriculum`). It is examined greedily, and by a beam of which the environment tells the best text.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax

    from thinking.experiment.training import Trained
    from thinking.learning.curriculum import Syllabus
    from thinking.networks.decoder import Decoder
    from thinking.reasoning.post_training.training_step import Questions
    from thinking.train_state import RunnerState
    from thinking.types import Params

Reward = Literal["outcome", "process"]
REWARDS: tuple[Reward, ...] = ("outcome", "process")
CHUNK = 20
"""Updates between two looks at the metrics."""
EXAM = 10
"""Updates between two exams."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach a decoder to write a text by rewards alone."""

    target: str = option("thinking takes steps", "the text: small letters, spaces and . , ' -")
    rewards: tuple[Reward, ...] = option(
        REWARDS, "how right letters are paid, a model for each: outcome (all in the end), process (each at once)",
        affects_weights=False,
    )  # fmt: skip
    curriculum: bool = option(False, "ask for longer parts of the target, as shorter ones are mastered")
    mastery: float = option(0.5, "curriculum: share of right texts that asks for one letter more, above 0, up to 1")
    seeds: int = option(1, "models of each reward, of seeds from --seed on", affects_weights=False)

    updates: int = option(1000, "updates by rewards")
    texts: int = option(64, "texts of an update")
    learning_rate: float = option(0.001, "highest learning rate, falling to 0 in the second half")
    entropy_weight: float = option(0.3, "weight of the entropy bonus")
    entropy_ceiling: float = option(0.3, "mean entropy above which there is no bonus, in nats")
    discount: float = option(0.5, "process: what a reward counts for one letter earlier, 0 to 1")
    beam: int = option(8, "texts that are kept side by side at test time, of which the environment tells the best")

    width: int = option(64, "dimensions of the decoder")
    heads: int = option(4, "attention heads")
    layers: int = option(1, "blocks")

    def validate(self) -> None:
        """Raises UserError for values that cannot be trained."""
        from thinking.recipes.text_generation.spelling import check_target

        with name_flags(target="--target"):
            check_target(self.target)
        if not self.rewards or len(set(self.rewards)) < len(self.rewards):
            raise UserError(f"--rewards {' '.join(self.rewards)}: name outcome, process or both, each once")
        for name in ("seeds", "updates", "texts", "beam", "width", "heads", "layers"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: allowed is a whole number from 1")
        if not 0 < self.mastery <= 1:
            raise UserError(f"--mastery {self.mastery}: allowed is above 0, up to 1; take 0.5")
        if not 0 <= self.discount <= 1:
            raise UserError(f"--discount {self.discount}: allowed is a number from 0 to 1; take 0.5")
        if not self.learning_rate > 0 or self.entropy_weight < 0:
            raise UserError("--learning-rate is above 0 and --entropy-weight from 0; take 0.001 and 0.3")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width}: allowed is a multiple of twice --heads, {2 * self.heads}")


PRESETS = {
    "default": Config(),
    "curriculum": Config(curriculum=True),
    "smoke": Config(target="abc", curriculum=True, updates=20, texts=8, width=16, heads=2, beam=2),
}


class WritingRecord(NamedTuple):
    """What is counted of the writing: the `env` of its training's `RunnerState`.

    Attributes:
        letters: [] int32, environment steps up to now: letters that were written.
        passed: [2] bool, whether the greedy text and the best of the beam were right in the last exam.
        solved: [2] int32, the environment steps after which they were right for the first time; -1 while never.
    """

    letters: jax.Array
    passed: jax.Array
    solved: jax.Array


def run(config: Config, run: Run) -> None:
    """Train a model for every reward and seed, and tell after how many environment steps it wrote the target."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results

    trained, rows = {}, []
    for reward in config.rewards:
        for seed in range(config.seed, config.seed + config.seeds):
            stage = trained[f"{reward}-{seed}"] = teach(config, run, reward, seed)
            rows.append({"reward": reward, "seed": seed, **told(config, stage)})
    levels = ["levels_open"] if config.curriculum else []
    plots.learning_curves(run, ["rewards/letters", "exact", "exact_beam", *levels, "entropy"])
    write_results(run, rows, {name: stage.state for name, stage in trained.items()})


def told(config: Config, stage: Trained) -> dict[str, Any]:
    """What came of a training."""
    import jax

    from thinking.recipes.text_generation.spelling import VOCABULARY

    asked, params = asked_of(config), stage.state.train_state.params
    texts = jax.jit(lambda params: written(build(config), params, asked, config.beam))(params)
    greedy, beam = (VOCABULARY.decode([token for token in text.tolist() if token > 0]) for text in texts)
    solved = [count if count >= 0 else None for count in stage.state.env.solved.tolist()]
    return {
        "steps_to_solve": solved[0],
        "steps_to_solve_beam": solved[1],
        "environment_steps": int(stage.state.env.letters),
        "text": greedy,
        "text_beam": beam,
        "train_seconds": stage.seconds,
        "compile_seconds": stage.compile_seconds,
    }


def build(config: Config) -> Decoder:
    """The policy, with a head that tells what a beginning is worth."""
    from thinking.networks.blocks import BlockConfig
    from thinking.networks.decoder import decoder
    from thinking.networks.positions import learned
    from thinking.recipes.text_generation.spelling import VOCABULARY

    return decoder(
        vocabulary=len(VOCABULARY),
        context_length=len(config.target) + 2,
        # A letter has its place. By distances alone, what was learned of one place would be tried at the next.
        block=BlockConfig(width=config.width, heads=config.heads, gated=True, position=learned(len(config.target) + 2)),
        layers=config.layers,
        value_head=True,
    )


def teach(config: Config, run: Run, reward: Reward, seed: int) -> Trained:
    """Train one model."""
    import jax
    import jax.numpy as jnp

    from thinking.experiment.training import train
    from thinking.learning.optimizers import adamw, warmup_stable_decay
    from thinking.reasoning.post_training.training_step import init_post_training, records
    from thinking.recipes.text_generation.spelling import VOCABULARY
    from thinking.train_state import init_train_state

    model, asked = build(config), asked_of(config)
    schedule = warmup_stable_decay(
        config.learning_rate, config.updates, min(20, config.updates // 10), config.updates // 2
    )
    optimizer = adamw(schedule, weight_decay=0.0, b2=0.99)

    def begin() -> RunnerState:
        init_key, key = jax.random.split(jax.random.key(seed))
        params = jax.jit(model.init)(init_key)
        state = init_post_training(init_train_state(params, optimizer), ladder(config), key)
        return state._replace(env=WritingRecord(jnp.int32(0), jnp.zeros(2, bool), jnp.full(2, -1, jnp.int32)))

    step = writing_step(config, model, asked, optimizer, reward)
    return train(
        run, f"{reward}-{seed}", init=begin, step=step, steps=config.updates, chunk=CHUNK, watch="rewards/letters",
        tell=lambda sample: records(VOCABULARY, asked, sample),
    )  # fmt: skip


def asked_of(config: Config) -> Questions:
    """Longer and longer parts of the target; without a curriculum all of it alone."""
    import jax

    from thinking.recipes.text_generation.spelling import questions

    asked = questions(config.target)
    return asked if config.curriculum else jax.tree.map(lambda leaf: leaf[-1:], asked)


def ladder(config: Config) -> Syllabus:
    """When longer parts are asked for."""
    from thinking.learning.curriculum import by_level, curriculum

    levels = len(config.target) if config.curriculum else 1
    lengths = curriculum(levels, threshold=config.mastery, memory=2.0 * config.texts, least=config.texts)
    return by_level(lengths, range(levels + 1))


def writing_step(config: Config, model: Decoder, asked: Questions, optimizer: Any, reward: Reward) -> Callable:
    """`step(state, index) -> (state, metrics, sample)`: texts are written, rewarded and learned from."""
    import jax
    import jax.numpy as jnp

    from thinking.learning.policy_gradient import reinforce
    from thinking.reasoning.post_training.rewards import combined
    from thinking.reasoning.post_training.training_step import judge_texts, post_training_step
    from thinking.recipes.text_generation.spelling import by_letter, by_text, letters, outcome

    practise = post_training_step(
        model,
        asked,
        ladder(config),
        rewards=combined(letters=(1.0, letters), outcome=(0.0, outcome)),
        credit=by_text if reward == "outcome" else by_letter(config.discount),
        update=reinforce(
            judge_texts(model), optimizer, entropy_weight=config.entropy_weight, entropy_ceiling=config.entropy_ceiling
        ),
        problems=config.texts,
        group=1,
        max_new_tokens=len(config.target) + 1,
    )
    wanted = asked.columns["wanted"][-1, :-1]

    def exact(params: Params) -> jax.Array:
        return jnp.stack([jnp.all(text == wanted) for text in written(model, params, asked, config.beam)])

    def step(state: RunnerState, index: jax.Array) -> tuple[RunnerState, Any, Any]:
        before = state.env
        state, metrics, sample = practise(state, index)
        # The forced end is no letter; a text that ended by itself had one that was chosen.
        steps = before.letters + jnp.round((metrics["completions/mean_length"] - 1) * config.texts).astype(jnp.int32)
        due = index % EXAM == EXAM - 1
        passed = jax.lax.cond(due, exact, lambda params: before.passed, state.train_state.params)
        solved = jnp.where((before.solved < 0) & passed, steps, before.solved)
        metrics |= {"exact": passed[0].astype(jnp.float32), "exact_beam": passed[1].astype(jnp.float32)}
        metrics["environment_steps"] = steps.astype(jnp.float32)
        return state._replace(env=WritingRecord(steps, passed, solved)), metrics, sample

    return step


def written(model: Decoder, params: Params, asked: Questions, width: int) -> tuple[jax.Array, jax.Array]:
    """[N - 1] int32 twice, 0 behind the end: the greedy text for the whole target, and the best of a beam."""
    import jax.numpy as jnp

    from thinking.reasoning.search.beam_search import beam
    from thinking.reasoning.search.candidates import greedy
    from thinking.reasoning.search.token_model import over_tokens
    from thinking.text.vocabulary import END

    wanted = asked.columns["wanted"][-1, :-1]
    most = len(wanted)
    root = over_tokens(model, params, asked.tokens[-1:], asked.lengths[-1:], max_tokens=most, stop_tokens=(END,))
    alone = greedy(*root, max_steps=most).actions[0, 0]
    # The environment tells which of the texts is the best: it rewards, and nobody asked for the policy's opinion.
    texts = beam(*root, width=width, max_steps=most).actions[0]
    best = texts[jnp.argmax(jnp.sum(texts == wanted[None], axis=1))]
    return jnp.maximum(alone, 0), jnp.maximum(best, 0)


if __name__ == "__main__":
    main("text_generation", run, PRESETS)
