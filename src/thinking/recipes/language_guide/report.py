"""A report of plans: a mapping for each as JSON knows it, and one page of HTML that needs nothing but itself."""

import collections
import functools
import html
import itertools
import statistics
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, TypeAlias

from markdown_it import MarkdownIt

from thinking.text.plans import Branch, Plan, build_branches

Entry: TypeAlias = dict[str, Any]


def make_entry(plan: Plan, text: str, writer: str, meaning: Callable[[str], str]) -> Entry:
    """What the report says of a plan.

    Args:
        plan: with its steps and those of a reference.
        text: the plan written out, in Markdown.
        writer: who wrote the text.
        meaning: the same for all wordings of a step. A step of the plan that means what one of the reference means
            counts as found there, and the other way round, each once.

    Returns:
        The plan's fields; `plan`, nested objects of `sub_goal` and `inner`, or of `step`, `given`, and whether it is
        `in_reference` (null without one); `reference`, objects of `step`, and whether it is `in_plan`.
    """
    steps = [meaning(node.nearest_text) for node in plan.steps]
    reference = [meaning(step) for step in plan.reference]
    found = _found(steps, reference) if reference else [None] * len(steps)
    marks = ({"given": place < plan.num_given, "in_reference": mark} for place, mark in enumerate(found))
    return {
        "goal": plan.goal,
        "split": plan.split,
        "mode": plan.mode,
        "ended": plan.done,
        "scores": dict(plan.scores),
        "plan": _objects(build_branches(plan.nodes), marks),
        "writer": writer,
        "text": text,
        "reference": [
            {"step": step, "in_plan": mark} for step, mark in zip(plan.reference, _found(reference, steps), strict=True)
        ],
    }


def render_page(entries: Sequence[Entry], rows: Sequence[Mapping[str, Any]], about: str) -> str:
    """The report as HTML. All that it is made of is escaped, and it loads nothing.

    Args:
        entries: of `make_entry`, in the order in which they are shown.
        rows: a table of means, shown above them.
        about: a line on where the plans come from.
    """
    template = resources.files("thinking.recipes.language_guide").joinpath("data/report.html").read_text("utf-8")
    return string.Template(template).substitute(
        about=html.escape(about),
        means=_table(rows),
        splits=_options(entry["split"] for entry in entries),
        modes=_options(entry["mode"] for entry in entries),
        plans="\n".join(_plan(entry, place == 0) for place, entry in enumerate(entries)),
    )


