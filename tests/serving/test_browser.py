"""Pages in a real browser: served ones, `report.html` and `compare.html`; narrow and wide, light and dark.

They need the extra `browser`, and chromium.
"""

import itertools
import os
import re
import shutil
import sys

import pytest

from thinking.commands import cli
from thinking.experiment.run_folders import list_runs

pytest.importorskip("playwright", reason="the extra browser is not installed: pip install playwright")
pytest.importorskip(
    "axe_playwright_python", reason="the extra browser is not installed: pip install axe-playwright-python"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: sudo apt install chromium"),
]

WIDTHS, SCHEMES = (400, 1400), ("light", "dark")
LOADED = {
    "/play/graph_guide": ("#status", "arrives after"),
    "/play/cart_pole_guide": ("#return", "[1-9]"),
    "/play/maze_thinker": ("#status", "is sure after"),
}
"""A part of a page, and a pattern of its text once the page shows its model."""
SERVED = ("/", "/models/reasoner", "/play/reasoner", "/runs/simple/good-aaaaaa/report.html", *LOADED)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium wants that of root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """`open_page(address, width, scheme)` returns a page; at the end there were no errors, and nothing left here."""
    pages = []

    def open_page(address, width=1400, scheme="light"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        page = context.new_page()
        errors, requests = [], []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        pages.append((context, errors, requests))
        return page

    yield open_page
    for context, errors, requests in pages:
        context.close()
        assert errors == []
        assert all(re.match(r"http://127\.0\.0\.1:|file:|data:", url) for url in requests)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder of `report.html` and `compare.html` of two smoke runs."""
    folder = tmp_path_factory.mktemp("written")
    flags = ["--preset", "smoke", "--guides", "table", "--table.num-walks", "500"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in "01":
            patch.setattr(sys, "argv", ["thinking", "run", "simple", *flags, "--seed", seed])
            cli.main()
        runs = list_runs(folder / "artifacts" / "simple")
        patch.setattr(sys, "argv", ["thinking", "compare", *map(str, runs), "--to", "compare.html"])
        cli.main()
    (folder / "report.html").write_bytes((runs[0] / "report.html").read_bytes())
    return folder


def wait_for(page, part, pattern):
    """Wait until a part's text has a pattern. The pages let no test evaluate strings."""
    from playwright.sync_api import expect

    expect(page.locator(part)).to_have_text(re.compile(pattern), timeout=60_000)


def check_readable(page):
    """Nothing is cut off, and axe finds nothing serious."""
    from axe_playwright_python.sync_playwright import Axe

    root = page.locator("html")
    assert root.evaluate("root => root.scrollWidth - root.clientWidth") == 0
    violations = Axe().run(page).response["violations"]
    assert [
        (each["id"], each["nodes"][0]["html"]) for each in violations if each["impact"] in ("serious", "critical")
    ] == []


@pytest.mark.parametrize(("width", "scheme"), list(itertools.product(WIDTHS, SCHEMES)))
@pytest.mark.parametrize("path", SERVED)
def test_served_pages_are_readable(open_page, served, path, width, scheme):
    page = open_page(served.base + path, width, scheme)
    if path in LOADED:
        wait_for(page, *LOADED[path])
    check_readable(page)


@pytest.mark.parametrize(("width", "scheme"), list(itertools.product(WIDTHS, SCHEMES)))
@pytest.mark.parametrize("name", ["report.html", "compare.html"])
def test_written_pages_are_readable(open_page, written, name, width, scheme):
    page = open_page((written / name).as_uri(), width, scheme)
    for summary in page.locator("summary").all():
        summary.click()
    check_readable(page)


def test_a_plan_is_shown_for_two_clicked_nodes(open_page, served):
    page = open_page(served.base + "/play/graph_guide", 400)
    wait_for(page, "#status", "arrives after")
    page.click("[data-node='3']")
    assert page.text_content("#status") == "From 3 to … Click a goal."
    page.focus("[data-node='17']")
    page.keyboard.press("Enter")
    wait_for(page, "#status", "^3 → ")
    hops = int(re.search(r"arrives after (\d+) hop", page.text_content("#status"))[1])
    assert page.locator(".hop").count() == page.locator("#plan tbody tr").count() == hops
    assert page.get_attribute(".node.start", "data-node") == "3"
    assert page.get_attribute(".node.goal", "data-node") == "17"
    check_readable(page)


def test_questions_are_answered_and_text_stays_text(open_page, served):
    page = open_page(served.base + "/play/reasoner", 400, "dark")
    for question, reply in (("57+8", "57+8 = 65 ✓"), ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>")):
        page.fill("#question", question)
        page.keyboard.press("Enter")
        page.wait_for_selector("form button:not([disabled])", timeout=60_000)
        assert page.locator("#replies > li").first.locator("p").first.text_content() == reply
    assert page.locator("#replies img").count() == 0
    assert page.locator(".steps li").count() == 2
    check_readable(page)


def test_the_pole_can_be_pushed_and_asked_for_a_return(open_page, served):
    page = open_page(served.base + "/play/cart_pole_guide")
    wait_for(page, "#return", "[1-9]")
    page.fill("#target", "30")
    page.dispatch_event("#target", "change")
    assert page.text_content("#asked") == "30"
    wait_for(page, "#return", "^[1-9]")
    page.click("#scene", position={"x": 20, "y": 60})
    wait_for(page, "#episodes li:last-child", r"^asked for 30, got \d+, with 1 push$")
    page.click("#pause")
    check_readable(page)


def test_a_maze_can_be_drawn_and_is_thought_through(open_page, served):
    page = open_page(served.base + "/play/maze_thinker", 400)
    wait_for(page, "#status", "is sure after")
    num_walls = page.locator(".wall").count()
    assert num_walls == 2 * 9 * 8 - 80  # a tree of 81 cells has 80 openings
    page.focus("#maze")
    page.keyboard.press("Shift+ArrowRight")
    wait_for(page, "#status", "is sure after|is not sure")
    assert abs(page.locator(".wall").count() - num_walls) == 1
    page.check("input[value=end]")
    page.click("#maze", position={"x": 8, "y": 8})
    wait_for(page, "#status", "is sure after|is not sure")
    assert float(page.get_attribute("circle.end", "cx")) == 10
    page.select_option("#size", "5")
    wait_for(page, "#shown", r"^(\d+) of \1$")
    assert page.locator(".cell").count() == 25
    page.click("#walls")
    wait_for(page, "#status", "There is no way")
    check_readable(page)


def test_a_page_of_a_task_sees_nothing_of_the_server(open_page, served):
    page = open_page(served.base + "/runs/simple/good-aaaaaa/plots/page.html")
    assert page.title() == "a page of a task"  # its own script runs
    assert page.evaluate("self.origin") == "null"
