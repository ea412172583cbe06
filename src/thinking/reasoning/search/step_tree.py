"""Tree search over the steps of a text: each is chosen by what the value head says of what could follow it.

Axes: B problems, P tokens of the longest prompt, N of the longest text, K proposals, S tokens of a step, T steps,
M nodes of a tree.
"""

import jax
import jax.numpy as jnp

from thinking.networks.decoder import Decoder
from thinking.reasoning.search.interface import RootOutput, State, StepFn, StepOutput
from thinking.reasoning.search.mcts import TreeSearchOutput, plan_by_tree
from thinking.reasoning.search.step_actions import StepState, concat_steps, make_step_model
from thinking.reasoning.search.strategies import STEP_ENDS, Solutions
from thinking.reasoning.search.token_model import make_token_model
from thinking.text.vocabulary import END
from thinking.types import Array, Params


def solve_by_step_tree(
    decoder: Decoder,
    params: Params,
    key: Array,
    prompts: Array,
    lengths: Array,
    *,
    num_proposals: int,
    num_simulations: int,
    max_new_tokens: int,
    max_step_tokens: int,
    max_steps: int,
    temperature: float | Array = 1.0,
) -> Solutions:
    """Decides step by step, each by a tree of steps that the model proposes, in which values count.

    A text that ends earns what the value head says of it with all but its end written, which is what learning by
    rewards teaches the head, and one that the budget ends earns nothing.

    Args:
        decoder: a decoder with a value head.
        params: its parameters.
        key: is consumed.
        prompts: [B, P] int32, each beginning at the left.
        lengths: [B] int32, from 1.
        num_proposals: K, made at every node.
        num_simulations: nodes of a tree besides its root.
        max_new_tokens: N.
        max_step_tokens: S; a longer step goes on as another.
        max_steps: T.
        temperature: at which steps are proposed.
    """
    step_key, tree_key = jax.random.split(key)
    advance, root = make_token_model(
        decoder, params, prompts, lengths, max_new_tokens=max_new_tokens, stop_tokens=(END,)
    )
    advance, root = _record_proposals(
        *make_step_model(
            *_reward_at_end(advance, root),
            step_key,
            num_proposals=num_proposals,
            max_step_tokens=max_step_tokens,
            stop_tokens=STEP_ENDS,
            temperature=temperature,
        )
    )
    found = plan_by_tree(
        advance, root, tree_key, num_simulations=num_simulations, max_steps=max_steps, cost_fn=_count_tree_tokens
    )
    taken, proposed = found.extras
    tokens, length = concat_steps(found._replace(extras=taken))
    tokens = jnp.pad(jnp.maximum(tokens[:, 0], 0), ((0, 0), (0, max_new_tokens)))[:, :max_new_tokens]
    spent = root[1].extra[1] + found.num_model_calls + length[:, 0] + jnp.sum(proposed[:, 0], axis=1)
    return Solutions(tokens, length[:, 0], spent)


def _reward_at_end(step_fn: StepFn, root: RootOutput) -> tuple[StepFn, RootOutput]:
    """The model whose texts earn, where they end by themselves, what they were worth right before.

    What stands behind an end is never read in training, so nothing is known of its worth.
    """

    def rewarded_step_fn(state: tuple[State, Array], action: Array) -> tuple[tuple[State, Array], StepOutput]:
        inner, worth = state
        inner, outlook = step_fn(inner, action)
        return (inner, outlook.value), outlook._replace(reward=jnp.where(action == END, worth, 0.0))

    state, outlook = root
    return rewarded_step_fn, ((state, outlook.value), outlook)


def _record_proposals(step_fn: StepFn, root: RootOutput) -> tuple[StepFn, RootOutput]:
    """The model over steps, which notes beside each step how many tokens it then proposed."""

    def add_num_proposed(state: StepState, step_output: StepOutput) -> RootOutput:
        return state, step_output._replace(extra=(step_output.extra, jnp.sum(state.proposals.length, axis=1)))

    return lambda state, action: add_num_proposed(*step_fn(state, action)), add_num_proposed(*root)


def _count_tree_tokens(output: TreeSearchOutput) -> Array:
    """[B] int32, the tokens that a tree wrote: at every node but the root those of the step taken and of proposals."""
    tree = output.search_tree
    proposed = tree.embeddings[0].proposals.length
    parent, action = jnp.maximum(tree.parents, 0), jnp.maximum(tree.action_from_parent, 0)
    taken = jnp.take_along_axis(jnp.take_along_axis(proposed, parent[:, :, None], axis=1), action[:, :, None], axis=2)
    grown = (tree.node_visits > 0) & (jnp.arange(proposed.shape[1]) > 0)[None]
    return jnp.sum(jnp.where(grown, taken[:, :, 0] + jnp.sum(proposed, axis=2), 0), axis=1)
