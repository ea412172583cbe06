"""The environments, by name."""

from typing import NamedTuple

from thinking.environment import Environment
from thinking.environments.aliased_graph import make_aliased_graph, make_aliased_graph_env
from thinking.environments.control import make_env
from thinking.environments.partial_observation import PartialObservation
from thinking.environments.t_maze import NUM_ACTIONS, OBSERVATION_DIM, TMaze
from thinking.errors import name_flags
from thinking.recipes.rl_memory.config import Config
from thinking.types import Discrete, Space

CART_POLE = make_env("CartPole-v1")
_POSITIONS = (0, 2)
"""Indices of the cart's position and the pole's angle in an observation of a cart pole."""
_LIMITS = (2.4, 0.21)
"""Limits of position and angle; beyond them an episode ends."""


class EnvSpec(NamedTuple):
    """An environment to train in, and the sizes that its policies need.

    Attributes:
        env: the environment.
        observation_dim: numbers of an observation.
        action_space: of the policy.
    """

    env: Environment
    observation_dim: int
    action_space: Space


def make_env_spec(config: Config) -> EnvSpec:
    """The environment of the config. The aliased graph is that of the first seed.

    Raises:
        UserError: no goal of the aliased graph can be reached.
    """
    match config.env.name:
        case "cart_pole":
            env = PartialObservation(CART_POLE, _POSITIONS, _LIMITS)
            return EnvSpec(env, len(_POSITIONS), CART_POLE.action_space)
        case "t_maze":
            return EnvSpec(TMaze(config.env.corridor), OBSERVATION_DIM, Discrete(NUM_ACTIONS))
    num_nodes, edge_probability = config.env.num_nodes, config.env.edge_probability
    graph = make_aliased_graph(num_nodes // 2, num_nodes // 4, edge_probability, config.seed)
    with name_flags(graph=f"--env.edge-probability {edge_probability}, --seed {config.seed}"):
        env = make_aliased_graph_env(graph)
    return EnvSpec(env, env.observation_dim, Discrete(graph.num_observations))
