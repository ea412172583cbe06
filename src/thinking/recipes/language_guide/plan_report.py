"""The report of plans: JSON objects, and a self-contained HTML page."""

import collections
import functools
import html
import itertools
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, TypeAlias

from markdown_it import MarkdownIt

from thinking.recipes.language_guide.scores import average_scores
from thinking.text.plans import Branch, Plan, build_branches

Entry: TypeAlias = dict[str, Any]


def make_entry(plan: Plan, text: str, writer: str, meaning: Callable[[str], str]) -> Entry:
    """The report's entry of a plan.

    Args:
        plan: with its reference.
        text: the written plan, in Markdown.
        writer: name of the writer.
        meaning: maps all wordings of a step to one. Steps of plan and reference match by meaning, each at most once.

    Returns:
        The plan's fields, and `plan`: nested objects of `sub_goal` and `inner`, or of `step`, `given` and
        `in_reference` (null without a reference); `reference`: objects of `step` and `in_plan`.
    """
    steps = [meaning(node.nearest_text) for node in plan.steps]
    reference = [meaning(step) for step in plan.reference]
    in_reference = _match_once(steps, reference) if reference else [None] * len(steps)
    marks = ({"given": index < plan.num_given, "in_reference": mark} for index, mark in enumerate(in_reference))
    return {
        "goal": plan.goal,
        "split": plan.split,
        "mode": plan.mode,
        "ended": plan.done,
        "scores": dict(plan.scores),
        "plan": _to_json(build_branches(plan.nodes), marks),
        "writer": writer,
        "text": text,
        "reference": [
            {"step": step, "in_plan": mark}
            for step, mark in zip(plan.reference, _match_once(reference, steps), strict=True)
        ],
    }


def render_page(entries: Sequence[Entry], rows: Sequence[Mapping[str, Any]], about: str) -> str:
    """Render the report as HTML. All content is escaped, and the page loads nothing.

    Args:
        entries: of `make_entry`, in order.
        rows: a table of means.
        about: a line about the plans.
    """
    template = resources.files("thinking.recipes.language_guide").joinpath("data/report.html").read_text("utf-8")
    return string.Template(template).substitute(
        about=html.escape(about),
        means=_render_table(rows),
        splits=_render_options(entry["split"] for entry in entries),
        modes=_render_options(entry["mode"] for entry in entries),
        plans="\n".join(_render_plan(entry, index == 0) for index, entry in enumerate(entries)),
    )


def mean_rows(plans: Sequence[Plan], splits: Sequence[str], modes: Sequence[str]) -> list[dict[str, Any]]:
    """A row per split and mode: number of plans, fraction that ended by themselves, and `average_scores`.

    A score that no plan of a row has is None.
    """
    rows = []
    for split, mode in itertools.product(splits, modes):
        selected = [plan for plan in plans if (plan.split, plan.mode) == (split, mode)]
        if not selected:
            continue
        row = {
            "split": split,
            "mode": mode,
            "num_plans": len(selected),
            "ended_fraction": sum(plan.done for plan in selected) / len(selected),
        }
        averages = average_scores([plan.scores for plan in selected], [len(plan.reference) for plan in selected])
        names = dict.fromkeys(name for plan in plans for name in plan.scores)
        rows.append(row | {name: averages.get(name) for name in names})
    return rows


