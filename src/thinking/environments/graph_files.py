"""Graphs from files: edge lists, GML and GraphML.

Whatever a file says that is not understood is refused, and not left out.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import networkx as nx

_NAME = r'(?:"([^"]+)"|([^\s,;"]+))'
_EDGE = re.compile(rf"\s*{_NAME}[\s,;]+{_NAME}(?:[\s,;]|$)")
_COMMENT = re.compile(r"(^|\s)#.*")
_KONECT_HEADERS = {"sym": True, "asym": False, "bip": True}  # whether edges are undirected


def read_graph(path: Path, *, undirected: bool = False) -> nx.DiGraph:
    """Read a graph from GML (.gml), GraphML (.graphml, .xml) or an edge list (any other suffix).

    An edge list has one `FROM TO` per line, separated by spaces, tabs, commas or semicolons; the rest of the line is
    ignored, and so are comments after `#` and lines that begin with `%`. Names with spaces stand in double quotes. Its
    edges are directed, unless `undirected` or a first line as `% sym unweighted` (KONECT) says otherwise.
    GML and GraphML say themselves whether edges are directed. An undirected edge becomes two directed ones.

    Args:
        path: of the file.
        undirected: whether the edges of an edge list have no direction.

    Returns:
        The graph; nodes have their names (in GML labels, or ids where there are none). `graph.graph["source"]` says how
        the file was read.

    Raises:
        ValueError: if the file cannot be read, is malformed, has no node, or holds what a graph cannot (hyperedges,
            graphs within nodes, two nodes of one name).
    """
    suffix = path.suffix.lower()
    kind = {".gml": "GML", ".graphml": "GraphML", ".xml": "GraphML"}.get(suffix, "an edge list")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if kind == "an edge list":
            graph = _read_edges(text, undirected)
        else:
            graph = (_read_gml if kind == "GML" else _read_graphml)(text)
    except OSError as error:
        raise ValueError(f"path {path}: {error.strerror}; give a file that exists and can be read") from error
    except (nx.NetworkXError, ValueError, SyntaxError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"path {path}: not {kind} ({reason}); allowed are edge lists, .gml and .graphml") from error
    if graph.number_of_nodes() == 0:
        raise ValueError(f"path {path}: no node in it; an edge list has one `FROM TO` a line")
    graph.graph["source"] = f"{kind}, {graph.graph['source']}"
    return graph


def _read_edges(text: str, undirected: bool) -> nx.DiGraph:
    edges = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("%"):
            header = line.lstrip("% \t").split()[:1]
            undirected = _KONECT_HEADERS.get(header[0], undirected) if header else undirected
            continue
        if content := _COMMENT.sub("", line).strip():
            edge = _EDGE.match(content)
            if edge is None:
                raise ValueError(f"line {number} is `{content[:40]}`, and not FROM TO")
            edges.append((edge[1] or edge[2], edge[3] or edge[4], undirected))
    return _make_graph((), edges)


def _read_gml(text: str) -> nx.DiGraph:
    # Without this word two edges between the same nodes are refused.
    head, bracket, rest = text.partition("graph") if "multigraph" not in text else (text, "", "")
    rest = rest.replace("[", "[ multigraph 1", 1)
    parsed = nx.parse_gml((head + bracket + rest).splitlines(), label=None)
    labels = {node: data.get("label") for node, data in parsed.nodes(data=True)}
    names = {node: str(node if None in labels.values() else label) for node, label in labels.items()}
    undirected = not parsed.is_directed()
    return _make_graph(
        names.values(), [(names[start], names[end], undirected) for start, end, *_ in parsed.edges(keys=True)]
    )


def _read_graphml(text: str) -> nx.DiGraph:
    root = ET.fromstring(text.encode())
    tags = Counter(_tag(element) for element in root.iter())
    if _tag(root) != "graphml" or tags["graph"] != 1:
        raise ValueError(f"it holds {tags['graph']} graphs, and one is read")
    if tags["hyperedge"] or tags["port"]:
        raise ValueError("hyperedges and ports are no part of a plain graph")
    (graph,) = (element for element in root if _tag(element) == "graph")
    default = graph.get("edgedefault", "directed")
    names = [element.attrib["id"] for element in graph if _tag(element) == "node"]
    edges = [
        (
            element.attrib["source"],
            element.attrib["target"],
            element.get("directed", str(default == "directed").lower()) != "true",
        )
        for element in graph
        if _tag(element) == "edge"
    ]
    if (len(names), len(edges)) != (tags["node"], tags["edge"]):
        raise ValueError("a node or an edge lies within another one")
    if unknown := {name for edge in edges for name in edge[:2]} - set(names):
        raise ValueError(f"an edge names the node {min(unknown)}, and there is none")
    return _make_graph(names, edges)


def _tag(element: ET.Element) -> str:
    """A tag without its namespace."""
    return element.tag.rpartition("}")[2]


def _make_graph(names: Iterable[str], edges: list[tuple[str, str, bool]]) -> nx.DiGraph:
    """The graph of nodes and (from, to, undirected) edges; parallel edges are one."""
    names = list(names)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"two nodes have the name {twice[0]}")
    kinds = {undirected for *_, undirected in edges}
    source = "directed and undirected edges" if len(kinds) == 2 else "undirected" if True in kinds else "directed"
    graph = nx.DiGraph(source=source)
    graph.add_nodes_from(names)
    graph.add_edges_from((start, end) for start, end, _ in edges)
    graph.add_edges_from((end, start) for start, end, undirected in edges if undirected)
    return graph
