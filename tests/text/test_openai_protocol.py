"""The OpenAI client against a stub server: requests, cache, and failures."""

import contextlib
import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from tests.text.openai_server import make_embedding, run_stub_server

from thinking.errors import UserError
from thinking.text import response_cache
from thinking.text.openai_protocol import make_openai_answer_fn, map_in_order, openai_embedder
from thinking.text.openai_server import MAX_ANSWER_BYTES, Server
from thinking.text.providers import generate_texts

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def stub(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with run_stub_server() as server:
        yield server


@pytest.fixture
def connect(stub, tmp_path):
    with contextlib.ExitStack() as stack:

        def make_server(url=None, **settings):
            settings = {"backoff": 0.001, "timeout": 5.0, **settings}
            return stack.enter_context(Server(url or stub.url, tmp_path / "answers", **settings))

        yield make_server


@pytest.fixture(autouse=True)
def _assert_key_never_leaks(tmp_path, capfd, caplog):
    """No test leaks the key to a file, the output, or a log of any level."""
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    contents = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    for text in (out, err, caplog.text, *contents):
        assert KEY not in text


def get_error_message(function, *arguments) -> str:
    """The one-line message of the error, after checking that its traceback does not show the key."""
    with pytest.raises((UserError, ValueError)) as error:
        function(*arguments)
    formatted_traceback = "".join(traceback.format_exception(error.value))
    assert KEY not in formatted_traceback
    assert error.value.__cause__ is None
    assert "During handling" not in formatted_traceback
    assert "\n" not in str(error.value)
    return str(error.value)


def test_prompt_is_sent_in_protocol_format(stub, connect):
    answer_fn = make_openai_answer_fn(connect(), "small-model", system="be short")
    assert answer_fn("building a boat") == "1. think of building a boat\n2. do it"
    [(path, body, key)] = stub.requests
    assert path == "/v1/chat/completions"
    assert key == f"Bearer {KEY}"
    assert body == {
        "model": "small-model",
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "building a boat"}],
        "temperature": 0.0,
    }
    make_openai_answer_fn(connect(), "small-model", temperature=None)("x")
    assert "temperature" not in stub.requests[-1][1]


