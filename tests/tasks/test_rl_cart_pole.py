"""The control task, from its command line to its results."""

import dataclasses
import functools
import json
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.tasks.exports import load_export
from tests.tasks.shared_stages import SharedStages

from tasks import rl_cart_pole
from thinking.environments import control, gymnasium_evaluation
from thinking.errors import UserError
from thinking.experiment import Run, interruption, main, metrics
from thinking.experiment.checkpoint import restore
from thinking.experiment.config_fields import check
from thinking.experiment.flags import parse
from thinking.experiment.results import digest
from thinking.experiment.settings import find_declaration_errors
from thinking.guide import GuideState
from thinking.learning.rollouts import collect_episodes
from thinking.recipes import seed_training
from thinking.recipes.cart_pole import agent as agents
from thinking.recipes.cart_pole import trainers, videos
from thinking.recipes.cart_pole.config import PRESETS, BufferConfig
from thinking.recipes.cart_pole.guide_training import init_agent, update_ema
from thinking.recipes.cart_pole.policy_training import NUM_EVAL_EPISODES, EvalSchedule
from thinking.recipes.seed_training import make_seed_keys
from thinking.train_state import RunnerState, TrainState

SMOKE = PRESETS["smoke"].config
SMALL = dataclasses.replace(
    SMOKE,
    algorithms=("guide", "ppo"),
    seeds=2,
    collection=dataclasses.replace(
        SMOKE.collection, num_iterations=3, num_initial_rounds=4, num_updates=60, num_windows=16
    ),
    buffer=BufferConfig(num_best=16, num_binned=8, num_return_bins=4),
    eval=dataclasses.replace(SMOKE.eval, target_returns=(20.0,), num_episodes=4),
)

