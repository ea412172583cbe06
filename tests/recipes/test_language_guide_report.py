"""The report of plans: what it says is true, and the page shows it as it is and needs nothing else."""

from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given
from tests.text.test_plans import PLANS, SHELF

from thinking.recipes.language_guide import report
from thinking.text.plans import PlanNode

NASTY = '<script>alert("1")</script> & \'<img src="http://evil/x.png" onerror=alert(2)>\' $means ${plans} </details>'
VOID = ("meta", "input", "br", "hr", "img")


class Page(HTMLParser):
    """What a browser would find: (tag, attributes, text within) of each element, in the order of their ends."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open, self.found = [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append((tag, dict(attributes), []))
        else:
            self.found.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag
        tag, attributes, words = self.open.pop()
        self.found.append((tag, attributes, "".join(words)))

    def handle_data(self, data):
        for _, _, words in self.open:
            words.append(data)

    def of(self, tag, kind=None):
        """Texts of elements, of a class if one is named."""
        return [
            words
            for found, attributes, words in self.found
            if found == tag and (kind is None or kind in (attributes.get("class") or "").split())
        ]


def entry(plan, text="1. Saw.", writer="nobody", meaning=str):
    return report.make_entry(plan, text, writer, meaning)


def page(*entries, rows=({"split": "held_out", "plans": 1},), about="some plans"):
    return Page(report.render_page(entries, rows, about))


def steps_of(objects):
    for found in objects:
        yield from [found] if "step" in found else steps_of(found["inner"])


@given(PLANS)
def test_an_entry_holds_the_plan_and_marks_what_plan_and_reference_share(plan):
    def meaning(words):
        return words.strip().lower()[:1]  # so that steps do meet

    found = entry(plan, meaning=meaning)
    steps = list(steps_of(found["plan"]))
    shown = [(step["step"], step["cosine"]) for step in steps]
    assert shown == [(node.nearest_text, node.cosine) for node in plan.steps]
    assert [step["given"] for step in steps] == [place < plan.num_given for place in range(len(steps))]
    assert [step["step"] for step in found["reference"]] == list(plan.reference)
    planned, known = (Counter(map(meaning, words)) for words in ([s["step"] for s in steps], plan.reference))
    shared = (planned & known).total()
    assert sum(step["in_plan"] for step in found["reference"]) == shared
    if plan.reference:
        assert sum(step["in_reference"] for step in steps) == shared
    else:
        assert {step["in_reference"] for step in steps} <= {None}


def test_a_step_is_found_in_any_wording_and_as_often_as_it_stands_there():
    nodes = tuple(PlanNode(0, near, 1.0, 0) for near in ("Saw it.", "Nail it.", "Saw it.", "Wait."))
    plan = SHELF._replace(nodes=nodes, reference=("Cut it.", "Paint it.", "Wait."))
    found = entry(plan, meaning=lambda step: {"Cut it.": "Saw it."}.get(step, step))
    assert [step["in_plan"] for step in found["reference"]] == [True, False, True]
    assert [step["in_reference"] for step in found["plan"]] == [True, False, False, True]


def test_sub_goals_hold_what_belongs_to_them():
    boards, shelf = entry(SHELF)["plan"]
    assert [boards["sub_goal"], shelf["sub_goal"]] == ["the boards", "the shelf"]
    felling, sawing = boards["inner"]
    assert [step["step"] for step in felling["inner"]] == ["Go to the forest.", "Take the axe."]
    assert sawing == {
        "sub_goal": "sawing [bold]planks[/bold]",
        "cosine": 0.9,
        "inner": [{"step": "Saw the log.", "cosine": 0.99, "given": False, "in_reference": False}],
    }


@given(PLANS)
def test_the_page_shows_every_word_of_a_plan_as_it_is(plan):
    found = page(entry(plan))

    def words(texts):
        # How a reader of HTML treats line ends and NUL is its own affair.
        return [" ".join(text.replace("\0", "").replace("\ufffd", "").split()) for text in texts]

    assert words(found.of("span", "goal")) == words([plan.goal])
    assert words(found.of("span", "words")) == words(
        step.nearest_text + (" given" if place < plan.num_given else "") for place, step in enumerate(plan.steps)
    )
    assert words(found.of("b")) == words(node.nearest_text for node in plan.nodes if node.level)
    assert len(found.of("script")) == len(found.of("details")) == 1
    assert len(found.of("dd")) == len(plan.scores)


def test_nothing_becomes_a_tag_or_a_placeholder_wherever_it_stands():
    nodes = (PlanNode(1, NASTY, 1.0, 0), PlanNode(0, NASTY, 1.0, 0))
    changes = {"goal": NASTY, "split": NASTY, "mode": NASTY, "nodes": nodes, "reference": (NASTY,), "num_given": 0}
    plan = SHELF._replace(**changes, scores={NASTY: 0.5})
    found = page(entry(plan, NASTY, NASTY), rows=[{NASTY: NASTY}], about=NASTY)
    assert len(found.of("script")) == 1
    assert found.of("img") == []
    [details] = [attributes for tag, attributes, _ in found.found if tag == "details"]
    assert (details["data-goal"], details["data-split"], details["data-mode"]) == (NASTY.lower(), NASTY, NASTY)
    for kind in ("goal", "words"):
        assert found.of("span", kind) == [NASTY]
    assert found.of("p") == [NASTY, NASTY]  # what the page is about, and the text
    for tag in ("b", "th", "td", "dt"):
        assert found.of(tag) == [NASTY]
    assert found.of("option").count(NASTY) == 2
    assert NASTY in found.of("li")


def test_the_page_loads_nothing_and_leads_nowhere():
    text = "![x](http://evil/x.png) [y](http://evil) <http://evil> <b onclick=x>z</b>\n\n[y]: http://evil"
    source = report.render_page([entry(SHELF, text)], [], "")
    for tag, attributes, words in Page(source).found:
        assert tag not in ("a", "img", "link", "iframe", "object")
        assert not {"src", "href", "action", "onclick", "onerror"} & set(attributes)
        assert tag != "style" or not ("url(" in words or "@import" in words)
    assert "default-src 'none'" in source
    assert text.split("\n")[0] in Page(source).of("p")[1]


def test_a_text_in_markdown_is_shown_as_a_guide():
    found = page(entry(SHELF, "## The boards\n\n3. Saw *well*.\n4. Nail."))
    assert found.of("h2") == ["The boards"]
    assert found.of("em") == ["well"]
    assert [attributes.get("start") for tag, attributes, _ in found.found if tag == "ol"][:1] == ["3"]


def test_the_page_says_what_is_missing():
    found = page(entry(SHELF._replace(nodes=(), reference=()), ""))
    assert found.of("p", "none") == ["It is empty.", "Nothing was written.", "None is known."]
    assert page().of("details") == []
    assert found.of("span", "tag") == ["held out", "think", "cut off"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(7, "7"), (0.5, "0.500"), (0.0, "0.00"), (99.96, "100"), (83.0, "83.0"), (1234.5, "1234"), (None, "–")],  # noqa: RUF001
)
def test_the_table_shows_figures_to_three_digits(value, shown):
    assert page(rows=[{"split": "held_out", "plans": value}]).of("td") == ["held out", shown]


def test_goals_and_splits_can_be_chosen():
    found = page(entry(SHELF), entry(SHELF._replace(split="custom", goal="Boat")), entry(SHELF._replace(mode="react")))
    assert found.of("option") == ["all splits", "held out", "custom", "all modes", "think", "react"]
    rows = [attributes for tag, attributes, _ in found.found if tag == "details"]
    assert [(row["data-goal"], row["data-split"], row["data-mode"]) for row in rows] == [
        ("building a shelf [red]", "held_out", "think"),
        ("boat", "custom", "think"),
        ("building a shelf [red]", "held_out", "react"),
    ]
    assert ["open" in row for row in rows] == [True, False, False]
