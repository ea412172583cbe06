"""Graphs: reading, the device representation and random walks, against networkx."""

import contextlib
import gzip
import itertools
import re
from collections import Counter

import jax
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.environments.graph import (
    find_node,
    is_edge,
    make_graph,
    make_random_graph,
    sample_walks,
    step,
    to_device,
)
from thinking.environments.graph_files import read_graph

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
FORWARD_EDGES = {("Bonn", "Oslo"), ("Oslo", "Rome")}
BACKWARD_EDGES = {("Oslo", "Bonn"), ("Rome", "Oslo")}


@pytest.mark.parametrize(
    ("name", "text", "edges"),
    [
        ("edges.txt", "# cities\nBonn Oslo 0.5 fast\n\nOslo\tRome # a comment\n", FORWARD_EDGES),
        ("no_suffix", "Bonn Oslo {'weight': 3}\nOslo Rome\nOslo Rome\n", FORWARD_EDGES),
        ("directed.gml", GML.format(directed=1), FORWARD_EDGES),
        ("undirected.GML", GML.format(directed=0), FORWARD_EDGES | BACKWARD_EDGES),
        ("directed.graphml", GRAPHML.format(directed="directed"), FORWARD_EDGES),
        ("undirected.xml", GRAPHML.format(directed="undirected"), FORWARD_EDGES | BACKWARD_EDGES),
    ],
)
def test_read_graph_keeps_names_and_directions(tmp_path, name, text, edges):
    (tmp_path / name).write_text(text)
    graph = read_graph(tmp_path / name)
    assert type(graph) is nx.DiGraph
    assert list(graph) == ["Bonn", "Oslo", "Rome"]
    assert set(graph.edges) == edges


@pytest.mark.parametrize(("suffix", "write"), [(".gml", nx.write_gml), (".graphml", nx.write_graphml)])
def test_read_graph_merges_parallel_edges_and_names_nodes(tmp_path, suffix, write):
    graph = nx.MultiDiGraph([(1, 2), (1, 2), (2, 2)])
    write(graph, tmp_path / f"graph{suffix}")
    read = read_graph(tmp_path / f"graph{suffix}")
    assert sorted(read.edges) == [("1", "2"), ("2", "2")]


KARATE = [(0, 1), (0, 2), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("name", "text", "edges", "source"),
    [
        ("a.csv", "a, b\nb,c,3\nc;d\n", [("a", "b"), ("b", "c"), ("c", "d")], "directed"),
        ("a.txt", '"New York" "Los Angeles" 5\n', [("New York", "Los Angeles")], "directed"),
        ("a.txt", "% asym positive\na b\n", [("a", "b")], "directed"),
        ("a.txt", "% sym unweighted\n% 1 2 2\na b\n", [("a", "b"), ("b", "a")], "undirected"),
        ("a.txt", "\ufeffa b\n", [("a", "b")], "directed"),
        ("a.gml", "graph [ node [ id 3 ] node [ id 5 ] edge [ source 3 target 5 ] ]", [("3", "5"), ("5", "3")], None),
        ("a.gml", '\ufeffgraph [ directed 1 node [ id 3 label "Zürich" ] node [ id 5 label "漢" ]'
                  " edge [ source 3 target 5 ] edge [ source 3 target 5 ] ]", [("Zürich", "漢")], "directed"),
        ("a.graphml", GRAPHML.format(directed="undirected").replace('target="Oslo"', 'target="Oslo" directed="true"'),
         [("Bonn", "Oslo"), ("Oslo", "Rome"), ("Rome", "Oslo")], "directed and undirected edges"),
    ],
)  # fmt: skip
def test_read_graph_understands_what_others_write(tmp_path, name, text, edges, source):
    (tmp_path / name).write_text(text, encoding="utf-8")
    graph = read_graph(tmp_path / name)
    assert sorted(graph.edges) == sorted(edges)
    if source:
        assert graph.graph["source"].endswith(f", {source}")


