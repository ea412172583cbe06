"""Acting in a control world: a hierarchical guide learns to balance a pole, and the usual baselines beside it.

The guide knows no gradient of the reward. It lives, keeps the best of what it lived, and learns of all of that which
state came next on the way to how good a life. Then it is asked for a good one, or for any other. PPO and REINFORCE
train on the same worlds. All are judged in Gymnasium, on episodes that none of them ever saw.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    import jax

    from thinking.environments.control import World
    from thinking.experiment.training import Trained
    from thinking.guide import Guide
    from thinking.networks.actor_critic import Policy
    from thinking.recipes.cart_pole.comparison import Player
    from thinking.recipes.cart_pole.guide_training import Course, Settings

BEGAN = time.monotonic()
Algorithm = Literal["guide", "ppo", "reinforce"]
Environment = Literal["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
ALGORITHMS: tuple[Algorithm, ...] = ("guide", "ppo", "reinforce")


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach a hierarchical guide, PPO or REINFORCE to act in a classic-control world."""

    algorithm: tuple[Algorithm, ...] = option(("guide",), "what to train: guide, ppo, reinforce", affects_weights=False)
    environment: Environment = option("CartPole-v1", "the world, as Gymnasium names it")
    seeds: int = option(1, "seeds trained at once, from --seed on")
    ask: tuple[float, ...] = option(
        (50.0,), "returns to ask the trained guide for, beside the best", affects_weights=False
    )
    test_episodes: int = option(
        100, "Gymnasium episodes for each seed and each return asked for", affects_weights=False
    )
    films: bool = option(True, "write a GIF of an episode of each", affects_weights=False)

    courses: int = option(36, "guide: courses, the first of which is random")
    episodes: int = option(16, "guide: episodes collected at once")
    first_rounds: int = option(16, "guide: how often the first course collects episodes")
    rounds: int = option(1, "guide: how often every other course does")
    random_share: float = option(0.3, "guide: share of random actions after the first course, 0 to 1")
    hold: float = option(1.0, "guide: steps that a random action is held on average")
    ask_from: tuple[float, float] = option(
        (0.5, 0.9), "guide: least share of the best state value that is asked for, in the first third of courses and on"
    )
    paced: bool = option(False, "guide: let the state value that is asked for follow what is gained")
    episode_limit: int | None = option(1000, "guide: steps of a training episode; None: as many as in Gymnasium")
    updates: int = option(200, "guide: updates in each course")
    windows: int = option(24, "guide: windows of lived episodes in each update")
    store: Literal["best", "newest"] = option("best", "guide: which episodes are kept")
    best_places: int = option(32, "guide: places for the best episodes")
    band_places: int = option(32, "guide: places shared by bands of return")
    bands: int = option(16, "guide: bands of return")
    best_share: float = option(0.85, "guide: share of the windows drawn from the best episodes, 0 to 1")
    layers: int = option(2, "guide: layers; one has no sub-goals")
    skip_step: int = option(8, "guide: every so many states is a sub-goal for the layer above")
    score: Literal["monte_carlo", "temporal_difference"] = option("monte_carlo", "guide: how lessons are scored")
    score_reward: bool = option(False, "guide: whether scores count rewards")
    score_discount: float = option(0.8, "guide: what one more step leaves of a lesson's score, 0 to 1")
    value_discount: float = option(0.99, "guide: what one more step leaves of a reward in a state value, 0 to 1")
    width: int = option(32, "guide: dimensions of its transformers")
    heads: int = option(4, "guide: attention heads")
    slots: int = option(1, "guide: hypotheses per question")
    context_length: int = option(1, "guide: states that it recalls, the present one included")
    learning_rate: float = option(0.003, "guide: learning rate, falling to 0 as a cosine")
    average: float = option(
        0.99, "guide: what one more update leaves of the average of weights that acts, 0 to below 1"
    )

    ppo_steps: int = option(150_000, "ppo: environment steps in all")
    ppo_worlds: int = option(4, "ppo: worlds side by side")
    ppo_rollout: int = option(128, "ppo: steps of each world between two updates")
    ppo_epochs: int = option(4, "ppo: passes over each rollout")
    ppo_minibatches: int = option(8, "ppo: parts of each pass")
    ppo_learning_rate: float = option(0.001, "ppo: learning rate, falling to 0 linearly")
    ppo_entropy: float = option(0.01, "ppo: weight of the entropy bonus")
    ppo_clip: float = option(0.2, "ppo: how far a ratio of probabilities may stray from 1")
    gae_lambda: float = option(0.95, "ppo: decay of the advantages, 0 to 1")
    reinforce_updates: int = option(200, "reinforce: updates")
    reinforce_episodes: int = option(8, "reinforce: episodes of each update")
    reinforce_learning_rate: float = option(0.003, "reinforce: learning rate")
    baseline: bool = option(True, "reinforce: take a learned value off the returns")
    discount: float = option(0.99, "ppo and reinforce: what one more step leaves of a reward, 0 to 1")
    policy_width: int = option(64, "ppo and reinforce: width of the two hidden layers")
    clip_norm: float = option(0.5, "ppo and reinforce: the longest gradient")
    judge_every: int = option(10, "ppo and reinforce: updates between two judgements")

    def validate(self) -> None:
        """Raises UserError for values that cannot be trained."""
        least = {"skip_step": 2, "bands": 0, "band_places": 0}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            flag = f"--{field.name.replace('_', '-')} {value}"
            if field.type == "int" and field.name != "seed" and value < least.get(field.name, 1):
                raise UserError(f"{flag}: allowed is a whole number from {least.get(field.name, 1)}")
            if field.name in ("random_share", "best_share", "gae_lambda") and not 0 <= value <= 1:
                raise UserError(f"{flag}: allowed is a number from 0 to 1; take {field.default}")
            if field.name == "average" and not 0 <= value < 1:
                raise UserError(f"{flag}: allowed is a number from 0 to below 1; take {field.default}")
            if field.name in ("score_discount", "value_discount", "discount") and not 0 < value < 1:
                raise UserError(f"{flag}: allowed is above 0 and below 1; take {field.default}")
            if "learning_rate" in field.name and value <= 0:
                raise UserError(f"{flag}: allowed is a number above 0; take {field.default}")
        for name in ("ppo_clip", "clip_norm", "ppo_entropy"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: allowed is a number from 0")
        if not all(0 <= share <= 1 for share in self.ask_from):
            raise UserError(f"--ask-from {self.ask_from[0]} {self.ask_from[1]}: allowed are numbers from 0 to 1")
        if self.episode_limit is not None and self.episode_limit < 1:
            raise UserError(f"--episode-limit {self.episode_limit}: allowed is a whole number from 1, or None")
        if self.hold < 1:
            raise UserError(f"--hold {self.hold}: an action is held for a step at least; take 1")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width}: allowed is a multiple of twice --heads, {2 * self.heads}")
        if (rows := self.ppo_worlds * self.ppo_rollout) % self.ppo_minibatches:
            raise UserError(f"--ppo-minibatches {self.ppo_minibatches}: allowed is a divisor of {rows} steps; take 4")
        if not self.algorithm:
            raise UserError(f"--algorithm: name at least one of {', '.join(ALGORITHMS)}")


