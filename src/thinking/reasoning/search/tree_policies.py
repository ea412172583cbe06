"""Policies of a tree search, with the signature of mctx's.

They decide: without options nothing is drawn, so equal trees give equal actions. Data for training need exploration,
which is an option of each.

Axes: B problems, A actions, M nodes of a tree.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mctx

from thinking.generation.sampling import split_by_row
from thinking.types import Array

TreePolicy = Callable[..., mctx.PolicyOutput]
"""`policy(params, rng_key, root, recurrent_fn, num_simulations, invalid_actions, max_depth) -> mctx.PolicyOutput`."""

complete_unscaled = partial(mctx.qtransform_completed_by_mix_value, rescale_values=False)
"""Of `gumbel`, for values that are in [0, 1] already and learned, so that the prior counts beside them."""


def complete_by_tree(tree: mctx.Tree, node: Array) -> Array:
    """[A] values of a node's actions for `gumbel`, in units of the range of all values in the tree, times 50 or more.

    At the root, where all considered actions are visited anyway, that is the scale of the paper for games of perfect
    information (`c_scale` 1); below it is a tenth, which leaves other actions some visits.

    mctx's own transformation stretches the values of each node to [0, 1]. Then any difference outweighs the prior, be
    it the noise of a value head, and what a node found first keeps all visits.
    """
    value_scale = jnp.where(node == tree.ROOT_INDEX, 1.0, 0.1)
    values = complete_unscaled(tree, node, value_scale=value_scale)
    return (values - jnp.min(values)) / _value_range(tree)[1]


def normalize_by_tree(tree: mctx.Tree, node: Array) -> Array:
    """[A] values of a node's actions for `muzero`, scaled to [0, 1] by the range of all values in the tree.

    So it stands in the paper (appendix B). mctx's own transformation takes the range of each node, and counts an
    action that is not visited as the worst: the first that exceeds the value of its node counts 1 and all others 0, so
    it is visited again and again, and the optimum of small known trees is missed. Here an action that is not visited
    counts as its node (first-play urgency).
    """
    low, value_range = _value_range(tree)
    values = jnp.where(tree.children_visits[node] > 0, tree.qvalues(node), tree.node_values[node])
    return (values - low) / value_range


def _value_range(tree: mctx.Tree) -> tuple[Array, Array]:
    """The lowest value that the tree knows, of its root and of all actions visited before an end, and their range.

    The range is more than the rounding of the values.
    """
    parent, action = tree.parents, tree.action_from_parent  # by node: fewer than there are actions of all nodes
    discount = tree.children_discounts[parent, action]
    values = tree.children_rewards[parent, action] + discount * tree.node_values
    is_below_end = (discount[parent] == 0) & (parent != tree.ROOT_INDEX)
    is_known, root = (parent >= 0) & ~is_below_end, tree.raw_values[tree.ROOT_INDEX]
    low = jnp.minimum(jnp.min(values, where=is_known, initial=jnp.inf), root)
    high = jnp.maximum(jnp.max(values, where=is_known, initial=-jnp.inf), root)
    return low, jnp.maximum(high - low, 1e-4 * jnp.maximum(jnp.abs(low), jnp.abs(high)) + 1e-8)


def gumbel(
    params: Any,
    rng_key: Array,
    root: mctx.RootFnOutput,
    recurrent_fn: mctx.RecurrentFn,
    num_simulations: int,
    invalid_actions: Array,
    max_depth: int,
    *,
    gumbel_scale: float | Array = 0.0,
    max_num_considered_actions: int = 16,
    qtransform: Callable[..., Array] = complete_by_tree,
) -> mctx.PolicyOutput:
    """Gumbel MuZero (Danihelka et al. 2022), a policy improvement for any number of simulations.

    Of the actions visited, it takes that of the highest noise, logit and value of its best path together. While there
    are fewer simulations than actions to consider, those not visited take part, with the value that is expected of
    them: so a single simulation that disappoints changes the action.

    Args:
        params: handed to `recurrent_fn`.
        rng_key: of the noise; one, or [B]. Consumed.
        root: of B problems.
        recurrent_fn: the model.
        num_simulations: expanded nodes.
        invalid_actions: [B, A] bool.
        max_depth: of the tree.
        gumbel_scale: scale of the noise; 1 explores, as data for training need it.
        max_num_considered_actions: root actions that are visited, those of highest logit and noise.
        qtransform: of mctx, for values; `complete_unscaled` where they are in [0, 1].
    """
    logits = _mask_logits(root.prior_logits, invalid_actions)
    keys = split_by_row(rng_key, len(logits))
    noise = gumbel_scale * jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys)
    tree = mctx.search(
        params=params,
        rng_key=jax.random.key(0),  # unused: neither selection draws anything
        root=root.replace(prior_logits=logits),
        recurrent_fn=recurrent_fn,
        root_action_selection_fn=partial(
            mctx.gumbel_muzero_root_action_selection,
            num_simulations=num_simulations,
            max_num_considered_actions=max_num_considered_actions,
            qtransform=qtransform,
        ),
        interior_action_selection_fn=partial(mctx.gumbel_muzero_interior_action_selection, qtransform=qtransform),
        num_simulations=num_simulations,
        max_depth=max_depth,
        invalid_actions=invalid_actions,
        extra_data=mctx.GumbelMuZeroExtraData(root_gumbel=noise),
    )
    values = jax.vmap(qtransform, (0, None))(take_best_paths(tree), tree.ROOT_INDEX)
    num_considered = jnp.minimum(max_num_considered_actions, jnp.sum(~invalid_actions, axis=1, keepdims=True))
    takes_part = (tree.summary().visit_counts > 0) | (num_simulations < num_considered)
    scores = jnp.where(takes_part & ~invalid_actions, noise + logits + values, -jnp.inf)
    return mctx.PolicyOutput(
        action=jnp.argmax(scores, axis=1),
        action_weights=jax.nn.softmax(jnp.where(invalid_actions, -jnp.inf, logits + values)),
        search_tree=tree,
    )


def muzero(
    params: Any,
    rng_key: Array,
    root: mctx.RootFnOutput,
    recurrent_fn: mctx.RecurrentFn,
    num_simulations: int,
    invalid_actions: Array,
    max_depth: int,
    *,
    temperature: float = 0.0,
    dirichlet_fraction: float | Array = 0.0,
    dirichlet_alpha: float = 0.3,
    qtransform: Callable[..., Array] = normalize_by_tree,
) -> mctx.PolicyOutput:
    """MuZero (Schrittwieser et al. 2020), which visits by an upper confidence bound.

    It decides for the first action of the best path that the tree knows. The paper takes the most visited action, which
    suits means over chances and noise, and misses the optimum of small known trees.

    Args:
        params: handed to `recurrent_fn`.
        rng_key: of all draws; one, or [B]. Consumed.
        root: of B problems.
        recurrent_fn: the model.
        num_simulations: expanded nodes.
        invalid_actions: [B, A] bool.
        max_depth: of the tree.
        temperature: 0 decides; above, actions are sampled by `visits ** (1 / temperature)`.
        dirichlet_fraction: share of noise in the root's prior; 0.25 explores, as data for training need it.
        dirichlet_alpha: concentration of the noise.
        qtransform: of mctx, for values, to [0, 1].
    """
    keys = jax.vmap(jax.random.split)(split_by_row(rng_key, len(root.prior_logits)))
    probs = jax.nn.softmax(_mask_logits(root.prior_logits, invalid_actions))
    alpha = jnp.full(probs.shape[1], dirichlet_alpha)
    noise = jax.vmap(lambda key: jax.random.dirichlet(key, alpha))(keys[:, 0])
    probs = (1 - dirichlet_fraction) * probs + dirichlet_fraction * noise
    # A constant key breaks ties in the same way whatever the other problems are.
    select = partial(mctx.muzero_action_selection, jax.random.key(0), qtransform=qtransform)
    tree = mctx.search(
        params=params,
        rng_key=jax.random.key(0),
        root=root.replace(prior_logits=_mask_logits(jnp.log(probs), invalid_actions)),
        recurrent_fn=recurrent_fn,
        root_action_selection_fn=lambda _, tree, node: select(tree, node, 0),
        interior_action_selection_fn=lambda _, tree, node, depth: select(tree, node, depth),
        num_simulations=num_simulations,
        max_depth=max_depth,
        invalid_actions=invalid_actions,
    )
    summary = tree.summary()
    best = take_best_paths(tree).summary()
    action = jnp.argmax(jnp.where(best.visit_counts > 0, best.qvalues, -jnp.inf), axis=1)
    if temperature > 0:
        action = jax.vmap(jax.random.categorical)(keys[:, 1], jnp.log(summary.visit_probs) / temperature)
    return mctx.PolicyOutput(action=action, action_weights=summary.visit_probs, search_tree=tree)


def take_best_paths(tree: mctx.Tree) -> mctx.Tree:
    """The tree with the actions of its root worth the best path known through each, instead of the mean of all.

    Means suit chance; where steps are certain, they blame an action for all that was tried after it. A node is worth
    its best action, and its own value stands for those not visited.
    """
    is_visited = tree.children_visits > 0
    is_unknown = ~is_visited & (tree.children_prior_logits > jnp.finfo(tree.children_prior_logits.dtype).min)
    own_value = jnp.where(jnp.any(is_unknown, axis=2) | ~jnp.any(is_visited, axis=2), tree.raw_values, -jnp.inf)
    num_nodes = own_value.shape[1]

    def child_values(node: Array | int, values: Array) -> Array:
        return jnp.take_along_axis(values, jnp.maximum(tree.children_index[:, node], 0), axis=1)

    def revise(step: Array, values: Array) -> Array:
        node = num_nodes - 1 - step  # children have higher numbers
        known = tree.children_rewards[:, node] + tree.children_discounts[:, node] * child_values(node, values)
        best = jnp.max(known, axis=1, where=is_visited[:, node], initial=-jnp.inf)
        return values.at[:, node].set(jnp.maximum(best, own_value[:, node]))

    values = jax.lax.fori_loop(0, num_nodes, revise, tree.raw_values)
    root = tree.ROOT_INDEX
    return tree.replace(children_values=tree.children_values.at[:, root].set(child_values(root, values)))


def _mask_logits(logits: Array, invalid_actions: Array) -> Array:
    """Logits up to 0, and finite even where every action is invalid."""
    logits = logits - jnp.max(logits, axis=1, keepdims=True)
    return jnp.where(invalid_actions, jnp.finfo(logits.dtype).min, logits)