def test_edge_list_is_undirected_on_demand(tmp_path):
    (tmp_path / "karate.txt").write_text("".join(f"{start} {end}\n" for start, end in KARATE))
    assert len(read_graph(tmp_path / "karate.txt").edges) == len(KARATE)
    graph = read_graph(tmp_path / "karate.txt", undirected=True)
    assert set(graph.edges) == {(str(a), str(b)) for pair in KARATE for a, b in (pair, pair[::-1])}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.gml", 'graph [ node [ id 0 label 1 ] node [ id 1 label "1" ] ]', "two nodes have the name 1"),
        ("a.graphml", GRAPHML.format(directed="directed").replace(
            '<node id="Rome"/>', '<node id="Rome"><graph><node id="x"/></graph></node>'), "2 graphs"),
        ("a.graphml", GRAPHML.format(directed="directed").replace("</graph>", "<hyperedge/></graph>"), "hyperedges"),
        ("a.graphml", GRAPHML.format(directed="directed").replace('target="Rome"', 'target="Roma"'), "the node Roma"),
        ("a.txt", 'a b\n"open c\n', "line 2"),
        ("a.txt", 'a"b" c\n', "line 1"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    assert reason in error_message(lambda: read_graph(tmp_path / name), f"path {tmp_path / name}: ")


@pytest.mark.parametrize("suffix", [".txt", ".gml", ".graphml"])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory, suffix, data):
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    valid = {".txt": "a b\nb c\n", ".gml": GML.format(directed=1), ".graphml": GRAPHML.format(directed="directed")}[
        suffix
    ]
    text = data.draw(st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(valid))] * 2)))
    path.write_bytes(valid[:start].encode() + text + valid[end:].encode())
    with contextlib.suppress(ValueError):
        assert len(read_graph(path)) > 0
        return
    error_message(lambda: read_graph(path), f"path {path}: ")


def error_message(call, prefix):
    """The one-line message of the error that a call raises, after its prefix."""
    with pytest.raises(ValueError, match=f"^{re.escape(prefix)}") as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    return message.removeprefix(prefix)


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
def test_invalid_files_are_rejected_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert len(error_message(lambda: read_graph(path), f"path {path}: ")) < 250


@pytest.mark.parametrize("name", ["missing.txt", "missing.gml", "missing.xml", "folder", "folder.gml"])
def test_unreadable_files_are_rejected_in_one_line(tmp_path, name):
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    expected = "Is a directory" if name.startswith("folder") else "No such file or directory"
    assert error_message(lambda: read_graph(path), f"path {path}: ").startswith(expected)


def test_graphs_without_nodes_or_edges_to_plan_on_are_rejected(tmp_path):
    (tmp_path / "one.txt").write_text("a a\n")
    (tmp_path / "none.gml").write_text('graph [ node [ id 0 label "a" ] node [ id 1 label "b" ] ]')
    error_message(lambda: make_graph(tmp_path / "one.txt", 5, 0.5, 0), f"path {tmp_path / 'one.txt'}: 1 node")
    error_message(lambda: make_graph(tmp_path / "none.gml", 5, 0.5, 0), f"path {tmp_path / 'none.gml'}: 2 nodes and no")
    error_message(lambda: make_graph(None, 5, 0.0, 3), "edge_probability 0.0: 5 nodes and no edge")
    error_message(lambda: make_graph(None, 1, 0.5, 3), "num_nodes 1: 1 node, and a plan needs at least 2")
    assert set(make_graph(None, 8, 0.5, 3).edges) == set(make_random_graph(8, 0.5, 3).edges)


def test_find_node_returns_the_index_and_rejects_unknown_names():
    graph = nx.DiGraph([("Oslo", "Bonn"), ("Bonn", "Rome")])
    assert [find_node(graph, name) for name in ("Oslo", "Bonn", "Rome")] == [0, 1, 2]
    assert "Rome" in error_message(lambda: find_node(graph, "Roma"), "name Roma: ")


def test_random_graphs_are_a_function_of_the_seed():
    graph = make_random_graph(30, 0.2, seed=4)
    assert list(graph) == [str(node) for node in range(30)]
    assert nx.number_of_selfloops(graph) == 0
    assert set(make_random_graph(30, 0.2, seed=4).edges) == set(graph.edges)
    assert set(make_random_graph(30, 0.2, seed=5).edges) != set(graph.edges)
    # Each of 870 possible edges is there with probability 0.2: 174, give or take 12.
    assert abs(graph.number_of_edges() - 174) < 60
    assert any(not graph.has_edge(b, a) for a, b in graph.edges)  # directed


@pytest.fixture(scope="module")
def graph_and_device():
    """A random graph with a dead end, its nodes not in the order of their names; and the same on the device."""
    graph = make_random_graph(12, 0.25, seed=2)
    graph.remove_edges_from(list(graph.out_edges("5")))
    shuffled = nx.DiGraph()
    shuffled.add_nodes_from(sorted(graph, reverse=True))
    shuffled.add_edges_from(graph.edges)
    return shuffled, to_device(shuffled)


