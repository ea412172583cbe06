"""Training a decoder to generate a target text by rewards.

Axes: N letters of the target, and one more for the end.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
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
from thinking.types import Array, Latest, Measured, Params

CHUNK = 20
"""Updates per chunk."""
EVAL_INTERVAL = 10
"""Updates between two evaluations."""


class GenerationRecord(NamedTuple):
    """Statistics of generated texts: the `env` of the `RunnerState`.

    Attributes:
        num_letters: [] int32, environment steps so far: letters generated.
        is_correct: [2] bool, of the last evaluation: whether the greedy text was correct, and pass@k, whether any text
            of a beam of width k was. The latter is an oracle's choice, which no policy can make.
        steps_to_solve: [2] int32, the environment steps when they were first correct; -1 before.
    """

    num_letters: Array
    is_correct: Array
    steps_to_solve: Array


def build_decoder(config: Config) -> Decoder:
    """The policy, with a value head."""
    size, length = config.model, len(config.target) + 2
    return decoder(
        vocab_size=len(VOCABULARY),
        context_length=length,
        # Absolute positions: with relative ones, what is learned of one letter would also change the next, another one.
        block=BlockConfig(width=size.width, num_heads=size.num_heads, gated=True, position=learned(length)),
        num_layers=size.num_layers,
        value_head=True,
    )


def build_prompts(config: Config) -> Prompts:
    """One prompt per level of the curriculum; without one, the last level alone."""
    prompts = make_prompts(config.target)
    return prompts if config.curriculum.enabled else jax.tree.map(lambda leaf: leaf[-1:], prompts)


def build_sampler(config: Config) -> IndexSampler:
    """Sampler of the unlocked levels."""
    levels, texts = len(config.target) if config.curriculum.enabled else 1, config.rl.batch_size
    lengths = curriculum(levels, threshold=config.curriculum.threshold, decay_attempts=2.0 * texts, min_attempts=texts)
    return level_sampler(lengths, range(levels + 1))


def train_model(config: Config, run: Run, reward: Reward, seed: int) -> TrainResult:
    """Train one model with one kind of rewards."""
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
    """`step(state, index) -> (state, metrics, sample)`: a post-training step, with evaluation at intervals."""
    settings, target = config.rl, prompts.columns["targets"][-1, :-1]
    post_training_step = make_post_training_step(
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

    def evaluate(params: Params) -> Array:
        texts = write_texts(model, params, prompts, config.eval.beam_width)
        return jnp.stack([jnp.all(text == target) for text in texts])

    def step(state: RunnerState, index: Array) -> tuple[RunnerState, Any, Any]:
        record = state.env
        state, metrics, sample = post_training_step(state, index)
        # The forced end is no letter. An end that the policy chose counts as one.
        num_chosen = jnp.round((metrics["completions/mean_length"] - 1) * settings.batch_size).astype(jnp.int32)
        num_letters = record.num_letters + num_chosen
        is_due = index % EVAL_INTERVAL == EVAL_INTERVAL - 1
        is_correct = jax.lax.cond(is_due, evaluate, lambda params: record.is_correct, state.train_state.params)
        steps_to_solve = jnp.where((record.steps_to_solve < 0) & is_correct, num_letters, record.steps_to_solve)
        exact_match, pass_at_k = is_correct.astype(jnp.float32)
        metrics |= {
            "eval/exact_match": Measured(exact_match, is_due),
            "eval/pass_at_k": Measured(pass_at_k, is_due),
            "rollout/num_env_steps": Latest(num_letters),
        }
        return state._replace(env=GenerationRecord(num_letters, is_correct, steps_to_solve)), metrics, sample

    return step


def write_texts(model: Decoder, params: Params, prompts: Prompts, beam_width: int) -> tuple[Array, Array]:
    """Generate the whole target greedily, and by beam search.

    Returns:
        [N] int32 twice, 0 after the end: the greedy text, and the text of the beam that is nearest to the target,
        which an oracle chooses.
    """
    target = prompts.columns["targets"][-1, :-1]
    max_steps = len(target)
    root = make_token_model(
        model, params, prompts.tokens[-1:], prompts.lengths[-1:], max_new_tokens=max_steps, stop_tokens=(END,)
    )
    greedy_text = greedy(*root, max_steps=max_steps).actions[0, 0]
    # The reward picks among the texts of the beam, not the policy's log-probability: that is pass@k.
    texts = beam(*root, width=beam_width, max_steps=max_steps).actions[0]
    oracle_text = texts[jnp.argmax(jnp.sum(texts == target[None], axis=1))]
    return jnp.maximum(greedy_text, 0), jnp.maximum(oracle_text, 0)


def summarize(config: Config, stage: TrainResult) -> dict[str, Any]:
    """A row of results.

    Environment steps until the greedy text was correct, and until any text of a beam of width k was (`pass_at_k`).
    An oracle that knows the target chooses the latter, so it is no result of the policy.
    """
    model, prompts, params = build_decoder(config), build_prompts(config), stage.state.train_state.params
    texts = jax.jit(lambda params: write_texts(model, params, prompts, config.eval.beam_width))(params)
    greedy_text, oracle_text = (VOCABULARY.decode([token for token in text.tolist() if token > 0]) for text in texts)
    steps_to_solve = [count if count >= 0 else None for count in stage.state.env.steps_to_solve.tolist()]
    return {
        "env_steps_to_exact_match": steps_to_solve[0],
        "env_steps_to_pass_at_k": steps_to_solve[1],
        "num_env_steps": int(stage.state.env.num_letters),
        "greedy_text": greedy_text,
        "oracle_text": oracle_text,
        "train_seconds": stage.seconds,
        "compile_seconds": stage.compile_seconds,
    }