def test_local_server_without_key_gets_a_placeholder(stub, connect, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    make_openai_answer_fn(connect(), "small-model")("x")
    assert stub.requests[0][2].startswith("Bearer no-key")


def test_missing_key_without_server_raises(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    message = get_error_message(Server, None, tmp_path)
    assert message.startswith("base_url None: OPENAI_API_KEY is not set")


@pytest.mark.parametrize("key", [f"{KEY}\nX: y", f"{KEY}ü", f"{KEY} {KEY}", f'"{KEY}"'])
def test_invalid_key_raises_without_showing_it(stub, connect, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert "OPENAI_API_KEY holds a character" in get_error_message(connect)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://host/v1",
        "http://",
        "http://[::1",
        "http://u:secret/x@h:y",
        "http://h\x01ost/v1",
        "http://h/v 1",
    ],
)
def test_invalid_url_raises(connect, url):
    message = get_error_message(connect, url)
    assert message.startswith("base_url, or OPENAI_BASE_URL: not the address")
    assert "secret" not in message


def test_cached_answers_are_not_requested_again(stub, connect):
    prompts = [f"goal {number}" for number in range(5)]
    first = [make_openai_answer_fn(connect(), "small-model")(prompt) for prompt in prompts]
    server = connect()
    assert [make_openai_answer_fn(server, "small-model")(prompt) for prompt in prompts] == first
    assert server.num_requests == 0
    assert len(stub.requests) == response_cache.count_answers(server.folder) == 5


def test_cache_key_includes_model_settings_and_server(stub, connect):
    make_openai_answer_fn(connect(), "small-model")("x")
    make_openai_answer_fn(connect(), "embedder")("x")
    make_openai_answer_fn(connect(), "small-model", system="s")("x")
    make_openai_answer_fn(connect(), "small-model", temperature=0.5)("x")
    make_openai_answer_fn(connect(stub.url.replace("127.0.0.1", "localhost")), "small-model")("x")
    assert len(stub.requests) == 5
    # The password is not part of the cache key.
    make_openai_answer_fn(connect(stub.url.replace("//", "//user:pass-word-1@")), "small-model")("x")
    assert len(stub.requests) == 5


def test_run_resumes_after_the_request_limit(stub, connect):
    goals = [f"goal {number}" for number in range(10)]
    stub.delay = 0.02
    server = connect(max_requests=6)
    message = get_error_message(
        lambda: list(generate_texts(make_openai_answer_fn(server, "small-model"), goals, "{goal}", num_parallel=4))
    )
    assert server.num_requests == len(stub.requests) == response_cache.count_answers(server.folder) == 6
    assert "max_requests 6" in message
    assert f"6 answers are kept in {server.folder}" in message
    server = connect(max_requests=6)
    texts = list(generate_texts(make_openai_answer_fn(server, "small-model"), goals, "{goal}", num_parallel=4))
    assert [text.goal for text in texts] == goals
    assert texts[7].steps == ("think of goal 7", "do it")
    assert server.num_requests == 4
    assert 1 < stub.max_concurrent <= 4


def test_retries_count_as_requests(stub, connect):
    stub.script.extend([(500, {}, None)] * 9)
    server = connect(max_requests=3)
    assert "max_requests 3" in get_error_message(make_openai_answer_fn(server, "small-model"), "x")
    assert len(stub.requests) == 3


def test_limit_of_zero_reads_only_the_cache(stub, connect):
    make_openai_answer_fn(connect(), "small-model")("x")
    answer_fn = make_openai_answer_fn(connect(max_requests=0), "small-model")
    assert answer_fn("x")
    assert "max_requests 0" in get_error_message(answer_fn, "y")
    assert "max_requests -1" in get_error_message(lambda: connect(max_requests=-1))


@pytest.mark.parametrize("failure", [(429, {}, {"Retry-After": "0"}), (500, b"oops", None), (503, {}, None), "cut"])
def test_transient_failures_are_retried(stub, connect, failure):
    stub.script.extend([failure, failure])
    assert make_openai_answer_fn(connect(), "small-model")("x")
    assert len(stub.requests) == 3


def test_timeouts_are_retried(stub, connect):
    stub.script.append("slow")
    assert make_openai_answer_fn(connect(timeout=0.1), "small-model")("x")
    stub.script.extend(["slow"] * 2)
    message = get_error_message(make_openai_answer_fn(connect(timeout=0.1, max_retries=1), "small-model"), "y")
    assert "no answer after 2 attempts (no answer within 0.1 s)" in message


@pytest.mark.parametrize("drip", ["drip headers", "drip body"])
def test_answer_that_drips_ends_at_the_deadline(stub, connect, drip):
    """Each byte comes long before a timeout of reads would end the request."""
    stub.script.append(drip)
    start = time.monotonic()
    message = get_error_message(make_openai_answer_fn(connect(timeout=0.3, max_retries=0), "small-model"), "x")
    assert time.monotonic() - start < 3
    assert "gives no answer" in message or "cannot be reached (no answer within 0.3 s)" in message


@pytest.mark.parametrize("flood", ["endless", "endless error"])
def test_answer_beyond_the_limit_is_refused_before_it_is_read(stub, connect, flood):
    stub.script.append(flood)
    server = connect(timeout=60.0)
    message = get_error_message(make_openai_answer_fn(server, "small-model"), "x")
    assert f"127.0.0.1 sent more than {MAX_ANSWER_BYTES:,} bytes" in message
    assert stub.num_bytes < 2 * MAX_ANSWER_BYTES
    assert len(stub.requests) == 1


def test_compressed_answer_is_refused(stub, connect):
    bomb = gzip.compress(bytes(2**24))
    stub.script.append((200, bomb, {"Content-Encoding": "gzip"}))
    assert "compressed its answer" in get_error_message(make_openai_answer_fn(connect(), "small-model"), "x")


def test_retry_after_header_is_respected(stub, connect):
    stub.script.append((429, {}, {"Retry-After": "0.3"}))
    start = time.monotonic()
    make_openai_answer_fn(connect(), "small-model")("x")
    assert time.monotonic() - start >= 0.3
    stub.script.append((429, {}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    make_openai_answer_fn(connect(backoff=100), "small-model")("y")  # a time in the past: no wait
    stub.script.append((429, {}, {"Retry-After": "3600"}))
    assert "asks to wait 3600 s" in get_error_message(make_openai_answer_fn(connect(), "small-model"), "z")


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "Fri, 31 Dec 999999 23:59:59 GMT"},
        {"Retry-After": "Fri, 99 Dec 2030 23:59:59 GMT"},
        {"Retry-After": "-5"},
        {"Retry-After": "nan"},
        {"Retry-After": "1e999"},
        {"Retry-After": "soon"},
        {"Retry-After": ""},
        {"retry-after-ms": "-1"},
        {"retry-after-ms": "x", "Retry-After": "0"},
    ],
    ids=str,
)
def test_senseless_retry_after_header_is_ignored(stub, connect, headers):
    stub.script.append((429, {}, headers))
    assert make_openai_answer_fn(connect(), "small-model")("x")