PRESETS = {
    "default": Config(),
    # Who swings passes through the same states both ways: a mean sub-goal would stand still, so there is one layer.
    "acrobot": Config(
        environment="Acrobot-v1",
        courses=24,
        episodes=64,
        first_rounds=2,
        random_share=0.1,
        hold=2.0,
        ask=(-150.0,),
        ask_from=(0.5, 0.5),
        episode_limit=None,
        windows=256,
        best_share=1.0,
        layers=1,
        width=48,
        value_discount=0.98,
        ppo_steps=300_000,
    ),
    # A goal that chance seldom reaches: random actions are held, and several hypotheses compete by reward.
    "mountain_car": Config(
        environment="MountainCar-v0",
        courses=16,
        first_rounds=8,
        random_share=0.1,
        hold=12.0,
        ask=(-150.0,),
        ask_from=(0.5, 0.5),
        paced=True,
        episode_limit=None,
        updates=150,
        best_share=0.7,
        skip_step=4,
        slots=8,
        score_reward=True,
        score_discount=0.9,
        ppo_steps=300_000,
    ),
    "pendulum": Config(
        environment="Pendulum-v1",
        courses=20,
        random_share=0.1,
        episode_limit=None,
        ask=(),
        value_discount=0.95,
        discount=0.95,
        ppo_steps=500_000,
        ppo_entropy=0.0,
    ),
    "smoke": Config(
        courses=2,
        episodes=4,
        first_rounds=2,
        updates=4,
        windows=4,
        width=16,
        best_places=4,
        band_places=4,
        bands=2,
        test_episodes=2,
        ppo_steps=2048,
        reinforce_updates=4,
        policy_width=8,
        judge_every=2,
    ),
}


