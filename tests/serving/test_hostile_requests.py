"""Requests as no page sends them, byte by byte: none reaches a file outside, runs code or stops the server."""

import json
import re
import socket
import time

import pytest
from tests.serving.conftest import SECRET, write_run

from thinking.serving.folders import list_run_folders
from thinking.serving.guard import MAX_BODY, is_host_allowed

API = "/api/graph_guide"
GOOD = {"start": 1, "goal": 2}


def send(port, content, wait=15):
    """Send bytes, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.sendall(content)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def request(target, method="GET", host=None, body=None, headers=(), port=0, **own):
    """The bytes of a request; `own` replaces headers, and None leaves one out."""
    lines = {"Host": host or f"127.0.0.1:{port}", "Connection": "close"}
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines |= {"Content-Type": "application/json", "Content-Length": len(body)}
        lines |= {"Origin": f"http://127.0.0.1:{port}"}
    lines |= {name.replace("_", "-"): value for name, value in own.items()}
    head = [f"{name}: {value}" for name, value in lines.items() if value is not None] + list(headers)
    return "\r\n".join([f"{method} {target} HTTP/1.1", *head, "", ""]).encode() + (body or b"")


def ask(body, port=0, target=API, **own):
    return request(target, "POST", body=body, port=port, **own)


def split(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body.decode()


PATHS = [
    "/../outside/secret.txt", "/runs/../../outside/secret.txt", "/runs/simple/../../outside/secret.txt",
    "/runs/simple/good-aaaaaa/../../../outside/secret.txt", "/runs/simple/good-aaaaaa/../../../outside/secret.html",
    "/runs/%2e%2e/outside/report.html", "/runs/%2e%2e%2foutside/x/report.html",
    "/runs/simple/..%2f..%2foutside/report.html",
    "/runs/simple/good-aaaaaa/%2e%2e/%2e%2e/%2e%2e/outside/secret.html", "/runs/simple/good-aaaaaa/..%5c..%5coutside",
    "/runs/simple/good-aaaaaa/%252e%252e/%252e%252e/outside/secret.html", "/runs/simple/good-aaaaaa//etc/passwd",
    "/runs/simple/good-aaaaaa/%2fetc%2fpasswd", "/runs//etc/passwd/report.html", "/runs/simple/%00/report.html",
    "/runs/simple/good-aaaaaa/plots/notes.txt", "/runs/simple/good-aaaaaa/config.json", "/runs/simple/good-aaaaaa/",
    "/runs/simple/good-aaaaaa%00/report.html", "/runs/simple/good-aaaaaa/plots/plan.png%00.html",
    "/runs/simple/linked-000000/report.html", "/runs/simple/linked-000000/plots/plan.png",
    "/runs/simple/results-111111/report.html", "/runs/simple/away-222222/report.html",
    "/runs/simple/away-222222/secret.html", "/runs/elsewhere/outside/report.html",
    "/runs/elsewhere/outside/secret.html",
    "/runs/simple/latest/report.html", "/runs/simple/damaged-cccccc/report.html", "/runs/simple/none/report.html",
    "/runs/simple/wrong-dddddd/report.html", "/runs/simple/%F0%9F%92%A5/report.html",
    "/runs/simple/%ff%fe/report.html",
    "/models/..", "/models/%2e%2e%2fserving", "/models/%2e%2e", "/models/reasoner%2f..%2freasoner", "/models/",
    "/play/..%2f..%2foutside", "/play/simple/../../outside", "/play//etc/passwd", "/play/evil/code-eeeeee",
    "/play/simple/reads-ffffff", "/play/simple/damaged-cccccc", "/play/simple/training-bbbbbb",
    "/play/simple/linked-000000",
    "/play/%0d%0aSet-Cookie:%20a=b", "/play/%3Cscript%3Ealert(1)%3C/script%3E", "/static/..%2fapp.py", "/static/%2e%2e",
    "/static//etc/passwd", "/static/../templates/site.html", "/nothing", "/" + "a" * 1200, "/?" + "a" * 1200,
    "/" + "a" * 9000, "/api/graph_guide", "//etc/passwd", "/runs/simple/good-aaaaaa/report.html/..;/x",
]  # fmt: skip


@pytest.mark.parametrize("target", PATHS, ids=range(len(PATHS)))
def test_no_path_leads_out(served, target):
    check_refused(served, request(target, port=served.port))


BODIES = {
    "empty": b"", "text": b"hello", "null": b"null", "list": b"[]", "number": b"1", "open": b'{"start": 1',
    "bytes": b"\xff\xfe\x00", "deep": b"[" * 8000, "deep objects": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "nan": b'{"start": NaN, "goal": 1}', "infinity": b'{"start": Infinity, "goal": 1}',
    "large number": b'{"start": ' + b"9" * 5000 + b', "goal": 1}', "float": {"start": 1.5, "goal": 2},
    "text for number": {"start": "1", "goal": 2}, "true for number": {"start": True, "goal": 2},
    "negative": {"start": -1, "goal": 2}, "no node": {"start": 1, "goal": 99}, "huge": {"start": 1, "goal": 10**30},
    "missing": {"start": 1}, "more": GOOD | {"path": "/etc/passwd"}, "object": {"start": {"$ref": "/"}, "goal": 2},
    "pickle": b"\x80\x04\x95", "form": b"start=1&goal=2",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies_of_another_form_are_refused(served, name):
    assert check_refused(served, ask(BODIES[name], served.port)).startswith('{"error":')


QUESTIONS = [
    {"question": "", "check": False}, {"question": "1" * 201, "check": False}, {"question": 5, "check": False},
    {"question": "1+1", "check": 1}, {"question": "1+1", "check": False, "size": 10**6}, {"question": ["1+1"]},
    b'{"question": "\\ud800", "check": false}',
]  # fmt: skip


@pytest.mark.parametrize("body", QUESTIONS, ids=range(len(QUESTIONS)))
def test_questions_are_bounded(served, body):
    check_refused(served, ask(body, served.port, "/api/reasoner"))


EPISODE = {"target_return": None, "observation": None, "carry": [], "num_steps": 0, "seed": 0}
EPISODES = [
    {"observation": [0, 0, 0, 1e300]}, {"observation": [0, 0, 0]}, {"observation": [0] * 1000}, {"seed": -1},
    {"observation": [0, 0, 0, 0], "carry": [1.0] * 4000}, {"num_steps": 10**9}, {"target_return": -1},
    {"target_return": "most"}, {"carry": [0] * 5000}, {"observation": [0, 0, 0, None]},
]  # fmt: skip


@pytest.mark.parametrize("change", EPISODES, ids=range(len(EPISODES)))
def test_episodes_are_bounded(served, change):
    check_refused(served, ask(EPISODE | change, served.port, "/api/cart_pole_guide"))


MAZE = {"size": 5, "seed": 0, "openings": [[0, 1]], "ends": [0, 1]}
MAZES = [
    {"size": 100}, {"size": "9"}, {"size": 10**12}, {"seed": 2**31}, {"ends": None}, {"ends": [3, 3]},
    {"ends": [0, 25]}, {"ends": [0, 1, 2]}, {"openings": [[0, 2]]},
    {"openings": [[4, 5]]}, {"openings": [[0, -1]]}, {"openings": [[0]]},
    {"openings": [[0, 1]] * 1201}, {"openings": [[0, 24]]}, {"openings": [[600, 601]]}, {"openings": "all"},
]  # fmt: skip


@pytest.mark.parametrize("change", MAZES, ids=range(len(MAZES)))
def test_mazes_are_bounded(served, change):
    check_refused(served, ask(MAZE | change, served.port, "/api/maze_thinker"))


FORGED = {
    "foreign host": {"Host": "evil.example"}, "rebound host": {"Host": "127.0.0.1.evil.example:8000"},
    "no host": {"Host": None}, "empty host": {"Host": ""}, "user in host": {"Host": "127.0.0.1@evil.example"},
    "path in host": {"Host": "127.0.0.1/evil"}, "two hosts": {"headers": ["Host: evil.example"]},
    "another address": {"Host": "10.0.0.1"}, "foreign origin": {"Origin": "http://evil.example"},
    "null origin": {"Origin": "null"}, "no origin": {"Origin": None}, "secure origin": {"Origin": "https://127.0.0.1"},
    "other port": {"Origin": "http://127.0.0.1:1"}, "two origins": {"headers": ["Origin: http://evil.example"]},
    "form": {"Content_Type": "application/x-www-form-urlencoded"}, "plain": {"Content_Type": "text/plain"},
    "no type": {"Content_Type": None}, "packed": {"Content_Encoding": "gzip"},
    "two types": {"headers": ["Content-Type: application/json"]},
    "negative length": {"Content_Length": "-1"}, "large length": {"Content_Length": str(MAX_BODY + 1)},
    "endless length": {"Content_Length": "9" * 400}, "long header": {"X_Long": "a" * 70_000},
    "many headers": {"headers": [f"X-{number}: a" for number in range(3000)]},
    "two lengths": {"headers": ["Content-Length: 3"]}, "smuggled": {"Transfer_Encoding": "gzip, chunked"},
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_headers_are_refused(served, name):
    check_refused(served, ask(GOOD, served.port, **FORGED[name]))


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "GET", "A" * 50]
)
def test_other_methods_are_refused(served, method):
    check_refused(served, ask(GOOD, served.port).replace(b"POST", method.encode(), 1))


@pytest.mark.parametrize("target", ["/", "/play/graph_guide", "/models/reasoner", "/static/style.css", "/runs/a/b/c"])
def test_pages_take_no_post(served, target):
    check_refused(served, ask(GOOD, served.port, target))


def test_a_long_body_in_pieces_is_refused(served):
    piece = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    content = ask(GOOD, served.port, Content_Length=None, Transfer_Encoding="chunked")
    content = content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + piece * 2 + b"0\r\n\r\n"
    assert "too long" in check_refused(served, content)


@pytest.mark.parametrize(
    "content", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\r\n" * 50 + b"x", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_no_http_stops_nothing(served, content):
    answer = send_and_leave(served.port, content)
    assert not answer or split(answer)[0] == 400
    check_alive(served)


def test_idle_connections_and_half_requests_block_nobody(served):
    idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    for connection in idle:
        connection.sendall(ask(GOOD, served.port)[:-3])
    start = time.monotonic()
    check_alive(served)
    assert time.monotonic() - start < 8  # less than a half request may take
    for connection in idle:
        connection.close()
    check_alive(served)


def test_a_websocket_is_refused(served):
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "YQ==",
    }
    answer = send_and_leave(served.port, request("/nothing", port=served.port, **upgrade))
    assert split(answer)[0] in (400, 403, 404)
    check_alive(served)


def send_and_leave(port, content):
    """Send bytes and say that no more come."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def check_refused(served, content):
    """A request gets one line or a small page, with nothing of other files in it, and the server goes on."""
    answer = send(served.port, content)
    status, head, body = split(answer)
    assert 400 <= status < 500
    assert len(body) < 2000
    assert SECRET not in answer.decode(errors="replace")
    assert not re.search(r"root:|Traceback|File \"|site-packages|<script>alert|\x1b", head + body)
    assert "set-cookie" not in head
    if body.startswith("{"):
        assert body.count("\n") == 0
        assert list(json.loads(body)) == ["error"]
    check_alive(served)
    return body


