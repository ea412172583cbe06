"""Monte Carlo tree search through mctx: which action is worth taking, found by trying what would follow.

Axes: B problems, A actions, T steps, M nodes of a tree (one more than simulations).
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mctx

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
from thinking.types import Array, State

TreePolicy = Callable[..., mctx.PolicyOutput]
"""How a tree grows and what is chosen from it: a policy of mctx, perhaps with options bound by `functools.partial`."""

gumbel: TreePolicy = mctx.gumbel_muzero_policy
"""Planning with Gumbel (Danihelka et al. 2022): the choice is an improvement however few simulations there are. Of many
actions, a large vocabulary, only the likeliest `max_num_considered_actions` after noise are tried, 16 by default."""

muzero: TreePolicy = mctx.muzero_policy
"""MuZero (Schrittwieser et al. 2020): the choice is sampled by visits. For the most visited and no noise bind
`temperature=0.0` and `dirichlet_fraction=0.0`."""


Node = tuple[State, Array]
"""What the tree keeps of a node: leaves [B, ...], and [B] bool whether it has ended."""


class TreeSearchOutput(NamedTuple):
    """What a tree says of its root.

    Attributes:
        action: [B] int32, the choice.
        action_weights: [B, A] float32, the improved probabilities of all actions, from which expert iteration learns.
        value: [B] float32, what the root is worth now that it was searched.
        search_tree: mctx's tree, arrays [B, M, ...]; its embeddings are pairs of a state and whether it has ended.
        num_model_calls: [B] int32, calls of `advance`: the simulations, or none where the root has ended.
    """

    action: Array
    action_weights: Array
    value: Array
    search_tree: mctx.Tree
    num_model_calls: Array


CostFn = Callable[[TreeSearchOutput], Array]
"""`cost(decision) -> [B] int32`, what a decision and the step taken by it are counted for."""


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
    """One decision. Values are of the rewards to come, of any sign and size; an ended state's is not read.

    Without rewards every end would thus be shunned: wrap such a model so that an end earns its value.

    The tree keeps the state of every node, M times the memory of the root's: it should be small, a buffer of tokens
    rather than a long cache. Forbidden actions, of logit -inf, are never tried.

    Args:
        step_fn: the model.
        root: of B problems.
        key: is consumed.
        num_simulations: how many nodes are tried, each by one call of `step_fn`.
        policy: how the tree grows.
        max_depth: the most actions from the root to a node; if not given, there is no limit but the simulations.
        discount: of rewards.
    """
    depth = num_simulations if max_depth is None else max_depth
    problems, actions = check_root("tree_search", root, num_simulations=num_simulations, max_depth=depth)
    state, outlook = root
    logits = jnp.where(outlook.done[:, None], 0.0, outlook.logits)

    pack, unpack = _make_packing(state)

    def recurrent_fn(_, __, action: Array, node: Node) -> tuple[mctx.RecurrentFnOutput, Node]:
        packed, over = node
        state, outlook = step_fn(unpack(packed), action)
        check_step_output("the output of step_fn", outlook, (problems, actions))
        # What mctx grows below an ended state counts for nothing.
        going = ~over & ~outlook.done
        answer = mctx.RecurrentFnOutput(
            reward=jnp.where(over, 0.0, outlook.reward),
            discount=jnp.where(going, discount, 0.0),
            prior_logits=jnp.where(going[:, None], outlook.logits, 0.0),
            value=jnp.where(going, outlook.value, 0.0),
        )
        return answer, (pack(state), ~going)

    grown = policy(
        params=(),
        rng_key=key,
        root=mctx.RootFnOutput(prior_logits=logits, value=outlook.value, embedding=(pack(state), outlook.done)),
        recurrent_fn=recurrent_fn,
        num_simulations=num_simulations,
        invalid_actions=jnp.isneginf(logits),
        max_depth=depth,
    )
    return TreeSearchOutput(
        action=grown.action.astype(jnp.int32),
        action_weights=grown.action_weights,
        value=grown.search_tree.summary().value,
        search_tree=grown.search_tree.replace(embeddings=_unpack_nodes(grown.search_tree.embeddings, unpack)),
        num_model_calls=jnp.where(outlook.done, 0, num_simulations),
    )


def _make_packing(state: State) -> tuple[Callable[[State], State], Callable[[State], State]]:
    """Functions that make one array [R, F] for each dtype of a state's leaves [R, ...], and the leaves again.

    A tree reads and writes one node of each row at a time, which costs a CPU as much for a small array as for a large
    one: of a cache with 20 leaves that was more than the model's own work.
    """
    leaves, structure = jax.tree.flatten(state)
    kinds = [jnp.asarray(leaf).dtype for leaf in leaves]
    shapes = [jnp.shape(leaf)[1:] for leaf in leaves]
    places = {kind: [i for i, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)}
    ends = {kind: list(itertools.accumulate(math.prod(shapes[i]) for i in at)) for kind, at in places.items()}

    def pack(state: State) -> State:
        leaves = [leaf.reshape(len(leaf), -1) for leaf in map(jnp.asarray, jax.tree.leaves(state))]
        return [jnp.concatenate([leaves[i] for i in at], axis=1) for at in places.values()]

    def unpack(packed: State) -> State:
        leaves = dict[int, Array]()
        for together, (kind, at) in zip(packed, places.items(), strict=True):
            for i, part in zip(at, jnp.split(together, ends[kind][:-1], axis=1), strict=True):
                leaves[i] = part.reshape(len(part), *shapes[i])
        return structure.unflatten([leaves[i] for i in range(len(shapes))])

    return pack, unpack


def _unpack_nodes(embeddings: Node, unpack: Callable[[State], State]) -> Node:
    """The states of all nodes, leaves [B, M, ...]; nothing is computed where nobody looks at them."""
    packed, ended = embeddings
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), packed)
    return jax.tree.map(lambda leaf: leaf.reshape(*ended.shape, *leaf.shape[1:]), unpack(flat)), ended


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
    cost_fn: CostFn = lambda decision: decision.num_model_calls + 1,
) -> Candidates:
    """Decides by a new tree at every step: one candidate, `N = 1`.

    Args:
        step_fn: the model.
        root: of B problems.
        key: is consumed.
        num_simulations: for every step, which costs one call of `step_fn` more.
        max_steps: T; `(num_simulations + 1) * max_steps` is the most calls of `step_fn` for a problem.
        policy: how trees grow.
        max_depth: the most actions from a tree's root to a node.
        discount: of rewards.
        cost_fn: of a decision, summed as `spent`; by default in calls of `step_fn`.
    """
    problems, _ = check_root("plan_by_tree", root, num_simulations=num_simulations, max_steps=max_steps)

    def step(time: Array, search_state: SearchState) -> SearchState:
        decision = tree_search(
            step_fn,
            (search_state.state, search_state.step_output._replace(done=search_state.paths.done)),
            jax.random.fold_in(key, time),
            num_simulations=num_simulations,
            policy=policy,
            max_depth=max_depth,
            discount=discount,
        )

        def step_with_cost(state: State, action: Array) -> tuple[State, StepOutput]:
            # The cost is kept as the candidates' notes are, and so until each path's end.
            state, outlook = step_fn(state, action)
            return state, outlook._replace(extra=(outlook.extra, cost_fn(decision)))

        return take_actions(step_with_cost, time, search_state, decision.action)

    state, outlook = root
    root = state, outlook._replace(extra=(outlook.extra, jnp.zeros(problems, jnp.int32)))
    found = to_candidates(run_search(step, init_search(root, 1, max_steps), max_steps), problems)
    notes, costs = found.extras
    return found._replace(extras=notes, num_model_calls=jnp.sum(costs[:, 0], axis=1))