def run(config: Config, run: Run) -> None:
    """Train, judge in Gymnasium, and write what came of it."""
    from thinking.environments import control, gymnasium_evaluation
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.cart_pole import comparison, videos

    world = control.world(config.environment)
    trainers = {"guide": train_guide, "ppo": train_ppo, "reinforce": train_reinforce}
    players = {name: trainers[name](config, run, world) for name in dict.fromkeys(config.algorithm)}
    to_trained = time.monotonic() - BEGAN
    rows = []
    for name, player in players.items():
        for wanted in player.asks:
            played = player.play(wanted, config.test_episodes)
            returns, episode = gymnasium_evaluation.judge(world, *played, config.seeds, config.test_episodes)
            rows.append(comparison.row(name, wanted, player, returns, gymnasium_evaluation.reward_threshold(world)))
            if config.films:
                asked = "" if wanted is None else f"_asked_{wanted:g}"
                title = f"{name}, {world.name}" + ("" if wanted is None else f", asked for {wanted:g}")
                videos.film(run.folder / "videos" / f"{name}{asked}.gif", world, episode, title)
    plots.learning_curves(run, ["return", "training_return"])
    curves = {name: (player.history[:, :, 0], player.history[:, :, 1]) for name, player in players.items()}
    labels = "environment steps", "return of test episodes"
    plots.spread(run.plots / "returns.png", curves, *labels, gymnasium_evaluation.reward_threshold(world))
    write_results(
        run,
        rows,
        {name: player.trained.state for name, player in players.items()},
        train_seconds={name: player.trained.seconds for name, player in players.items()},
        compile_seconds={name: player.trained.compile_seconds for name, player in players.items()},
        seconds_from_command_to_trained=to_trained,
        reward_threshold=gymnasium_evaluation.reward_threshold(world),
    )


def keys_of(config: Config) -> jax.Array:
    """A key for each seed."""
    import jax
    import jax.numpy as jnp

    return jax.vmap(jax.random.key)(jnp.arange(config.seeds, dtype=jnp.uint32) + jnp.uint32(config.seed))


