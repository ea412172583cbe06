"""Plans of the language guide, a hierarchical planner over sentence embeddings: file format and rendering as a tree.

A folder of plans has plans.jsonl (one plan per line), plans.safetensors (vectors of the nodes), and plans.json, written
last, with checksums of the others.

Axes: M vectors, D dimensions.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.text import Text as Words
from rich.tree import Tree
from typing_extensions import TypedDict

from thinking.colors import PROMPT, SECONDARY, THOUGHT
from thinking.errors import UserError
from thinking.files import parse_json, write_atomic, write_json

PLANS, VECTORS, MANIFEST = "plans.jsonl", "plans.safetensors", "plans.json"


class _SavedManifest(TypedDict, extra_items=Any):
    """What is read of plans.json."""

    sha256: dict[str, str]


class PlanNode(NamedTuple):
    """A step or a sub-goal.

    Attributes:
        level: 0 for a step; a sub-goal is above the nodes that serve it.
        nearest_text: the nearest known sentence, or for a sub-goal the heading of the nearest known section.
        cosine: cosine similarity of the node's vector and the nearest one.
        vector_index: row of the node's vector.
    """

    level: int
    nearest_text: str
    cosine: float
    vector_index: int


class Plan(NamedTuple):
    """A plan of the guide for a goal.

    Attributes:
        goal: in words.
        split: "train", "held_out", "compound", or "custom" for a goal that a user typed.
        mode: "think" (open loop), or "react" (closed loop, on the steps of the reference).
        nodes: in preorder: the parent of a node is the last one before it with a higher level.
        done: whether the guide predicted the end itself, before the step limit.
        num_given: number of first steps that were given as done.
        reference: steps of a text for this goal; empty if there is none.
        scores: scores of this plan by name.
    """

    goal: str
    split: str
    mode: str
    nodes: tuple[PlanNode, ...]
    done: bool
    num_given: int
    reference: tuple[str, ...]
    scores: Mapping[str, float]

    @property
    def steps(self) -> tuple[PlanNode, ...]:
        """The steps, in order."""
        return tuple(node for node in self.nodes if node.level == 0)


class Branch(NamedTuple):
    """A node and its branches."""

    node: PlanNode
    children: list["Branch"]


def build_branches(nodes: Iterable[PlanNode]) -> list[Branch]:
    """Nodes in preorder as branches."""
    outermost: list[Branch] = []
    above: list[Branch] = []  # the path to the current node
    for node in nodes:
        while above and above[-1].node.level <= node.level:
            above.pop()
        branch = Branch(node, [])
        (above[-1].children if above else outermost).append(branch)
        above.append(branch)
    return outermost


def render_tree(plan: Plan) -> Tree:
    """A plan for the terminal: sub-goals with their cosine similarities, and numbered steps."""
    numbers = itertools.count(1)

    def add_branches(parent: Tree, branches: Iterable[Branch]) -> None:
        for node, inner in branches:
            label = _heading(node) if node.level else _step(node, next(numbers), plan.num_given)
            add_branches(parent.add(label), inner)

    title = Words.assemble((plan.goal, PROMPT), (f"  {plan.split}, {plan.mode}", SECONDARY))
    if not plan.done:
        title.append("  (cut off)", "yellow")
    root = Tree(title, guide_style=SECONDARY)
    add_branches(root, build_branches(plan.nodes))
    return root


def save(folder: Path, plans: Sequence[Plan], vectors: np.ndarray) -> None:
    """Write plans and the vectors of their nodes, replacing those of the folder.

    Args:
        folder: created if needed. An interrupted write leaves no valid plans.
        plans: in any order.
        vectors: [M, D] float32.

    Raises:
        ValueError: a node has no vector, or a number is not finite.
    """
    from safetensors.numpy import save as save_tensors

    for plan in plans:
        for node in plan.nodes:
            if not 0 <= node.vector_index < len(vectors):
                raise ValueError(
                    f"{plan.goal}: vector {node.vector_index} of `{node.nearest_text}`: there are {len(vectors)}"
                )
    lines = "".join(json.dumps(_to_json(plan), ensure_ascii=False, allow_nan=False) + "\n" for plan in plans)
    files = {PLANS: lines.encode(), VECTORS: save_tensors({"nodes": np.ascontiguousarray(vectors, np.float32)})}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in files.items():
        write_atomic(folder / name, content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_json(folder / MANIFEST, {"plans": len(plans), "vectors": list(vectors.shape), "sha256": sums})


def load(folder: Path) -> tuple[tuple[Plan, ...], np.ndarray]:
    """Load the plans of a folder, and their vectors [M, D] float32.

    Raises:
        UserError: there are none, or a file does not match its checksum.
    """
    from safetensors.numpy import load as load_tensors

    try:
        sums = parse_json((folder / MANIFEST).read_bytes(), _SavedManifest)["sha256"]
        files = {name: (folder / name).read_bytes() for name in (PLANS, VECTORS)}
        edited = [name for name, content in files.items() if hashlib.sha256(content).hexdigest() != sums.get(name)]
    except FileNotFoundError as error:
        # Without its manifest a folder has no plans.
        lacks = "no plans" if error.filename == str(folder / MANIFEST) else f"no {Path(error.filename).name}"
        raise UserError(f"{folder} has {lacks}: run tasks/lm_guide_inference.py first") from None
    except (ValueError, IsADirectoryError):
        edited = [MANIFEST]
    if edited:
        raise UserError(f"{folder / edited[0]} is damaged or edited: run tasks/lm_guide_inference.py again")
    # Not `splitlines`, which also splits at characters that a sentence may contain.
    lines = [json.loads(line) for line in files[PLANS].split(b"\n") if line]
    return tuple(map(_from_json, lines)), load_tensors(files[VECTORS])["nodes"]


def _heading(node: PlanNode) -> Words:
    return Words.assemble((node.nearest_text, f"bold {THOUGHT}"), (f"  {node.cosine:.2f}", SECONDARY))


def _step(node: PlanNode, number: int, num_given: int) -> Words:
    label = Words(f"{number}. {node.nearest_text}")
    return label.append("  (given)", SECONDARY) if number <= num_given else label


def _to_json(plan: Plan) -> dict[str, Any]:
    """A plan as a JSON object; numbers may be NumPy's."""
    return {
        "goal": plan.goal,
        "split": plan.split,
        "mode": plan.mode,
        "nodes": [
            [int(node.level), node.nearest_text, float(node.cosine), int(node.vector_index)] for node in plan.nodes
        ],
        "ended": bool(plan.done),
        "given": int(plan.num_given),
        "reference": plan.reference,
        "scores": {name: float(score) for name, score in plan.scores.items()},
    }


def _from_json(line: dict[str, Any]) -> Plan:
    return Plan(
        goal=line["goal"],
        split=line["split"],
        mode=line["mode"],
        nodes=tuple(PlanNode(*node) for node in line["nodes"]),
        done=line["ended"],
        num_given=line["given"],
        reference=tuple(line["reference"]),
        scores=line["scores"],
    )
