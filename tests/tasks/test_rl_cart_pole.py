"""The control task: from a command to results that can be trusted."""

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

from tasks import rl_cart_pole
from thinking.environments import control, gymnasium_evaluation
from thinking.errors import UserError
from thinking.experiment import Run, interruption, main
from thinking.experiment.checkpoint import restore
from thinking.experiment.config import check
from thinking.experiment.flags import parse
from thinking.experiment.results import digest
from thinking.experiment.settings import find_declaration_errors
from thinking.guide import GuideState
from thinking.recipes.cart_pole import agent as agents
from thinking.recipes.cart_pole import trainers, videos
from thinking.recipes.cart_pole.config import PRESETS, BufferConfig
from thinking.recipes.cart_pole.guide_training import init_agent, update_ema
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run of all algorithms, and where it was written."""
    run = Run(folder=tmp_path_factory.mktemp("rl_cart_pole"), config=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(videos, "_MAX_FRAMES", 3)
        rl_cart_pole.run(SMALL, run)
    return run


def results(run):
    return json.loads((run.folder / "results.json").read_text())


def test_all_algorithms_are_judged_and_the_guide_beats_chance(finished):
    rows = {(row["algorithm"], row["asked"]): row for row in results(finished)["rows"]}
    assert set(rows) == {("guide", "best"), ("guide", "20"), ("ppo", "best")}
    for row in rows.values():
        assert 8 <= row["worst_seed"] <= row["mean_return"] <= row["best_seed"] <= 500
        assert len(row["return_of_seeds"].split()) == 2
    assert rows["guide", "best"]["mean_return"] > 45  # random actions come to 22
    assert rows["guide", "20"]["mean_return"] < rows["guide", "best"]["mean_return"]
    assert rows["ppo", "best"]["environment_steps"] == 2048
    assert results(finished)["reward_threshold"] == 475


def test_a_run_leaves_plots_and_films(finished):
    for name in ("learning_curves.png", "returns.png"):
        assert (finished.plots_folder / name).read_bytes().startswith(b"\x89PNG")
    videos_written = {path.name for path in (finished.folder / "videos").iterdir()}
    assert videos_written == {"guide.gif", "guide_asked_20.gif", "ppo.gif"}
    assert all((finished.folder / "videos" / name).read_bytes().startswith(b"GIF8") for name in videos_written)


def test_an_interrupted_run_ends_with_the_bits_of_an_undisturbed_one(finished, tmp_path, monkeypatch):
    # Training is what is interrupted; judging what came of it compiles as long.
    monkeypatch.setattr(gymnasium_evaluation, "evaluate_in_gymnasium", lambda env, *args: (np.ones(args[-2:]), None))

    def stop(stage, step, figures):
        if (stage, step) == ("guide", 90):  # in the middle of an iteration
            os.kill(os.getpid(), signal.SIGTERM)

    config = dataclasses.replace(
        SMALL,
        algorithms=("guide",),
        eval=dataclasses.replace(SMALL.eval, videos=False, target_returns=(), num_episodes=1),
    )
    run = Run(folder=tmp_path, config=config)
    with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
        rl_cart_pole.run(config, dataclasses.replace(run, mirrors=(stop,)))
    with interruption.catch_signals():  # forgets the signals
        rl_cart_pole.run(config, run)
    assert digest(saved_agents(tmp_path)) == digest(saved_agents(finished.folder))
    assert finals(tmp_path) == finals(finished.folder)


@functools.cache
def initial_agents():
    """The guide's agents as they begin."""
    env = control.make_env("CartPole-v1", SMALL.env.episode_limit)
    guide, iterations = trainers.build_guide(SMALL, env), trainers.make_iterations(SMALL)
    settings = trainers.make_collection_settings(SMALL)
    begin = jax.jit(jax.vmap(lambda key: init_agent(env, guide, iterations, settings, key)))
    return begin(trainers.make_seed_keys(SMALL))


def saved_agents(folder):
    """The guide's agents as they were saved last."""
    return restore(folder / "checkpoints" / "guide", initial_agents()).state


