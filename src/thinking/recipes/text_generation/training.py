"""Teaching a decoder to write toward a target by rewards.

Axes: N letters of the target, and one more for the end.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.experiment import Run
from thinking.experiment.training import TrainResult, train
from thinking.learning.curriculum import IndexSampler, curriculum, level_sampler
from thinking.learning.optimizers import adamw, warmup_stable_decay
from thinking.learning.policy_gradient import reinforce
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.networks.positions import learned
from thinking.reasoning.post_training.rewards import combine_rewards
from thinking.reasoning.post_training.training_step import (
    Prompts,
    init_post_training,
    make_evaluate_fn,
    make_post_training_step,
    sample_records,
)
from thinking.reasoning.search.beam_search import beam
from thinking.reasoning.search.candidates import greedy
from thinking.reasoning.search.token_model import make_token_model
from thinking.recipes.text_generation.config import Config, Reward
from thinking.recipes.text_generation.spelling import (
    VOCABULARY,
    letter_advantages,
    letter_reward,
    make_prompts,
    outcome_reward,
    text_advantages,
)
from thinking.text.vocabulary import END
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Params

CHUNK = 20
"""Updates between two looks at the metrics."""
EVAL_INTERVAL = 10
"""Updates between two evaluations."""


class GenerationRecord(NamedTuple):
    """What is counted of the writing: the `env` of its training's `RunnerState`.

    Attributes:
        num_letters: [] int32, environment steps up to now: letters that were written.
        is_correct: [2] bool, whether the greedy text and the best of the beam were right in the last evaluation.
        steps_to_solve: [2] int32, the environment steps after which they were right for the first time; -1 while never.
    """

    num_letters: Array
    is_correct: Array
    steps_to_solve: Array


def build_decoder(config: Config) -> Decoder:
    """The policy, with a head that estimates the value of a beginning."""
    size, length = config.model, len(config.target) + 2
    return decoder(
        vocab_size=len(VOCABULARY),
        context_length=length,
        # A letter has its place. By distances alone, what was learned of one place would be tried at the next.
        block=BlockConfig(width=size.width, num_heads=size.num_heads, gated=True, position=learned(length)),
        num_layers=size.num_layers,
        value_head=True,
    )


def build_prompts(config: Config) -> Prompts:
    """Longer and longer parts of the target; without a curriculum all of it alone."""
    prompts = make_prompts(config.target)
    return prompts if config.curriculum.enabled else jax.tree.map(lambda leaf: leaf[-1:], prompts)


def build_sampler(config: Config) -> IndexSampler:
    """When longer parts are asked for."""
    levels, texts = len(config.target) if config.curriculum.enabled else 1, config.rl.batch_size
    lengths = curriculum(levels, threshold=config.curriculum.threshold, decay_attempts=2.0 * texts, min_attempts=texts)
    return level_sampler(lengths, range(levels + 1))


def train_model(config: Config, run: Run, reward: Reward, seed: int) -> TrainResult:
    """Train one model with one kind of reward."""
    model, prompts = build_decoder(config), build_prompts(config)
    updates = config.rl.num_updates
    schedule = warmup_stable_decay(config.rl.optimizer.learning_rate, updates, min(20, updates // 10), updates // 2)
    optimizer = adamw(schedule, weight_decay=0.0, b2=0.99)

    def init() -> RunnerState:
        init_key, key = jax.random.split(jax.random.key(seed))
        params = jax.jit(model.init)(init_key)
        state = init_post_training(init_train_state(params, optimizer), build_sampler(config), key)
        return state._replace(env=GenerationRecord(jnp.int32(0), jnp.zeros(2, bool), jnp.full(2, -1, jnp.int32)))

    return train(
        run,
        f"{reward}-{seed}",
        init=init,
        step=make_training_step(config, model, prompts, optimizer, reward),
        num_steps=updates,
        chunk_size=CHUNK,
        progress_metric="rewards/letters",
        log_samples=lambda sample: sample_records(VOCABULARY, prompts, sample),
    )


def make_training_step(
    config: Config, model: Decoder, prompts: Prompts, optimizer: optax.GradientTransformation, reward: Reward
) -> Callable[[RunnerState, Array], tuple[RunnerState, Any, Any]]:
    """`step(state, index) -> (state, metrics, sample)`: texts are written, rewarded and learned from."""
    settings, target = config.rl, prompts.columns["wanted"][-1, :-1]
    learn = make_post_training_step(
        model,
        prompts,
        build_sampler(config),
        reward_fn=combine_rewards(letters=(1.0, letter_reward), outcome=(0.0, outcome_reward)),
        advantage_fn=text_advantages if reward == "outcome" else letter_advantages(settings.discount),
        update=reinforce(
            make_evaluate_fn(model),
            optimizer,
            entropy_weight=settings.entropy_weight,
            entropy_ceiling=settings.entropy_ceiling,
        ),
        num_prompts=settings.batch_size,
        num_generations=1,
        max_new_tokens=len(config.target) + 1,
    )

    def exact(params: Params) -> Array:
        texts = write_texts(model, params, prompts, config.eval.beam_width)
        return jnp.stack([jnp.all(text == target) for text in texts])

    def step(state: RunnerState, index: Array) -> tuple[RunnerState, Any, Any]:
        before = state.env
        state, metrics, sample = learn(state, index)
        # The forced end is no letter; a text that ended by itself had one that was chosen.
        chosen = jnp.round((metrics["completions/mean_length"] - 1) * settings.batch_size).astype(jnp.int32)
        steps = before.num_letters + chosen
        due = index % EVAL_INTERVAL == EVAL_INTERVAL - 1
        passed = jax.lax.cond(due, exact, lambda params: before.is_correct, state.train_state.params)
        solved = jnp.where((before.steps_to_solve < 0) & passed, steps, before.steps_to_solve)
        metrics |= {"exact": passed[0].astype(jnp.float32), "exact_beam": passed[1].astype(jnp.float32)}
        metrics["environment_steps"] = steps.astype(jnp.float32)
        return state._replace(env=GenerationRecord(steps, passed, solved)), metrics, sample

    return step


def write_texts(model: Decoder, params: Params, prompts: Prompts, beam_width: int) -> tuple[Array, Array]:
    """Write the whole target greedily, and by a beam.

    Returns:
        [N] int32 twice, 0 behind the end: the greedy text, and the best of the beam.
    """
    target = prompts.columns["wanted"][-1, :-1]
    most = len(target)
    root = make_token_model(
        model, params, prompts.tokens[-1:], prompts.lengths[-1:], max_new_tokens=most, stop_tokens=(END,)
    )
    alone = greedy(*root, max_steps=most).actions[0, 0]
    # The environment tells which of the texts is the best: it rewards, and the policy's own opinion does not count.
    texts = beam(*root, width=beam_width, max_steps=most).actions[0]
    best = texts[jnp.argmax(jnp.sum(texts == target[None], axis=1))]
    return jnp.maximum(alone, 0), jnp.maximum(best, 0)


def summarize(config: Config, stage: TrainResult) -> dict[str, Any]:
    """What came of a training: a row of results."""
    model, prompts, params = build_decoder(config), build_prompts(config), stage.state.train_state.params
    texts = jax.jit(lambda params: write_texts(model, params, prompts, config.eval.beam_width))(params)
    greedy_text, beam_text = (VOCABULARY.decode([token for token in text.tolist() if token > 0]) for text in texts)
    solved = [count if count >= 0 else None for count in stage.state.env.steps_to_solve.tolist()]
    return {
        "steps_to_solve": solved[0],
        "steps_to_solve_beam": solved[1],
        "environment_steps": int(stage.state.env.num_letters),
        "text": greedy_text,
        "text_beam": beam_text,
        "train_seconds": stage.seconds,
        "compile_seconds": stage.compile_seconds,
    }
