"""Learning from rewards: what is judged is what was written, credit adds up, and a policy improves."""

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
from thinking.learning.policy_gradient import grpo, imitation, ppo, reinforce
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
from thinking.text.vocabulary import ANSWER, END, MARKS, Vocabulary
from thinking.train_state import init_train_state

VOCABULARY = Vocabulary(("a", "b", "c"))
A, B, C = range(len(MARKS), len(MARKS) + 3)
NEW, GROUP = 4, 4
MODEL = decoder(vocab_size=len(VOCABULARY), context_length=12, block=BlockConfig(16, 2), num_layers=1, value_head=True)
PARAMS = jit(MODEL.init)(jax.random.key(0))
PROMPTS = np.array([[A, B, 0], [C, 0, 0], [A, A, C], [B, 0, 0]], np.int32)
LENGTHS = np.array([2, 1, 3, 1], np.int32)
WRITTEN = jax.device_get(
    jit(functools.partial(generate, MODEL, max_new_tokens=NEW, stop_tokens=(END,)))(
        PARAMS, jax.random.key(1), PROMPTS, LENGTHS
    )
)


def first_is(prompts, completions, *, wanted, **columns):
    """1 where the first token is the one that is wanted."""
    return (completions.tokens[:, 0] == wanted).astype(jnp.float32)


def test_joined_rows_are_prompts_with_what_follows():
    rows = jit(concat_completion)(PROMPTS, LENGTHS, WRITTEN.tokens)
    for row, prompt, count, tokens in zip(np.asarray(rows), PROMPTS, LENGTHS, np.asarray(WRITTEN.tokens), strict=True):
        expected = [*prompt[:count], *tokens]
        np.testing.assert_array_equal(row, expected + [0] * (len(row) - len(expected)))


def test_texts_are_judged_as_they_were_written():
    evaluate_actions = jit(make_evaluate_fn(MODEL))
    evaluation = jax.device_get(evaluate_actions(PARAMS, (PROMPTS, LENGTHS), WRITTEN.tokens))
    real = np.arange(NEW)[None] < np.asarray(WRITTEN.length)[:, None]
    np.testing.assert_allclose(evaluation.log_prob[real], WRITTEN.log_prob[real], atol=1e-4)
    np.testing.assert_allclose(evaluation.value[real], WRITTEN.value[real], atol=1e-4)
    # The entropy is the mean surprise of all words, by enumeration.
    everything = []
    for word in range(len(VOCABULARY)):
        tokens = np.where(np.arange(NEW)[None] == 0, np.int32(word), WRITTEN.tokens)
        everything.append(np.asarray(evaluate_actions(PARAMS, (PROMPTS, LENGTHS), tokens).log_prob)[:, 0])
    np.testing.assert_allclose(evaluation.entropy[:, 0], -sum(np.exp(each) * each for each in everything), atol=1e-4)


def completions(lengths, value=0.0):
    mask = np.arange(NEW)[None] < np.array(lengths)[:, None]
    blank = np.zeros(mask.shape, np.float32)
    return Completions(
        mask * A, np.array(lengths), blank, np.where(mask, np.float32(value), 0), np.ones(len(lengths), bool)
    )


def test_credit_without_a_value_is_the_reward_at_every_token():
    result = jit(return_to_go_advantages)(completions([2, 4]), np.float32([1, 0.5]))
    np.testing.assert_allclose(result.value_target, [[1, 1, 0, 0], [0.5] * 4])
    np.testing.assert_array_equal(result.mask, np.asarray(result.value_target) > 0)