def _match_once(steps: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Whether each step is among others, each of which matches once."""
    remaining = collections.Counter(others)
    matches = []
    for step in steps:
        matches.append(remaining[step] > 0)
        remaining[step] -= 1
    return matches


def _to_json(branches: Iterable[Branch], marks: Iterator[Entry]) -> list[Entry]:
    """Branches as JSON objects; each step takes the next marks."""
    return [
        {"step": node.nearest_text, "cosine": node.cosine, **next(marks)}
        if node.level == 0
        else {"sub_goal": node.nearest_text, "cosine": node.cosine, "inner": _to_json(inner, marks)}
        for node, inner in branches
    ]


def _render_table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{_format_words(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_render_cell(row.get(column)) for column in columns)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _render_cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td>{_format_words(value)}</td>"
    return f'<td class="number">{"–" if value is None else _format_number(value)}</td>'  # noqa: RUF001


def _render_options(values: Iterable[str]) -> str:
    return "".join(
        f'<option value="{html.escape(value)}">{_format_words(value)}</option>' for value in dict.fromkeys(values)
    )


def _render_plan(entry: Entry, is_open: bool) -> str:
    tags = [entry["split"], entry["mode"], *([] if entry["ended"] else ["cut off"])]
    tags = "".join(f'<span class="tag">{_format_words(tag)}</span>' for tag in tags)
    goal, words, split, mode = map(html.escape, (entry["goal"], entry["goal"].lower(), entry["split"], entry["mode"]))
    reference = entry["reference"]
    marks = [step["in_plan"] for step in reference]
    share = f'<span class="share">✓ {sum(marks)}/{len(marks)}</span>' if marks else ""
    plan_marks = [step["in_reference"] for step in _iterate_steps(entry["plan"])]
    columns = (
        _render_column(
            "Plan",
            _describe_matches(plan_marks, "reference"),
            _render_tree(entry["plan"], itertools.count(1)),
            "It is empty.",
        ),
        _render_column("Text", entry["writer"], _make_markdown_parser().render(entry["text"]), "Nothing was written."),
        _render_column("Reference", _describe_matches(marks, "plan"), _render_list(reference), "None is known."),
    )
    return f"""<details data-goal="{words}" data-split="{split}" data-mode="{mode}"{" open" * is_open}>
<summary><span class="goal">{goal}</span>{share}{tags}</summary>
<dl>{"".join(_render_score(*score) for score in entry["scores"].items())}</dl>
<div class="columns">{"".join(columns)}</div>
</details>"""


def _render_column(title: str, note: str, content: str, otherwise: str) -> str:
    heading = f"<h3>{title} <small>{html.escape(note)}</small></h3>"
    content = content or f'<p class="none">{otherwise}</p>'
    return f'<section class="{title.lower()}">{heading}<div>{content}</div></section>'


def _describe_matches(marks: Sequence[bool | None], where: str) -> str:
    """How many steps the other side has, if there is one."""
    return "" if None in marks or not marks else f"✓ {sum(marks)} of {len(marks)} are in the {where}"


def _iterate_steps(objects: Iterable[Entry]) -> Iterator[Entry]:
    for node in objects:
        if "step" in node:
            yield node
        else:
            yield from _iterate_steps(node["inner"])


def _render_score(name: str, value: float) -> str:
    share = f' style="--share: {value:.1%}"' if 0 <= value <= 1 else ""
    return f"<div{share}><dt>{_format_words(name)}</dt><dd>{_format_number(value)}</dd></div>"


def _render_list(reference: Sequence[Entry]) -> str:
    items = (
        f'<li class="{"found" if step["in_plan"] else "missing"}"><span>{html.escape(step["step"])}</span></li>'
        for step in reference
    )
    return f"<ol>{''.join(items)}</ol>" if reference else ""


def _render_tree(objects: Sequence[Entry], numbers: Iterator[int]) -> str:
    """Nested lists with numbered steps."""
    return f"<ul>{''.join(_render_branch(node, numbers) for node in objects)}</ul>" if objects else ""


def _render_branch(node: Entry, numbers: Iterator[int]) -> str:
    cosine = f'<span class="cosine">{node["cosine"]:.2f}</span>'
    if "sub_goal" in node:
        return f"<li><b>{html.escape(node['sub_goal'])}</b>{cosine}{_render_tree(node['inner'], numbers)}</li>"
    kind = {True: "found", False: "astray", None: ""}[node["in_reference"]]
    given_tag = ' <span class="tag">given</span>' if node["given"] else ""
    words = f'<span class="words">{html.escape(node["step"])}{given_tag}</span>'
    return f'<li class="step {kind}"><span class="place">{next(numbers)}</span>{words}{cosine}</li>'


@functools.cache
def _make_markdown_parser() -> MarkdownIt:
    # A model's Markdown may contain no HTML, and nothing that a browser would load or follow.
    return MarkdownIt("commonmark", {"html": False}).disable(["link", "autolink", "image", "reference"])


def _format_words(name: str) -> str:
    return html.escape(name.replace("_", " "))


def _format_number(value: float) -> str:
    """At least three significant digits."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")