stages = SharedStages("guide")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished small run."""
    run = Run(folder=tmp_path_factory.mktemp("rl_cart_pole"), config=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(videos, "_MAX_FRAMES", 3)
        stages.patch(patch, seed_training)
        rl_cart_pole.run(SMALL, run)
    return run


def read_results(run):
    return json.loads((run.folder / "results.json").read_text())


def test_all_algorithms_are_evaluated_and_the_guide_beats_random(finished_run):
    rows = {(row["algorithm"], row["target_return"]): row for row in read_results(finished_run)["rows"]}
    assert set(rows) == {("guide", "best"), ("guide", "20"), ("ppo", "best")}
    for row in rows.values():
        assert 8 <= row["min_over_seeds"] <= row["mean_return"] <= row["max_over_seeds"] <= 500
        assert len(row["return_by_seed"].split()) == 2
    assert rows["guide", "best"]["mean_return"] > 45  # random actions get 22
    assert rows["guide", "20"]["mean_return"] < rows["guide", "best"]["mean_return"]
    assert rows["ppo", "best"]["num_env_steps"] == 2048
    assert read_results(finished_run)["reward_threshold"] == 475


def test_an_exported_guide_acts_as_the_first_seed_of_the_run(finished_run, tmp_path):
    trained = load_export("rl_cart_pole", finished_run, tmp_path)
    _, row = (row for row in read_results(finished_run)["rows"] if row["algorithm"] == "guide")
    returns, _ = rl_cart_pole.play(trained, 20.0, 4)
    assert (row["target_return"], f"{returns.mean():.0f}") == ("20", row["return_by_seed"].split()[0])
    with pytest.raises(UserError, match="--algorithms ppo: only guides can be exported"):
        load_export("rl_cart_pole", finished_run, tmp_path / "ppo", algorithms=("ppo",))


def test_run_writes_plots_and_videos(finished_run):
    for name in ("learning_curves.png", "returns.png"):
        assert (finished_run.plots_folder / name).read_bytes().startswith(b"\x89PNG")
    video_names = {path.name for path in (finished_run.folder / "videos").iterdir()}
    assert video_names == {"guide.gif", "guide_target_20.gif", "ppo.gif"}
    assert all((finished_run.folder / "videos" / name).read_bytes().startswith(b"GIF8") for name in video_names)


def test_interrupted_run_ends_bit_identical(finished_run, tmp_path, monkeypatch):
    stages.patch(monkeypatch, seed_training)
    # Only training is interrupted. Evaluation is replaced, as it takes long to compile.
    monkeypatch.setattr(gymnasium_evaluation, "evaluate_in_gymnasium", lambda env, *args: (np.ones(args[-2:]), None))

    def interrupt(stage, step, metrics):
        if (stage, step) == ("guide", 90):  # within an iteration
            os.kill(os.getpid(), signal.SIGTERM)

    config = dataclasses.replace(
        SMALL,
        algorithms=("guide",),
        eval=dataclasses.replace(SMALL.eval, videos=False, target_returns=(), num_episodes=1),
    )
    run = Run(folder=tmp_path, config=config)
    with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
        rl_cart_pole.run(config, dataclasses.replace(run, metric_writers=(interrupt,)))
    with interruption.catch_signals():  # resets the signals
        rl_cart_pole.run(config, run)
    assert digest(restore_agents(tmp_path)) == digest(restore_agents(finished_run.folder))
    assert read_guide_metrics(tmp_path) == read_guide_metrics(finished_run.folder)


@functools.cache
def init_agents():
    """The initial agents of the guide."""
    env = control.make_env("CartPole-v1", SMALL.env.episode_limit)
    guide, iterations = trainers.build_guide(SMALL, env), trainers.make_iterations(SMALL)
    settings = trainers.make_collection_settings(SMALL)
    init_fn = jax.jit(jax.vmap(lambda key: init_agent(env, guide, iterations, settings, key)))
    return init_fn(make_seed_keys(SMALL))


def restore_agents(folder):
    """The agents of the guide from the last checkpoint."""
    return restore(folder / "checkpoints" / "guide", init_agents()).state


def read_guide_metrics(folder):
    """All metrics of the guide, without their times."""
    return [line | {"time": None} for line in metrics.read(folder) if line["stage"] == "guide"]


def test_target_values_follow_from_the_replay_buffer(finished_run):
    agent = jax.jit(lambda agents: jax.tree.map(lambda leaf: leaf[0], agents))(restore_agents(finished_run.folder))
    buffer = agent.buffer
    assert int(buffer.length[0]) > 0
    assert (np.diff(np.asarray(buffer.returns)) <= 0).all()
    # In a terminated episode of n rewards of 1, the first state has the value 1 - discount ** n.
    is_terminated = np.asarray(buffer.terminated & (buffer.length > 0))
    expected = 1 - 0.99 ** np.asarray(buffer.returns)
    scale = jax.jit(lambda: agents.make_target_scale(agent, False))()
    target_value_fn = jax.jit(
        jax.vmap(lambda target_return: agents.make_return_target(scale, target_return, False).value)
    )
    target_values = np.asarray(target_value_fn(buffer.returns))
    is_below_best = is_terminated & (np.asarray(buffer.returns) < float(buffer.returns[0]))
    np.testing.assert_allclose(target_values[is_below_best], expected[is_below_best], rtol=1e-4)
    lowest_value = 1 - 0.99 ** float(np.asarray(buffer.returns)[is_terminated].min())
    below, above = np.asarray(target_value_fn(np.float32([-5, 1e9])))
    assert below == pytest.approx(lowest_value, rel=1e-4)
    assert above == float(jax.jit(lambda: agents.best_return_target(agent, False).value)())
    normalize_round_trip = jax.jit(lambda states: agent.normalizer.denormalize(agent.normalizer(states)))
    np.testing.assert_allclose(normalize_round_trip(buffer.states[0]), buffer.states[0], atol=1e-5)


def play_in_training_env(agents_state, indices):
    """The mean return [I, S] of each seed's play function in the evaluations after updates, on the device."""
    env = control.make_env("CartPole-v1", SMALL.env.episode_limit)
    actor, num_episodes = agents.GuideActor(env, trainers.build_guide(SMALL, env), 0.99), SMALL.collection.num_episodes

    def evaluate(index, agent):
        eval_key = jax.random.split(jax.random.fold_in(agent.key, index), 3)[2]
        batch_of_one = jax.tree.map(lambda leaf: leaf[None], agent)
        play, carry = agents.make_policy_fn(actor, batch_of_one, None, False, num_episodes)

        def policy(carry, key, observation, return_so_far):
            carry, action, _ = play(carry, observation[None], return_so_far[None])
            return carry, action[0]

        return jnp.mean(collect_episodes(env, policy, carry, eval_key, num_episodes).returns)

    return np.asarray(jax.jit(jax.vmap(jax.vmap(evaluate, (None, 0)), (0, None)))(indices, agents_state))


