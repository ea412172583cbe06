"""Graphs as worlds: what is read, what stands on the device, and what walks on them do; against networkx."""

import gzip
import itertools
import re
from collections import Counter

import jax
import networkx as nx
import numpy as np
import pytest

from thinking.environments.graph import (
    find_node,
    is_edge,
    make_graph,
    make_random_graph,
    read_graph,
    sample_walks,
    step,
    to_device,
)

GML = """graph [
  directed {directed}
  node [ id 0 label "Bonn" ]
  node [ id 1 label "Oslo" ]
  node [ id 2 label "Rome" ]
  edge [ source 0 target 1 ]
  edge [ source 1 target 2 ]
]
"""
GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <graph edgedefault="{directed}">
    <node id="Bonn"/><node id="Oslo"/><node id="Rome"/>
    <edge source="Bonn" target="Oslo"/><edge source="Oslo" target="Rome"/>
  </graph>
</graphml>
"""
THERE = {("Bonn", "Oslo"), ("Oslo", "Rome")}
BACK = {("Oslo", "Bonn"), ("Rome", "Oslo")}


@pytest.mark.parametrize(
    ("name", "text", "edges"),
    [
        ("edges.txt", "# cities\nBonn Oslo 0.5 fast\n\nOslo\tRome # a comment\n", THERE),
        ("no_suffix", "Bonn Oslo {'weight': 3}\nOslo Rome\nOslo Rome\n", THERE),
        ("directed.gml", GML.format(directed=1), THERE),
        ("undirected.GML", GML.format(directed=0), THERE | BACK),
        ("directed.graphml", GRAPHML.format(directed="directed"), THERE),
        ("undirected.xml", GRAPHML.format(directed="undirected"), THERE | BACK),
    ],
)
def test_graphs_are_read_with_their_names_and_directions(tmp_path, name, text, edges):
    (tmp_path / name).write_text(text)
    graph = read_graph(tmp_path / name)
    assert type(graph) is nx.DiGraph
    assert list(graph) == ["Bonn", "Oslo", "Rome"]
    assert set(graph.edges) == edges


@pytest.mark.parametrize(("suffix", "write"), [(".gml", nx.write_gml), (".graphml", nx.write_graphml)])
def test_parallel_edges_are_one_and_numbers_become_names(tmp_path, suffix, write):
    graph = nx.MultiDiGraph([(1, 2), (1, 2), (2, 2)])
    write(graph, tmp_path / f"graph{suffix}")
    read = read_graph(tmp_path / f"graph{suffix}")
    assert sorted(read.edges) == [("1", "2"), ("2", "2")]


def refusal(call, beginning):
    """What a call refuses to do, in one line; what follows on its beginning."""
    with pytest.raises(ValueError, match=f"^{re.escape(beginning)}") as refused:
        call()
    message = str(refused.value)
    assert "\n" not in message
    return message.removeprefix(beginning)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("comments.txt", b"# nothing\n\n"),
        ("lonely.txt", b"Bonn\nOslo\n"),
        ("binary.txt", bytes(range(128, 256))),
        ("empty.gml", b""),
        ("nodeless.gml", b"graph [ directed 1 ]"),
        ("broken.gml", b'graph [\n  node [ id 0 label "a"\n'),
        ("dangling.gml", b'graph [ node [ id 0 label "a" ] edge [ source 0 target 7 ] ]'),
        ("twice.gml", b'graph [ node [ id 0 label "a" ] node [ id 0 label "b" ] ]'),
        ("binary.gml", bytes(range(128, 256))),
        ("empty.graphml", b""),
        ("broken.graphml", b"<graphml><graph>"),
        ("other.graphml", b"<html></html>"),
        ("binary.xml", bytes(range(128, 256))),
        ("cut_short.xml", GRAPHML.format(directed="directed").encode()[:-20]),
        ("node.gml", b"graph [ node 1 ]"),
        ("deep.gml", b"graph [ " * 3000),
        ("cut_short.gz", gzip.compress(b"a b\nb c\n", mtime=0)[:20]),
    ],
)
def test_a_file_that_is_no_graph_is_refused_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert len(refusal(lambda: read_graph(path), f"path {path}: ")) < 250


@pytest.mark.parametrize("name", ["missing.txt", "missing.gml", "missing.xml", "folder", "folder.gml"])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    expected = "Is a directory" if name.startswith("folder") else "No such file or directory"
    assert refusal(lambda: read_graph(path), f"path {path}: ").startswith(expected)


def test_a_graph_in_which_nothing_can_be_planned_is_refused(tmp_path):
    (tmp_path / "one.txt").write_text("a a\n")
    (tmp_path / "none.gml").write_text('graph [ node [ id 0 label "a" ] node [ id 1 label "b" ] ]')
    refusal(lambda: make_graph(tmp_path / "one.txt", 5, 0.5, 0), f"path {tmp_path / 'one.txt'}: 1 node")
    refusal(lambda: make_graph(tmp_path / "none.gml", 5, 0.5, 0), f"path {tmp_path / 'none.gml'}: 2 nodes but no")
    refusal(lambda: make_graph(None, 5, 0.0, 3), "edge_probability 0.0: 5 nodes but no edge")
    refusal(lambda: make_graph(None, 1, 0.5, 3), "num_nodes 1: 1 node, and a plan needs at least 2")
    assert set(make_graph(None, 8, 0.5, 3).edges) == set(make_random_graph(8, 0.5, 3).edges)


def test_a_node_is_numbered_by_its_place_and_a_name_nobody_has_is_refused():
    graph = nx.DiGraph([("Oslo", "Bonn"), ("Bonn", "Rome")])
    assert [find_node(graph, name) for name in ("Oslo", "Bonn", "Rome")] == [0, 1, 2]
    assert "Rome" in refusal(lambda: find_node(graph, "Roma"), "name Roma: ")


def test_random_graphs_come_again_with_their_seed():
    graph = make_random_graph(30, 0.2, seed=4)
    assert list(graph) == [str(node) for node in range(30)]
    assert nx.number_of_selfloops(graph) == 0
    assert set(make_random_graph(30, 0.2, seed=4).edges) == set(graph.edges)
    assert set(make_random_graph(30, 0.2, seed=5).edges) != set(graph.edges)
    # Each of 870 possible edges is there with probability 0.2: 174, give or take 12.
    assert abs(graph.number_of_edges() - 174) < 60
    assert any(not graph.has_edge(b, a) for a, b in graph.edges)  # directed


@pytest.fixture(scope="module")
def named():
    """A random graph whose order is not that of its names, with a dead end; and the same on the device."""
    graph = make_random_graph(12, 0.25, seed=2)
    graph.remove_edges_from(list(graph.out_edges("5")))
    shuffled = nx.DiGraph()
    shuffled.add_nodes_from(sorted(graph, reverse=True))
    shuffled.add_edges_from(graph.edges)
    return shuffled, to_device(shuffled)


def test_the_device_knows_exactly_the_edges_of_networkx(named):
    graph, device = named
    order = list(graph)
    successors, degree = map(np.asarray, device)
    assert (successors.dtype, degree.dtype) == (np.int32, np.int32)
    assert successors.shape == (12, max(dict(graph.out_degree).values()))
    for number, node in enumerate(order):
        ways = sorted(order.index(successor) for successor in graph.successors(node))
        assert degree[number] == len(ways)
        assert successors[number].tolist() == ways + [-1] * (successors.shape[1] - len(ways))


def test_a_graph_without_edges_stands_on_the_device_too():
    device = to_device(nx.empty_graph(3, create_using=nx.DiGraph))
    assert np.asarray(device.successors).tolist() == [[-1], [-1], [-1]]
    assert np.asarray(device.degree).tolist() == [0, 0, 0]


def test_a_step_follows_edges_and_else_stays(named):
    graph, device = named
    order = list(graph)
    here, there = np.divmod(np.arange(144, dtype=np.int32), np.int32(12))
    edges = [graph.has_edge(order[a], order[b]) for a, b in zip(here, there, strict=True)]
    assert np.asarray(jax.jit(is_edge)(device, here, there)).tolist() == edges
    np.testing.assert_array_equal(jax.jit(step)(device, here, there), np.where(edges, there, here))


def test_no_edge_leads_out_of_the_graph(named):
    _, device = named
    here = np.arange(12, dtype=np.int32)
    assert not jax.jit(is_edge)(device, here, np.full(12, -1, np.int32)).any()


@pytest.fixture(scope="module")
def walked(named):
    """2,000 random walks of at most 12 states."""
    walk = jax.jit(lambda key: sample_walks(named[1], key, 2000, 12))
    return walk, *jax.device_get(walk(jax.random.key(0)))


def test_walks_use_edges_alone_and_end_only_where_there_is_no_way_on(named, walked):
    graph, _ = named
    order = list(graph)
    _, nodes, lengths = walked
    assert (nodes.shape, lengths.shape) == ((2000, 12), (2000,))
    ended = 0
    for walk, length in zip(nodes.tolist(), lengths.tolist(), strict=True):
        names = [order[node] for node in walk[:length]]
        assert all(graph.has_edge(*edge) for edge in itertools.pairwise(names))
        if length < 12:
            assert graph.out_degree(names[-1]) == 0
            ended += 1
    assert 0 < ended < 2000


def test_walks_start_and_go_on_everywhere_alike(named, walked):
    """Chi-square statistics of fixed draws, each a few standard deviations around its degrees of freedom."""
    _, device = named
    _, nodes, lengths = walked
    starts = np.bincount(nodes[:, 0], minlength=12)
    assert np.sum((starts - 2000 / 12) ** 2 / (2000 / 12)) < 11 + 4 * np.sqrt(22)
    moves = Counter()
    for walk, length in zip(nodes.tolist(), lengths.tolist(), strict=True):
        moves.update(itertools.pairwise(walk[:length]))
    for node, degree in enumerate(np.asarray(device.degree).tolist()):
        counts = np.array([moves[node, way] for way in np.asarray(device.successors)[node, :degree].tolist()])
        if degree > 1:
            expected = counts.sum() / degree
            assert expected > 50
            assert np.sum((counts - expected) ** 2 / expected) < degree - 1 + 5 * np.sqrt(2 * (degree - 1))


def test_walks_are_a_function_of_the_key(walked):
    walk, nodes, lengths = walked
    again, lengths_again = walk(jax.random.key(0))
    np.testing.assert_array_equal(again, nodes)
    np.testing.assert_array_equal(lengths_again, lengths)
    assert np.mean(walk(jax.random.key(1))[0] != nodes) > 0.5