def check_alive(served):
    status, head, body = split(send(served.port, request("/static/ask.js", port=served.port)))
    assert status == 200
    assert "default-src 'none'" in head
    assert "export async function ask" in body


def test_nothing_of_the_folder_was_run(served, artifacts):
    assert not (artifacts.parent / "ran").exists()
    check_refused(served, ask(GOOD, served.port, "/api/evil/code-eeeeee"))
    assert not (artifacts.parent / "ran").exists()


def test_the_list_names_no_run_outside(served, artifacts):
    assert not [name for name in list_run_folders(artifacts) if "away" in name or "elsewhere" in name]
    status, _, body = split(send(served.port, request("/", port=served.port)))
    assert status == 200
    assert SECRET not in body
    assert "linked-000000 has a link in it (plan.png)" in body
    assert "results-111111 has a link in it (results.json)" in body


def test_a_link_for_a_lock_is_not_followed(served, artifacts, tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    write_run(artifacts / "locks" / "run-333333", results={"rows": []})
    lock = artifacts / "locks" / ".run-333333.lock"
    lock.symlink_to(target)
    check_refused(served, request("/runs/locks/run-333333/report.html", port=served.port))
    assert target.read_text() == "precious"


@pytest.mark.parametrize(
    ("header", "host", "is_allowed"),
    [
        ("localhost:8000", "127.0.0.1", True), ("LOCALHOST", "127.0.0.1", True), ("[::1]:9", "::1", True),
        ("127.0.0.1:1", "localhost", True), ("192.168.0.7", "127.0.0.1", False), ("box.lan", "127.0.0.1", False),
        ("192.168.0.7:80", "0.0.0.0", True), ("box.lan", "0.0.0.0", False), ("box.lan:80", "box.lan", True),
        ("[fe80::1]", "::", True), ("localhost.evil.example", "0.0.0.0", False), ("127.0.0.1:x", "127.0.0.1", False),
        ("localhost\n", "127.0.0.1", False), ("2130706433", "127.0.0.1", False), ("", "127.0.0.1", False),
    ],
)  # fmt: skip
def test_hosts_that_are_allowed(header, host, is_allowed):
    assert is_host_allowed(header, host) == is_allowed