def test_waits_in_milliseconds_and_of_ages_are_understood(stub, connect):
    stub.script.append((429, {}, {"retry-after-ms": "300", "Retry-After": "3600"}))
    start = time.monotonic()
    make_openai_answer_fn(connect(), "small-model")("x")
    assert 0.3 <= time.monotonic() - start < 5
    stub.script.append((429, {}, {"Retry-After": "1e300"}))
    assert "asks to wait for years" in get_error_message(make_openai_answer_fn(connect(), "small-model"), "z")


def test_unexpected_error_of_a_response_is_one_line_without_the_key(stub, connect, monkeypatch):
    def fail(headers):
        raise ArithmeticError(f"what is {KEY}\x1b[31m?")

    monkeypatch.setattr("thinking.text.openai_server._retry_after", fail)
    stub.script.append((429, {}, None))
    message = get_error_message(make_openai_answer_fn(connect(), "small-model"), "x")
    assert "ArithmeticError: what is ***\\x1b[31m?" in message


def test_query_of_the_address_is_sent_with_its_path_and_never_shown(stub, connect):
    answer_fn = make_openai_answer_fn(connect(f"{stub.url}?api-version=2030-01-01&code=secret-0123"), "small-model")
    assert answer_fn("x")
    assert stub.requests[0][0] == "/v1/chat/completions?api-version=2030-01-01&code=secret-0123"
    stub.script.append((400, {"error": {"message": "no secret-0123"}}, None))
    assert "(no ***)" in get_error_message(answer_fn, "y")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_answer_that_was_cut_short_is_neither_used_nor_cached(stub, connect, reason):
    choice = {"message": {"content": "1. first do"}, "finish_reason": reason}
    stub.script.append((200, {"choices": [choice]}, None))
    server = connect()
    message = get_error_message(make_openai_answer_fn(server, "small-model"), "x")
    assert f"its answer was cut short, by the finish_reason {reason}" in message
    assert response_cache.count_answers(server.folder) == 0
    assert make_openai_answer_fn(server, "small-model")("x").startswith("1. think")


def test_controls_in_a_message_of_a_server_are_shown(stub, connect):
    stub.script.append((400, {"error": {"message": "\x1b]0;title\x07 \x9b31m"}}, None))
    message = get_error_message(make_openai_answer_fn(connect(), "small-model"), "x")
    assert "(\\x1b]0;title\\x07 \\x9b31m)" in message


def test_user_without_password_in_the_address_is_a_secret(stub, connect):
    token = "token-0123456789"
    stub.script.append((400, {"error": {"message": f"not {token}"}}, None))
    server = connect(stub.url.replace("//", f"//{token}@"))
    assert "(not ***)" in get_error_message(make_openai_answer_fn(server, "small-model"), "x")
    assert token not in server.url


def test_persistent_rate_limit_raises(stub, connect):
    stub.script.extend([(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})] * 3)
    message = get_error_message(make_openai_answer_fn(connect(max_retries=2), "small-model"), "x")
    assert "429 after 3 attempts (slow down)" in message
    assert "0 answers are kept" in message
    stub.script.append((429, {"error": {"message": "no money", "code": "insufficient_quota"}}, None))
    assert "answers 429 (no money)" in get_error_message(make_openai_answer_fn(connect(), "small-model"), "x")


def test_rejected_key_error_names_the_variable(stub, connect, monkeypatch):
    stub.script.append("echo in an error")
    message = get_error_message(make_openai_answer_fn(connect(), "small-model"), "x")
    assert "refuses the key in OPENAI_API_KEY (401)" in message
    assert len(stub.requests) == 1
    stub.script.append((400, {"error": {"message": f"what is {KEY}?"}}, None))
    assert "what is ***?" in get_error_message(make_openai_answer_fn(connect(), "small-model"), "x")
    stub.script.append((500, f"<p>{KEY}".encode() * 50, None))
    assert "<p>***" in get_error_message(make_openai_answer_fn(connect(max_retries=0), "small-model"), "x")
    monkeypatch.delenv("OPENAI_API_KEY")
    stub.script.append((401, {}, None))
    assert "OPENAI_API_KEY is not set" in get_error_message(make_openai_answer_fn(connect(), "small-model"), "x")


