"""The graph that the flags ask for; what is wrong with it is told in one line, by the flag that mends it."""

import networkx as nx
import pytest

from thinking.environments.graph import random_graph
from thinking.errors import UserError
from thinking.recipes.graph.config import GraphConfig
from thinking.recipes.graph.data import load_graph, node_index


def refusal(call, beginning):
    """What a call refuses to do, in one line; what follows on its beginning."""
    with pytest.raises(UserError) as refused:
        call()
    message = str(refused.value)
    assert message.startswith(beginning)
    assert "\n" not in message
    return message.removeprefix(beginning)


def test_without_a_file_the_graph_is_the_random_one_of_the_seed():
    graph = load_graph(GraphConfig(num_nodes=8, edge_probability=0.5), 3)
    assert set(graph.edges) == set(random_graph(8, 0.5, 3).edges)


def test_a_file_that_cannot_be_read_or_is_no_graph_is_named_with_its_flag(tmp_path):
    (tmp_path / "lonely.txt").write_text("Bonn\nOslo\n")
    for name, wanted in (
        ("missing.gml", "No such file or directory; give a file that exists"),
        ("lonely.txt", "not an edge list (line 1 "),
    ):
        path = tmp_path / name
        message = refusal(lambda path=path: load_graph(GraphConfig(path=path), 0), f"--graph.path {path}: ")
        assert message.startswith(wanted)


def test_a_graph_in_which_nothing_can_be_planned_is_refused(tmp_path):
    one, none = tmp_path / "one.txt", tmp_path / "none.gml"
    one.write_text("a a\n")
    none.write_text('graph [ node [ id 0 label "a" ] node [ id 1 label "b" ] ]')
    refusal(lambda: load_graph(GraphConfig(path=one), 0), f"--graph.path {one} has 1 node")
    refusal(lambda: load_graph(GraphConfig(path=none), 0), f"--graph.path {none} has 2 nodes but no edge")
    empty = GraphConfig(num_nodes=5, edge_probability=1e-9)
    refusal(lambda: load_graph(empty, 3), "the random graph of seed 3 has 5 nodes but no edge")


def test_a_node_is_numbered_by_its_place_and_a_name_nobody_has_is_refused():
    graph = nx.DiGraph([("Oslo", "Bonn"), ("Bonn", "Rome")])
    assert [node_index(graph, name) for name in ("Oslo", "Bonn", "Rome")] == [0, 1, 2]
    assert "Rome" in refusal(lambda: node_index(graph, "Roma"), "--plan Roma: ")