def finals(folder):
    """What the metrics of the guide came to at every look."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == "guide"]


def test_what_an_agent_kept_tells_which_value_belongs_to_which_return(finished):
    agent = jax.jit(lambda agents: jax.tree.map(lambda leaf: leaf[0], agents))(saved_agents(finished.folder))
    buffer = agent.buffer
    assert int(buffer.length[0]) > 0
    assert (np.diff(np.asarray(buffer.returns)) <= 0).all()
    # Of an episode of n rewards of 1 that ended in a fall, the first state was worth 1 - discount ** n.
    fallen = np.asarray(buffer.terminated & (buffer.length > 0))
    expected = 1 - 0.99 ** np.asarray(buffer.returns)
    target_value_fn = jax.jit(
        jax.vmap(lambda target_return: agents.make_return_target(agent, target_return, False).value)
    )
    target_values = np.asarray(target_value_fn(buffer.returns))
    lower = fallen & (np.asarray(buffer.returns) < float(buffer.returns[0]))
    np.testing.assert_allclose(target_values[lower], expected[lower], rtol=1e-4)
    lowest = 1 - 0.99 ** float(np.asarray(buffer.returns)[fallen].min())
    below, above = np.asarray(target_value_fn(np.float32([-5, 1e9])))
    assert below == pytest.approx(lowest, rel=1e-4)
    assert above == float(jax.jit(lambda: agents.best_return_target(agent, False).value)())
    there_and_back = jax.jit(lambda states: agent.normalizer.denormalize(agent.normalizer(states)))
    np.testing.assert_allclose(there_and_back(buffer.states[0]), buffer.states[0], atol=1e-5)


def test_a_paced_aim_follows_the_values_of_a_life_of_that_value():
    env = control.make_env("CartPole-v1")
    actor = agents.GuideActor(env, trainers.build_guide(SMALL, env), 0.99)
    iterations, settings = trainers.make_iterations(SMALL), trainers.make_collection_settings(SMALL)
    agent = jax.jit(lambda key: init_agent(env, actor.guide, iterations, settings, key))(jax.random.key(0))
    carry = agents.init_policy_carry(actor.guide, agents.ReturnTarget(jnp.array([1 - 0.99**20, 1.0]), True), 2)
    act = jax.jit(lambda carry, return_so_far: actor.act(agent, carry, True, jnp.zeros((2, 4)), return_so_far)[0])
    for step_index in range(25):
        carry = act(carry, jnp.full(2, float(step_index)))  # a reward of 1 in every step
        np.testing.assert_allclose(carry.target_value, [max(1 - 0.99 ** (20 - step_index), 0), 1], atol=1e-4)


def test_what_acts_has_the_exponential_average_of_all_weights():
    def layer(weights, step):
        train_state = TrainState({"w": jnp.asarray(weights)}, jnp.int32(step))
        return GuideState((RunnerState(train_state, jax.random.key(step)),), ())

    weights = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    take_in = jax.jit(lambda average, latest: update_ema(average, latest, 0.8))
    average = layer(weights[0], 0)
    for step in range(1, 6):
        average = take_in(average, layer(weights[step], step))
    shares = np.array([0.8**5, *(0.2 * 0.8 ** (5 - step) for step in range(1, 6))])
    np.testing.assert_allclose(average.layers[0].train_state.params["w"], shares @ weights, rtol=1e-5)
    assert average.layers[0].train_state.opt_state == 5


def test_judging_counts_what_gymnasium_gives():
    env = control.make_env("CartPole-v1")

    def play(carry_in, observation, return_so_far):
        falls = jnp.zeros(observation.shape[:-1], jnp.int32)
        leans = (observation[..., 2] + 0.5 * observation[..., 3] > 0).astype(jnp.int32)
        return carry_in, jnp.where(jnp.arange(2)[:, None] == 0, leans, falls), {"pushed": leans}

    returns, recording = gymnasium_evaluation.evaluate_in_gymnasium(env, play, (), 2, 3)
    assert (returns[0] == 500).all()
    assert (returns[1] < 15).all()
    assert recording.total_return == 500
    assert recording.observations.shape == (500, 4)
    assert recording.return_so_far.tolist() == list(range(500))
    assert recording.extras["pushed"].shape == (500,)


def test_steps_until_a_threshold_are_a_mean_over_seeds_that_all_came_there():
    steps = np.array([[10.0, 20, 30], [12, 24, 36]])
    returns = np.array([[0.0, 9, 5], [1, 2, 7]])
    assert gymnasium_evaluation.find_steps_to_threshold(steps, returns, 7) == (20 + 36) / 2
    assert gymnasium_evaluation.find_steps_to_threshold(steps, returns, 8) is None
    assert gymnasium_evaluation.find_steps_to_threshold(steps, returns, None) is None


def test_an_unknown_world_is_refused_with_the_list_before_anything_is_written(tmp_path, monkeypatch, capsys):
    flags = ["--env.name", "CartPole-v7", "--artifacts", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["rl_cart_pole.py", *flags])
    with pytest.raises(SystemExit) as stop:
        main("rl_cart_pole", rl_cart_pole.run, PRESETS)
    assert stop.value.code == 2
    assert list(tmp_path.iterdir()) == []
    stderr = capsys.readouterr().err
    assert "CartPole-v7" in stderr
    assert all(name in stderr for name in control.NAMES)
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "names"),
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
        ("--eval.target-returns nan", "allowed is any number of finite numbers; take 50.0"),
        ("--seeds 1025", "allowed is a whole number from 1 to 1024; take 1"),
        ("--seeds 2 --seed 4294967295", "--seed 4294967295: allowed with --seeds 2 is a whole number from 0 to"),
        ("--algorithms", "name at least one of guide, ppo, reinforce"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_it(flags, names):
    with pytest.raises(UserError) as refused:
        parse(PRESETS, flags.split(), "python tasks/rl_cart_pole.py")
    assert str(refused.value).startswith(("--seed", flags))
    assert names in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        ("--algorithms reinforce --reinforce.num-updates 1000000", 8_000_000_000),
        ("--collection.num-iterations 100000 --collection.num-rounds 10", 16_000_096_000),
        ("--ppo.num-envs 1048576 --ppo.rollout-length 2048", 2**31),
    ],
)
def test_more_environment_steps_than_their_counter_holds_are_refused(flags, most):
    with pytest.raises(UserError, match=f"up to {most} environment steps: allowed are 2147483647; give fewer"):
        parse(PRESETS, flags.split(), "python tasks/rl_cart_pole.py")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_declared_and_valid(preset):
    assert not find_declaration_errors(PRESETS[preset].config)
    check(PRESETS[preset].config)
