"""The report of plans: its entries are correct, and its page is escaped and self-contained."""

from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given
from tests.text.test_plans import PLANS, SHELF_PLAN

from thinking.recipes.language_guide import evaluation, plan_report
from thinking.text.plans import PlanNode

HTML_INJECTION = (
    '<script>alert("1")</script> & \'<img src="http://evil/x.png" onerror=alert(2)>\' $means ${plans} </details>'
)
VOID_TAGS = ("meta", "input", "br", "hr", "img")


class Page(HTMLParser):
    """Parsed HTML: (tag, attributes, text) of each element, in the order of their end tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open_elements, self.elements = [], []
        self.feed(source)
        self.close()
        assert self.open_elements == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID_TAGS:
            self.open_elements.append((tag, dict(attributes), []))
        else:
            self.elements.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        assert self.open_elements[-1][0] == tag
        tag, attributes, texts = self.open_elements.pop()
        self.elements.append((tag, attributes, "".join(texts)))

    def handle_data(self, data):
        for _, _, texts in self.open_elements:
            texts.append(data)

    def find_texts(self, tag, class_name=None):
        """Texts of the elements with a tag, and a class if given."""
        return [
            text
            for element_tag, attributes, text in self.elements
            if element_tag == tag and (class_name is None or class_name in (attributes.get("class") or "").split())
        ]


def make_entry(plan, text="1. Saw.", writer="nobody", meaning=str):
    return plan_report.make_entry(plan, text, writer, meaning)


def render_and_parse(*entries, rows=({"split": "held_out", "plans": 1},), about="some plans"):
    return Page(plan_report.render_page(entries, rows, about))


def iter_step_entries(nodes):
    for node in nodes:
        yield from [node] if "step" in node else iter_step_entries(node["inner"])


@given(PLANS)
def test_entry_marks_steps_shared_by_plan_and_reference(plan):
    def meaning(words):
        return words.strip().lower()[:1]  # so that some steps match

    entry = make_entry(plan, meaning=meaning)
    steps = list(iter_step_entries(entry["plan"]))
    actual = [(step["step"], step["cosine"]) for step in steps]
    assert actual == [(node.nearest_text, node.cosine) for node in plan.steps]
    assert [step["given"] for step in steps] == [index < plan.num_given for index in range(len(steps))]
    assert [step["step"] for step in entry["reference"]] == list(plan.reference)
    plan_counts, reference_counts = (
        Counter(map(meaning, words)) for words in ([s["step"] for s in steps], plan.reference)
    )
    num_shared = (plan_counts & reference_counts).total()
    assert sum(step["in_plan"] for step in entry["reference"]) == num_shared
    if plan.reference:
        assert sum(step["in_reference"] for step in steps) == num_shared
    else:
        assert {step["in_reference"] for step in steps} <= {None}


def test_shared_steps_match_by_meaning_and_count():
    nodes = tuple(PlanNode(0, text, 1.0, 0) for text in ("Saw it.", "Nail it.", "Saw it.", "Wait."))
    plan = SHELF_PLAN._replace(nodes=nodes, reference=("Cut it.", "Paint it.", "Wait."))
    entry = make_entry(plan, meaning=lambda step: {"Cut it.": "Saw it."}.get(step, step))
    assert [step["in_plan"] for step in entry["reference"]] == [True, False, True]
    assert [step["in_reference"] for step in entry["plan"]] == [True, False, False, True]


def test_entry_nests_steps_under_sub_goals():
    boards, shelf = make_entry(SHELF_PLAN)["plan"]
    assert [boards["sub_goal"], shelf["sub_goal"]] == ["the boards", "the shelf"]
    felling, sawing = boards["inner"]
    assert [step["step"] for step in felling["inner"]] == ["Go to the forest.", "Take the axe."]
    assert sawing == {
        "sub_goal": "sawing [bold]planks[/bold]",
        "cosine": 0.9,
        "inner": [{"step": "Saw the log.", "cosine": 0.99, "given": False, "in_reference": False}],
    }


@given(PLANS)
def test_page_shows_the_text_of_a_plan_unchanged(plan):
    page = render_and_parse(make_entry(plan))

    def normalize_whitespace(texts):
        # HTML parsers treat line breaks and NUL differently.
        return [" ".join(text.replace("\0", "").replace("\ufffd", "").split()) for text in texts]

    assert normalize_whitespace(page.find_texts("span", "goal")) == normalize_whitespace([plan.goal])
    assert normalize_whitespace(page.find_texts("span", "words")) == normalize_whitespace(
        step.nearest_text + (" given" if index < plan.num_given else "") for index, step in enumerate(plan.steps)
    )
    assert normalize_whitespace(page.find_texts("b")) == normalize_whitespace(
        node.nearest_text for node in plan.nodes if node.level
    )
    assert len(page.find_texts("script")) == len(page.find_texts("details")) == 1
    assert len(page.find_texts("dd")) == len(plan.scores)


def test_page_escapes_tags_and_placeholders():
    nodes = (PlanNode(1, HTML_INJECTION, 1.0, 0), PlanNode(0, HTML_INJECTION, 1.0, 0))
    changes = {
        "goal": HTML_INJECTION,
        "split": HTML_INJECTION,
        "mode": HTML_INJECTION,
        "nodes": nodes,
        "reference": (HTML_INJECTION,),
        "num_given": 0,
    }
    plan = SHELF_PLAN._replace(**changes, scores={HTML_INJECTION: 0.5})
    page = render_and_parse(
        make_entry(plan, HTML_INJECTION, HTML_INJECTION), rows=[{HTML_INJECTION: HTML_INJECTION}], about=HTML_INJECTION
    )
    assert len(page.find_texts("script")) == 1
    assert page.find_texts("img") == []
    [details] = [attributes for tag, attributes, _ in page.elements if tag == "details"]
    assert (details["data-goal"], details["data-split"], details["data-mode"]) == (
        HTML_INJECTION.lower(),
        HTML_INJECTION,
        HTML_INJECTION,
    )
    for class_name in ("goal", "words"):
        assert page.find_texts("span", class_name) == [HTML_INJECTION]
    assert page.find_texts("p") == [HTML_INJECTION, HTML_INJECTION]  # the description and the text
    for tag in ("b", "th", "td", "dt"):
        assert page.find_texts(tag) == [HTML_INJECTION]
    assert page.find_texts("option").count(HTML_INJECTION) == 2
    assert HTML_INJECTION in page.find_texts("li")


def test_page_has_no_external_resources_or_links():
    text = "![x](http://evil/x.png) [y](http://evil) <http://evil> <b onclick=x>z</b>\n\n[y]: http://evil"
    source = plan_report.render_page([make_entry(SHELF_PLAN, text)], [], "")
    for tag, attributes, content in Page(source).elements:
        assert tag not in ("a", "img", "link", "iframe", "object")
        assert not {"src", "href", "action", "onclick", "onerror"} & set(attributes)
        assert tag != "style" or not ("url(" in content or "@import" in content)
    assert "default-src 'none'" in source
    assert text.split("\n")[0] in Page(source).find_texts("p")[1]


def test_markdown_is_rendered():
    page = render_and_parse(make_entry(SHELF_PLAN, "## The boards\n\n3. Saw *well*.\n4. Nail."))
    assert page.find_texts("h2") == ["The boards"]
    assert page.find_texts("em") == ["well"]
    assert [attributes.get("start") for tag, attributes, _ in page.elements if tag == "ol"][:1] == ["3"]


def test_page_notes_missing_parts():
    page = render_and_parse(make_entry(SHELF_PLAN._replace(nodes=(), reference=()), ""))
    assert page.find_texts("p", "none") == ["It is empty.", "Nothing was written.", "None is known."]
    assert render_and_parse().find_texts("details") == []
    assert page.find_texts("span", "tag") == ["held out", "think", "cut off"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), (0.5, "0.500"), (0.0, "0.00"), (99.96, "100"), (83.0, "83.0"), (1234.5, "1234"), (None, "–")],  # noqa: RUF001
)
def test_table_shows_three_significant_digits(value, expected):
    assert render_and_parse(rows=[{"split": "held_out", "plans": value}]).find_texts("td") == ["held out", expected]


def test_page_has_filters_by_split_and_mode():
    page = render_and_parse(
        make_entry(SHELF_PLAN),
        make_entry(SHELF_PLAN._replace(split="custom", goal="Boat")),
        make_entry(SHELF_PLAN._replace(mode="react")),
    )
    assert page.find_texts("option") == ["all splits", "held out", "custom", "all modes", "think", "react"]
    rows = [attributes for tag, attributes, _ in page.elements if tag == "details"]
    assert [(row["data-goal"], row["data-split"], row["data-mode"]) for row in rows] == [
        ("building a shelf [red]", "held_out", "think"),
        ("boat", "custom", "think"),
        ("building a shelf [red]", "held_out", "react"),
    ]
    assert ["open" in row for row in rows] == [True, False, False]


def test_mean_rows_weigh_recall_as_evaluation_does():
    recalls = {("cut",): 1.0, ("cut", "saw", "paint"): 0.0}
    plans = [SHELF_PLAN._replace(reference=steps, scores={"next_step_recall": recalls[steps]}) for steps in recalls]
    (row,) = plan_report.mean_rows(plans, [SHELF_PLAN.split], [SHELF_PLAN.mode])
    goal_set = evaluation.GoalSet([SHELF_PLAN.split] * 2, ["a", "b"], None, [[0], [0, 1, 2]], None)
    scores = [plan.scores | {"step_f1": 0.0, "sub_goal_recall": 0.0} for plan in plans]
    (eval_row,) = evaluation.make_rows("guide", goal_set, scores)
    assert row["next_step_recall"] == 0.25
    assert eval_row["next_step_recall"] == 0.25