def test_credit_over_values_ends_at_the_last_token():
    value = np.array([[0.2, 0.4, 0, 0], [0.1, 0.2, 0.3, 0.4]], np.float32)
    generated = completions([2, 4])._replace(value=value)
    whole = jit(gae_advantages(1.0))(generated, np.float32([1, 0]))
    np.testing.assert_allclose(whole.advantage, [[0.8, 0.6, 0, 0], [-0.1, -0.2, -0.3, -0.4]], atol=1e-6)
    np.testing.assert_allclose(whole.value_target, [[1, 1, 0, 0], [0] * 4], atol=1e-6)
    one = jit(gae_advantages(0.0))(generated, np.float32([1, 0]))
    np.testing.assert_allclose(one.advantage, [[0.2, 0.6, 0, 0], [0.1, 0.1, 0.1, -0.4]], atol=1e-6)


def test_credit_by_group_and_by_the_best():
    generated, rewards = completions([1, 2, 1, 2]), np.float32([1, 0, 0.4, 0.2])
    result = jit(group_relative(2))(generated, rewards)
    np.testing.assert_allclose(
        result.advantage, [[1, 0, 0, 0], [-1, -1, 0, 0], [1, 0, 0, 0], [-1, -1, 0, 0]], atol=1e-6
    )
    best = jit(best_of_group(2, min_reward=0.5))(generated, rewards)
    np.testing.assert_array_equal(best.advantage, [[1, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4])
    np.testing.assert_array_equal(best.mask, result.mask)


UPDATES = {
    "grpo": lambda evaluate_actions, optimizer: (
        group_relative(GROUP),
        grpo(evaluate_actions, optimizer, kl_weight=0.001),
    ),
    "ppo": lambda evaluate_actions, optimizer: (
        gae_advantages(),
        ppo(evaluate_actions, optimizer, num_epochs=1, num_minibatches=2, value_weight=0.1),
    ),
    "reinforce": lambda evaluate_actions, optimizer: (return_to_go_advantages, reinforce(evaluate_actions, optimizer)),
    "expert iteration": lambda evaluate_actions, optimizer: (
        best_of_group(GROUP),
        imitation(evaluate_actions, optimizer, value_weight=0.1),
    ),
}
QUESTIONS = Prompts(jnp.asarray(PROMPTS), jnp.asarray(LENGTHS), {"wanted": jnp.full(4, A)})


@pytest.mark.parametrize("name", UPDATES)
def test_a_policy_learns_what_is_rewarded(name):
    optimizer = optax.adam(0.03)
    advantage_fn, update = UPDATES[name](make_evaluate_fn(MODEL), optimizer)
    sampler = level_sampler(curriculum(2, threshold=0.3, decay_attempts=64.0, min_attempts=32), [0, 2, 4])
    step = make_post_training_step(
        MODEL,
        QUESTIONS,
        sampler,
        reward_fn=combine_rewards(outcome=(1.0, first_is)),
        advantage_fn=advantage_fn,
        update=update,
        num_prompts=8,
        num_generations=GROUP,
        max_new_tokens=NEW,
        num_shown=3,
    )

    @jit
    def learn(key):
        def one(state, index):
            state, metrics, sample = step(state, index)
            return state, (metrics, sample)

        initial_state = init_post_training(
            init_train_state(PARAMS, optimizer), sampler, key, keep_reference=name == "grpo"
        )
        return jax.lax.scan(one, initial_state, jnp.arange(60))

    state, (metrics, sample) = jax.device_get(learn(jax.random.key(2)))
    outcome = np.asarray(metrics["rewards/outcome"])
    assert outcome[:3].mean() < 0.4
    assert outcome[-5:].mean() > 0.8
    assert metrics["levels_open"][0] == 1
    assert metrics["levels_open"][-1] == 2
    expected = {"reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "completions/clipped_ratio"}
    assert expected | {"entropy", "valid_fraction"} <= metrics.keys()
    if name in ("grpo", "ppo"):
        assert {"kl", "clip_ratio"} <= metrics.keys()
    if name == "grpo":  # the reference is the policy of the start
        jax.tree.map(np.testing.assert_array_equal, state.reference, PARAMS)
        assert np.mean(metrics["kl"][-5:]) > 0.3  # and the policy has left it
    last = jax.tree.map(lambda leaf: np.asarray(leaf[-1]), sample)
    table = sample_records(VOCABULARY, QUESTIONS, last)
    assert len(table) == 3
    for index, record in enumerate(table):
        row = int(last.prompt_index[index])
        assert record["prompt"] == VOCABULARY.decode(PROMPTS[row, : LENGTHS[row]].tolist())
        right = record["completion"].startswith(VOCABULARY.decode([int(QUESTIONS.columns["wanted"][row])]))
        assert record["rewards/outcome"] == record["reward"] == right


def test_the_figures_of_an_update_are_those_of_its_completions():
    tokens = np.array([[ANSWER, A, END, 0], [A, B, C, A], [ANSWER, B, END, 0], [ANSWER, END, 0, 0]])
    generated = completions([3, 4, 3, 2])._replace(tokens=tokens, stopped=np.array([True, False, True, True]))
    total = np.float32([1, 0, 1, 1])
    result = jit(lambda generated, total: training_step._compute_metrics(generated, total, {"outcome": total}, 2))(
        generated, total
    )
    expected = {
        "reward": 0.75,
        "reward_std": 0.25,
        "frac_reward_zero_std": 0.5,
        "rewards/outcome": 0.75,
        "completions/mean_length": 3.0,
        "completions/clipped_ratio": 0.25,
        "valid_fraction": 0.5,
    }
    assert {name: float(value) for name, value in result.items()} == pytest.approx(expected)


def test_an_update_is_a_function_of_the_state_and_the_step():
    optimizer = optax.sgd(0.1)
    advantage_fn, update = group_relative(GROUP), grpo(make_evaluate_fn(MODEL), optimizer)
    sampler = uniform_sampler(4)
    step = jit(
        make_post_training_step(
            MODEL,
            QUESTIONS,
            sampler,
            reward_fn=combine_rewards(outcome=(1.0, first_is)),
            advantage_fn=advantage_fn,
            update=update,
            num_prompts=4,
            num_generations=GROUP,
            max_new_tokens=NEW,
        )
    )
    init = jit(lambda key: init_post_training(init_train_state(PARAMS, optimizer), sampler, key))
    initial_state = init(jax.random.key(2))
    once, again, other = step(initial_state, 3), step(initial_state, 3), step(initial_state, 4)
    np.testing.assert_array_equal(once[2].tokens, again[2].tokens)
    assert not np.array_equal(once[2].tokens, other[2].tokens)


def test_of_more_problems_those_are_learned_from_whose_answers_differ():
    rewards = np.float32([1, 1, 0, 1, 0, 0, 0.5, 0])
    np.testing.assert_array_equal(jit(lambda rewards: select_highest_variance(rewards, 2, 2))(rewards), [2, 3, 6, 7])
    optimizer = optax.sgd(0.1)
    options = {
        "reward_fn": combine_rewards(outcome=(1.0, first_is)),
        "advantage_fn": group_relative(2),
        "update": grpo(make_evaluate_fn(MODEL), optimizer, num_minibatches=1),
        "num_prompts": 1,
        "num_generations": 2,
        "max_new_tokens": NEW,
    }
    step = make_post_training_step(MODEL, QUESTIONS, prioritized_sampler(4), num_sampled_prompts=4, **options)

    @jit
    def once(key):
        return step(init_post_training(init_train_state(PARAMS, optimizer), prioritized_sampler(4), key), 0)

    state, metrics, sample = jax.device_get(once(jax.random.key(2)))
    assert len(set(np.asarray(sample.prompt_index).tolist())) == 1
    # All that were tried are measured and told, not only those that are learned from.
    np.testing.assert_allclose(np.sum(state.sampler) * 2 / 4, metrics["rewards/outcome"], rtol=1e-6)
    with pytest.raises(ValueError, match="num_sampled_prompts 3 is below num_prompts 4"):
        make_post_training_step(
            MODEL, QUESTIONS, prioritized_sampler(4), num_sampled_prompts=3, **(options | {"num_prompts": 4})
        )
