"""Post-training: evaluation of completions, metrics and learning from rewards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels.quick import jit

from thinking.generation.completions import Completions, generate
from thinking.generation.prompts import concat_completion
from thinking.learning.curriculum import curriculum, level_sampler, prioritized_sampler, uniform_sampler
from thinking.learning.policy_gradient import expert_iteration, grpo, ppo, reinforce
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.post_training import training_step
from thinking.reasoning.post_training.advantages import (
    best_of_group,
    gae_advantages,
    group_relative,
    return_to_go_advantages,
)
from thinking.reasoning.post_training.rewards import combine_rewards
from thinking.reasoning.post_training.training_step import (
    Prompts,
    init_post_training,
    make_evaluate_fn,
    make_post_training_step,
    sample_records,
    select_highest_variance,
)
from thinking.text.vocabulary import ANSWER, END, SPECIAL_TOKENS, Vocabulary
from thinking.train_state import init_train_state

VOCABULARY = Vocabulary(("a", "b", "c"))
A, B, C = range(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + 3)
MAX_NEW_TOKENS, NUM_GENERATIONS = 4, 4
MODEL = decoder(vocab_size=len(VOCABULARY), context_length=12, block=BlockConfig(16, 2), num_layers=1, value_head=True)
PARAMS = jit(MODEL.init)(jax.random.key(0))
PROMPTS = np.array([[A, B, 0], [C, 0, 0], [A, A, C], [B, 0, 0]], np.int32)
LENGTHS = np.array([2, 1, 3, 1], np.int32)
COMPLETIONS = jax.device_get(
    jit(functools.partial(generate, MODEL, max_new_tokens=MAX_NEW_TOKENS, stop_tokens=(END,)))(
        PARAMS, jax.random.key(1), PROMPTS, LENGTHS
    )
)


def first_token_reward(prompts, completions, *, target, **columns):
    """1 where the first token is the target."""
    return (completions.tokens[:, 0] == target).astype(jnp.float32)


def test_concat_completion_joins_prompts_and_tokens():
    rows = jit(concat_completion)(PROMPTS, LENGTHS, COMPLETIONS.tokens)
    for row, prompt, length, tokens in zip(
        np.asarray(rows), PROMPTS, LENGTHS, np.asarray(COMPLETIONS.tokens), strict=True
    ):
        expected = [*prompt[:length], *tokens]
        np.testing.assert_array_equal(row, expected + [0] * (len(row) - len(expected)))


def test_evaluate_fn_reproduces_log_probs_values_and_entropy():
    evaluate_actions = jit(make_evaluate_fn(MODEL))
    evaluation = jax.device_get(evaluate_actions(PARAMS, (PROMPTS, LENGTHS), COMPLETIONS.tokens))
    is_valid = np.arange(MAX_NEW_TOKENS)[None] < np.asarray(COMPLETIONS.length)[:, None]
    np.testing.assert_allclose(evaluation.log_prob[is_valid], COMPLETIONS.log_prob[is_valid], atol=1e-4)
    np.testing.assert_allclose(evaluation.value[is_valid], COMPLETIONS.value[is_valid], atol=1e-4)
    # The expected entropy enumerates the vocabulary.
    log_probs = []
    for token in range(len(VOCABULARY)):
        tokens = np.where(np.arange(MAX_NEW_TOKENS)[None] == 0, np.int32(token), COMPLETIONS.tokens)
        log_probs.append(np.asarray(evaluate_actions(PARAMS, (PROMPTS, LENGTHS), tokens).log_prob)[:, 0])
    np.testing.assert_allclose(
        evaluation.entropy[:, 0], -sum(np.exp(log_prob) * log_prob for log_prob in log_probs), atol=1e-4
    )


def make_completions(lengths, value=0.0):
    mask = np.arange(MAX_NEW_TOKENS)[None] < np.array(lengths)[:, None]
    zeros = np.zeros(mask.shape, np.float32)
    return Completions(
        mask * A, np.array(lengths), zeros, np.where(mask, np.float32(value), 0), np.ones(len(lengths), bool)
    )


UPDATES = {
    "grpo": lambda evaluate_actions, optimizer: (
        group_relative(NUM_GENERATIONS),
        grpo(evaluate_actions, optimizer, kl_weight=0.001),
    ),
    "ppo": lambda evaluate_actions, optimizer: (
        gae_advantages(),
        ppo(evaluate_actions, optimizer, num_epochs=1, num_minibatches=2, value_weight=0.1),
    ),
    "reinforce": lambda evaluate_actions, optimizer: (return_to_go_advantages, reinforce(evaluate_actions, optimizer)),
    "expert iteration": lambda evaluate_actions, optimizer: (
        best_of_group(NUM_GENERATIONS),
        expert_iteration(evaluate_actions, optimizer, value_weight=0.1),
    ),
}
TRAINING_PROMPTS = Prompts(jnp.asarray(PROMPTS), jnp.asarray(LENGTHS), {"target": jnp.full(4, A)})


@pytest.mark.parametrize("name", UPDATES)
def test_policy_learns_the_rewarded_token(name):
    optimizer = optax.adam(0.03)
    advantage_fn, update = UPDATES[name](make_evaluate_fn(MODEL), optimizer)
    sampler = level_sampler(curriculum(2, threshold=0.3, decay_attempts=64.0, min_attempts=32), [0, 2, 4])
    step = make_post_training_step(
        MODEL,
        TRAINING_PROMPTS,
        sampler,
        reward_fn=combine_rewards(outcome=(1.0, first_token_reward)),
        advantage_fn=advantage_fn,
        update=update,
        num_prompts=8,
        num_generations=NUM_GENERATIONS,
        max_new_tokens=MAX_NEW_TOKENS,
        num_shown=3,
    )

    @jit
    def train(key):
        def step_and_sample(state, index):
            state, metrics, sample = step(state, index)
            return state, (metrics, sample)

        initial_state = init_post_training(
            init_train_state(PARAMS, optimizer), sampler, key, keep_reference=name == "grpo"
        )
        return jax.lax.scan(step_and_sample, initial_state, jnp.arange(60))

    state, (metrics, sample) = jax.device_get(train(jax.random.key(2)))
    outcome = np.asarray(metrics["rewards/outcome"])
    assert outcome[:3].mean() < 0.4
    assert outcome[-5:].mean() > 0.8
    assert metrics["curriculum/num_unlocked"][0] == 1
    assert metrics["curriculum/num_unlocked"][-1] == 2
    expected = {"reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "completions/clipped_ratio"}
    assert expected | {"entropy", "completions/answered_ratio"} <= metrics.keys()
    if name in ("grpo", "ppo"):
        assert {"kl", "clip_ratio"} <= metrics.keys()
    if name == "grpo":  # the reference is the initial policy
        jax.tree.map(np.testing.assert_array_equal, state.reference, PARAMS)
        assert np.mean(metrics["kl"][-5:]) > 0.3  # and the policy has left it
    last_sample = jax.tree.map(lambda leaf: np.asarray(leaf[-1]), sample)
    records = sample_records(VOCABULARY, TRAINING_PROMPTS, last_sample)
    assert len(records) == 3
    for index, record in enumerate(records):
        row = int(last_sample.prompt_index[index])
        assert record["prompt"] == VOCABULARY.decode(PROMPTS[row, : LENGTHS[row]].tolist())
        is_correct = record["completion"].startswith(VOCABULARY.decode([int(TRAINING_PROMPTS.columns["target"][row])]))
        assert record["rewards/outcome"] == record["reward"] == is_correct


def test_metrics_of_an_update_describe_its_completions():
    tokens = np.array([[ANSWER, A, END, 0], [A, B, C, A], [ANSWER, B, END, 0], [ANSWER, END, 0, 0]])
    completions = make_completions([3, 4, 3, 2])._replace(tokens=tokens, stopped=np.array([True, False, True, True]))
    rewards = np.float32([1, 0, 1, 1])
    result = jit(
        lambda completions, rewards: training_step._compute_metrics(completions, rewards, {"outcome": rewards}, 2)
    )(completions, rewards)
    expected = {
        "reward": 0.75,
        "reward_std": 0.25,
        "frac_reward_zero_std": 0.5,
        "rewards/outcome": 0.75,
        "completions/mean_length": 3.0,
        "completions/clipped_ratio": 0.25,
        "completions/answered_ratio": 0.5,
    }
    assert {name: float(value) for name, value in result.items()} == pytest.approx(expected)


def test_step_depends_only_on_the_state_and_the_index():
    optimizer = optax.sgd(0.1)
    advantage_fn, update = group_relative(NUM_GENERATIONS), grpo(make_evaluate_fn(MODEL), optimizer)
    sampler = uniform_sampler(4)
    step = jit(
        make_post_training_step(
            MODEL,
            TRAINING_PROMPTS,
            sampler,
            reward_fn=combine_rewards(outcome=(1.0, first_token_reward)),
            advantage_fn=advantage_fn,
            update=update,
            num_prompts=4,
            num_generations=NUM_GENERATIONS,
            max_new_tokens=MAX_NEW_TOKENS,
        )
    )
    init = jit(lambda key: init_post_training(init_train_state(PARAMS, optimizer), sampler, key))
    initial_state = init(jax.random.key(2))
    first_output, second_output, other_output = step(initial_state, 3), step(initial_state, 3), step(initial_state, 4)
    np.testing.assert_array_equal(first_output[2].tokens, second_output[2].tokens)
    assert not np.array_equal(first_output[2].tokens, other_output[2].tokens)


def test_training_selects_prompts_with_the_highest_reward_variance():
    rewards = np.float32([1, 1, 0, 1, 0, 0, 0.5, 0])
    np.testing.assert_array_equal(jit(lambda rewards: select_highest_variance(rewards, 2, 2))(rewards), [2, 3, 6, 7])
    optimizer = optax.sgd(0.1)
    options = {
        "reward_fn": combine_rewards(outcome=(1.0, first_token_reward)),
        "advantage_fn": group_relative(2),
        "update": grpo(make_evaluate_fn(MODEL), optimizer, num_minibatches=1),
        "num_prompts": 1,
        "num_generations": 2,
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    step = make_post_training_step(MODEL, TRAINING_PROMPTS, prioritized_sampler(4), num_sampled_prompts=4, **options)

    @jit
    def run_step(key):
        return step(init_post_training(init_train_state(PARAMS, optimizer), prioritized_sampler(4), key), 0)

    state, metrics, sample = jax.device_get(run_step(jax.random.key(2)))
    assert len(set(np.asarray(sample.prompt_index).tolist())) == 1
    # All sampled prompts update the sampler and the metrics, not only those of the update.
    np.testing.assert_allclose(np.sum(state.sampler) * 2 / 4, metrics["rewards/outcome"], rtol=1e-6)
    with pytest.raises(ValueError, match="num_sampled_prompts 3 is below num_prompts 4"):
        make_post_training_step(
            MODEL, TRAINING_PROMPTS, prioritized_sampler(4), num_sampled_prompts=3, **(options | {"num_prompts": 4})
        )


def test_reference_is_kept_only_on_request():
    train_state, sampler = init_train_state(PARAMS, optax.sgd(0.1)), uniform_sampler(4)
    assert init_post_training(train_state, sampler, jax.random.key(0)).reference == ()
    reference = init_post_training(train_state, sampler, jax.random.key(0), keep_reference=True).reference
    jax.tree.map(np.testing.assert_array_equal, reference, PARAMS)