def test_key_in_an_answer_is_masked(stub, connect):
    stub.script.append("echo in an answer")
    answer_fn = make_openai_answer_fn(connect(), "small-model")
    assert answer_fn(f"say {KEY}") == "1. keep Bearer *** well\n2. tell nobody"
    assert answer_fn(f"say {KEY}") == "1. keep Bearer *** well\n2. tell nobody"  # from the cache
    assert len(stub.requests) == 1


def test_login_in_the_url_is_sent_but_not_shown(stub, connect):
    server = connect(stub.url.replace("//", "//user:pass-word-1@"), max_retries=0)
    stub.script.append("echo in an error")
    message = get_error_message(make_openai_answer_fn(server, "small-model"), "x")
    assert stub.requests[0][2].startswith("Basic ")
    assert stub.url in message
    assert "pass-word-1" not in message
    stub.script.append("cut")
    assert "pass-word-1" not in get_error_message(make_openai_answer_fn(server, "small-model"), "x")


def test_unknown_model_error_lists_known_models(stub, connect):
    message = get_error_message(make_openai_answer_fn(connect(), "smal-model"), "x")
    assert "no model `smal-model`" in message
    assert "small-model, embedder" in message
    assert "which mostly ends with /v1" in get_error_message(
        make_openai_answer_fn(connect(stub.url + "/x"), "small-model"), "x"
    )


