"""The playground: answers, plans and steps, against what is known without the model."""

import itertools
import json

import anyio
import gymnasium
import networkx as nx
import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.serving.conftest import write_run

from thinking.environments.graph import make_graph
from thinking.pretrained.export_record import list_shipped
from thinking.serving.app import make_app
from thinking.serving.chat_demo import NUM_CANDIDATES
from thinking.serving.model_pool import MAX_WAITING, Model, Models, find_model
from thinking.serving.responses import Refusal

BASE = "http://127.0.0.1:8000"
EPISODE = {"target_return": None, "observation": None, "carry": [], "num_steps": 0, "seed": 5}


@pytest.fixture(scope="module")
def client(artifacts):
    with TestClient(make_app(artifacts), BASE, headers={"origin": BASE}) as client:
        yield client


def ask(client, model, **body):
    answer = client.post(f"/api/{model}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def make_model_graph():
    config = json.loads((list_shipped()["graph_guide"] / "config.json").read_text())["config"]
    return make_graph(None, config["graph"]["num_nodes"], config["graph"]["edge_probability"], config["seed"])


def test_a_plan_is_drawn_on_the_graph_of_the_model(client):
    page = client.get("/play/graph_guide").text
    graph = make_model_graph()
    assert page.count('class="node"') == len(graph)
    assert page.count('class="edge"') == graph.number_of_edges()
    assert all(f'data-edge="{a}-{b}"' in page for a, b in graph.edges)


@pytest.mark.parametrize(("start", "goal"), [(1, 29), (0, 31), (7, 7)])
def test_a_plan_takes_edges_and_has_sub_goals(client, start, goal):
    graph = make_model_graph()
    plan = ask(client, "graph_guide", start=start, goal=goal)
    assert (plan["nodes"][0], plan["nodes"][-1]) == (start, goal)
    assert plan["arrives"]
    assert all(graph.has_edge(str(a), str(b)) for a, b in itertools.pairwise(plan["nodes"]))
    assert plan["is_edge"] == [True] * (len(plan["nodes"]) - 1)
    assert plan["shortest"] == nx.shortest_path_length(graph, str(start), str(goal))
    upper, lower = plan["sub_goals"]
    assert len(upper) == len(lower) == len(plan["nodes"]) - 1
    assert not upper or upper[-1] == lower[-1] == goal


def test_a_question_is_answered_with_thoughts(client):
    assert "taught to add and subtract" in client.get("/play/reasoner").text
    reply = ask(client, "reasoner", question="what is 57 plus 8?", check=False)
    assert (reply["question"], reply["answer"], reply["right"], reply["truth"]) == ("57+8", "65", True, "65")
    assert [thought["words"] for thought in reply["thoughts"]] == ["digit 5, carry 1", "digit 6, carry 0"]
    assert (reply["tree"], reply["note"]) == (None, "")
    assert ask(client, "reasoner", question="3456+1", check=False)["note"].startswith("out of range")
    refused = ask(client, "reasoner", question="<b>\x1b[31m</b>", check=False)
    assert list(refused) == ["refusal"]
    assert "\x1b" not in refused["refusal"]
    assert r"\x1b[31m" in refused["refusal"]


def test_candidates_make_a_tree_of_thoughts(client):
    tree = ask(client, "reasoner", question="84/4", check=True)["tree"]
    paths = []

    def walk(node, before):
        path = [*before, *(thought["text"] for thought in node["thoughts"])]
        paths.extend((path, answer) for answer in node["answers"] for _ in range(answer["count"]))
        for branch in node["branches"]:
            walk(branch, path)
        assert node["count"] == sum(branch["count"] for branch in node["branches"] + node["answers"])
        starts = [branch["thoughts"][0]["text"] for branch in node["branches"]]
        assert len(set(starts)) == len(starts)
        assert len(node["branches"]) != 1 or node["answers"]  # a chain is one node

    walk(tree, [])
    assert len(paths) == tree["count"] == NUM_CANDIDATES
    assert any(answer["answer"] == "21" and answer["verified"] for _, answer in paths)


def test_the_pole_moves_as_in_gymnasium(client):
    env = gymnasium.make("CartPole-v1")
    env.reset(seed=0)
    steps = ask(client, "cart_pole_guide", **EPISODE)
    assert len(steps["observation"]) == 26
    assert not steps["ended"]
    env.unwrapped.state = np.array(steps["observation"][0])
    for action, expected in zip(steps["action"][:-1], steps["observation"][1:], strict=True):
        np.testing.assert_allclose(env.step(action)[0], expected, atol=1e-4)
    env.close()


def test_steps_go_on_from_any_of_an_answer(client):
    first = ask(client, "cart_pole_guide", **EPISODE)
    again = ask(
        client, "cart_pole_guide", **EPISODE | {
            "observation": first["observation"][10], "carry": first["carry"][10], "num_steps": 10,
        },
    )  # fmt: skip
    assert again["action"][:15] == first["action"][10:25]
    np.testing.assert_allclose(again["observation"][:16], first["observation"][10:], atol=1e-3)


@pytest.mark.parametrize(("target", "low", "high"), [(40.0, 25, 60), (None, 500, 500)])
def test_an_episode_has_about_the_return_asked_for(client, target, low, high):
    change, steps = {"target_return": target}, {"ended": False}
    while not steps["ended"]:
        steps = ask(client, "cart_pole_guide", **EPISODE | change)
        num_steps = steps["num_steps"] + len(steps["observation"]) - 1
        change |= {"observation": steps["observation"][-1], "carry": steps["carry"][-1], "num_steps": num_steps}
    assert low <= num_steps <= high


def test_a_pushed_pole_that_falls_ends_the_episode(client):
    steps = ask(client, "cart_pole_guide", **EPISODE)
    pushed = [0.0, 0.0, 0.1, 3.0]
    fallen = ask(client, "cart_pole_guide", **EPISODE | {"observation": pushed, "carry": steps["carry"][0]})
    assert fallen["ended"]
    assert abs(fallen["observation"][-1][2]) > 12 * np.pi / 180


MAZE = {"size": 9, "seed": 3, "openings": None, "ends": None}


def test_a_drawn_maze_is_a_tree_and_is_solved(client):
    maze = ask(client, "maze_thinker", **MAZE)
    graph = nx.Graph(map(tuple, maze["openings"]))
    assert nx.is_tree(graph)
    assert len(graph) == 81
    path = nx.shortest_path(graph, *maze["ends"])
    assert np.flatnonzero(np.array(maze["frames"][-1]) > 50).tolist() == sorted(path)
    assert (maze["right"], maze["has_loops"], maze["shortest"]) == (True, False, len(path) - 1)
    assert maze["steps"][-1] == maze["sure_after"]
    assert len(maze["frames"]) == len(maze["steps"])


def test_a_maze_that_was_changed_is_thought_about_anew(client):
    maze = ask(client, "maze_thinker", **MAZE)
    same = MAZE | {"openings": maze["openings"], "ends": maze["ends"]}
    assert ask(client, "maze_thinker", **same) == maze
    path = nx.shortest_path(nx.Graph(map(tuple, maze["openings"])), *maze["ends"])
    closed = [pair for pair in maze["openings"] if set(pair) != set(path[:2])]
    blocked = ask(client, "maze_thinker", **same | {"openings": closed})
    assert (blocked["right"], blocked["shortest"]) == (None, None)
    every = nx.grid_2d_graph(9, 9).edges
    loops = ask(client, "maze_thinker", **same | {"openings": [[9 * a + b, 9 * c + d] for (a, b), (c, d) in every]})
    assert loops["has_loops"]
    (a, b), (c, d) = (divmod(cell, 9) for cell in maze["ends"])
    assert loops["shortest"] == abs(a - c) + abs(b - d)


@pytest.mark.parametrize("page", ["graph_guide", "reasoner", "cart_pole_guide", "maze_thinker"])
def test_pages_of_the_playground_have_one_script_and_no_style(client, page):
    text = client.get(f"/play/{page}").text
    assert text.count("<script") == 1
    assert "style=" not in text


def test_requests_to_a_model_take_turns_and_others_do_not_wait(tmp_path):
    models = Models(tmp_path)
    graph, chat = (find_model(name, tmp_path) for name in ("graph_guide", "reasoner"))
    inside, most = [], []

    def hold(demo, opened):
        inside.append(1)
        most.append(len(inside))
        anyio.from_thread.run(anyio.sleep, 0.01)
        inside.pop()
        return opened

    async def run():
        opened, held = [], anyio.Event()
        await models.use(chat, lambda demo, opened: None)

        async def use(number):
            opened.append(await models.use(graph, hold))

        async def wait(model: Model):
            await models.use(model, lambda demo, opened: anyio.from_thread.run(held.wait))

        async with anyio.create_task_group() as group:
            for number in range(MAX_WAITING):
                group.start_soon(use, number)
        assert all(each is opened[0] for each in opened)  # loaded once
        async with anyio.create_task_group() as group:
            for _ in range(MAX_WAITING):
                group.start_soon(wait, graph)
            await anyio.sleep(0.05)
            with pytest.raises(Refusal, match="too many wait"):
                await models.use(graph, hold)
            await models.use(chat, lambda demo, opened: None)
            held.set()

    anyio.run(run)
    assert max(most) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("simple/training-bbbbbb", "not finished"), ("evil/code-eeeeee", "cannot be played with"),
        ("simple/linked-000000", "has a link in it"), ("simple/none", "no such model"),
    ],
)  # fmt: skip
def test_models_that_cannot_be_played_with_say_why(artifacts, name, reason):
    with pytest.raises(Refusal, match=reason):
        find_model(name, artifacts)


def test_a_model_of_a_graph_that_is_too_large_is_refused(client, artifacts):
    write_run(artifacts / "simple" / "large-666666", results={"rows": []}, config={"graph": {"num_nodes": 5000}})
    answer = client.post("/api/simple/large-666666", json={"start": 0, "goal": 1})
    assert answer.status_code == 409
    assert "checkpoint" in answer.json()["error"]
