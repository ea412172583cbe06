"""Search over steps of several tokens: an action is the choice among continuations that the model proposes.

Axes: B problems, N candidates, R rows, K proposals, S tokens of a step, T steps, A tokens of the vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

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


class TokenStep(NamedTuple):
    """Tokens that belong together.

    Attributes:
        tokens: [..., S] int32, -1 after the end.
        length: [...] int32, 1 to S; 0 where nothing follows.
        log_prob: [...] float32, of all tokens under the model, in nats.
    """

    tokens: Array
    length: Array
    log_prob: Array


class StepState(NamedTuple):
    """A state between steps.

    Attributes:
        state: the model's own.
        proposals: arrays [R, K, ...], how it may go on.
        key: [R] for the proposals to come, so that a row's depend on nothing but its own past.
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
) -> tuple[StepFn, RootOutput]:
    """The same problem with `num_proposals` actions, each a step of up to `max_step_tokens` tokens, for any search.

    From every state K steps are sampled. Equal ones are merged into the first: the rest is forbidden, and the logit of
    the first is the logarithm of how often it was drawn. So sampling an action is sampling a step from the model, in a
    tree the values decide among steps that were proposed equally often (Hubert et al. 2021), and a beam prefers what
    many samples agree on. A sum of log-probabilities would count the model's preference twice, and the more so the
    longer the steps.

    A step's reward is the sum of its tokens'. Its note is the `Step` taken: `concat_steps` puts the candidates' together.
    A call of the new `step_fn`, and the making of the root, costs up to `max_step_tokens` calls of the old for each of the K
    proposals, and a call up to `max_step_tokens` more to take the step.

    Args:
        step_fn: the model.
        root: of B problems.
        key: is consumed.
        num_proposals: K.
        max_step_tokens: S.
        stop_tokens: the tokens which end a step, and belong to it.
        temperature: by which logits are divided before sampling, more than 0.
    """
    _, vocabulary = check_root("make_step_model", root, num_proposals=num_proposals, max_step_tokens=max_step_tokens)
    check_temperature("make_step_model", temperature)
    if any(not 0 <= token < vocabulary for token in stop_tokens):
        raise ValueError(
            f"make_step_model: stop_tokens {stop_tokens}: the tokens are 0 to {vocabulary - 1}; give some of these"
        )

    def write(state: State, token: Array) -> RootOutput:
        state, outlook = step_fn(state, token)
        return state, outlook._replace(extra=())

    def propose(state: State, step_output: StepOutput, keys: Array, taken: TokenStep) -> RootOutput:
        rows = keys.shape[0]
        forks = jax.vmap(lambda key: jax.random.split(key, num_proposals + 1))(keys)
        walk = sample_actions(
            write,
            init_search((state, step_output._replace(extra=())), num_proposals, max_step_tokens),
            forks[:, 1:].reshape(-1),
            temperature=temperature,
            max_steps=max_step_tokens,
            stop_actions=stop_tokens,
        )
        paths = walk.paths
        steps = TokenStep(paths.actions, paths.length, paths.log_prob)
        steps = jax.tree.map(lambda leaf: leaf.reshape(rows, num_proposals, *leaf.shape[1:]), steps)
        said = step_output._replace(logits=_proposal_logits(steps.tokens), extra=taken)
        return StepState(state, steps, forks[:, 0]), said

    def choose(state: StepState, action: Array) -> RootOutput:
        rows = jnp.arange(action.shape[0])
        taken = jax.tree.map(lambda leaf: leaf[rows, action], state.proposals)
        keys = jax.vmap(jax.random.fold_in)(state.key, action)
        return propose(*_replay_step(write, state.state, taken, vocabulary), keys, taken)

    state, outlook = root
    problems = outlook.value.shape[0]
    nothing = TokenStep(
        jnp.full((problems, max_step_tokens), NO_ACTION, jnp.int32), jnp.zeros(problems, jnp.int32), jnp.zeros(problems)
    )
    return choose, propose(state, outlook, jax.random.split(key, problems), nothing)


def concat_steps(candidates: Candidates) -> tuple[Array, Array]:
    """Tokens [B, N, T S] int32 in a row, -1 after the end, and how many [B, N], of candidates found over steps."""
    tokens, length, _ = candidates.extras
    place = jax.lax.broadcasted_iota(jnp.int32, tokens.shape, tokens.ndim - 1)
    real = place < length[..., None]
    tokens = jnp.where(real, tokens, NO_ACTION).reshape(*candidates.length.shape, -1)
    together = jnp.argsort(tokens == NO_ACTION, axis=-1, stable=True)
    return jnp.take_along_axis(tokens, together, axis=-1), jnp.sum(length, axis=-1)


def _proposal_logits(tokens: Array) -> Array:
    """[R, K] logits of proposals [R, K, S]: how often each was drawn, at its first place."""
    same = jnp.all(tokens[:, :, None] == tokens[:, None], axis=-1)
    first = jnp.argmax(same, axis=-1) == jnp.arange(tokens.shape[1])[None]
    return jnp.where(first, jnp.log(jnp.sum(same, axis=-1).astype(jnp.float32)), -jnp.inf)


def _replay_step(step_fn: StepFn, state: State, step: TokenStep, vocab_size: int) -> RootOutput:
    """Where the step [R, ...] leads."""
    rows = step.length.shape[0]
    # Only what has ended has no token to follow.
    nothing = StepOutput(jnp.zeros((rows, vocab_size)), jnp.zeros(rows), jnp.zeros(rows), jnp.ones(rows, bool))

    def one(place: Array, so_far: RootOutput) -> RootOutput:
        state, outlook = so_far
        following, said = step_fn(state, jnp.maximum(step.tokens[:, place], 0))
        said = said._replace(reward=outlook.reward + said.reward)
        return select_rows(place < step.length, (following, said), so_far)

    return jax.lax.fori_loop(0, jnp.max(step.length), one, (state, nothing))