def test_unreachable_server_raises_without_retries(connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = get_error_message(
        make_openai_answer_fn(connect(f"http://me:pass-word-1@127.0.0.1:{port}/v1", backoff=60), "m"), "x"
    )
    assert f"http://127.0.0.1:{port}/v1 cannot be reached" in message


INVALID_ANSWERS = [
    (b"<html>hello", "not JSON"),
    (b'{"choices": [', "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    ({"choices": []}, "no choice"),
    ({"choices": [{"message": {"content": None}}]}, "content is null"),
    ({"choices": [{"message": {"content": ["x"]}}]}, "content is no text"),
    ({"choices": {"a": 1}}, "not of the OpenAI protocol"),
    ([1], "not of the OpenAI protocol"),
    (b"null", "not of the OpenAI protocol"),
]


def test_invalid_answers_raise_and_are_not_cached(stub, connect):
    server = connect()
    for body, message in INVALID_ANSWERS:
        stub.script.append((200, body, None))
        assert message in get_error_message(make_openai_answer_fn(server, "small-model"), "x")
    assert response_cache.count_answers(server.folder) == 0


def test_lone_surrogates_in_answers_are_replaced(stub, connect):
    stub.answer_fn = lambda prompt: "a \ud83d b"
    assert (
        make_openai_answer_fn(connect(), "small-model")("x")
        == make_openai_answer_fn(connect(), "small-model")("x")
        == "a ? b"
    )


def test_damaged_cache_entries_are_requested_again_with_one_warning(stub, connect, capfd):
    server = connect()
    answer_fn = make_openai_answer_fn(server, "small-model")
    first = answer_fn("x")
    [path] = server.folder.iterdir()
    damaged_contents = (b"", b"{", b"\xff", b"[]", b'{"answer": 5}', b'{"request": {}}', b'{"answer": null}')
    for content in damaged_contents:
        path.write_bytes(content)
        assert [answer_fn("x"), answer_fn("x")] == [first, first]
    assert len(stub.requests) == 1 + len(damaged_contents)
    assert capfd.readouterr().err.count("warning") == 1


def test_cache_entries_are_keyed_by_the_full_request(tmp_path):
    for number in range(3):
        response_cache.put(tmp_path, {"b": 1, "a": "ü"}, f"answer {number} ü")
    [path] = tmp_path.iterdir()
    assert path == response_cache.answer_path(tmp_path, {"a": "ü", "b": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"request": {"a": "ü", "b": 1}, "answer": "answer 2 ü"}


def test_embeddings_are_ordered_and_normalized(stub, connect):
    texts = [f"{'step ' * (number % 7)}{number}" for number in range(150)]
    embedder = openai_embedder(connect(), "embedder")
    assert (embedder.name, embedder.dims) == ("embedder", 3)
    rows = embedder.embed([*texts, texts[3]])
    expected = np.array([make_embedding(text) for text in [*texts, texts[3]]])
    np.testing.assert_allclose(rows, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    assert rows.dtype == np.float32
    assert sorted(len(body["input"]) for _, body, _ in stub.requests) == [1, 22, 64, 64]
    server = connect()
    np.testing.assert_array_equal(openai_embedder(server, "embedder").embed(texts[::-1]), rows[:150][::-1])
    assert server.num_requests == 0
    assert embedder.embed([]).shape == (0, 3)
    with pytest.raises(ValueError, match="text 1"):
        embedder.embed(["a", " "])


def test_embedding_dimensions_can_be_reduced(stub, connect):
    embedder = openai_embedder(connect(), "embedder", dims=2)
    assert not stub.requests
    assert embedder.embed(["a"]).shape == (1, 2)
    assert stub.requests[0][1]["dimensions"] == 2


def test_embeddings_resume_after_the_request_limit(stub, connect):
    texts = [str(number) for number in range(300)]
    server = connect(max_requests=3)
    get_error_message(openai_embedder(server, "embedder").embed, texts)
    assert response_cache.count_answers(server.folder) == 1 + 2 * 64
    openai_embedder(connect(), "embedder").embed(texts)
    assert sum(len(body["input"]) for _, body, _ in stub.requests) == 301


INVALID_EMBEDDINGS = [
    ([], "0 embeddings for 1 texts"),
    ([{"index": 0, "embedding": [1, 2, 3]}] * 2, "2 embeddings for 1 texts"),
    ([{"index": 1, "embedding": [1, 2, 3]}], "not numbered from 0"),
    ([{"index": 0, "embedding": [1, 2]}], "not 3 finite numbers"),
    ([{"index": 0, "embedding": [1, 2, float("nan")]}], "not 3 finite numbers"),
    ([{"index": 0, "embedding": [1, 2, 10**400]}], "not 3 finite numbers"),
    ([{"index": 0, "embedding": [0, 0, 0]}], "or it is 0"),
    ([{"index": 0, "embedding": "AAAA"}], "not 3 finite numbers"),
    ([{"embedding": [1, 2, 3]}], "not of the OpenAI protocol"),
    ("abc", "3 embeddings"),
]


def test_invalid_embeddings_raise(stub, connect):
    embedder = openai_embedder(connect(), "embedder")
    for data, message in INVALID_EMBEDDINGS:
        stub.script.append((200, {"data": data}, None))
        assert message in get_error_message(embedder.embed, ["x"])


def test_map_in_order_keeps_the_order():
    delays = [0.05, 0.0, 0.02, 0.0, 0.01]
    assert list(map_in_order(lambda delay: time.sleep(delay) or delay, delays, 3)) == delays


def test_map_in_order_waits_for_running_calls_on_failure():
    finished_calls = []

    def call(number):
        if number == 1:
            raise UserError("no")
        time.sleep(0.05)
        finished_calls.append(number)

    with pytest.raises(UserError, match="no"):
        list(map_in_order(call, range(100), 3))
    assert 0 in finished_calls
    num_finished = len(finished_calls)
    time.sleep(0.1)
    assert len(finished_calls) == num_finished < 5


def test_interrupt_ends_the_run_and_keeps_cached_answers(stub, tmp_path):
    program = (
        # Background jobs of a shell ignore SIGINT, and so do their processes.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from thinking.text.openai_protocol import make_openai_answer_fn\n"
        "from thinking.text.openai_server import Server; from thinking.text.providers import generate_texts\n"
        "server = Server(sys.argv[1], Path(sys.argv[2]))\n"
        "answer_fn = make_openai_answer_fn(server, 'small-model')\n"
        "try: list(generate_texts(answer_fn, [str(n) for n in range(9)], '{goal}', num_parallel=4))\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    hang = threading.Event()
    stub.answer_fn = lambda prompt: "1. a\n2. b" if int(prompt) < 3 else hang.wait(20)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    run = subprocess.Popen([sys.executable, "-c", program, stub.url, str(tmp_path / "answers")], env=environment)
    deadline = time.monotonic() + 20
    while (
        len(stub.requests) < 7 or response_cache.count_answers(tmp_path / "answers") < 3
    ) and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert run.wait(timeout=10) == 130
    assert time.monotonic() - start < 2
    hang.set()
    assert response_cache.count_answers(tmp_path / "answers") == 3


def test_empty_base_url_variable_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(None, tmp_path) as server:
        assert server.url == "https://api.openai.com/v1"