def test_best_state_plays_with_the_target_of_its_evaluation(finished_run):
    final = restore_agents(finished_run.folder)
    # As if an episode after the best evaluation had raised the highest target of the final agent.
    raised = final._replace(values=jnp.ones_like(final.values))
    num_updates = SMALL.collection.num_updates
    returns = play_in_training_env(raised, np.arange(num_updates - 1, 3 * num_updates, num_updates))
    for seed, best_return in enumerate(np.asarray(final.best_eval_return)):
        assert any(seed_returns[seed] == pytest.approx(best_return, rel=1e-3) for seed_returns in returns)


def test_target_return_from_the_highest_on_uses_the_evaluated_target():
    scale = agents.TargetScale(jnp.array([10.0, 20, 20]), jnp.array([0.1, 0.2, 0.2]), jnp.float32(0.15))
    for target_return, value, is_updated in [
        (15, 0.15, True),
        (20, 0.15, False),
        (jnp.inf, 0.15, False),
        (10, 0.1, True),
    ]:
        target = agents.make_return_target(scale, target_return, False)
        assert (float(target.value), bool(target.update_return_to_go)) == (pytest.approx(value), is_updated)
    assert bool(agents.make_return_target(scale, 20, True).update_return_to_go)


def test_env_steps_of_evaluations_are_counted_apart(finished_run):
    """Every step of the cart pole has reward 1, so a return counts steps."""
    rows = {row["algorithm"]: row for row in read_results(finished_run)["rows"] if row["target_return"] == "best"}
    final = restore_agents(finished_run.folder)
    assert (final.history[:, :, 1] < 500).all()
    # The buffer is as large as all that was collected.
    np.testing.assert_array_equal(final.num_env_steps, np.asarray(final.buffer.rewards).sum((1, 2)))
    eval_steps = SMALL.collection.num_episodes * np.asarray(final.history[:, :, 1]).sum(1)
    np.testing.assert_allclose(final.num_eval_env_steps, eval_steps, rtol=1e-6)
    assert rows["guide"]["num_env_steps"] == np.mean(final.num_env_steps)
    assert rows["guide"]["num_eval_env_steps"] == np.mean(final.num_eval_env_steps)
    lines = [line for line in metrics.read(finished_run.folder) if line["stage"] == "ppo"]
    assert rows["ppo"]["num_env_steps"] == lines[-1]["rollout/num_env_steps"] == 2048
    ppo_eval_steps = NUM_EVAL_EPISODES * sum(line["eval/return"] for line in lines)
    assert rows["ppo"]["num_eval_env_steps"] == pytest.approx(ppo_eval_steps, rel=1e-5)
    assert lines[-1]["eval/num_env_steps"] == rows["ppo"]["num_eval_env_steps"]


def test_metrics_are_logged_only_where_measured(finished_run):
    final = restore_agents(finished_run.folder)
    lines = read_guide_metrics(finished_run.folder)
    # Two lines an iteration: episodes are collected before the first update, and evaluated after the last.
    assert [("rollout/return" in line, "eval/return" in line) for line in lines] == [(True, False), (False, True)] * 3
    num_env_steps, eval_returns, training_returns = np.asarray(final.history).mean(0).T
    np.testing.assert_allclose([line["eval/return"] for line in lines[1::2]], eval_returns, rtol=1e-6)
    np.testing.assert_allclose([line["rollout/return"] for line in lines[::2]], training_returns, rtol=1e-6)
    np.testing.assert_allclose(
        [line["rollout/num_env_steps"] for line in lines], np.repeat(num_env_steps, 2), rtol=1e-6
    )
    std_over_seeds = float(np.std(final.history[:, -1, 1]))
    assert lines[-1]["eval/return_std_over_seeds"] == pytest.approx(std_over_seeds, rel=1e-5)
    best_returns = [line["eval/best_return"] for line in lines[1::2]]
    assert max(best_returns) == pytest.approx(float(np.mean(final.best_eval_return)))


