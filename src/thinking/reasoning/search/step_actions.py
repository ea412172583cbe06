"""Search over multi-token steps: an action selects one of several sampled continuations.

Axes: B problems, N candidates, R rows, K proposals, S tokens of a step, T steps, A tokens of the vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.generation.sampling import split_by_row
from thinking.reasoning.search.candidates import sample_actions
from thinking.reasoning.search.interface import (
    NO_ACTION,
    Candidates,
    RootOutput,
    StepFn,
    StepOutput,
    check_root,
    check_temperature,
    init_search,
)
from thinking.trees import select_rows
from thinking.types import Array, State

MIN_TEMPERATURE = 1e-6
"""At this temperature sampling gives the likeliest token, except among ties."""


class TokenStep(NamedTuple):
    """A step of several tokens.

    Attributes:
        tokens: [..., S] int32, -1 past the end.
        length: [...] int32, 1 to S; 0 after a finished state.
        log_prob: [...] float32, of all tokens under the model, in nats.
    """

    tokens: Array
    length: Array
    log_prob: Array


class StepState(NamedTuple):
    """Search state between steps.

    Attributes:
        state: model state.
        proposals: arrays [R, K, ...], possible next steps.
        key: [R] for later proposals, so that a row depends only on its own past.
    """

    state: State
    proposals: TokenStep
    key: Array


def make_step_model(
    step_fn: StepFn,
    root: RootOutput,
    key: Array,
    *,
    num_proposals: int,
    max_step_tokens: int,
    stop_tokens: tuple[int, ...],
    temperature: float | Array = 1.0,
    greedy_first: bool = False,
) -> tuple[StepFn, RootOutput]:
    """The model with K actions, each a step of up to S tokens sampled from it, for any search.

    K steps are sampled from every state. Duplicates are merged: the first has the log of their count as its logit, the
    others are forbidden. Sampling an action thus samples a step from the model, and in a tree the values decide among
    equally frequent steps (Hubert et al. 2021). Log-probabilities as logits would count the prior twice.

    A deterministic search wants `greedy_first`: the first step is the greedy one, the others are sampled, and logits
    are the steps' log-probabilities. Where all values are equal, it takes the steps of greedy search.

    A step's reward is the sum over its tokens, its `extra` the `TokenStep` taken; see `concat_steps`. The root costs up
    to K S calls of `step_fn`; a call of the new step function costs up to S more.

    Args:
        step_fn: the token-level model.
        root: of B problems.
        key: consumed; one, or [B].
        num_proposals: K.
        max_step_tokens: S.
        stop_tokens: last tokens of a step.
        temperature: sampling temperature, above 0.
        greedy_first: propose the greedy step too, and let likelihoods be the prior.

    Raises:
        ValueError: for a bad root, a budget below 1, or stop tokens outside the vocabulary.
    """
    _, vocab_size = check_root("make_step_model", root, num_proposals=num_proposals, max_step_tokens=max_step_tokens)
    check_temperature("make_step_model", temperature)
    if any(not 0 <= token < vocab_size for token in stop_tokens):
        raise ValueError(
            f"make_step_model: stop_tokens {stop_tokens}: the tokens are 0 to {vocab_size - 1}; give some of these"
        )

    def step_without_extra(state: State, token: Array) -> RootOutput:
        state, step_output = step_fn(state, token)
        return state, step_output._replace(extra=())

    def row_temperatures(rows: int) -> Array:
        """[R K, 1]: of the greedy proposal one that leaves no choice."""
        is_greedy = (jnp.arange(rows * num_proposals) % num_proposals == 0) & greedy_first
        return jnp.where(is_greedy, MIN_TEMPERATURE, temperature)[:, None]

    def propose(state: State, step_output: StepOutput, keys: Array, step: TokenStep) -> RootOutput:
        rows = keys.shape[0]
        split_keys = jax.vmap(lambda key: jax.random.split(key, num_proposals + 1))(keys)
        search_state = sample_actions(
            step_without_extra,
            init_search((state, step_output._replace(extra=())), num_proposals, max_step_tokens),
            split_keys[:, 1:].reshape(-1),
            temperature=row_temperatures(rows),
            max_steps=max_step_tokens,
            stop_actions=stop_tokens,
        )
        paths = search_state.paths
        steps = TokenStep(paths.actions, paths.length, paths.log_prob)
        steps = jax.tree.map(lambda leaf: leaf.reshape(rows, num_proposals, *leaf.shape[1:]), steps)
        is_first, log_count = _count_proposals(steps.tokens)
        logits = jnp.where(is_first, steps.log_prob if greedy_first else log_count, -jnp.inf)
        step_output = step_output._replace(logits=logits, extra=step)
        return StepState(state, steps, split_keys[:, 0]), step_output

    def take_step(state: StepState, action: Array) -> RootOutput:
        rows = jnp.arange(action.shape[0])
        step = jax.tree.map(lambda leaf: leaf[rows, action], state.proposals)
        keys = jax.vmap(jax.random.fold_in)(state.key, action)
        return propose(*_replay_step(step_without_extra, state.state, step, vocab_size), keys, step)

    state, step_output = root
    num_problems = step_output.value.shape[0]
    no_step = TokenStep(
        jnp.full((num_problems, max_step_tokens), NO_ACTION, jnp.int32),
        jnp.zeros(num_problems, jnp.int32),
        jnp.zeros(num_problems),
    )
    return take_step, propose(state, step_output, split_by_row(key, num_problems), no_step)


def concat_steps(candidates: Candidates) -> tuple[Array, Array]:
    """Tokens [B, N, T S] int32, -1 past the end, and their number [B, N], of candidates over steps."""
    tokens, length, _ = candidates.extras
    position = jax.lax.broadcasted_iota(jnp.int32, tokens.shape, tokens.ndim - 1)
    is_valid = position < length[..., None]
    tokens = jnp.where(is_valid, tokens, NO_ACTION).reshape(*candidates.length.shape, -1)
    order = jnp.argsort(tokens == NO_ACTION, axis=-1, stable=True)
    return jnp.take_along_axis(tokens, order, axis=-1), jnp.sum(length, axis=-1)


def _count_proposals(tokens: Array) -> tuple[Array, Array]:
    """[R, K] each: whether a proposal [R, K, S] is the first of its kind, and the log of how many are."""
    is_equal = jnp.all(tokens[:, :, None] == tokens[:, None], axis=-1)
    is_first = jnp.argmax(is_equal, axis=-1) == jnp.arange(tokens.shape[1])[None]
    return is_first, jnp.log(jnp.sum(is_equal, axis=-1).astype(jnp.float32))


def _replay_step(step_fn: StepFn, state: State, step: TokenStep, vocab_size: int) -> RootOutput:
    """State and output after the tokens of a step [R, ...]."""
    rows = step.length.shape[0]
    # Only finished states have steps of length 0.
    finished = StepOutput(jnp.zeros((rows, vocab_size)), jnp.zeros(rows), jnp.zeros(rows), jnp.ones(rows, bool))

    def take_token(position: Array, carry: RootOutput) -> RootOutput:
        state, previous = carry
        next_state, step_output = step_fn(state, jnp.maximum(step.tokens[:, position], 0))
        step_output = step_output._replace(reward=previous.reward + step_output.reward)
        return select_rows(position < step.length, (next_state, step_output), carry)

    return jax.lax.fori_loop(0, jnp.max(step.length), take_token, (state, finished))
