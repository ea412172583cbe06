"""A pole that a guide balances for a return that one asks for. The page pushes it, and asks for some steps at a time.

The server keeps nothing between requests: the page sends the carry back that came with the step it shows.

Axes: N steps, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from thinking.errors import UserError
from thinking.recipes.cart_pole.trained import ControlGuide
from thinking.types import Array

NUM_STEPS = 25
"""Steps of one answer, half a second."""
STEPS_PER_SECOND = 50
_ENV = "CartPole-v1"
_MAX_CARRY = 4096
_Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class PoleRequest(TypedDict):
    """The state to continue from.

    `target_return` None asks for the highest. `observation` None starts an episode; else it is the present one, with
    what the page has pushed, after `num_steps` steps, and `carry` came with it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    target_return: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None
    observation: Annotated[list[_Number], Field(min_length=4, max_length=4)] | None
    carry: Annotated[list[_Number], Field(max_length=_MAX_CARRY)]
    num_steps: Annotated[int, Field(ge=0, le=1000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


SCHEMA = PoleRequest
"""The schema of a request."""


class Steps(NamedTuple):
    """N steps. `observation` [N, O] is before each, as all but `terminated` are; `carry` [N, C] flat."""

    observation: Array
    sub_goal: Array
    action: Array
    terminated: Array
    carry: Array


class Pole(NamedTuple):
    """A guide that balances a pole.

    Attributes:
        guide: the guide.
        start: `start(seed) -> observation [O]`.
        init_carry: `init_carry(target_return) -> carry [C]`.
        play: `play(target_return, observation, carry, num_steps) -> Steps`.
    """

    guide: ControlGuide
    start: Callable[[Array], Array]
    init_carry: Callable[[Array], Array]
    play: Callable[[Array, Array, Array, Array], Steps]


def open_model(guide: ControlGuide) -> Pole:
    """Prepare a guide.

    Raises:
        UserError: it acts in another environment.
    """
    if guide.config.env.name != _ENV:
        raise UserError(f"--env.name {guide.config.env.name}: the playground has a pole alone, {_ENV}")
    env = guide.env
    simulator, settings = gymnax.make(_ENV)
    _, restore = ravel_pytree(guide.make_policy()[1])

    def init_carry(target_return: Array) -> Array:
        return ravel_pytree(guide.make_policy(target_return)[1])[0]

    def play(target_return: Array, observation: Array, carry: Array, num_steps: Array) -> Steps:
        policy, _ = guide.make_policy(target_return)

        def step(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], Steps]:
            observation, carry, num_steps = state
            returned = num_steps.astype(jnp.float32)[None, None]  # each step is rewarded with 1
            following, action, extras = policy(restore(carry), observation[None, None], returned)
            _, physical, _, terminated, _ = simulator.step_env(
                jax.random.key(0), _make_state(observation, num_steps), action[0, 0], settings
            )
            sub_goal = extras.get("sub_goal", observation[None, None])[0, 0]
            moved = jnp.stack([physical.x, physical.x_dot, physical.theta, physical.theta_dot])
            steps = Steps(observation, sub_goal, action[0, 0], terminated, carry)
            return (moved, ravel_pytree(following)[0], num_steps + 1), steps

        return jax.lax.scan(step, (observation, carry, num_steps), None, length=NUM_STEPS + 1)[1]

    def _make_state(observation: Array, num_steps: Array) -> Any:
        _, state = simulator.reset(jax.random.key(0), settings)
        x, x_dot, theta, theta_dot = observation
        return state.replace(x=x, x_dot=x_dot, theta=theta, theta_dot=theta_dot, time=num_steps)

    return Pole(guide, jax.jit(lambda seed: env.reset(jax.random.key(seed))[1]), jax.jit(init_carry), jax.jit(play))


def describe(pole: Pole) -> dict[str, Any]:
    """The longest episode."""
    return {"max_return": pole.guide.env.max_episode_steps, "steps_per_second": STEPS_PER_SECOND}


def answer(pole: Pole, request: PoleRequest) -> dict[str, Any]:
    """At most `NUM_STEPS` steps, of which the last one tells whether the episode has ended.

    Raises:
        UserError: the carry is none of this model.
    """
    target = jnp.float32(jnp.inf if request["target_return"] is None else request["target_return"])
    if request["observation"] is None:
        observation, carry, num_steps = pole.start(jnp.uint32(request["seed"])), pole.init_carry(target), 0
    else:
        observation, carry = jnp.float32(request["observation"]), jnp.float32(request["carry"])
        num_steps = request["num_steps"]
        expected = pole.init_carry(target).shape
        if carry.shape != expected:
            raise UserError(f"carry of {carry.size} numbers: this model has {expected[0]}")
    steps = jax.device_get(pole.play(target, observation, carry, jnp.int32(num_steps)))
    last = pole.guide.env.max_episode_steps - num_steps
    ends = int(np.argmax(steps.terminated)) + 1 if steps.terminated.any() else NUM_STEPS + 1
    num_shown = max(1, min(ends, last, NUM_STEPS) + 1)
    shown = {name: _to_json(getattr(steps, name)[:num_shown]) for name in ("observation", "sub_goal", "carry")}
    actions = steps.action[:num_shown].tolist()
    return {**shown, "action": actions, "ended": num_shown - 1 >= min(ends, last), "num_steps": num_steps}


def _to_json(numbers: np.ndarray) -> list:
    return np.nan_to_num(numbers.astype(float)).round(5).tolist()
