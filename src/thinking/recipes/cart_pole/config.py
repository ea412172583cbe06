"""The config of control by guides and baselines, and its presets. Free of JAX.

A guide is a hierarchical goal-conditioned planner.
"""

import dataclasses
from typing import Literal

from thinking.experiment import Preset, field_error, group, option
from thinking.recipes.groups import OptimizerConfig, SeedsConfig, WidthConfig, check_environment_steps, check_names

Algorithm = Literal["guide", "ppo", "reinforce"]
ALGORITHMS: tuple[Algorithm, ...] = ("guide", "ppo", "reinforce")
Environment = Literal["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
LONGEST_EPISODE = 1000
"""No environment has more steps in Gymnasium."""


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """The environment."""

    name: Environment = option("CartPole-v1", "the environment, as Gymnasium names it")
    episode_limit: int | None = option(
        1000,
        "maximum steps of a training episode of the guide; None: as many as in Gymnasium",
        minimum=1,
        maximum=100_000,
    )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """How trained agents are evaluated."""

    num_episodes: int = option(
        100, "Gymnasium episodes for each seed and each target", minimum=1, maximum=10_000, affects_weights=False
    )
    target_returns: tuple[float, ...] = option(
        (50.0,), "target returns that the trained guide is evaluated for, beside the best", affects_weights=False
    )
    videos: bool = option(True, "write a GIF of an episode for each row of results", affects_weights=False)
    interval: int = option(10, "updates of ppo and reinforce between two evaluations", minimum=1, maximum=10**6)


@dataclasses.dataclass(frozen=True)
class GuideConfig(WidthConfig):
    """The guide: layers of transformers."""

    width: int = option(32, "dimensions of a token in its transformers", minimum=4, maximum=8192)
    num_layers: int = option(2, "layers of the guide; with one there are no sub-goals", minimum=1, maximum=16)
    num_slots: int = option(1, "hypotheses per query", minimum=1, maximum=1024)
    context_length: int = option(1, "states that the guide recalls, the present one included", minimum=1, maximum=1024)
    skip_step: int = option(
        8, "every n-th state of a window is a sub-goal for the layer above: 1 to n steps away", minimum=2, maximum=1024
    )
    score: Literal["monte_carlo", "temporal_difference"] = option("monte_carlo", "how transitions are scored")
    score_rewards: bool = option(
        False, "add discounted rewards to the score; otherwise only the time to the goal counts"
    )
    score_discount: float = option(0.8, "factor on a transition's score for each further step", above=0, below=1)
    value_discount: float = option(0.99, "discount factor of the return that the top layer pursues", above=0, below=1)
    ema_decay: float = option(
        0.99, "decay of the moving average of the weights; the averaged weights act", minimum=0, below=1
    )
    optimizer: OptimizerConfig = group(
        OptimizerConfig(learning_rate=0.003), "Adam, whose learning rate falls to 0 along a cosine"
    )


@dataclasses.dataclass(frozen=True)
class CollectionConfig:
    """How the guide collects episodes and learns from them, in turns."""

    num_iterations: int = option(
        36, "iterations of collecting and training; the first acts at random", minimum=1, maximum=100_000
    )
    num_episodes: int = option(16, "episodes collected at once", minimum=1, maximum=65_536)
    num_initial_rounds: int = option(
        16, "batches of episodes that the first iteration collects", minimum=1, maximum=100_000
    )
    num_rounds: int = option(1, "batches of episodes that every other iteration collects", minimum=1, maximum=100_000)
    random_fraction: float = option(0.3, "share of random actions after the first iteration", minimum=0, maximum=1)
    mean_action_duration: float = option(
        1.0, "steps that a random action is held on average", minimum=1, maximum=10_000
    )
    target_fractions: tuple[float, float] = option(
        (0.5, 0.9),
        "lowest target in training, as a share of the best state value: in the first third of iterations, and later",
        minimum=0,
        maximum=1,
    )
    update_return_to_go: bool = option(False, "update the target by the rewards received, as a return-to-go")
    num_updates: int = option(200, "updates in each iteration", minimum=1, maximum=10**6)
    num_windows: int = option(
        24,
        "windows of collected episodes in each update; a guide of one layer gets single transitions instead, as many "
        "as two layers get examples",
        minimum=1,
        maximum=65_536,
    )


@dataclasses.dataclass(frozen=True)
class BufferConfig:
    """The replay buffer of the guide."""

    retention: Literal["best", "newest"] = option("best", "which episodes are kept")
    num_best: int = option(32, "episodes kept for their high return", minimum=1, maximum=65_536)
    num_binned: int = option(
        32, "episodes kept to cover all returns, equally many for each bin", minimum=0, maximum=65_536
    )
    num_return_bins: int = option(16, "equal bins of the return", minimum=0, maximum=65_536)
    best_fraction: float = option(0.85, "share of the windows drawn from the best episodes", minimum=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimization."""

    num_steps: int = option(150_000, "environment steps in all", minimum=1, maximum=2**31 - 1)
    num_envs: int = option(4, "environments side by side", minimum=1, maximum=2**20)
    rollout_length: int = option(128, "steps of each environment between two updates", minimum=1, maximum=2**20)
    num_epochs: int = option(4, "passes over each rollout", minimum=1, maximum=1000)
    num_minibatches: int = option(8, "minibatches of each pass", minimum=1, maximum=2**20)
    entropy_weight: float = option(0.01, "weight of the entropy bonus", minimum=0)
    clip: float = option(0.2, "how far the probability ratio may be from 1 before it is clipped", minimum=0)
    clip_values: bool = option(False, "clip the change of values too: slower at first, and steadier later")
    gae_lambda: float = option(0.95, "lambda of generalized advantage estimation", minimum=0, maximum=1)
    optimizer: OptimizerConfig = group(OptimizerConfig, "Adam, whose learning rate falls to 0 linearly")

    def validate(self) -> None:
        """Raises UserError for minibatches that do not divide a rollout."""
        if (steps := self.num_envs * self.rollout_length) % self.num_minibatches:
            raise field_error("num_minibatches", f"a divisor of {steps} steps", suggestion=1)
        check_environment_steps("--ppo.num-envs, --ppo.rollout-length", steps)


@dataclasses.dataclass(frozen=True)
class ReinforceConfig:
    """REINFORCE."""

    num_updates: int = option(200, "updates", minimum=1, maximum=10**9)
    num_episodes: int = option(8, "episodes of each update", minimum=1, maximum=65_536)
    baseline: bool = option(True, "subtract a learned state value from the returns")
    optimizer: OptimizerConfig = group(OptimizerConfig(learning_rate=0.003), "Adam, whose learning rate is constant")


@dataclasses.dataclass(frozen=True)
class PolicyNetConfig:
    """Actor and critic of PPO and REINFORCE, and what both learn by."""

    width: int = option(64, "width of the two hidden layers", minimum=1, maximum=65_536)
    discount: float = option(0.99, "discount factor of rewards", above=0, below=1)
    max_gradient_norm: float = option(0.5, "norm to which gradients are clipped", minimum=0)


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Train a hierarchical guide, PPO or REINFORCE to act in a classic-control environment."""

    seeds: int = option(1, "seeds --seed, --seed + 1, ..., all trained at once", minimum=1, maximum=1024)
    algorithms: tuple[Algorithm, ...] = option(("guide",), "agents to train", affects_weights=False)
    env: EnvConfig = group(EnvConfig, "which environment, and how long its episodes are in training")
    eval: EvalConfig = group(EvalConfig, "episodes in Gymnasium by which agents are evaluated")
    guide: GuideConfig = group(
        GuideConfig, "the guide: its layers of transformers, and how its training examples are scored"
    )
    collection: CollectionConfig = group(
        CollectionConfig, "iterations in which the guide collects episodes and is trained"
    )
    buffer: BufferConfig = group(BufferConfig, "the replay buffer from which the guide learns")
    ppo: PPOConfig = group(PPOConfig, "proximal policy optimization, a baseline")
    reinforce: ReinforceConfig = group(ReinforceConfig, "REINFORCE, a baseline")
    policy_net: PolicyNetConfig = group(
        PolicyNetConfig, "actor and critic networks of PPO and REINFORCE, and what both learn by"
    )

    def validate(self) -> None:
        """Raises UserError for seeds beyond the last, where there is nothing to train, and for too many steps."""
        super().validate()
        check_names(self.algorithms, "--algorithms", ALGORITHMS)
        limit, collection = self.env.episode_limit or LONGEST_EPISODE, self.collection
        if "reinforce" in self.algorithms:
            episodes = self.reinforce.num_updates * self.reinforce.num_episodes
            check_environment_steps("--reinforce.num-updates, --reinforce.num-episodes", episodes * limit)
        if "guide" in self.algorithms:
            rounds = collection.num_initial_rounds + (collection.num_iterations - 1) * collection.num_rounds
            episodes = rounds * collection.num_episodes
            check_environment_steps("--collection.num-iterations, --collection.num-episodes", episodes * limit)


_ACROBOT = Config(
    env=EnvConfig(name="Acrobot-v1", episode_limit=None),
    eval=EvalConfig(target_returns=(-150.0,)),
    # Who swings passes through the same states both ways: a mean sub-goal would stand still, so there is one layer.
    guide=GuideConfig(num_layers=1, width=48, value_discount=0.98),
    collection=CollectionConfig(
        num_iterations=24,
        num_episodes=64,
        num_initial_rounds=2,
        random_fraction=0.1,
        mean_action_duration=2.0,
        target_fractions=(0.5, 0.5),
        num_windows=6,
    ),
    buffer=BufferConfig(best_fraction=1.0),
    ppo=PPOConfig(num_steps=300_000),
)
_MOUNTAIN_CAR = Config(
    env=EnvConfig(name="MountainCar-v0", episode_limit=None),
    eval=EvalConfig(target_returns=(-150.0,)),
    # A goal that chance seldom reaches: random actions are held, and several hypotheses compete by reward.
    guide=GuideConfig(skip_step=4, num_slots=8, score_rewards=True, score_discount=0.9),
    collection=CollectionConfig(
        num_iterations=16,
        num_initial_rounds=8,
        random_fraction=0.1,
        mean_action_duration=12.0,
        target_fractions=(0.5, 0.5),
        update_return_to_go=True,
        num_updates=150,
    ),
    buffer=BufferConfig(best_fraction=0.7),
    ppo=PPOConfig(num_steps=300_000),
)
_PENDULUM = Config(
    env=EnvConfig(name="Pendulum-v1", episode_limit=None),
    eval=EvalConfig(target_returns=()),
    guide=GuideConfig(value_discount=0.95),
    collection=CollectionConfig(num_iterations=20, random_fraction=0.1),
    ppo=PPOConfig(num_steps=500_000, entropy_weight=0.0),
    policy_net=PolicyNetConfig(discount=0.95),
)
_QUICK = Config(
    eval=EvalConfig(num_episodes=10, target_returns=()),
    collection=CollectionConfig(num_iterations=8, num_initial_rounds=8),
)
_SMOKE = Config(
    eval=EvalConfig(num_episodes=2, interval=2),
    guide=GuideConfig(width=16),
    collection=CollectionConfig(num_iterations=2, num_episodes=4, num_initial_rounds=2, num_updates=4, num_windows=4),
    buffer=BufferConfig(num_best=4, num_binned=4, num_return_bins=2),
    ppo=PPOConfig(num_steps=2048),
    reinforce=ReinforceConfig(num_updates=4),
    policy_net=PolicyNetConfig(width=8),
)
PRESETS = {
    "default": Preset(Config(), "the guide balances a pole"),
    "acrobot": Preset(_ACROBOT, "swings up two links"),
    "mountain_car": Preset(_MOUNTAIN_CAR, "drives a car out of a valley"),
    "pendulum": Preset(_PENDULUM, "continuous actions, which the guide does not learn yet"),
    "quick": Preset(_QUICK, "few iterations, for the highest return alone; less than a minute on two cores"),
    "smoke": Preset(_SMOKE, "a tiny run, in seconds; nothing is learned"),
}
EXAMPLES = (
    "./run_manual.sh local tasks/rl_cart_pole.py",
    "./run_manual.sh local tasks/rl_cart_pole.py --eval.target-returns 20 50 200    # once trained: lower returns",
    "./run_manual.sh local tasks/rl_cart_pole.py --algorithms guide ppo reinforce --artifacts artifacts/all",
    "./run_manual.sh local tasks/rl_cart_pole.py --preset acrobot",
)