def mean_rows(plans: Sequence[Plan], splits: Sequence[str], modes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each split and mode: how many plans, how many of them ended by themselves, and the mean of each score.

    A plan that lacks a score does not count in its mean.
    """
    rows = []
    for split, mode in itertools.product(splits, modes):
        of_both = [plan for plan in plans if (plan.split, plan.mode) == (split, mode)]
        if not of_both:
            continue
        row = {
            "split": split,
            "mode": mode,
            "plans": len(of_both),
            "ended_percent": 100 * sum(plan.done for plan in of_both) / len(of_both),
        }
        for name in dict.fromkeys(name for plan in plans for name in plan.scores):
            scores = [plan.scores[name] for plan in of_both if name in plan.scores]
            row[name] = statistics.fmean(scores) if scores else None
        rows.append(row)
    return rows


def _found(steps: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Whether each step is among others; one of those that was found is used up."""
    left = collections.Counter(others)
    found = []
    for step in steps:
        found.append(left[step] > 0)
        left[step] -= 1
    return found


def _objects(branches: Iterable[Branch], marks: Iterator[Entry]) -> list[Entry]:
    """Branches as objects; each step takes the next marks."""
    return [
        {"step": node.nearest_text, "cosine": node.cosine, **next(marks)}
        if node.level == 0
        else {"sub_goal": node.nearest_text, "cosine": node.cosine, "inner": _objects(inner, marks)}
        for node, inner in branches
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{_words(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(row.get(column)) for column in columns)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td>{_words(value)}</td>"
    return f'<td class="number">{"–" if value is None else _number(value)}</td>'  # noqa: RUF001


def _options(values: Iterable[str]) -> str:
    return "".join(f'<option value="{html.escape(value)}">{_words(value)}</option>' for value in dict.fromkeys(values))


def _plan(entry: Entry, is_open: bool) -> str:
    tags = [entry["split"], entry["mode"], *([] if entry["ended"] else ["cut off"])]
    tags = "".join(f'<span class="tag">{_words(tag)}</span>' for tag in tags)
    goal, words, split, mode = map(html.escape, (entry["goal"], entry["goal"].lower(), entry["split"], entry["mode"]))
    reference = entry["reference"]
    marks = [step["in_plan"] for step in reference]
    share = f'<span class="share">✓ {sum(marks)}/{len(marks)}</span>' if marks else ""
    plan_marks = [step["in_reference"] for step in _steps(entry["plan"])]
    columns = (
        _column("Plan", _count(plan_marks, "reference"), _tree(entry["plan"], itertools.count(1)), "It is empty."),
        _column("Text", entry["writer"], _markdown().render(entry["text"]), "Nothing was written."),
        _column("Reference", _count(marks, "plan"), _list(reference), "None is known."),
    )
    return f"""<details data-goal="{words}" data-split="{split}" data-mode="{mode}"{" open" * is_open}>
<summary><span class="goal">{goal}</span>{share}{tags}</summary>
<dl>{"".join(_score(*score) for score in entry["scores"].items())}</dl>
<div class="columns">{"".join(columns)}</div>
</details>"""


def _column(title: str, note: str, content: str, otherwise: str) -> str:
    heading = f"<h3>{title} <small>{html.escape(note)}</small></h3>"
    content = content or f'<p class="none">{otherwise}</p>'
    return f'<section class="{title.lower()}">{heading}<div>{content}</div></section>'


def _count(marks: Sequence[bool | None], where: str) -> str:
    """How many steps are found on the other side, where there is one."""
    return "" if None in marks or not marks else f"✓ {sum(marks)} of {len(marks)} are in the {where}"


def _steps(objects: Iterable[Entry]) -> Iterator[Entry]:
    for found in objects:
        if "step" in found:
            yield found
        else:
            yield from _steps(found["inner"])


def _score(name: str, value: float) -> str:
    share = f' style="--share: {value:.1%}"' if 0 <= value <= 1 else ""
    return f"<div{share}><dt>{_words(name)}</dt><dd>{_number(value)}</dd></div>"


def _list(reference: Sequence[Entry]) -> str:
    items = (
        f'<li class="{"found" if found["in_plan"] else "missing"}"><span>{html.escape(found["step"])}</span></li>'
        for found in reference
    )
    return f"<ol>{''.join(items)}</ol>" if reference else ""


def _tree(objects: Sequence[Entry], numbers: Iterator[int]) -> str:
    """Nested lists; steps are numbered throughout."""
    return f"<ul>{''.join(_branch(found, numbers) for found in objects)}</ul>" if objects else ""


def _branch(found: Entry, numbers: Iterator[int]) -> str:
    cosine = f'<span class="cosine">{found["cosine"]:.2f}</span>'
    if "sub_goal" in found:
        return f"<li><b>{html.escape(found['sub_goal'])}</b>{cosine}{_tree(found['inner'], numbers)}</li>"
    kind = {True: "found", False: "astray", None: ""}[found["in_reference"]]
    given = ' <span class="tag">given</span>' if found["given"] else ""
    words = f'<span class="words">{html.escape(found["step"])}{given}</span>'
    return f'<li class="step {kind}"><span class="place">{next(numbers)}</span>{words}{cosine}</li>'


@functools.cache
def _markdown() -> MarkdownIt:
    # What a model writes is shown as text: no tags of its own, and nothing that a browser would fetch or follow.
    return MarkdownIt("commonmark", {"html": False}).disable(["link", "autolink", "image", "reference"])


def _words(name: str) -> str:
    return html.escape(name.replace("_", " "))


def _number(value: float) -> str:
    """At least three digits, so that figures of a column end alike."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")
