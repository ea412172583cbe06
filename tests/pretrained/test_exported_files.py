"""Files of exported models: what was written is read, and damaged or hostile files end in one line."""

import base64
import contextlib
import dataclasses
import http.server
import json
import struct
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking import load
from thinking.errors import RunError, UserError
from thinking.pretrained import weights
from thinking.pretrained.export_record import is_exported, read_record
from thinking.pretrained.exporting import (
    PreparedExport,
    format_command,
    make_files,
    parse_hub_target,
    upload,
    write_folder,
)
from thinking.pretrained.recipes import find_recipe
from thinking.recipes.think_tokens.config import PRESETS
from thinking.recipes.think_tokens.trained import Thinker
from thinking.trees import digest

CONFIG = dataclasses.replace(PRESETS["smoke"].config, thoughts=("pause", "discrete"), seeds=3)
TREE = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3), "scale": jnp.float32(0.1)}, "steps": (jnp.int32([1, 2]),)}


def make_export(dtype="float32"):
    recipe = find_recipe("think_tokens")
    config = recipe.select(CONFIG)
    rng = np.random.default_rng(0)
    template = recipe.describe_params(config)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), template)
    rounded = weights.round_params(params, dtype)
    return PreparedExport("think_tokens", recipe.build(config, rounded), dtype, {"versions": {"jax": "1"}})


@pytest.fixture(scope="module")
def files():
    return make_files(make_export(), "---\n---\n# card\n", "what it does")


def get_line(error):
    line = str(error.value)
    assert "\n" not in line
    return line