def teach(config: Config, run: Run, stage: str, init: Callable, step: Callable, steps: int, chunk: int) -> Trained:
    """Train all seeds at once; the metrics are means over them."""
    import jax
    import jax.numpy as jnp

    from thinking.experiment.training import train

    def together(state: Any, index: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        state, metrics = jax.vmap(step, (0, None))(state, index)
        return state, jax.tree.map(jnp.mean, metrics) | {"return_std": jnp.std(metrics["return"])}

    def begin() -> Any:
        return jax.jit(jax.vmap(init))(keys_of(config))

    return train(run, stage, init=begin, step=together, steps=steps, chunk=chunk, watch="return")


def curriculum(config: Config) -> list[Course]:
    """The courses: at random first, then asking the guide of the course before, at last for nearly the best alone."""
    from thinking.recipes.cart_pole.guide_training import Course

    def course(number: int) -> Course:
        if number == 0:
            return Course(config.first_rounds, 1.0)
        early = number <= config.courses // 3
        return Course(config.rounds, config.random_share, (config.ask_from[0 if early else 1], 1.0))

    return [course(number) for number in range(config.courses)]


def course_settings(config: Config) -> Settings:
    """How the courses are held."""
    from thinking.learning.replay_buffer import Keeping
    from thinking.recipes.cart_pole.guide_training import Settings

    return Settings(
        episodes=config.episodes,
        updates=config.updates,
        windows=config.windows,
        window=max(2, config.skip_step ** (config.layers - 1) + 1),
        places=config.best_places + config.band_places,
        keeping=Keeping(config.best_places, config.bands, config.store == "best"),
        best_share=config.best_share,
        discount=config.value_discount,
        hold=config.hold,
        paced=config.paced,
        average=config.average,
    )


def build_guide(config: Config, world: World) -> Guide:
    """The layers: a state value becomes a sub-goal, that a nearer one, and the last an action."""
    import optax

    from thinking import kernels
    from thinking.guide import abstraction, guide, monte_carlo, temporal_difference

    schedule = optax.cosine_decay_schedule(config.learning_rate, config.courses * config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def layer(value: kernels.Space, target: kernels.Space) -> kernels.Kernel:
        return kernels.transformer(
            input=world.observation,
            value=value,
            target=target,
            optimizer=optimizer,
            context_length=config.context_length,
            width=config.width,
            heads=config.heads,
            slots=config.slots,
        )

    seen, worth = world.observation, kernels.Box(1)
    layers = [layer(world.action, worth)]
    if config.layers > 1:
        middle = [layer(seen, seen)] * (config.layers - 2)
        layers = [layer(world.action, seen), *middle, layer(seen, worth)]
    score = {"monte_carlo": monte_carlo, "temporal_difference": temporal_difference}[config.score]
    scoring = score(config.score_discount, reward=config.score_reward)
    return guide(layers=layers, abstraction=abstraction.skip_step(config.skip_step), scoring=scoring)


def train_guide(config: Config, run: Run, world: World) -> Player:
    """The guide, course by course."""
    from thinking.environments import control
    from thinking.recipes.cart_pole.agent import Actor, player
    from thinking.recipes.cart_pole.comparison import Player
    from thinking.recipes.cart_pole.guide_training import beginner, learner

    world = control.world(world.name, config.episode_limit)
    guide, courses, settings = build_guide(config, world), curriculum(config), course_settings(config)
    trained = teach(
        config,
        run,
        "guide",
        lambda key: beginner(world, guide, courses, settings, key),
        learner(world, guide, courses, settings),
        config.courses * config.updates,
        max(1, config.updates // 2),
    )
    agents, actor = trained.state, Actor(world, guide, config.value_discount)
    return Player(
        trained,
        agents.history,
        lambda wanted, count: player(actor, agents, wanted, config.paced, count),
        [layer.params for layer in agents.guide.layers],
        (None, *config.ask),
    )


def train_ppo(config: Config, run: Run, world: World) -> Player:
    """PPO, as it is usually run."""
    import optax

    from thinking.learning.policy_gradient import ppo
    from thinking.recipes.cart_pole.comparison import policy_player
    from thinking.recipes.cart_pole.policy_training import ppo_step, searcher

    policy = build_policy(config, world)
    updates = max(1, config.ppo_steps // (config.ppo_worlds * config.ppo_rollout))
    # Whole judgements: a rest would only be compiled once more.
    updates -= updates % min(updates, config.judge_every)
    schedule = optax.linear_schedule(config.ppo_learning_rate, 0, updates * config.ppo_epochs * config.ppo_minibatches)
    # Of one vector, as many small operations are slow on a CPU.
    optimizer = optax.flatten(optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(schedule, eps=1e-5)))
    update = ppo(
        policy.judge,
        optimizer,
        epochs=config.ppo_epochs,
        minibatches=config.ppo_minibatches,
        clip=config.ppo_clip,
        entropy_weight=config.ppo_entropy,
    )
    step = ppo_step(
        world,
        policy,
        update,
        steps=config.ppo_rollout,
        discount=config.discount,
        decay=config.gae_lambda,
        judge_every=config.judge_every,
    )
    judgements = max(1, updates // config.judge_every)
    trained = teach(
        config,
        run,
        "ppo",
        lambda key: searcher(world, policy, optimizer, config.ppo_worlds, judgements, key),
        step,
        updates,
        config.judge_every,
    )
    return policy_player(policy, trained)


def train_reinforce(config: Config, run: Run, world: World) -> Player:
    """REINFORCE, with a baseline or without."""
    import optax

    from thinking.learning.policy_gradient import reinforce
    from thinking.recipes.cart_pole.comparison import policy_player
    from thinking.recipes.cart_pole.policy_training import reinforce_step, searcher

    policy = build_policy(config, world)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(config.reinforce_learning_rate))
    step = reinforce_step(
        world,
        policy,
        reinforce(policy.judge, optimizer, baseline=config.baseline),
        count=config.reinforce_episodes,
        discount=config.discount,
        judge_every=config.judge_every,
    )
    judgements = max(1, config.reinforce_updates // config.judge_every)
    trained = teach(
        config,
        run,
        "reinforce",
        lambda key: searcher(world, policy, optimizer, config.reinforce_episodes, judgements, key),
        step,
        config.reinforce_updates,
        config.judge_every,
    )
    return policy_player(policy, trained)


def build_policy(config: Config, world: World) -> Policy:
    """Actor and critic."""
    from thinking.networks.actor_critic import perceptron_policy

    return perceptron_policy(world.observation.dims, world.action, (config.policy_width,) * 2)


if __name__ == "__main__":
    main("rl_cart_pole", run, PRESETS)