@pytest.mark.parametrize(("interval", "num_updates", "due"), [(10, 25, [9, 19, 24]), (10, 20, [9, 19]), (10, 3, [2])])
def test_policy_is_evaluated_at_intervals_and_at_the_end(interval, num_updates, due):
    schedule = EvalSchedule(interval, num_updates)
    assert [index for index in range(num_updates) if schedule.is_due(jnp.int32(index))] == due
    assert schedule.num_evaluations == len(due)


def test_fewer_updates_than_an_interval_are_evaluated_too(tmp_path):
    config = dataclasses.replace(
        SMOKE,
        eval=dataclasses.replace(SMOKE.eval, interval=10),
        reinforce=dataclasses.replace(SMOKE.reinforce, num_updates=1, num_episodes=2),
    )
    env = control.make_env("CartPole-v1", 20)
    agent = trainers.train_reinforce(config, Run(folder=tmp_path, config=config), env)
    assert 2 * 8 <= agent.num_env_steps[0] == agent.history[0, 0, 0] <= 2 * 20
    assert NUM_EVAL_EPISODES * 8 <= agent.num_eval_env_steps[0] <= NUM_EVAL_EPISODES * 20


def test_training_return_without_a_finished_episode_is_not_logged(tmp_path):
    config = dataclasses.replace(SMOKE, ppo=dataclasses.replace(SMOKE.ppo, num_steps=64, num_envs=4, rollout_length=16))
    agent = trainers.train_ppo(config, Run(folder=tmp_path, config=config), control.make_env("MountainCar-v0"))
    assert np.asarray(agent.history)[0, :, 2].tolist() == [-np.inf]  # below any threshold
    (line,) = metrics.read(tmp_path)
    assert "rollout/return" not in line
    assert line["rollout/num_env_steps"] == 64


@pytest.mark.parametrize(("num_layers", "num_windows", "window_length"), [(1, 24 * 44, 2), (2, 24, 9), (3, 24, 65)])
def test_one_layer_gets_as_many_examples_per_update_as_two(num_layers, num_windows, window_length):
    """A window of 9 states has 9 * 8 / 2 pairs for the lower layer and 8 values for the upper, one of 2 has 1."""
    config = PRESETS["default"].config
    settings = trainers.make_collection_settings(
        dataclasses.replace(config, guide=dataclasses.replace(config.guide, num_layers=num_layers))
    )
    assert (settings.num_windows, settings.window_length) == (num_windows, window_length)


def test_updated_return_to_go_follows_the_discounted_values():
    env = control.make_env("CartPole-v1")
    actor = agents.GuideActor(env, trainers.build_guide(SMALL, env), 0.99)
    carry = agents.init_policy_carry(actor.guide, agents.ReturnTarget(jnp.array([1 - 0.99**20, 1.0]), True), 2)

    @jax.jit
    def act(seed_agents, carry, return_so_far):
        agent = jax.tree.map(lambda leaf: leaf[0], seed_agents)
        return actor.act(agent, carry, True, jnp.zeros((2, 4)), return_so_far)[0]

    for step_index in range(25):
        carry = act(init_agents(), carry, np.full(2, step_index, np.float32))  # a reward of 1 per step
        np.testing.assert_allclose(carry.target_value, [max(1 - 0.99 ** (20 - step_index), 0), 1], atol=1e-4)


def test_update_ema_averages_the_weights_exponentially():
    def make_guide_state(weights, step):
        train_state = TrainState({"w": jnp.asarray(weights)}, jnp.int32(step))
        return GuideState((RunnerState(train_state, jax.random.key(step)),), ())

    weights = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    update = jax.jit(lambda average, latest: update_ema(average, latest, 0.8))
    average = make_guide_state(weights[0], 0)
    for step in range(1, 6):
        average = update(average, make_guide_state(weights[step], step))
    coefficients = np.array([0.8**5, *(0.2 * 0.8 ** (5 - step) for step in range(1, 6))])
    np.testing.assert_allclose(average.layers[0].train_state.params["w"], coefficients @ weights, rtol=1e-5)
    assert average.layers[0].train_state.opt_state == 5


