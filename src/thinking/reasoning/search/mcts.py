"""Monte Carlo tree search with mctx.

Axes: B problems, A actions, T steps, M nodes of a tree (one more than simulations).
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mctx

from thinking.generation.sampling import fold_in_rows, split_by_row
from thinking.reasoning.search.interface import (
    Candidates,
    RootOutput,
    SearchState,
    StepFn,
    StepOutput,
    check_root,
    check_step_output,
    init_search,
    run_search,
    take_actions,
    to_candidates,
)
from thinking.reasoning.search.tree_policies import TreePolicy, gumbel
from thinking.types import Array, State

Node = tuple[State, Array]
"""Embedding of a node: the model state, leaves [B, ...], and done [B] bool."""


class TreeSearchOutput(NamedTuple):
    """The result of a tree search at its root.

    Attributes:
        action: [B] int32, the selected action.
        action_weights: [B, A] float32, improved policy, the target of expert iteration.
        value: [B] float32, root value after the search.
        search_tree: mctx's tree, arrays [B, M, ...], with embeddings (state, done).
        num_model_calls: [B] int32, number of simulations; 0 where the root is done.
    """

    action: Array
    action_weights: Array
    value: Array
    search_tree: mctx.Tree
    num_model_calls: Array


CostFn = Callable[[TreeSearchOutput], Array]
"""`cost_fn(output) -> [B] int32`, cost of a tree search and of the step that follows it."""


def tree_search(
    step_fn: StepFn,
    root: RootOutput,
    key: Array,
    *,
    num_simulations: int,
    policy: TreePolicy = gumbel,
    max_depth: int | None = None,
    discount: float | Array = 1.0,
) -> TreeSearchOutput:
    """One search from the root. Values estimate future rewards; those of finished states are not read.

    Without rewards, wrap the model so that a terminal state is rewarded with its value; otherwise search avoids
    terminating. The tree keeps the state of each of M nodes, so states should be small. Actions of logit -inf are never
    taken.

    Args:
        step_fn: the model.
        root: of B problems.
        key: consumed; of a policy that explores. One, or [B] for the policies of `tree_policies`.
        num_simulations: expanded nodes, one call of `step_fn` each.
        policy: tree policy; by default a deterministic one, without exploration.
        max_depth: maximum depth of the tree; `num_simulations` by default.
        discount: discount factor.
    """
    depth = num_simulations if max_depth is None else max_depth
    num_problems, num_actions = check_root("tree_search", root, num_simulations=num_simulations, max_depth=depth)
    state, step_output = root
    logits = jnp.where(step_output.done[:, None], 0.0, step_output.logits)

    pack, unpack = _make_packing(state)

    def recurrent_fn(_, __, action: Array, node: Node) -> tuple[mctx.RecurrentFnOutput, Node]:
        packed, is_done = node
        state, step_output = step_fn(unpack(packed), action)
        check_step_output("the output of step_fn", step_output, (num_problems, num_actions))
        # Nodes below a finished state have no reward and no value.
        active = ~is_done & ~step_output.done
        output = mctx.RecurrentFnOutput(
            reward=jnp.where(is_done, 0.0, step_output.reward),
            discount=jnp.where(active, discount, 0.0),
            prior_logits=jnp.where(active[:, None], step_output.logits, 0.0),
            value=jnp.where(active, step_output.value, 0.0),
        )
        return output, (pack(state), ~active)

    policy_output = policy(
        params=(),
        rng_key=key,
        root=mctx.RootFnOutput(prior_logits=logits, value=step_output.value, embedding=(pack(state), step_output.done)),
        recurrent_fn=recurrent_fn,
        num_simulations=num_simulations,
        invalid_actions=jnp.isneginf(logits),
        max_depth=depth,
    )
    return TreeSearchOutput(
        action=policy_output.action.astype(jnp.int32),
        action_weights=policy_output.action_weights,
        value=policy_output.search_tree.summary().value,
        search_tree=policy_output.search_tree.replace(
            embeddings=_unpack_nodes(policy_output.search_tree.embeddings, unpack)
        ),
        num_model_calls=jnp.where(step_output.done, 0, num_simulations),
    )


def _make_packing(state: State) -> tuple[Callable[[State], State], Callable[[State], State]]:
    """Functions (pack, unpack) between leaves [R, ...] and one array [R, F] for each dtype.

    The tree gathers and scatters single nodes, whose cost on a CPU is a constant per array. With a cache of 20 leaves
    it exceeded that of the model.
    """
    leaves, structure = jax.tree.flatten(state)
    dtypes = [jnp.asarray(leaf).dtype for leaf in leaves]
    shapes = [jnp.shape(leaf)[1:] for leaf in leaves]
    indices = {dtype: [i for i, other in enumerate(dtypes) if other == dtype] for dtype in dict.fromkeys(dtypes)}
    ends = {
        dtype: list(itertools.accumulate(math.prod(shapes[i]) for i in positions))
        for dtype, positions in indices.items()
    }

    def pack(state: State) -> State:
        leaves = [leaf.reshape(len(leaf), -1) for leaf in map(jnp.asarray, jax.tree.leaves(state))]
        return [jnp.concatenate([leaves[i] for i in positions], axis=1) for positions in indices.values()]

    def unpack(packed: State) -> State:
        leaves = dict[int, Array]()
        for array, (dtype, positions) in zip(packed, indices.items(), strict=True):
            for i, part in zip(positions, jnp.split(array, ends[dtype][:-1], axis=1), strict=True):
                leaves[i] = part.reshape(len(part), *shapes[i])
        return structure.unflatten([leaves[i] for i in range(len(shapes))])

    return pack, unpack


def _unpack_nodes(embeddings: Node, unpack: Callable[[State], State]) -> Node:
    """The states of all nodes, leaves [B, M, ...]; dead code under jit if unused."""
    packed, done = embeddings
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), packed)
    return jax.tree.map(lambda leaf: leaf.reshape(*done.shape, *leaf.shape[1:]), unpack(flat)), done


def plan_by_tree(
    step_fn: StepFn,
    root: RootOutput,
    key: Array,
    *,
    num_simulations: int,
    max_steps: int,
    policy: TreePolicy = gumbel,
    max_depth: int | None = None,
    discount: float | Array = 1.0,
    cost_fn: CostFn = lambda tree: tree.num_model_calls + 1,
) -> Candidates:
    """A new tree search at every step: one candidate, `N = 1`.

    Args:
        step_fn: the model.
        root: of B problems.
        key: consumed; of a policy that explores. One, or [B].
        num_simulations: of each tree.
        max_steps: T; a problem takes at most `(num_simulations + 1) * max_steps` calls of `step_fn`.
        policy: tree policy.
        max_depth: maximum depth of a tree.
        discount: discount factor.
        cost_fn: cost of a step, summed as `num_model_calls`; calls of `step_fn` by default.
    """
    num_problems, _ = check_root("plan_by_tree", root, num_simulations=num_simulations, max_steps=max_steps)
    keys = split_by_row(key, num_problems)

    def step(step_index: Array, search_state: SearchState) -> SearchState:
        tree = tree_search(
            step_fn,
            (search_state.state, search_state.step_output._replace(done=search_state.paths.done)),
            fold_in_rows(keys, step_index),
            num_simulations=num_simulations,
            policy=policy,
            max_depth=max_depth,
            discount=discount,
        )

        def step_with_cost(state: State, action: Array) -> tuple[State, StepOutput]:
            # Recorded like `extra`, the cost is counted for active paths only.
            state, step_output = step_fn(state, action)
            return state, step_output._replace(extra=(step_output.extra, cost_fn(tree)))

        return take_actions(step_with_cost, step_index, search_state, tree.action)

    state, step_output = root
    root = state, step_output._replace(extra=(step_output.extra, jnp.zeros(num_problems, jnp.int32)))
    candidates = to_candidates(run_search(step, init_search(root, 1, max_steps), max_steps), num_problems)
    extras, costs = candidates.extras
    return candidates._replace(extras=extras, num_model_calls=jnp.sum(costs[:, 0], axis=1))