def attempt(function, *arguments):
    """What a function returns, and the line with which it fails; any other error passes."""
    try:
        return function(*arguments), ""
    except (UserError, RunError) as error:
        return None, str(error)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_loaded_model_has_the_parameters_and_the_config_of_the_export(tmp_path, dtype):
    export = make_export(dtype)
    write_folder(make_files(export, "card", "summary"), tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert digest(loaded.params) == digest(export.trained.params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(loaded.params))
    assert loaded.config == export.trained.config
    assert (loaded.config.thoughts, loaded.config.seeds) == (("discrete", "pause"), 1)
    words = np.zeros((1, 4), np.int32), np.int32([4])
    outputs = [jax.jit(each.model.think)(each.params, *words).answer_logits for each in (loaded, export.trained)]
    np.testing.assert_array_equal(*outputs)


def test_numbers_are_stored_in_their_type_under_the_names_of_their_paths():
    from safetensors.numpy import load as load_tensors

    stored = load_tensors(weights.encode_params(TREE, "float16"))
    assert {name: (array.dtype, array.shape) for name, array in stored.items()} == {
        "a.kernel": (np.float16, (2, 3)), "a.scale": (np.float16, ()), "steps.0": (np.int32, (2,)),
    }  # fmt: skip
    assert weights.round_params(TREE, "float16")["a"]["scale"] == np.float32(np.float16(0.1))


def test_a_number_beyond_float16_is_refused_and_infinity_is_none():
    with pytest.raises(UserError, match="--dtype float16: a parameter is beyond its range"):
        weights.round_params({"a": jnp.float32(1e6)}, "float16")
    assert np.isneginf(weights.round_params({"a": jnp.float32(-jnp.inf)}, "float16")["a"])


def test_the_config_says_nothing_of_this_machine(files):
    content = json.loads(files["config.json"])
    assert content["config"].keys() == {field.name for field in dataclasses.fields(CONFIG)} - {
        "artifacts", "clear", "tensorboard", "wandb",
    }  # fmt: skip
    assert content["architecture"] == "Thinker"
    assert content["num_parameters"] == sum(leaf.size for leaf in jax.tree.leaves(make_export().trained.params))


def test_a_folder_with_other_files_is_refused_and_an_older_export_replaced(files, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"it has other files \(notes.txt\)"):
        write_folder(files, tmp_path)
    with pytest.raises(UserError, match="a file is there"):
        write_folder(files, tmp_path / "notes.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]
    for content in (files, {**files, "README.md": b"newer"}):
        write_folder(content, tmp_path / "new" / "model")
    assert (tmp_path / "new" / "model" / "README.md").read_bytes() == b"newer"
    assert {path.name for path in (tmp_path / "new" / "model").iterdir()} == set(files)


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("model.safetensors", lambda content: content[:99], "bytes, but its config.json speaks of"),
        ("model.safetensors", lambda content: content[:-1] + b"\x01", "is not the file that its config.json speaks of"),
        ("config.json", lambda content: content[:-9], "is damaged: not JSON"),
        ("config.json", lambda content: content.replace(b'"format": 1', b'"format": 2'), "is of another format"),
        ("config.json", lambda content: content.replace(b"think_tokens", b"lm_think"), "lm_think: its models cannot"),
        ("config.json", lambda content: content.replace(b"float32", b"pickle"), "dtype is neither float16 nor float32"),
        ("config.json", lambda content: content.replace(b'"width": 16', b'"width": 32'), "bytes, but its config.json"),
        ("config.json", lambda content: content.replace(b'"width": 16', b'"width": 1e9'), "of the config is not"),
        ("config.json", lambda content: content + b" " * 2**20, "has more than 1048576 bytes"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_line(files, tmp_path, name, change, line):
    write_folder(files, tmp_path)
    (tmp_path / name).write_bytes(change(files[name]))
    with pytest.raises((UserError, RunError)) as error:
        load(tmp_path)
    assert line in get_line(error)


def test_what_is_no_export_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert not is_exported(tmp_path)
    for path in (tmp_path, tmp_path / "none", "no\0name"):
        with pytest.raises(UserError):
            load(path)
    with pytest.raises(UserError, match="no exported model; give a folder with"):
        read_record(tmp_path / "none")


TEMPLATE = jax.eval_shape(lambda: TREE)


def read(path, content):
    path.write_bytes(content)
    return weights.read_params(path, TEMPLATE, "float32", weights.compute_digest(content))


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({**TREE, "steps": ()}, "steps.0 is missing, but int32[2] in the config"),
        ({**TREE, "more": jnp.zeros(1)}, "more is float32[1], but nothing in the config"),
        ({**TREE, "steps": (jnp.int32([[1, 2]]),)}, "steps.0 is int32[1, 2], but int32[2]"),
        ({**TREE, "steps": (jnp.float32([1, 2]),)}, "steps.0 is float32[2], but int32[2]"),
        ({**TREE, "a": {**TREE["a"], "scale": jnp.float32(jnp.nan)}}, "a.scale has a NaN"),
    ],
)
def test_other_names_shapes_types_and_nans_are_refused(tmp_path, tree, line):
    with pytest.raises(RunError) as error:
        read(tmp_path / "file", weights.encode_params(tree, "float32") + bytes(0))
    assert line in get_line(error) or "bytes, but its config.json" in get_line(error)
    assert digest(read(tmp_path / "file", weights.encode_params(TREE, "float32"))) == digest(TREE)


WHOLE = weights.encode_params(TREE, "float32")


@settings(max_examples=200, deadline=None)
@given(
    start=st.integers(0, len(WHOLE)),
    length=st.integers(0, 40),
    inserted=st.binary(max_size=40),
    header=st.none() | st.integers(0, 2**64 - 1),
)
def test_no_damaged_weights_end_in_anything_but_one_line(tmp_path_factory, start, length, inserted, header):
    content = WHOLE[:start] + inserted + WHOLE[start + length :]
    if header is not None:
        content = struct.pack("<Q", header) + content[8:]
    params, line = attempt(read, tmp_path_factory.getbasetemp() / "damaged", content)
    assert line.count("\n") == 0
    assert line or jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, TREE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def list_paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from list_paths(inner, (*path, name))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_hostile_config_ends_in_anything_but_one_line(files, tmp_path_factory, data):
    content = json.loads(files["config.json"])
    *parents, last = data.draw(st.sampled_from([path for path in list_paths(content) if path]))
    part = content
    for name in parents:
        part = part[name]
    part[last] = data.draw(JSON)
    folder = tmp_path_factory.getbasetemp() / "hostile"
    write_folder({**files, "config.json": json.dumps(content).encode()}, folder)
    model, line = attempt(load, folder)
    assert line.count("\n") == 0
    assert line or isinstance(model, Thinker)


def test_the_command_of_a_card_is_that_of_the_run():
    changed = {"--guides": ["table"], "--model.gated": False, "--seeds": 2, "--walks.num-states": None, "--chat": True}
    record = {"preset": "quick", "changed": changed}
    words = "--preset quick --guides table --model.no-gated --seeds 2 --walks.num-states None"
    assert format_command("simple", record) == f"thinking run simple {words}"
    assert format_command("simple", {"preset": "default", "changed": {}}) == "thinking run simple"


def test_the_hub_needs_a_name_and_a_token_which_no_output_shows(files, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for target in ("hf:", "hf:me", "hf:../me/x", "hf:me/x y"):
        with pytest.raises(UserError, match="allowed is a folder or hf:USER/NAME"):
            parse_hub_target(target)
    with pytest.raises(UserError, match="set HF_TOKEN"):
        parse_hub_target("hf:me/model")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert parse_hub_target("hf:me/model") == "me/model"


@contextlib.contextmanager
def run_hub(handler, monkeypatch):
    """A hub on this machine, to which uploads go; its address stays set when it is gone."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.requests = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Hub(http.server.BaseHTTPRequestHandler):
    """A hub that takes a commit of small files, by the protocol of huggingface_hub."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["Authorization"]))
        address = f"{constants.ENDPOINT}/me/model"
        if self.path == "/api/repos/create":
            answer = {"url": address, "id": "me/model"}
        elif self.path == "/api/models/me/model/preupload/main":
            paths = [file["path"] for file in json.loads(body)["files"]]
            answer = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
        elif self.path == "/api/validate-yaml":
            answer = {"errors": [], "warnings": []}
        else:
            lines = [json.loads(line) for line in body.splitlines()]
            values = [line["value"] for line in lines if line["key"] == "file"]
            self.server.files = {value["path"]: base64.b64decode(value["content"]) for value in values}
            answer = {"success": True, "commitOid": "0" * 40, "commitUrl": f"{address}/commit/{'0' * 40}"}
        reply = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


def test_an_upload_is_one_commit_of_the_same_files(files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with run_hub(_Hub, monkeypatch) as server:
        assert upload(files, "hf:me/model") == f"{constants.ENDPOINT}/me/model"
    assert server.files == dict(files)
    assert [path for path, _ in server.requests].count("/api/models/me/model/commit/main") == 1
    assert {authorization for _, authorization in server.requests} == {"Bearer hf_secret"}


class _Refusing(http.server.BaseHTTPRequestHandler):
    """A hub that refuses, and tells the token in its answer."""

    def do_POST(self):
        body = self.headers["Authorization"].encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error-Message", self.headers["Authorization"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_hub_that_refuses_or_is_away_ends_in_one_line_without_the_token(files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    def get_error():
        with pytest.raises(RunError, match="hf:me/model could not be uploaded") as error:
            upload(files, "hf:me/model")
        assert "hf_secret" not in str(error.value)
        return str(error.value)

    with run_hub(_Refusing, monkeypatch):
        assert "403" in get_error()
    assert "403" not in get_error()
