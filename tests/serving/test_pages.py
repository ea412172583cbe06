"""Pages of runs and models, as a browser gets them."""

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import filelock
import pytest
from starlette.testclient import TestClient
from tests.experiment.page_checks import Page, check_contrast
from tests.serving.conftest import write_run

from thinking.experiment.pages import render_page
from thinking.pretrained.export_record import list_shipped
from thinking.serving.app import make_app

BASE = "http://127.0.0.1:8000"


@pytest.fixture
def client(artifacts):
    return TestClient(make_app(artifacts), BASE)


def read_page(response, status=200):
    """A page, which has no script of its own and loads nothing of others."""
    assert response.status_code == status
    assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert response.headers["x-content-type-options"] == "nosniff"
    page = Page(response.content)
    for tag, attributes, text in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "style")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert all(attributes.get(name, "/").startswith("/") for name in ("src", "href") if tag != "a")
        assert tag != "script" or (attributes["src"] and not text)
    assert len(page.find("h1")) == len(page.find("main")) == 1
    return page


def test_the_list_shows_runs_and_models(client):
    page = read_page(client.get("/"))
    (table,) = page.read_tables()
    rows = {row[0]: row for row in table[1:]}
    assert rows["simple/aaaaaa"][1:] == [
        "smoke, --seed 3", r"it <b>works</b>\x1b[31m Try", "2026-01-02 03:04", "7 s",
    ]  # fmt: skip
    assert rows["simple/bbbbbb"][2] == "no step yet"
    assert "damaged-cccccc/config.json is damaged (not JSON" in rows["simple/damaged-cccccc"][1]
    assert "wrong-dddddd is damaged" in rows["simple/wrong-dddddd"][1]
    links = [attributes["href"] for attributes, _ in page.find("a")]
    assert "/runs/simple/good-aaaaaa/report.html" in links
    assert {f"/models/{name}" for name in list_shipped()} <= set(links)
    played = {link for link in links if link.startswith("/play/")}
    assert {f"/play/{name}" for name in ("cart_pole_guide", "graph_guide", "maze_thinker", "reasoner")} <= played
    assert "/play/a5_thinker" not in played
    assert {f"/models/{name}" for name in list_shipped()} <= set(links)


def test_all_links_of_the_list_lead_somewhere(client):
    for attributes, _ in read_page(client.get("/")).find("a"):
        if not attributes["href"].startswith("/play/"):
            assert client.get(attributes["href"]).status_code in (200, 409)


def test_without_runs_it_says_how_to_start(tmp_path):
    client = TestClient(make_app(tmp_path / "none"), BASE)
    assert "Nothing was run" in read_page(client.get("/")).find("main")[0][1]


def test_a_report_is_made_anew_and_leads_back(client, artifacts):
    folder = write_run(artifacts / "fresh" / "run-444444")
    address = "/runs/fresh/run-444444/report.html"
    first = client.get(address)
    assert first.status_code == 200
    assert "img-src data:" in first.headers["content-security-policy"]
    assert "script" not in first.headers["content-security-policy"]
    assert "refresh" not in first.headers
    (folder / "metrics.jsonl").write_text('{"stage": "guide", "step": 1, "loss": 0.25}\n')
    (folder / "results.json").write_text(json.dumps({"headline": "it is better now", "rows": []}))
    page = Page(client.get(address).content)
    assert "It is better now." in [text for _, text in page.find("p")]
    assert page.find("nav")[0][1] == "All runs and models"
    assert not (folder / "report.html").exists()


def test_pages_of_a_run_that_trains_load_again(client, artifacts):
    write_run(artifacts / "fresh" / "run-555555")
    with filelock.FileLock(artifacts / "fresh" / ".run-555555.lock"):
        for address in ("/", "/runs/fresh/run-555555/report.html"):
            assert client.get(address).headers["refresh"] == "20"
    assert "refresh" not in client.get("/").headers


def test_files_of_a_run_cannot_use_the_server(client):
    picture = client.get("/runs/simple/good-aaaaaa/plots/plan.png")
    assert picture.headers["content-type"] == "image/png"
    page = client.get("/runs/simple/good-aaaaaa/plots/page.html")
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
    assert "connect-src" not in page.headers["content-security-policy"]


@pytest.mark.parametrize("name", list_shipped())
def test_a_card_is_shown(client, name):
    page = read_page(client.get(f"/models/{name}"))
    assert page.find("h1")[0][1] == name
    assert {"Data", "Limits", "Use"} <= {text for _, text in page.find("h2")}
    assert not page.find("hr")  # the head for the hub is left out
    assert page.read_tables()


def test_markdown_of_a_card_is_no_html(client, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# x\n<script>alert(1)</script>\n\n[a](javascript:alert)\n")
    record = (list_shipped()["reasoner"] / "config.json").read_text()
    (tmp_path / "config.json").write_text(record)
    monkeypatch.setattr("thinking.serving.app.list_shipped", lambda: {"x": tmp_path})
    page = read_page(client.get("/models/x"))
    assert not page.find("script")
    assert [attributes["href"] for attributes, _ in page.find("a")] == ["/", "/play/" + tmp_path.name]


def test_refusals_are_a_small_page_or_one_line(client):
    page = read_page(client.get("/runs/simple/none/report.html"), 404)
    assert page.find("p")[0][1] == "simple/none: there is no such run"
    answer = client.post("/api/nothing", json={}, headers={"origin": BASE})
    assert (answer.status_code, answer.json()) == (404, {"error": "nothing: there is no such model"})


def test_a_head_request_gets_no_body(client):
    answer = client.head("/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_one_stylesheet_serves_all_with_enough_contrast(client):
    style = client.get("/static/style.css").text
    assert style.startswith(render_page("style.css").decode())
    check_contrast(" ".join(render_page("style.css").decode().split()))
    assert "@import" not in style
    assert "url(http" not in style


def test_scripts_parse_no_html_and_load_nothing_of_others():
    for file in Path(render_page.__code__.co_filename).parents[1].glob("serving/static/*.js"):
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not any(
            word in text for word in ("innerHTML", "outerHTML", "insertAdjacent", "eval(", "http://", "Function(")
        )


def test_many_requests_at_a_time_are_answered_or_refused(served):
    """What is too much is refused, and does not wait without end."""
    statuses = []

    def get():
        try:
            with urllib.request.urlopen(served.base + "/", timeout=60) as answer:
                statuses.append(answer.status)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)

    threads = [threading.Thread(target=get) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 60
    assert {200} <= set(statuses) <= {200, 503}
    with urllib.request.urlopen(served.base + "/", timeout=60) as answer:
        assert answer.status == 200
