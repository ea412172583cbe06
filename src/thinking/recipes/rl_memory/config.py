"""Settings of policies with a memory. Free of JAX."""

import dataclasses
from typing import Literal, get_args

from thinking.errors import UserError
from thinking.experiment import Preset, field_error, group, option
from thinking.recipes.groups import OptimizerConfig, SeedsConfig, WidthConfig, check_environment_steps, check_names

NetworkName = Literal["pointwise", "gru", "linear_recurrence", "delta", "memory"]
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """The environment."""

    name: Literal["cart_pole", "t_maze", "aliased_graph"] = option(
        "cart_pole", "CartPole without its velocities, a T-maze, or a graph in which two nodes look alike"
    )
    corridor: int = option(10, "steps of the T-maze's corridor in training", minimum=1, maximum=1000)
    num_nodes: int = option(
        16,
        "nodes of the aliased graph, each of which looks like one other; a quarter as many goal nodes are added",
        minimum=4,
        maximum=1024,
    )
    edge_probability: float = option(0.2, "probability of each directed edge of the aliased graph", above=0, maximum=1)

    def validate(self) -> None:
        """Raises UserError for an odd number of nodes."""
        if self.num_nodes % 2:
            raise field_error("num_nodes", "an even number", suggestion=self.num_nodes - 1)


@dataclasses.dataclass(frozen=True)
class ModelConfig(WidthConfig):
    """Blocks of the actor, and of the critic."""

    num_layers: int = option(1, "blocks", minimum=1, maximum=16)


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimization of whole rows of steps."""

    num_steps: int = option(250_000, "environment steps in all", minimum=1, maximum=2**31 - 1)
    num_envs: int = option(8, "environments side by side", minimum=1, maximum=2**16)
    rollout_length: int = option(32, "steps of each environment between two updates", minimum=1, maximum=2**16)
    num_epochs: int = option(20, "passes over each rollout", minimum=1, maximum=1000)
    num_minibatches: int = option(1, "minibatches of each pass, of whole rows", minimum=1, maximum=2**16)
    entropy_weight: float = option(0.0, "weight of the entropy bonus", minimum=0)
    clip: float = option(0.2, "how far the probability ratio may be from 1 before it is clipped", minimum=0)
    gae_lambda: float = option(0.8, "lambda of generalized advantage estimation", minimum=0, maximum=1)
    discount: float = option(0.98, "discount factor of rewards", above=0, below=1)
    max_gradient_norm: float = option(0.5, "norm to which gradients are clipped", minimum=0)

    def validate(self) -> None:
        """Raises UserError for minibatches that do not divide the rows, and for too many steps."""
        if self.num_envs % self.num_minibatches:
            raise field_error("num_minibatches", f"a divisor of --ppo.num-envs, {self.num_envs}", suggestion=1)
        check_environment_steps("--ppo.num-envs, --ppo.rollout-length", self.num_envs * self.rollout_length)


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    """Which weights are kept: those of the best evaluation in training, the latest of equals."""

    interval: int = option(25, "updates between two evaluations; the last is evaluated too", minimum=1, maximum=10**9)
    num_episodes: int = option(16, "episodes of an evaluation, the same in all", minimum=1, maximum=2**16)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation on new episodes."""

    num_episodes: int = option(100, "episodes of each seed", minimum=1, maximum=10_000)
    factors: tuple[int, ...] = option(
        (1, 2, 10), "corridors of the T-maze, as multiples of the trained one", minimum=1, maximum=1000
    )

    def validate(self) -> None:
        """Raises UserError unless each factor is given once."""
        if not self.factors or len(set(self.factors)) < len(self.factors):
            given = " ".join(map(str, self.factors)) or "without a value"
            raise UserError(f"--eval.factors {given}: give at least one number, each once; take 1 2 10")


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Train policies with and without a memory by PPO, in an environment that hides what they need."""

    seeds: int = option(
        3, "policies of each kind, with seeds --seed, --seed + 1, ..., all trained at once", minimum=1, maximum=64
    )
    networks: tuple[NetworkName, ...] = option(
        ("pointwise", "gru"), "networks to compare; pointwise remembers nothing", affects_weights=False
    )
    env: EnvConfig = group(EnvConfig, "the environment")
    model: ModelConfig = group(ModelConfig, "sizes of all networks")
    ppo: PPOConfig = group(PPOConfig, "proximal policy optimization")
    optimizer: OptimizerConfig = group(OptimizerConfig, "Adam, whose learning rate falls to 0 linearly")
    selection: SelectionConfig = group(
        SelectionConfig, "which weights are kept: those of the best evaluation in training"
    )
    eval: EvalConfig = group(EvalConfig, "evaluation on new episodes", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for seeds beyond the last, and for networks named twice."""
        super().validate()
        check_names(self.networks, "--networks", NETWORKS)


DEFAULT = Config()
# Rewards come at the end alone, so that they reach back further, and actions stay varied for longer.
_T_MAZE_PPO = PPOConfig(200_000, 16, 128, 4, 4, entropy_weight=0.01, gae_lambda=0.95, discount=0.99)
PRESETS = {
    "default": Preset(DEFAULT, "CartPole of which positions alone are seen"),
    "t_maze": Preset(
        dataclasses.replace(DEFAULT, env=EnvConfig("t_maze"), ppo=_T_MAZE_PPO),
        "a T-maze with a corridor of 10 steps, evaluated in corridors of up to 100",
    ),
    "aliased_graph": Preset(
        dataclasses.replace(DEFAULT, env=EnvConfig("aliased_graph"), ppo=_T_MAZE_PPO),
        "a graph of 20 nodes, of which pairs look alike",
    ),
    "quick": Preset(
        dataclasses.replace(
            DEFAULT,
            seeds=1,
            networks=("pointwise", "gru"),
            env=EnvConfig("t_maze", 5),
            model=ModelConfig(32),
            ppo=dataclasses.replace(_T_MAZE_PPO, num_steps=65_536),
            optimizer=OptimizerConfig(0.003),
            eval=EvalConfig(factors=(1, 2)),
        ),
        "a T-maze with a corridor of 5 steps, which needs a memory; less than a minute on two cores",
    ),
    "smoke": Preset(
        dataclasses.replace(
            DEFAULT,
            seeds=1,
            networks=("pointwise", "gru"),
            env=EnvConfig("t_maze", 2),
            model=ModelConfig(16, 2),
            ppo=dataclasses.replace(_T_MAZE_PPO, num_steps=4096, num_envs=8, rollout_length=32),
            eval=EvalConfig(8, (1, 2)),
        ),
        "a T-maze with a corridor of 2 steps, to see that everything runs",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/rl_memory.py",
    "./run_manual.sh local tasks/rl_memory.py --preset t_maze --networks gru linear_recurrence memory",
    "./run_manual.sh local tasks/rl_memory.py --env.name t_maze --env.corridor 20 --seeds 1",
)
