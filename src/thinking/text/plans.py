"""Plans of the language guide: their form on disk, and as a tree.

A folder of plans holds plans.jsonl, one plan a line; plans.safetensors, the vectors of their nodes; and plans.json,
which comes last and vouches for the other two.

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

from thinking.colors import MARK, PROMPT, THOUGHT
from thinking.errors import UserError
from thinking.files import write_json, write_whole

PLANS, VECTORS, MANIFEST = "plans.jsonl", "plans.safetensors", "plans.json"


class PlanNode(NamedTuple):
    """A step, or a sub-goal.

    Attributes:
        level: 0 for a step; a sub-goal is above those that serve it.
        nearest_text: the nearest known sentence; of a sub-goal the heading of the nearest known section.
        cosine: between the node's vector and that of what is nearest.
        vector_index: row of the vectors that are saved with the plans.
    """

    level: int
    nearest_text: str
    cosine: float
    vector_index: int


class Plan(NamedTuple):
    """What the guide would do to reach a goal.

    Attributes:
        goal: in words.
        split: "train", "held_out" or "compound", or "asked" for a goal that a person gave.
        mode: "think", or "react" where the guide was shown what was really done.
        nodes: in preorder: a node belongs to the last one before it of a higher level.
        done: whether the guide said itself that the goal is reached, and was not cut off.
        num_given: how many of the first steps were given to it as done.
        reference: steps of a text for this goal; empty if there is none.
        scores: figures of this plan by name.
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
        """The steps alone, in order."""
        return tuple(node for node in self.nodes if node.level == 0)


class Branch(NamedTuple):
    """A node and the branches that belong to it."""

    node: PlanNode
    children: list["Branch"]


def build_branches(nodes: Iterable[PlanNode]) -> list[Branch]:
    """Nodes in preorder as branches, in their order."""
    outermost: list[Branch] = []
    above: list[Branch] = []  # the branches that the next node may belong to, each within the one before
    for node in nodes:
        while above and above[-1].node.level <= node.level:
            above.pop()
        branch = Branch(node, [])
        (above[-1].children if above else outermost).append(branch)
        above.append(branch)
    return outermost


def render_tree(plan: Plan) -> Tree:
    """A plan for the terminal: sub-goals with their cosines, and below them steps, numbered throughout."""
    numbers = itertools.count(1)

    def grow(place: Tree, branches: Iterable[Branch]) -> None:
        for node, inner in branches:
            label = _heading(node) if node.level else _step(node, next(numbers), plan.num_given)
            grow(place.add(label), inner)

    title = Words.assemble((plan.goal, PROMPT), (f"  {plan.split}, {plan.mode}", MARK))
    if not plan.done:
        title.append("  (cut off)", "yellow")
    root = Tree(title, guide_style=MARK)
    grow(root, build_branches(plan.nodes))
    return root


def save(folder: Path, plans: Sequence[Plan], vectors: np.ndarray) -> None:
    """Write plans and the vectors of their nodes, in place of those that the folder holds.

    Args:
        folder: created if need be. One that is cut short holds no plans.
        plans: in any order.
        vectors: [M, D] float32.

    Raises:
        ValueError: a node has no vector, or a number is not finite.
    """
    from safetensors.numpy import save as tensors

    for plan in plans:
        for node in plan.nodes:
            if not 0 <= node.vector_index < len(vectors):
                raise ValueError(
                    f"{plan.goal}: vector {node.vector_index} of `{node.nearest_text}`: there are {len(vectors)}"
                )
    lines = "".join(json.dumps(_to_json(plan), ensure_ascii=False, allow_nan=False) + "\n" for plan in plans)
    files = {PLANS: lines.encode(), VECTORS: tensors({"nodes": np.ascontiguousarray(vectors, np.float32)})}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_json(folder / MANIFEST, {"plans": len(plans), "vectors": list(vectors.shape), "sha256": sums})


def load(folder: Path) -> tuple[tuple[Plan, ...], np.ndarray]:
    """The plans of a folder, and their vectors [M, D] float32.

    Raises:
        UserError: there are none, or a file is not as it was written.
    """
    from safetensors.numpy import load as tensors

    try:
        sums = json.loads((folder / MANIFEST).read_bytes())["sha256"]
        files = {name: (folder / name).read_bytes() for name in (PLANS, VECTORS)}
        edited = [name for name, content in files.items() if hashlib.sha256(content).hexdigest() != sums[name]]
    except FileNotFoundError as error:
        # Without its seal a folder has no plans; without another file it lost them.
        lacks = "no plans" if error.filename == str(folder / MANIFEST) else f"no {Path(error.filename).name}"
        raise UserError(f"{folder} has {lacks}: run tasks/lm_guide_inference.py first") from None
    except (ValueError, KeyError, TypeError):
        edited = [MANIFEST]
    if edited:
        raise UserError(f"{folder / edited[0]} is damaged or edited: run tasks/lm_guide_inference.py again")
    # Not `splitlines`: a sentence may hold characters that it takes for the end of a line.
    lines = [json.loads(line) for line in files[PLANS].split(b"\n") if line]
    return tuple(map(_from_json, lines)), tensors(files[VECTORS])["nodes"]


def _heading(node: PlanNode) -> Words:
    return Words.assemble((node.nearest_text, f"bold {THOUGHT}"), (f"  {node.cosine:.2f}", MARK))


def _step(node: PlanNode, number: int, num_given: int) -> Words:
    label = Words(f"{number}. {node.nearest_text}")
    return label.append("  (given)", MARK) if number <= num_given else label


def _to_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON knows it; numbers may be NumPy's."""
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
