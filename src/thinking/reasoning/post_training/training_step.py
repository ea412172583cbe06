"""Reinforcement learning of what is written: sample, reward, give credit, learn.

Axes: R problems, Q of them in an update, G completions of each, B = Q G rows, P tokens of the longest prompt, N of the
longest completion.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.generation.answers import answers_of
from thinking.generation.completions import Completions, generate
from thinking.generation.prompts import joined
from thinking.learning.curriculum import Syllabus
from thinking.learning.policy_gradient import Judge, Update
from thinking.networks.actor_critic import Judgement
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training.advantages import Credit
from thinking.text.vocabulary import END, Vocabulary
from thinking.train_state import RunnerState, TrainState
from thinking.types import Array, Metrics, Params

Rewards = Callable[..., tuple[Array, dict[str, Array]]]
"""`rewards(prompts [B, P], completions, **columns) -> (total [B], {name: [B]})`, of `rewards.combined`."""


class Questions(NamedTuple):
    """What is asked, and by what answers are judged.

    Attributes:
        tokens: [R, P] int32, each prompt beginning at the left.
        lengths: [R] int32, from 1.
        columns: arrays [R, ...] that rewards read, by name. One is read by the writing itself: `forced` [R, N] int32,
            tokens that are written whatever the policy says, -1 elsewhere; what they earn is the credit's to leave out.
    """

    tokens: Array
    lengths: Array
    columns: Mapping[str, Array]


class Sample(NamedTuple):
    """What was written and what became of it.

    Attributes:
        row: [B] int32, which problem was asked.
        tokens: [B, N] int32, of the completion.
        length: [B] int32, how many.
        rewards: by name [B], unweighted.
        reward: [B].
        advantage: [B], the mean over its tokens.
    """

    row: Array
    tokens: Array
    length: Array
    rewards: Mapping[str, Array]
    reward: Array
    advantage: Array


def judge_texts(model: Decoder) -> Judge:
    """A decoder as the policy that updates judge: inputs are (prompts [B, P], lengths [B]), actions [B, N] the tokens.

    Args:
        model: a decoder.
    """

    def judge(params: Params, inputs: tuple[Array, Array], tokens: Array) -> Judgement:
        prompts, lengths = inputs
        rows = joined(prompts, lengths, tokens)
        reading = model.apply(params, rows)
        log_probs = jax.nn.log_softmax(reading.logits)
        wanted = jnp.pad(rows[:, 1:], ((0, 0), (0, 1)))
        said = jnp.sum(log_probs * jax.nn.one_hot(wanted, model.vocabulary), axis=-1)  # a gather's gradient is slow
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        # The token that follows another is judged where that one stands.
        place = lengths[:, None] - 1 + jnp.arange(tokens.shape[1])[None]
        return Judgement(*(jnp.take_along_axis(each, place, axis=1) for each in (said, entropy, reading.value)))

    return judge


def init_post_training(
    train_state: TrainState, syllabus: Syllabus, key: Array, *, anchored: bool = False
) -> RunnerState:
    """A policy that is to be improved. Keeps the key.

    Args:
        train_state: the policy and its optimizer.
        syllabus: of the problems.
        key: of everything random.
        anchored: whether the policy of the start is kept as the reference.
    """
    reference = jax.tree.map(jnp.copy, train_state.params) if anchored else ()
    return RunnerState(train_state, key, sampler=syllabus.init(), reference=reference)


def post_training_step(
    model: Decoder,
    questions: Questions,
    syllabus: Syllabus,
    *,
    rewards: Rewards,
    credit: Credit,
    update: Update,
    problems: int,
    group: int,
    max_new_tokens: int,
    tried: int | None = None,
    shown: int = 8,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics, Sample]]:
    """`step(state, index) -> (state, metrics, sample)`: one batch of completions, and what is learned from it.

    Metrics bear the names that trainers of language models use. `reward_std` is the mean over problems of the standard
    deviation among the completions of each; `valid_fraction` the share in which an answer can be read. The syllabus is
    told the reward named `outcome` where there is one, else the total.

    Args:
        model: a decoder.
        questions: all problems.
        syllabus: which of them an update asks.
        rewards: what completions earn.
        credit: what their tokens are to learn from that.
        update: of `learning.policy_gradient`, of the policy `judge_texts(model)`.
        problems: Q, what is learned from.
        group: G.
        max_new_tokens: N.
        tried: how many problems are answered, Q by default. Of more, those are learned from whose completions differ
            most in their rewards: where they agree there is little to learn (dynamic sampling, Yu et al. 2025, DAPO).
        shown: the first so many completions are handed out as the sample.
    """
    judge, tried = judge_texts(model), problems if tried is None else tried
    if tried < problems:
        raise ValueError(f"post_training_step: {tried} problems are tried, fewer than the {problems} to learn from")

    def step(state: RunnerState, index: Array) -> tuple[RunnerState, Metrics, Sample]:
        draw_key, write_key, learn_key = jax.random.split(state.key, 3)
        drawn, level = syllabus.draw(state.sampler, draw_key, index, tried)
        row = jnp.repeat(drawn, group)
        prompts, lengths = questions.tokens[row], questions.lengths[row]
        columns = {name: column[row] for name, column in questions.columns.items()}
        written = generate(
            model,
            state.train_state.params,
            jax.random.fold_in(write_key, index),
            prompts,
            lengths,
            max_new_tokens=max_new_tokens,
            stop_tokens=(END,),
            forced=columns.get("forced"),
        )
        total, each = rewards(prompts, written, **columns)
        figures = _figures(written, total, each, group)
        level, success = jnp.repeat(level, group), each.get("outcome", total)
        sampler = syllabus.observe(state.sampler, level, success, jnp.ones_like(success))
        if tried > problems:
            chosen = most_telling(total, group, problems)
            row, prompts, lengths, columns, written, total, each = jax.tree.map(
                lambda leaf: leaf[chosen], (row, prompts, lengths, columns, written, total, each)
            )
        experience = credit(written, total, **(columns | each))._replace(inputs=(prompts, lengths))
        if jax.tree.leaves(state.reference):
            reference = judge(state.reference, experience.inputs, experience.action).log_prob
            experience = experience._replace(reference=reference)
        train_state, metrics = update(state.train_state, experience, jax.random.fold_in(learn_key, index))
        metrics |= figures | {"levels_open": syllabus.opened(sampler)}
        advantage = jnp.sum(experience.advantage, axis=1) / jnp.maximum(jnp.sum(experience.mask, axis=1), 1)
        sample = Sample(row, written.tokens, written.length, each, total, advantage)
        return state._replace(train_state=train_state, sampler=sampler), metrics, _first(sample, shown)

    return step


def most_telling(rewards: Array, group: int, count: int) -> Array:
    """[count G] int32, the completions of the problems whose rewards differ most, problem by problem.

    Args:
        rewards: [B], group by group.
        group: G.
        count: of problems.
    """
    spread = jnp.std(rewards.reshape(-1, group), axis=1)
    problem = jax.lax.top_k(spread, count)[1]
    return (problem[:, None] * group + jnp.arange(group)[None]).reshape(-1)


def records(vocabulary: Vocabulary, questions: Questions, sample: Sample) -> list[dict[str, Any]]:
    """A sample as a table to read: prompt, completion, each reward, their sum and the advantage.

    Args:
        vocabulary: of the tokens.
        questions: all problems.
        sample: of a step, on the host.
    """
    found = []
    for index, row in enumerate(sample.row):
        asked = np.asarray(questions.tokens[row])[: int(questions.lengths[row])]
        written = sample.tokens[index][: int(sample.length[index])]
        found.append(
            {
                "prompt": vocabulary.decode(asked.tolist()),
                "completion": vocabulary.decode(written.tolist()),
                **{f"rewards/{name}": float(value[index]) for name, value in sample.rewards.items()},
                "reward": float(sample.reward[index]),
                "advantage": float(sample.advantage[index]),
            }
        )
    return found


def _first(sample: Sample, count: int) -> Sample:
    return jax.tree.map(lambda leaf: leaf[:count], sample)


def _figures(written: Completions, total: Array, each: Mapping[str, Array], group: int) -> Metrics:
    spread = jnp.std(total.reshape(-1, group), axis=1)
    alike = jnp.all(total.reshape(-1, group) == total.reshape(-1, group)[:, :1], axis=1)
    return {
        "reward": jnp.mean(total),
        "reward_std": jnp.mean(spread),
        "frac_reward_zero_std": jnp.mean(alike.astype(jnp.float32)),
        **{f"rewards/{name}": jnp.mean(value) for name, value in each.items()},
        "completions/mean_length": jnp.mean(written.length.astype(jnp.float32)),
        "completions/clipped_ratio": 1 - jnp.mean(written.stopped.astype(jnp.float32)),
        "valid_fraction": jnp.mean(answers_of(written)[2].astype(jnp.float32)),
    }
