"""How thoughts before text are learned: by what they add to the probability of the text that follows.

Nobody shows a thought. A model thinks several times before the same text and is told of each thought how likely the
true text became behind it, as in Quiet-STaR (Zelikman et al. 2024), measured against a frozen model that does not
think.

Axes: N tokens of the corpus, B windows of a step, G thoughts of each, C tokens of a context, M that follow.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.learning.policy_gradient import masked_mean
from thinking.learning.returns import group_advantages
from thinking.reasoning.thoughts.before_text import Manner, Said
from thinking.train_state import RunnerState, apply_gradients
from thinking.types import Array, Metrics, Params

Credit = Callable[[Array, int], Array]
"""`credit(gain [B G], group) -> [B G]`, how much likelier each thought should become, group by group."""


class Practice(NamedTuple):
    """What a step learns from, and how.

    Attributes:
        context: C.
        ahead: M.
        batch: B.
        credit: what thoughts learn; None: nothing, they are given.
        group: G.
        entropy_weight: weight of the entropy bonus.
    """

    context: int
    ahead: int
    batch: int
    credit: Credit | None = None
    group: int = 1
    entropy_weight: float = 0.0


def by_group(gain: Array, group: int) -> Array:
    """How much better a thought did than the others of its window, which it is reinforced by (Shao et al. 2024).

    What the reference says is the same for a whole group and falls out; where a thought has no others, it is told from
    the thoughts of all windows, and the reference alone says which windows are hard.
    """
    return group_advantages(gain, group if group > 1 else len(gain))


def by_best(gain: Array, group: int) -> Array:
    """1 for the best thought of each window if it beat the reference, else 0: what is imitated.

    That is expert iteration (Anthony et al. 2017), or STaR (Zelikman et al. 2022) with a likelihood for an answer.

    Args:
        gain: [B G] over the reference.
        group: G.
    """
    grouped = gain.reshape(-1, group)
    best = jax.nn.one_hot(jnp.argmax(grouped, axis=1), group) * (grouped > 0)
    return best.reshape(-1)


def windows_of_step(tokens: Array, key: Array, batch: int, length: int) -> Array:
    """[B, length] parts of a text [N] from anywhere; consumes the key."""
    first = jax.random.randint(key, (batch,), 0, len(tokens) - length + 1)
    return tokens[first[:, None] + jnp.arange(length)[None]]


def policy_loss(said: Said, credit: Array) -> Array:
    """[] the loss whose descent makes thoughts likelier by their credit [B], or less likely where it is below 0."""
    return -masked_mean(jnp.sign(credit)[:, None] * said.thought, said.chosen * jnp.abs(credit)[:, None])


def thinking_step(
    thinker: Manner, judge: Manner, optimizer: optax.GradientTransformation, tokens: Array, how: Practice
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]:
    """`step(state, index) -> (state, metrics)`, a pure function of both.

    A model learns the context as any language model does, and what follows behind the thoughts that it had itself;
    what follows weighs as much as all of the context. Of two models the same step reads the same windows.

    Args:
        thinker: what learns.
        judge: how the reference reads. The state has its parameters, or () where nothing is judged.
        optimizer: an optax transformation.
        tokens: [N] int32, of the corpus.
        how: to learn.
    """

    def step(state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        window_key, think_key = jax.random.split(jax.random.fold_in(state.key, index))
        window = windows_of_step(tokens, window_key, how.batch, how.context + how.ahead)
        contexts, following = jnp.split(jnp.repeat(window, how.group, axis=0), [how.context], axis=1)
        thought = thinker.think(state.train_state.params, think_key, contexts)
        reference = _judged(judge, state.reference, window, how)

        def loss(params: Params) -> tuple[Array, Metrics]:
            said = thinker.read(params, contexts, thought, following)
            context, ahead = -jnp.mean(said.context) / (how.context - 1), -jnp.mean(said.following) / how.ahead
            total, metrics = context + ahead, {"loss": ahead, "context_loss": context}
            gain = jax.lax.stop_gradient(said.following) - reference
            if jax.tree.leaves(state.reference):
                metrics |= {"gain": jnp.mean(gain)}
            if how.credit is not None:
                policy, entropy = policy_loss(said, how.credit(gain, how.group)), masked_mean(said.entropy, said.chosen)
                total += policy - how.entropy_weight * entropy
                length = jnp.mean(thought.length.astype(jnp.float32)) - 1  # without its end
                metrics |= {"policy_loss": policy, "entropy": entropy, "thought_tokens": length}
            return total, metrics

        gradients, metrics = jax.grad(loss, has_aux=True)(state.train_state.params)
        metrics |= {"gradient_norm": optax.tree.norm(gradients)}
        return state._replace(train_state=apply_gradients(state.train_state, optimizer, gradients)), metrics

    return step


def _judged(judge: Manner, reference: Any, window: Array, how: Practice) -> Array:
    """[B G] how likely what follows is to the reference, in nats; 0 where there is none."""
    if not jax.tree.leaves(reference):
        return jnp.zeros(how.batch * how.group)
    contexts, following = jnp.split(window, [how.context], axis=1)
    nothing = judge.think(reference, jax.random.key(0), contexts)
    return jnp.repeat(judge.read(reference, contexts, nothing, following).following, how.group)