def test_to_device_has_exactly_the_edges_of_networkx(graph_and_device):
    graph, device = graph_and_device
    order = list(graph)
    successors, degree = map(np.asarray, device)
    assert (successors.dtype, degree.dtype) == (np.int32, np.int32)
    assert successors.shape == (12, max(dict(graph.out_degree).values()))
    for index, node in enumerate(order):
        expected_successors = sorted(order.index(successor) for successor in graph.successors(node))
        assert degree[index] == len(expected_successors)
        assert successors[index].tolist() == expected_successors + [-1] * (
            successors.shape[1] - len(expected_successors)
        )


def test_to_device_accepts_a_graph_without_edges():
    device = to_device(nx.empty_graph(3, create_using=nx.DiGraph))
    assert np.asarray(device.successors).tolist() == [[-1], [-1], [-1]]
    assert np.asarray(device.degree).tolist() == [0, 0, 0]


def test_step_follows_edges_and_otherwise_stays(graph_and_device):
    graph, device = graph_and_device
    order = list(graph)
    sources, targets = np.divmod(np.arange(144, dtype=np.int32), np.int32(12))
    edges = [graph.has_edge(order[a], order[b]) for a, b in zip(sources, targets, strict=True)]
    assert np.asarray(jax.jit(is_edge)(device, sources, targets)).tolist() == edges
    np.testing.assert_array_equal(jax.jit(step)(device, sources, targets), np.where(edges, targets, sources))


def test_no_edge_leads_to_node_minus_1(graph_and_device):
    _, device = graph_and_device
    sources = np.arange(12, dtype=np.int32)
    assert not jax.jit(is_edge)(device, sources, np.full(12, -1, np.int32)).any()


@pytest.fixture(scope="module")
def walk_samples(graph_and_device):
    """2,000 random walks of at most 12 states."""
    sample = jax.jit(lambda key: sample_walks(graph_and_device[1], key, 2000, 12))
    return sample, *jax.device_get(sample(jax.random.key(0)))


def test_walks_follow_edges_and_end_at_dead_ends_only(graph_and_device, walk_samples):
    graph, _ = graph_and_device
    order = list(graph)
    _, nodes, lengths = walk_samples
    assert (nodes.shape, lengths.shape) == ((2000, 12), (2000,))
    num_ended = 0
    for walk, length in zip(nodes.tolist(), lengths.tolist(), strict=True):
        names = [order[node] for node in walk[:length]]
        assert all(graph.has_edge(*edge) for edge in itertools.pairwise(names))
        if length < 12:
            assert graph.out_degree(names[-1]) == 0
            num_ended += 1
    assert 0 < num_ended < 2000


def test_walks_have_uniform_starts_and_steps(graph_and_device, walk_samples):
    """Chi-square statistics of fixed draws, each a few standard deviations around its degrees of freedom."""
    _, device = graph_and_device
    _, nodes, lengths = walk_samples
    starts = np.bincount(nodes[:, 0], minlength=12)
    assert np.sum((starts - 2000 / 12) ** 2 / (2000 / 12)) < 11 + 4 * np.sqrt(22)
    edge_counts = Counter()
    for walk, length in zip(nodes.tolist(), lengths.tolist(), strict=True):
        edge_counts.update(itertools.pairwise(walk[:length]))
    for node, degree in enumerate(np.asarray(device.degree).tolist()):
        counts = np.array(
            [edge_counts[node, successor] for successor in np.asarray(device.successors)[node, :degree].tolist()]
        )
        if degree > 1:
            expected = counts.sum() / degree
            assert expected > 50
            assert np.sum((counts - expected) ** 2 / expected) < degree - 1 + 5 * np.sqrt(2 * (degree - 1))


def test_walks_are_a_function_of_the_key(walk_samples):
    sample, nodes, lengths = walk_samples
    nodes_again, lengths_again = sample(jax.random.key(0))
    np.testing.assert_array_equal(nodes_again, nodes)
    np.testing.assert_array_equal(lengths_again, lengths)
    assert np.mean(sample(jax.random.key(1))[0] != nodes) > 0.5


def test_graph_with_only_self_loops_is_rejected(tmp_path):
    path = tmp_path / "loops.txt"
    path.write_text("a a\nb b\n")
    error_message(lambda: make_graph(path, 5, 0.5, 0), f"path {path}: 2 nodes and no edge")