def test_gymnasium_evaluation_sums_rewards():
    env = control.make_env("CartPole-v1")

    def policy(carry_in, observation, return_so_far):
        constant_actions = jnp.zeros(observation.shape[:-1], jnp.int32)
        balancing_actions = (observation[..., 2] + 0.5 * observation[..., 3] > 0).astype(jnp.int32)
        return (
            carry_in,
            jnp.where(jnp.arange(2)[:, None] == 0, balancing_actions, constant_actions),
            {"pushed": balancing_actions},
        )

    returns, recording = gymnasium_evaluation.evaluate_in_gymnasium(env, policy, (), 2, 3)
    assert (returns[0] == 500).all()
    assert (returns[1] < 15).all()
    assert recording.total_return == 500
    assert recording.observations.shape == (500, 4)
    assert recording.return_so_far.tolist() == list(range(500))
    assert recording.extras["pushed"].shape == (500,)


def test_steps_to_threshold_average_over_seeds_if_all_reach_it():
    steps = np.array([[10.0, 20, 30], [12, 24, 36]])
    returns = np.array([[0.0, 9, 5], [1, 2, 7]])
    assert gymnasium_evaluation.find_steps_to_threshold(steps, returns, 7) == (20 + 36) / 2
    assert gymnasium_evaluation.find_steps_to_threshold(steps, returns, 8) is None
    assert gymnasium_evaluation.find_steps_to_threshold(steps, returns, None) is None


def test_unknown_environment_exits_and_lists_the_known_ones(tmp_path, monkeypatch, capsys):
    flags = ["--env.name", "CartPole-v7", "--artifacts", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["rl_cart_pole.py", *flags])
    with pytest.raises(SystemExit) as exit_info:
        main("rl_cart_pole", rl_cart_pole.run, PRESETS)
    assert exit_info.value.code == 2
    assert list(tmp_path.iterdir()) == []
    stderr = capsys.readouterr().err
    assert "CartPole-v7" in stderr
    assert all(name in stderr for name in control.NAMES)
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--collection.random-fraction 1.5", "allowed is a number from 0 to 1; take 0.3"),
        ("--guide.ema-decay 1.0", "allowed is a number from 0, below 1; take 0.99"),
        ("--collection.num-iterations 0", "allowed is a whole number from 1 to 100000; take 36"),
        ("--guide.width 30", "allowed is a multiple of twice --guide.num-heads, 8"),
        ("--collection.mean-action-duration 0.5", "allowed is a number from 1 to 10000; take 1.0"),
        ("--collection.target-fractions 0.5 1.5", "allowed is 2 numbers from 0 to 1; take 0.5 0.9"),
        ("--env.episode-limit 0", "allowed is a whole number from 1 to 100000 or None; take 1000"),
        ("--ppo.num-minibatches 3", "allowed is a divisor of 512 steps; take 1"),
        ("--ppo.num-steps 2147483648", "--ppo.num-steps 2147483648: allowed is"),
        ("--policy-net.discount 1.0", "allowed is a number above 0, below 1; take 0.99"),
        ("--guide.optimizer.learning-rate 0.0", "allowed is a number above 0, up to 10; take 0.003"),
        ("--eval.target-returns nan", "allowed is a list of finite numbers; take 50.0"),
        ("--seeds 1025", "allowed is a whole number from 1 to 1024; take 1"),
        ("--seeds 2 --seed 4294967295", "--seed 4294967295: allowed with --seeds 2 is a whole number from 0 to"),
        ("--algorithms", "name at least one of guide, ppo, reinforce"),
    ],
)
def test_invalid_value_raises_and_is_named(flags, message):
    with pytest.raises(UserError) as error:
        parse(PRESETS, flags.split(), "python tasks/rl_cart_pole.py")
    assert str(error.value).startswith(("--seed", flags))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("flags", "max_env_steps"),
    [
        ("--algorithms reinforce --reinforce.num-updates 1000000", 8_000_000_000),
        ("--collection.num-iterations 100000 --collection.num-rounds 10", 16_000_096_000),
        ("--ppo.num-envs 1048576 --ppo.rollout-length 2048", 2**31),
    ],
)
def test_more_env_steps_than_int32_counts_are_refused(flags, max_env_steps):
    with pytest.raises(UserError, match=f"up to {max_env_steps} environment steps: allowed are 2147483647; give fewer"):
        parse(PRESETS, flags.split(), "python tasks/rl_cart_pole.py")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_declared_and_valid(preset):
    assert not find_declaration_errors(PRESETS[preset].config)
    check(PRESETS[preset].config)
